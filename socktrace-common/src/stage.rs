//! Where an occurrence of a signal can end: the counters behind "no number without its loss".

/// A per-signal, per-CPU counter. For every signal
/// `Seen = Filtered + BelowThreshold + SampledOut + LostBuffer + Submitted`
/// holds once the programs are detached; the counters after `LostBuffer` tell of other losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    /// The signal occurred.
    Seen = 0,
    /// The user's filters did not want it: not sent, nor tallied (but for drops, which are always
    /// tallied).
    Filtered = 1,
    /// Tallied; too ordinary for a detail event (a fast accept, an `EAGAIN` poll).
    BelowThreshold = 2,
    /// Tallied; its detail was over the signal's budget.
    SampledOut = 3,
    /// Tallied; its detail was written to the event buffer.
    Submitted = 4,
    /// Tallied; the event buffer was full.
    LostBuffer = 5,
    /// The tally map was full: the occurrence is in no per-process total.
    LostTally = 6,
    /// The in-flight map was full: a start was not remembered.
    LostPending = 7,
    /// An end without its start: counted, its wait is unknown.
    Unpaired = 8,
    /// A map of names was full: a process or listener is shown without its name.
    LostName = 9,
    /// The tracer did it itself, to see whether the hooks fire: nowhere else.
    SelfTest = 10,
}

impl Stage {
    /// How many stages there are.
    pub const COUNT: usize = 11;
    const WIDTH: u32 = 11;
    /// Every stage, in wire order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Seen,
        Self::Filtered,
        Self::BelowThreshold,
        Self::SampledOut,
        Self::Submitted,
        Self::LostBuffer,
        Self::LostTally,
        Self::LostPending,
        Self::Unpaired,
        Self::LostName,
        Self::SelfTest,
    ];

    /// Index of this stage of `signal` in the kernel's counter array.
    pub const fn index(self, signal: super::Signal) -> u32 {
        signal as u32 * Self::WIDTH + self as u32
    }
}

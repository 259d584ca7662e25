//! `struct net`: the namespace and its per-CPU counters.

use aya_ebpf::helpers::bpf_get_smp_processor_id;

use super::read;
use crate::globals::offset;

/// A `struct net`.
#[derive(Clone, Copy)]
pub(crate) struct Net(pub(super) u64);

impl Net {
    /// Inode of the namespace, as in `net:[N]`.
    #[inline(always)]
    pub(crate) fn inum(self) -> u32 {
        read(self.0, offset!(net_inum))
    }

    /// Address of this CPU's copy of the namespace's `struct linux_mib`.
    #[inline(always)]
    pub(crate) fn mib(self) -> u64 {
        let percpu: u64 = read(self.0, offset!(net_statistics));
        // SAFETY: returns a number.
        let cpu = u64::from(unsafe { bpf_get_smp_processor_id() });
        percpu.wrapping_add(read(offset!(per_cpu_offset) + cpu * 8, 0))
    }
}

/// The kernel's own counters of what listeners throw away, on one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ListenMib {
    /// `LINUX_MIB_LISTENOVERFLOWS`
    pub(crate) overflows: u64,
    /// `LINUX_MIB_LISTENDROPS`
    pub(crate) drops: u64,
    /// `LINUX_MIB_TCPREQQFULLDROP`
    pub(crate) syn_queue: u64,
    /// `LINUX_MIB_TCPREQQFULLDOCOOKIES`
    pub(crate) cookies: u64,
}

impl ListenMib {
    /// Reads the counters at `mib` (see [`Net::mib`]).
    #[inline(always)]
    pub(crate) fn read(mib: u64) -> Self {
        let (overflows, drops) =
            pair(mib, offset!(mib_listen_overflows), offset!(mib_listen_drops));
        let (cookies, syn_queue) =
            pair(mib, offset!(mib_reqq_full_cookies), offset!(mib_reqq_full_drop));
        Self { overflows, drops, syn_queue, cookies }
    }
}

/// Two counters: one read where they lie side by side, as they do on every known kernel.
#[inline(always)]
fn pair(mib: u64, first: u32, second: u32) -> (u64, u64) {
    if second == first + 1 {
        let [first, second] = read::<[u64; 2]>(mib, first * 8);
        return (first, second);
    }
    (read(mib, first * 8), read(mib, second * 8))
}

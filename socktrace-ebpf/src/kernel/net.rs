//! `struct net`: the namespace and its per-CPU counters.

use core::marker::PhantomData;

use aya_ebpf::helpers::bpf_get_smp_processor_id;

use super::{Probed, Reach, read};
use crate::globals::offset;

/// A `struct net`.
#[derive(Clone, Copy)]
pub(crate) struct Net<R = Probed>(u64, PhantomData<R>);

impl<R: Reach> Net<R> {
    #[inline(always)]
    pub(super) fn from_raw(net: u64) -> Self {
        Self(net, PhantomData)
    }

    /// Inode of the namespace, as in `net:[N]`.
    #[inline(always)]
    pub(crate) fn inum(self) -> u32 {
        R::read(self.0, offset!(net_inum))
    }

    /// Where the namespace's `struct linux_mib` is, before the CPU's own offset is added. To the verifier it
    /// is a pointer to a structure, to which nothing may be added.
    #[inline(always)]
    pub(crate) fn statistics(self) -> u64 {
        R::read(self.0, offset!(net_statistics))
    }
}

/// What this CPU adds to the address of a per-CPU variable.
#[inline(always)]
pub(crate) fn cpu_offset() -> u64 {
    // SAFETY: returns a number.
    let cpu = u64::from(unsafe { bpf_get_smp_processor_id() });
    read(offset!(per_cpu_offset) + cpu * 8, 0)
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
    /// Reads what was dropped, at `mib`, this CPU's `struct linux_mib`.
    #[inline(always)]
    pub(crate) fn read_drops(&mut self, mib: u64) {
        (self.overflows, self.drops) =
            pair(mib, offset!(mib_listen_overflows), offset!(mib_listen_drops));
    }

    /// Reads what became of SYNs where the queue for them was full: only `tcp_conn_request` counts that.
    #[inline(always)]
    pub(crate) fn read_syn_queue(&mut self, mib: u64) {
        (self.cookies, self.syn_queue) =
            pair(mib, offset!(mib_reqq_full_cookies), offset!(mib_reqq_full_drop));
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

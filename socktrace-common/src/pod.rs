//! Tells the loader's map types that wire types are plain bytes.

use crate::{
    AcceptErrorKey, AcceptKey, AcceptStart, BlockedCall, ConnectBlockedKey, ConnectFailureKey,
    DropKey, ListenerInfo, Offsets, Params, TaskInfo, TaskKey, UnixMeeting, WaitTally,
};

macro_rules! pod {
    ($($name:ident),* $(,)?) => {
        // SAFETY: `#[repr(C)]` integers and arrays of them, without implicit padding (their sizes
        // are asserted), so any bytes are a value and every value is its bytes.
        $(unsafe impl aya::Pod for $name {})*
    };
}

pod!(
    AcceptErrorKey,
    AcceptKey,
    AcceptStart,
    BlockedCall,
    ConnectBlockedKey,
    ConnectFailureKey,
    DropKey,
    ListenerInfo,
    Offsets,
    Params,
    TaskInfo,
    TaskKey,
    UnixMeeting,
    WaitTally,
);

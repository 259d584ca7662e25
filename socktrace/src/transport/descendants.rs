//! The descendants of CMD, as the kernel side marks them.

use aya::{
    Ebpf,
    maps::{HashMap as BpfHashMap, Map, MapData, MapError},
};
use socktrace_common::TaskKey;

use super::counters::{CountersError, map};

const MAP: &str = "FOLLOWED";

/// A handle of its own on the marks, which outlives the loader's.
pub struct Descendants(BpfHashMap<MapData, TaskKey, u8>);

impl Descendants {
    /// Of what was loaded.
    pub fn of(ebpf: &Ebpf) -> Result<Self, CountersError> {
        let failed = |source| CountersError { map: MAP, source };
        let Map::HashMap(loaded) = map(ebpf, MAP)? else {
            return Err(failed(MapError::InvalidMapType { map_type: 0 }));
        };
        let fd = std::os::fd::AsFd::as_fd(loaded.fd()).try_clone_to_owned();
        let fd = fd.map_err(|error| failed(MapError::IoError(error)))?;
        let own = Map::HashMap(MapData::from_fd(fd).map_err(failed)?);
        BpfHashMap::try_from(own).map(Self).map_err(failed)
    }

    /// Processes that are marked now: a mark goes away soon after its process, while programs are
    /// attached.
    pub fn marked(&self) -> Vec<TaskKey> {
        self.0.keys().filter_map(Result::ok).collect()
    }
}

//! systemd's unit files, read anew when they may have changed.

use std::time::{Duration, Instant};

use crate::{
    diagnose::{
        Question,
        case::{Case, Units},
    },
    host::{
        Host, ServiceUnits, SocketUnit, SocketUnits, TmpfilesDirectories, UnitState, path_walk::End,
    },
};

/// For how long what was read holds.
const FRESH: Duration = Duration::from_secs(10);

/// What the files say.
pub(super) struct UnitFiles {
    host: Host,
    read: Option<(Instant, Files)>,
}

struct Files {
    sockets: SocketUnits,
    services: ServiceUnits,
    directories: TmpfilesDirectories,
}

impl UnitFiles {
    pub(super) fn new(host: Host) -> Self {
        Self { host, read: None }
    }

    /// What they say of the target (a Unix path as it is from the root), and of the directory that the way
    /// there lacks.
    pub(super) fn about(&mut self, target: &Question, case: &Case) -> Units {
        let missing = missing_directory(case);
        let host = self.host.clone();
        let files = self.files();
        let sockets = match target {
            Question::Unix(name) => match name.strip_prefix(b"\0") {
                Some(name) => files.sockets.by_abstract(name),
                None => files.sockets.by_path(name),
            },
            Question::Tcp(at) => files.sockets.by_address(*at),
            Question::Accept => Vec::new(),
        };
        // A template cannot be started without its instance.
        let can_start = |unit: &SocketUnit| !unit.masked && !unit.name.ends_with(b"@.socket");
        let wanted = sockets.iter().find(|(unit, _)| can_start(unit));
        let socket = wanted.map(|(unit, _)| {
            let runs = host.read_unit_state(&unit.service);
            ((*unit).clone(), runs)
        });
        let service = missing.as_ref().and_then(|directory| {
            let unit = *files.services.by_runtime_directory(directory).first()?;
            Some((unit.name.clone(), host.read_unit_state(&unit.name)))
        });
        let maker = service.or_else(|| {
            let line = files.directories.by_path(missing.as_deref()?)?;
            Some((line.file.clone(), UnitState::Unknown))
        });
        Units { socket, maker }
    }

    fn files(&mut self) -> &Files {
        let stale = self.read.as_ref().is_none_or(|(read, _)| read.elapsed() > FRESH);
        if stale {
            self.read = None;
        }
        let host = &self.host;
        let (_, files) = self.read.get_or_insert_with(|| {
            let files = Files {
                sockets: host.read_socket_units(),
                services: host.read_service_units(),
                directories: host.read_tmpfiles_directories(),
            };
            (Instant::now(), files)
        });
        files
    }
}

/// The first directory on the way that does not exist.
fn missing_directory(case: &Case) -> Option<Vec<u8>> {
    let walk = &case.path.as_ref()?.walk;
    let End::Missing { name, .. } = &walk.end else { return None };
    let directory = walk.steps.last()?.path.strip_suffix(b"/").unwrap_or(&walk.steps.last()?.path);
    Some([directory, b"/".as_slice(), name].concat())
}

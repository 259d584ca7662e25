//! systemd's unit files, read anew when they may have changed.

use std::time::{Duration, Instant};

use crate::{
    diagnose::{
        Question,
        case::{Case, Units},
    },
    host::{
        Host, ServiceUnits, SocketUnit, SocketUnits, TmpfilesDirectories, UnitState,
        path_walk::{End, Kind},
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
        // One whose service has changed its mode would change it again.
        let service_of = |(directory, mode): (Vec<u8>, u32)| {
            let units = files.services.by_runtime_directory(&directory).into_iter();
            let mut units = units.filter(|it| {
                !it.masked
                    && it.runtime_directories.contains(&directory)
                    && it.runtime_directory_mode == mode & 0o7777
            });
            let name = units.next()?.name.clone();
            Some((directory, name))
        };
        let runtime_directories = directories(case).filter_map(service_of).collect();
        Units { socket, maker, runtime_directories }
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

/// The directories on the way, with their modes.
fn directories(case: &Case) -> impl Iterator<Item = (Vec<u8>, u32)> {
    let steps = case.path.iter().flat_map(|path| &path.walk.steps);
    let directories = steps.filter(|step| step.kind == Kind::Directory);
    directories.map(|step| (step.path.clone(), step.mode))
}

/// The first directory on the way that does not exist.
fn missing_directory(case: &Case) -> Option<Vec<u8>> {
    let walk = &case.path.as_ref()?.walk;
    let End::Missing { name, .. } = &walk.end else { return None };
    let directory = walk.steps.last()?.path.strip_suffix(b"/").unwrap_or(&walk.steps.last()?.path);
    Some([directory, b"/".as_slice(), name].concat())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        diagnose::case::{Bases, Path},
        host::path_walk::{AclFact, Step, Walk},
    };

    fn step(path: &[u8], kind: Kind) -> Step {
        Step {
            path: path.to_vec(),
            name: Vec::new(),
            trailing: false,
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            dev: 1,
            inode: 1,
            ctime: (0, 0),
            acl: AclFact::Absent,
            immutable: Some(false),
            mount: None,
        }
    }

    #[test]
    fn directories_on_the_way_are_told_with_the_service_that_has_just_these_made() {
        let root = tempfile::tempdir().expect("a directory");
        let units = root.path().join("etc/systemd/system");
        fs::create_dir_all(&units).expect("directories");
        let text = "[Service]\nRuntimeDirectory=db db/sub db/changed\n";
        fs::write(units.join("db.service"), text).expect("a unit");
        let target = Question::Unix(b"/run/db/other/sock".to_vec());
        let mut case = Case::new(target.clone(), None);
        let way: [&[u8]; 5] = [b"/", b"/run", b"/run/db", b"/run/db/other", b"/run/db/changed"];
        let mut steps: Vec<Step> = way.iter().map(|path| step(path, Kind::Directory)).collect();
        steps[4].mode = 0o700;
        steps.push(step(b"/run/db/other/sock", Kind::Socket));
        case.path = Some(Path {
            walk: Walk { steps, end: End::Found },
            as_client: true,
            settled: true,
            changed: None,
            protected_symlinks: None,
            bases: Bases { root: Some(Vec::new()), cwd: None },
        });
        let told = UnitFiles::new(Host::at(root.path())).about(&target, &case);
        let wanted = [(b"/run/db".to_vec(), b"db.service".to_vec())];
        assert_eq!(told.runtime_directories, wanted);
    }
}

//! The decisions of this module beside the kernel's own, for every kind of client.
//!
//! Owns tests only: they become other users on threads of their own, and connect.

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    use caps::{CapSet, Capability, CapsHashSet};
    use rustix::fs::{XattrFlags, setxattr};
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};
    use rustix::process::{Gid, Uid};
    use rustix::thread::{
        gettid, set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    };

    use crate::diagnose::access::{
        Access, Client, Fix, ModeClass, Need, Why, first_denial, smallest_fix,
    };
    use crate::host::Host;
    use crate::host::path_walk::forked::Forked;
    use crate::host::path_walk::{Acl, AclEntry, AclFact, AclTag, End, Step, View, Walk};

    const OWNER: u32 = 61_001;
    const CLIENT: u32 = 61_002;
    const GROUP: u32 = 62_001;
    const NAMED: u32 = 62_002;
    const DENIED: u32 = 62_003;
    const PLAIN: u32 = 62_009;

    /// A task, as it is made.
    #[derive(Debug, Clone)]
    struct Task {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        caps: Vec<Capability>,
    }

    fn ids(ids: &[u32]) -> Vec<Gid> {
        ids.iter().map(|id| Gid::from_raw(*id)).collect()
    }

    impl Task {
        fn new(uid: u32, gid: u32, groups: &[u32]) -> Self {
            Self { uid, gid, groups: groups.to_vec(), caps: vec![] }
        }

        fn with(self, cap: Capability) -> Self {
            Self { caps: vec![cap], ..self }
        }

        /// On a thread of its own: what the kernel says of it, and to it.
        fn connects(&self, path: &Path) -> (Client, i32) {
            std::thread::scope(|scope| {
                scope.spawn(|| self.become_and_connect(path)).join().expect("a thread")
            })
        }

        fn become_and_connect(&self, path: &Path) -> (Client, i32) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            set_keep_capabilities(true).expect("prctl(2)");
            set_thread_groups(&ids(&self.groups)).expect("root");
            set_thread_res_gid(gid, gid, gid).expect("root");
            set_thread_res_uid(uid, uid, uid).expect("root");
            let caps: CapsHashSet = self.caps.iter().copied().collect();
            caps::set(None, CapSet::Effective, &caps).expect("permitted capabilities");
            let errno = connect_errno(path);
            let tid = gettid().as_raw_nonzero().get().unsigned_abs();
            let host = Host::default();
            let credentials = host.read_credentials(tid).expect("credentials");
            assert_eq!(credentials.cap_effective.count_ones() as usize, self.caps.len());
            (
                Client::new(credentials, Some(host.read_id_map(std::process::id()).expect("maps"))),
                errno,
            )
        }
    }

    fn connect_errno(path: &Path) -> i32 {
        let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        let address = SocketAddrUnix::new(path).expect("a short path");
        connect(&socket, &address).err().map_or(0, rustix::io::Errno::raw_os_error)
    }

    /// What an inode allows.
    #[derive(Debug, Clone)]
    struct Rights {
        mode: u32,
        acl: Vec<AclEntry>,
    }

    fn entry(tag: AclTag, bits: u16) -> AclEntry {
        AclEntry { tag, bits }
    }

    impl Rights {
        fn set(&self, path: &Path) {
            chown(path, Some(OWNER), Some(GROUP)).expect("root");
            fs::set_permissions(path, Permissions::from_mode(self.mode)).expect("root");
            if !self.acl.is_empty() {
                set_acl(path, &self.whole_acl());
            }
        }

        /// The mode's classes, and the entries among them: a mask of group bits.
        fn whole_acl(&self) -> Acl {
            let bits = |shift: u32| u16::try_from(self.mode >> shift & 7).expect("three bits");
            let mut entries = self.acl.clone();
            let has = |entries: &[AclEntry], tag| entries.iter().any(|entry| entry.tag == tag);
            for (tag, shift) in [
                (AclTag::Owner, 6),
                (AclTag::OwningGroup, 3),
                (AclTag::Mask, 3),
                (AclTag::Other, 0),
            ] {
                if !has(&entries, tag) {
                    entries.push(entry(tag, bits(shift)));
                }
            }
            sorted(entries)
        }
    }

    fn sorted(mut entries: Vec<AclEntry>) -> Acl {
        entries.sort_by_key(|entry| match entry.tag {
            AclTag::Owner => (0, 0),
            AclTag::User(id) => (1, id),
            AclTag::OwningGroup => (2, 0),
            AclTag::Group(id) => (3, id),
            AclTag::Mask => (4, 0),
            AclTag::Other => (5, 0),
        });
        Acl { entries }
    }

    fn set_acl(path: &Path, acl: &Acl) {
        setxattr(path, "system.posix_acl_access", &acl.to_bytes(), XattrFlags::empty())
            .expect("a temporary directory on a filesystem with ACLs");
    }

    /// A directory that a socket lies in.
    struct Scene {
        root: tempfile::TempDir,
        _listener: UnixListener,
    }

    impl Scene {
        fn new(directory: &Rights, file: &Rights) -> Self {
            let root = tempfile::tempdir().expect("a temporary directory");
            fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("root");
            fs::create_dir(root.path().join("d")).expect("a directory");
            let listener = UnixListener::bind(root.path().join("d/s")).expect("a listener");
            let scene = Self { root, _listener: listener };
            file.set(&scene.socket());
            directory.set(&scene.root.path().join("d"));
            scene
        }

        fn socket(&self) -> PathBuf {
            self.root.path().join("d/s")
        }
    }

    fn walk(path: &Path) -> Walk {
        let view = View::of_self().expect("a view");
        view.walk_within(path.as_os_str().as_encoded_bytes(), std::time::Duration::from_mins(1))
    }

    fn protected_symlinks() -> bool {
        let value = fs::read("/proc/sys/fs/protected_symlinks").expect("a sysctl");
        value == b"1\n"
    }

    fn errno_of(access: &Access) -> Option<i32> {
        match access {
            Access::Allowed => Some(0),
            Access::Denied(denial) => Some(denial.errno()),
            Access::Unknown { .. } => None,
        }
    }

    fn tasks() -> Vec<Task> {
        vec![
            Task::new(OWNER, PLAIN, &[]),
            Task::new(OWNER, GROUP, &[]),
            Task::new(CLIENT, GROUP, &[]),
            Task::new(CLIENT, PLAIN, &[]),
            Task::new(CLIENT, PLAIN, &[GROUP]),
            Task::new(CLIENT, PLAIN, &[NAMED]),
            Task::new(CLIENT, PLAIN, &[DENIED, NAMED]),
            Task::new(CLIENT, DENIED, &[GROUP]),
            Task::new(0, 0, &[]),
            Task::new(0, 0, &[GROUP]),
            Task::new(0, 0, &[]).with(Capability::CAP_DAC_OVERRIDE),
            Task::new(CLIENT, PLAIN, &[]).with(Capability::CAP_DAC_OVERRIDE),
            Task::new(CLIENT, PLAIN, &[]).with(Capability::CAP_DAC_READ_SEARCH),
            Task::new(CLIENT, PLAIN, &[]).with(Capability::CAP_NET_ADMIN),
        ]
    }

    fn all_rights() -> Vec<Rights> {
        let mut all = Vec::new();
        for mode in [0o777, 0o700, 0o070, 0o007, 0o077, 0o707, 0o770, 0o000, 0o645] {
            for acl in [
                vec![],
                vec![entry(AclTag::User(CLIENT), 7)],
                vec![entry(AclTag::User(CLIENT), 7), entry(AclTag::Mask, 4)],
                vec![entry(AclTag::User(CLIENT), 7), entry(AclTag::Mask, 0)],
                vec![entry(AclTag::User(CLIENT), 0), entry(AclTag::Mask, 7)],
                vec![
                    entry(AclTag::Group(NAMED), 7),
                    entry(AclTag::Group(DENIED), 0),
                    entry(AclTag::Mask, 7),
                ],
                vec![entry(AclTag::Group(NAMED), 3), entry(AclTag::Mask, 4)],
                vec![entry(AclTag::OwningGroup, 0), entry(AclTag::Mask, 7)],
            ] {
                all.push(Rights { mode, acl });
            }
        }
        all
    }

    /// What is said beside what is done, and that nothing is said where too little is known.
    fn compare(walk: &Walk, client: &Client, errno: i32) -> Access {
        let decide =
            |walk: &Walk, client: &Client| first_denial(walk, client, Some(protected_symlinks()));
        let access = decide(walk, client);
        assert_eq!(errno_of(&access), Some(errno), "{client:?} {walk:?}");
        let mut veiled = walk.clone();
        veiled.steps.iter_mut().for_each(|step: &mut Step| step.acl = AclFact::Unknown);
        for (walk, client) in [
            (walk, &Client { groups: None, ..client.clone() }),
            (walk, &Client { cap_effective: None, ..client.clone() }),
            (walk, &Client { id_maps: None, ..client.clone() }),
            (&veiled, client),
        ] {
            let access = decide(walk, client);
            assert!(
                errno_of(&access).is_none_or(|said| said == errno),
                "{access:?} of {client:?} {walk:?}"
            );
        }
        access
    }

    fn is_wide(rights: &Rights) -> bool {
        rights.mode == 0o777 && rights.acl.is_empty()
    }

    #[test]
    fn every_client_is_let_in_and_kept_out_as_the_kernel_does() {
        let wide = Rights { mode: 0o777, acl: vec![] };
        let (mut cases, mut denied) = (0, 0);
        for rights in all_rights() {
            let narrow_directory = Scene::new(&rights, &wide);
            let narrow_socket = Scene::new(&wide, &rights);
            for scene in [narrow_directory, narrow_socket] {
                let walk = walk(&scene.socket());
                assert_eq!(walk.end, End::Found);
                for task in tasks() {
                    let (client, errno) = task.connects(&scene.socket());
                    compare(&walk, &client, errno);
                    cases += 1;
                    denied += i32::from(errno == libc::EACCES);
                    assert!(errno == 0 || !is_wide(&rights), "{task:?}");
                }
            }
        }
        assert!(cases > 1000 && denied > 300 && denied < cases, "{denied} of {cases}");
    }

    /// Makes a change as its text would have it made.
    fn make(fix: &Fix, task: &mut Task) {
        use std::os::unix::ffi::OsStrExt;
        let at = |path: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(path));
        let bit = |need: &Need| if *need == Need::Write { 2 } else { 1 };
        let add = |path: &[u8], class: ModeClass, need: &Need| {
            let shift = match class {
                ModeClass::Owner => 6,
                ModeClass::Group => 3,
                ModeClass::Other => 0,
            };
            let mode = fs::metadata(at(path)).expect("the file").permissions().mode();
            let mode = Permissions::from_mode(mode | bit(need) << shift);
            fs::set_permissions(at(path), mode).expect("root");
        };
        match fix {
            Fix::JoinGroup { gid } => task.groups.push(*gid),
            Fix::AddMode { path, class, need } => add(path, *class, need),
            Fix::AddModeAndJoin { path, gid, need } => {
                add(path, ModeClass::Group, need);
                task.groups.push(*gid);
            }
            Fix::SetAcl { path, uid, need } => {
                change_acl(&at(path), |entries| grant(entries, *uid, bit(need)));
            }
            Fix::RaiseMask { path, need } => change_acl(&at(path), |entries| {
                let masks = entries.iter_mut().filter(|entry| entry.tag == AclTag::Mask);
                masks.for_each(|mask| mask.bits |= u16::try_from(bit(need)).expect("a bit"));
            }),
            Fix::NameTarget { .. } | Fix::ClearImmutable { .. } => unreachable!("{fix:?}"),
        }
    }

    fn grant(entries: &mut Vec<AclEntry>, uid: u32, bit: u32) {
        let bit = u16::try_from(bit).expect("a bit");
        for tag in [AclTag::User(uid), AclTag::Mask] {
            match entries.iter_mut().find(|entry| entry.tag == tag) {
                Some(entry) => entry.bits |= bit,
                None => entries.push(entry(tag, bit)),
            }
        }
    }

    fn change_acl(path: &Path, change: impl FnOnce(&mut Vec<AclEntry>)) {
        let walk = walk(path);
        let step = walk.steps.last().expect("the file");
        let mut entries = match &step.acl {
            AclFact::Present(acl) => acl.entries.clone(),
            _ => Rights { mode: step.mode, acl: vec![] }.whole_acl().entries,
        };
        change(&mut entries);
        set_acl(path, &sorted(entries));
    }

    #[test]
    fn the_smallest_fix_is_enough_and_never_opens_a_socket_to_all() {
        for rights in all_rights() {
            for mut task in tasks() {
                let scene = Scene::new(&rights, &rights);
                let mut fixes = Vec::new();
                loop {
                    let walk = walk(&scene.socket());
                    let (client, errno) = task.connects(&scene.socket());
                    let Access::Denied(denial) = compare(&walk, &client, errno) else { break };
                    let fix = smallest_fix(&walk, &denial, &client).expect("a fix");
                    make(&fix, &mut task);
                    fixes.push(fix);
                    assert!(fixes.len() <= 4, "{rights:?} {task:?} {fixes:?}");
                }
                let mode = fs::metadata(scene.socket()).expect("a socket").permissions().mode();
                assert_eq!(mode & 2, rights.mode & 2, "{fixes:?}");
            }
        }
    }

    #[test]
    fn a_link_in_a_sticky_directory_is_judged_by_the_sysctl_of_this_kernel() {
        let wide = Rights { mode: 0o777, acl: vec![] };
        let scene = Scene::new(&wide, &wide);
        let sticky = scene.root.path().join("sticky");
        fs::create_dir(&sticky).expect("a directory");
        fs::set_permissions(&sticky, Permissions::from_mode(0o1777)).expect("root");
        let link = sticky.join("l");
        std::os::unix::fs::symlink(scene.socket(), &link).expect("a link");
        for link_owner in [0, OWNER, CLIENT] {
            std::os::unix::fs::lchown(&link, Some(link_owner), None).expect("root");
            for task in tasks() {
                let (client, errno) = task.connects(&link);
                let access = compare(&walk(&link), &client, errno);
                // Not as sticky for the one that the directory or the link belongs to.
                let harmless = link_owner == 0 || link_owner == task.uid;
                let denied =
                    matches!(access, Access::Denied(denial) if denial.why == Why::StickyLink);
                assert_eq!(denied, !harmless && protected_symlinks());
                for (sysctl, expected) in [(true, !harmless), (false, false)] {
                    let access = first_denial(&walk(&link), &client, Some(sysctl));
                    assert_eq!(matches!(access, Access::Denied(_)), expected, "{access:?}");
                }
                let unknown = first_denial(&walk(&link), &client, None);
                assert_eq!(matches!(unknown, Access::Unknown { .. }), !harmless);
            }
        }
    }

    #[test]
    fn a_link_inside_the_path_is_not_protected() {
        let wide = Rights { mode: 0o777, acl: vec![] };
        let scene = Scene::new(&wide, &wide);
        let directory = scene.root.path().join("d");
        fs::set_permissions(&directory, Permissions::from_mode(0o1777)).expect("root");
        let link = directory.join("l");
        std::os::unix::fs::symlink(".", &link).expect("a link");
        std::os::unix::fs::lchown(&link, Some(CLIENT), None).expect("root");
        for (path, protected) in [(link.join("s"), false), (link.join("."), false), (link, true)] {
            let walk = walk(&path);
            let (client, errno) = Task::new(PLAIN, PLAIN, &[]).connects(&path);
            let access = first_denial(&walk, &client, Some(true));
            assert_eq!(matches!(access, Access::Denied(_)), protected, "{path:?}");
            // None of them but the socket can be connected to.
            let said = first_denial(&walk, &client, Some(protected_symlinks()));
            let refused = errno == libc::ECONNREFUSED && said == Access::Allowed;
            assert!(refused || errno_of(&said) == Some(errno), "{said:?} {errno}");
        }
    }

    /// What a client does once it may: connect from a child, where memory must not be allocated.
    fn connect_at(address: &SocketAddrUnix) -> i32 {
        socket(AddressFamily::UNIX, SocketType::STREAM, None)
            .and_then(|socket| connect(&socket, address))
            .err()
            .map_or(0, rustix::io::Errno::raw_os_error)
    }

    #[test]
    fn capabilities_reach_only_what_the_user_namespace_knows() {
        let wide = Rights { mode: 0o777, acl: vec![] };
        let none = Rights { mode: 0o000, acl: vec![] };
        let mut answers = Vec::new();
        for (owner, group) in
            [(0, GROUP), (CLIENT, GROUP), (0, PLAIN), (OWNER, GROUP), (OWNER, PLAIN)]
        {
            let scene = Scene::new(&wide, &none);
            chown(scene.socket(), Some(owner), Some(group)).expect("root");
            let address = SocketAddrUnix::new(scene.socket()).expect("a short path");
            let mut child = Forked::start(|pause| {
                if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).is_err() {
                    return 255;
                }
                pause.here();
                let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
                let became = set_thread_res_gid(gid, gid, gid)
                    .and_then(|()| set_thread_res_uid(uid, uid, uid));
                pause.here();
                became.map_or(254, |()| connect_at(&address))
            });
            let proc = |file: &str| format!("/proc/{}/{file}", child.pid());
            fs::write(proc("uid_map"), format!("0 {CLIENT} 1\n1 0 1\n")).expect("a map");
            fs::write(proc("gid_map"), format!("0 {GROUP} 1\n1 0 1\n")).expect("a map");
            child.go_on();
            let host = Host::default();
            let credentials = host.read_credentials(child.pid()).expect("credentials");
            let maps = host.read_id_map(child.pid()).expect("maps");
            let view = View::of_process(&host, child.pid()).expect("a view");
            let walk = view.walk(scene.socket().as_os_str().as_encoded_bytes());
            let errno = child.finish();
            assert_eq!((credentials.fsuid, credentials.fsgid), (CLIENT, GROUP));
            assert_ne!(credentials.cap_effective, 0);
            assert_eq!((maps.users.inside(CLIENT), maps.users.inside(OWNER)), (Some(0), None));
            compare(&walk, &Client::new(credentials, Some(maps)), errno);
            answers.push(errno);
        }
        // Where it is the owner, as ids go, its capability helps, too.
        assert_eq!(answers, [0, 0, libc::EACCES, libc::EACCES, libc::EACCES]);
    }

    #[test]
    fn a_read_only_filesystem_keeps_out_of_directories_and_not_of_sockets() {
        use nix::mount::{MsFlags, mount};
        use nix::sys::stat::{Mode, SFlag, mknod};
        let root = tempfile::tempdir().expect("a temporary directory");
        let c_path = |name: &str| {
            let path = root.path().join(name).into_os_string().into_encoded_bytes();
            std::ffi::CString::new(path).expect("no NUL")
        };
        let (place, file, plain) = (c_path(""), c_path("s"), c_path("f"));
        let addresses = [c_path("s"), c_path("."), c_path("f")]
            .map(|path| SocketAddrUnix::new(path.as_c_str()).expect("a short path"));
        for remount in [MsFlags::empty(), MsFlags::MS_BIND] {
            for (index, address) in addresses.iter().enumerate() {
                let child = Forked::start(|pause| {
                    let make = || {
                        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
                        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                        mount(None::<&str>, c"/", None::<&str>, private, None::<&str>)?;
                        let tmpfs = Some(c"tmpfs");
                        mount(tmpfs, place.as_c_str(), tmpfs, MsFlags::empty(), None::<&str>)?;
                        mknod(file.as_c_str(), SFlag::S_IFSOCK, Mode::S_IRWXU, 0)?;
                        mknod(plain.as_c_str(), SFlag::S_IFREG, Mode::S_IRWXU, 0)?;
                        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | remount;
                        mount(None::<&str>, place.as_c_str(), None::<&str>, flags, None::<&str>)
                    };
                    let ready: nix::Result<()> = make();
                    pause.here();
                    ready.map_or(255, |()| connect_at(address))
                });
                let host = Host::default();
                let view = View::of_process(&host, child.pid()).expect("a view");
                let path = address.path_bytes().expect("a path").to_vec();
                let walk = view.walk(path.strip_suffix(b"\0").unwrap_or(&path));
                let credentials = host.read_credentials(child.pid()).expect("credentials");
                let maps = host.read_id_map(child.pid()).expect("maps");
                let errno = child.finish();
                assert_eq!(walk.end, End::Found);
                let access = first_denial(&walk, &Client::new(credentials, Some(maps)), Some(true));
                let refused = remount == MsFlags::empty() && index > 0;
                let expected = if refused { libc::EROFS } else { libc::ECONNREFUSED };
                assert_eq!(errno, expected, "{walk:?}");
                let said = if refused { libc::EROFS } else { 0 };
                assert_eq!(errno_of(&access), Some(said), "{walk:?}");
            }
        }
    }

    /// Takes the flag away again, or the directory could not be removed.
    struct Immutable(fs::File);

    impl Immutable {
        fn make(path: &Path) -> Self {
            use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
            let file = fs::File::open(path).expect("a directory");
            let flags = ioctl_getflags(&file).expect("a filesystem with flags");
            ioctl_setflags(&file, flags | IFlags::IMMUTABLE).expect("CAP_LINUX_IMMUTABLE");
            Self(file)
        }
    }

    impl Drop for Immutable {
        fn drop(&mut self) {
            use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
            let flags = ioctl_getflags(&self.0).expect("flags");
            ioctl_setflags(&self.0, flags - IFlags::IMMUTABLE).expect("CAP_LINUX_IMMUTABLE");
        }
    }

    #[test]
    fn an_immutable_inode_denies_writing_to_all_and_searching_to_none() {
        let wide = Rights { mode: 0o777, acl: vec![] };
        let scene = Scene::new(&wide, &wide);
        let directory = scene.root.path().join("d");
        let _kept = Immutable::make(&directory);
        let root = Task::new(0, 0, &[]).with(Capability::CAP_DAC_OVERRIDE);
        for task in [Task::new(CLIENT, PLAIN, &[]), root] {
            let (client, errno) = task.connects(&scene.socket());
            assert_eq!(errno, 0);
            compare(&walk(&scene.socket()), &client, errno);
            let (client, errno) = task.connects(&directory);
            assert_eq!(errno, libc::EPERM);
            let walk = walk(&directory);
            let Access::Denied(denial) = compare(&walk, &client, errno) else {
                unreachable!("{walk:?}")
            };
            let path = directory.as_os_str().as_encoded_bytes().to_vec();
            let fix = smallest_fix(&walk, &denial, &client);
            assert_eq!(fix, Some(Fix::ClearImmutable { path }));
        }
    }

    #[test]
    fn a_path_that_ends_early_is_judged_as_far_as_it_goes() {
        let narrow = Rights { mode: 0o700, acl: vec![] };
        let scene = Scene::new(&narrow, &narrow);
        for name in ["d/none", "d/s/x", "d/s/"] {
            let path = scene.root.path().join(name);
            let walk = walk(&path);
            let (client, errno) = Task::new(CLIENT, PLAIN, &[]).connects(&path);
            assert_eq!(errno, libc::EACCES);
            compare(&walk, &client, errno);
            let (client, errno) = Task::new(OWNER, PLAIN, &[]).connects(&path);
            let expected = if name == "d/none" { libc::ENOENT } else { libc::ENOTDIR };
            assert_eq!(errno, expected, "{name}");
            assert_eq!(first_denial(&walk, &client, None), Access::Allowed, "{name}");
        }
    }
}

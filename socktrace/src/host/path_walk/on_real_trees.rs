//! Walks over real trees, beside what the kernel finds on them.
//!
//! Owns tests only.

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs::{self, Permissions};
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::stat::Mode;
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    use crate::host::Host;
    use crate::host::path_walk::forked::Forked;
    use crate::host::path_walk::handle::{Facts, open_start};
    use crate::host::path_walk::{End, Kind, MOST_LINKS, MOST_STEPS, Step, View, Walk, WalkError};

    const LONG: Duration = Duration::from_mins(1);

    fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
        path.as_ref().as_os_str().as_bytes().to_vec()
    }

    fn c_path(path: impl AsRef<Path>) -> CString {
        CString::new(bytes(path)).expect("no NUL")
    }

    fn names(walk: &Walk) -> Vec<String> {
        let text = |step: &Step| String::from_utf8_lossy(&step.path).into_owned();
        walk.steps.iter().map(text).collect()
    }

    /// A directory with a directory `d`, files, a socket, a FIFO and links.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| root.path().join(name);
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).expect("the mode");
        fs::create_dir_all(at("d/e")).expect("directories");
        fs::write(at("d/f"), b"").expect("a file");
        fs::write(at("f"), b"").expect("a file");
        drop(UnixListener::bind(at("d/s")).expect("a socket"));
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).expect("a FIFO");
        for (link, target) in [
            ("to_d", "d"),
            ("to_d_slash", "d/"),
            ("to_f", "d/f"),
            ("to_f_slash", "d/f/"),
            ("to_link", "to_d"),
            ("to_here", "."),
            ("to_above", ".."),
            ("d/to_s", "../d/./s"),
            ("dangling", "d/none"),
            ("a_loop", "b_loop"),
            ("b_loop", "a_loop"),
            ("itself", "itself/x"),
            ("l0", "f"),
        ] {
            symlink(target, at(link)).expect("a link");
        }
        symlink(at("d"), at("absolute")).expect("a link");
        for number in 1..=MOST_LINKS {
            symlink(format!("l{}", number - 1), at(&format!("l{number}"))).expect("a link");
        }
        root
    }

    /// A process of a fake `/proc` whose root directory is `tree`, with this `mountinfo`.
    fn fake(tree: &Path, mountinfo: &str) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("proc/7");
        fs::create_dir_all(&directory).expect("a fake process");
        symlink(tree, directory.join("root")).expect("a link");
        symlink(tree.join("d"), directory.join("cwd")).expect("a link");
        fs::write(directory.join("mountinfo"), mountinfo).expect("a file");
        let host = Host::at(root.path());
        (root, host)
    }

    fn mount_id(path: &Path) -> u64 {
        let handle = open_start(path).expect("a handle");
        Facts::read(&handle).expect("facts").mount.expect("Linux 5.8")
    }

    /// As in a chroot: the tree's own mount has its point outside.
    fn jail(tree: &Path) -> (tempfile::TempDir, View) {
        let (root, host) = fake(tree, "");
        let view = View::of_process(&host, 7).expect("a view");
        (root, view)
    }

    #[test]
    fn a_path_ends_where_it_ends_for_the_kernel() {
        let (root, view) = (tree(), View::of_self().expect("a view"));
        let long = "n".repeat(256);
        let deep = "d/../".repeat(1000);
        for rest in [
            "",
            "/",
            "d",
            "d/",
            "d/.",
            "d/..",
            "d/./f",
            "d/f",
            "d/f/",
            "d//f",
            "f/x",
            "f/.",
            "f/..",
            "none",
            "none/",
            "none/x",
            "d/none",
            "to_d",
            "to_d/",
            "to_d/f",
            "to_d/../f",
            "to_d_slash",
            "to_d_slash/f",
            "to_f",
            "to_f/",
            "to_f/x",
            "to_f_slash",
            "to_link/f",
            "to_here/to_here/f",
            "to_above",
            "d/to_s",
            "d/to_s/",
            "d/s",
            "d/s/",
            "dangling",
            "dangling/",
            "dangling/x",
            "a_loop",
            "a_loop/x",
            "itself",
            "l0",
            "l38",
            "l39",
            "l40",
            "l40/",
            "absolute/f",
            "absolute/../d/s",
            "fifo",
            "fifo/x",
            "../..",
            "../../../../../../..",
            "d/e/../../f",
            &long,
            &deep,
        ] {
            let path = bytes(root.path().join("."));
            let path = [path.as_slice(), b"/", rest.as_bytes()].concat();
            let walk = view.walk_within(&path, LONG);
            let kernel = fs::metadata(std::ffi::OsStr::from_bytes(&path));
            match (&walk.end, kernel) {
                (End::Found, Ok(file)) => {
                    let last = walk.steps.last().expect("a step");
                    assert_eq!((last.dev, last.inode), (file.dev(), file.ino()), "{rest}");
                    assert_eq!((last.mode, last.uid), (file.mode() & 0o7777, file.uid()));
                    assert_eq!(last.ctime.0, file.ctime());
                }
                (end, Err(error)) => {
                    let expected = match end {
                        End::Missing { .. } => libc::ENOENT,
                        End::NotADirectory => libc::ENOTDIR,
                        End::TooManyLinks => libc::ELOOP,
                        End::NameTooLong => libc::ENAMETOOLONG,
                        other => unreachable!("{rest}: {other:?}"),
                    };
                    assert_eq!(error.raw_os_error(), Some(expected), "{rest}");
                }
                (end, Ok(_)) => {
                    assert!(rest == deep && *end == End::TooManySteps, "{rest} {end:?}");
                }
            }
        }
    }

    #[test]
    fn each_directory_is_named_again_where_a_link_goes_on() {
        let root = tree();
        let (_fake, view) = jail(root.path());
        let walk = view.walk_within(b"/to_link/to_s", LONG);
        let expected =
            ["/", "/to_link", "/", "/to_d", "/", "/d", "/d/to_s", "/d", "/", "/d", "/d", "/d/s"];
        assert_eq!(
            (names(&walk).as_slice(), &walk.end),
            (&expected.map(str::to_owned)[..], &End::Found)
        );
        let trailing: Vec<&[u8]> =
            walk.steps.iter().filter(|step| step.trailing).map(|step| &*step.name).collect();
        assert_eq!(trailing, [b"to_s".as_slice(), b"s"]);
        assert_eq!(walk.steps.last().map(|step| &step.kind), Some(&Kind::Socket));
        let missing = view.walk_within(b"/dangling", LONG);
        assert_eq!(missing.end, End::Missing { name: b"none".to_vec(), last: true });
        assert_eq!(missing.steps.last().map(|step| &*step.path), Some(b"/d".as_slice()));
    }

    #[test]
    fn nothing_outside_the_root_is_reached() {
        let root = tree();
        let jailed = root.path().join("d");
        symlink("/f", jailed.join("up")).expect("a link");
        symlink("../../f", jailed.join("dots")).expect("a link");
        let (_fake, view) = jail(&jailed);
        let inside = fs::metadata(jailed.join("f")).expect("a file").ino();
        for path in ["/up", "/../f", "/../../../f", "/dots", "/e/../../f", "/..//./../f"] {
            let walk = view.walk_within(path.as_bytes(), LONG);
            assert_eq!(walk.end, End::Found, "{path}");
            assert_eq!(walk.steps.last().map(|step| step.inode), Some(inside), "{path}");
        }
        let outside = fs::metadata(root.path()).expect("a directory").ino();
        let walk = view.walk_within(b"/../..", LONG);
        assert!(walk.steps.iter().all(|step| step.inode != outside));
    }

    #[test]
    fn a_tree_that_is_turned_over_meanwhile_neither_leads_out_nor_breaks_the_walk() {
        let root = tree();
        let jailed = root.path().join("d");
        fs::create_dir_all(jailed.join("a/b/c")).expect("directories");
        symlink("../../..", jailed.join("link")).expect("a link");
        fs::create_dir(root.path().join("outside")).expect("a directory");
        let (_fake, view) = jail(&jailed);
        let forbidden = [root.path().to_owned(), root.path().join("outside"), "/".into()]
            .map(|path| fs::metadata(path).expect("a directory").ino());
        let stop = AtomicBool::new(false);
        let turn = || {
            let moves = [
                ("d/a/b", "outside/b"),
                ("outside/b", "d/a/b"),
                ("d/link", "d/a/b/l"),
                ("d/a/b/l", "d/link"),
            ];
            for (from, to) in moves.iter().cycle() {
                let _lost = fs::rename(root.path().join(from), root.path().join(to));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        let ends = std::thread::scope(|scope| {
            scope.spawn(turn);
            let path = b"/a/b/c/../../b/c/../../../link/a/b/l/../../../../../..";
            let mut ends = Vec::new();
            for _ in 0..200 {
                let walk = view.walk_within(path, LONG);
                let out = walk.steps.iter().find(|step| forbidden.contains(&step.inode));
                assert_eq!(out, None);
                ends.push(walk.end);
            }
            stop.store(true, Ordering::Relaxed);
            ends
        });
        let known =
            |end: &End| matches!(end, End::Found | End::Missing { .. } | End::Unreadable(_));
        assert!(ends.iter().all(known), "{ends:?}");
    }

    /// A directory in memory with a chain of 20,000 links, and a fan: ten links, each of which leads eight times
    /// through the next one. Whoever follows all of the fan follows a thousand million links.
    fn maze() -> tempfile::TempDir {
        let root = tempfile::tempdir_in("/dev/shm").expect("a temporary directory");
        let link = |target: &str, name: String| {
            symlink(target, root.path().join(name)).expect("a link");
        };
        for number in 0..20_000 {
            link(&format!("c{}", number + 1), format!("c{number}"));
        }
        for level in 0..10 {
            link(&format!("f{}/", level + 1).repeat(8), format!("f{level}"));
            // As long as a target can be, for nothing.
            link(&format!("{}s{}", "./".repeat(2000), level + 1), format!("s{level}"));
            link(&format!("n{}{}", level + 1, "/".repeat(4000)), format!("n{level}"));
        }
        for last in ["f10", "s10", "n10"] {
            link(".", last.to_owned());
        }
        root
    }

    #[test]
    fn links_that_multiply_are_followed_no_further_than_the_kernel_does() {
        let root = maze();
        let (_fake, view) = jail(root.path());
        let begin = Instant::now();
        for (path, expected) in [
            ("/c0", End::TooManyLinks),
            ("/f0", End::TooManyLinks),
            ("/f0/f0/f0/x", End::TooManyLinks),
            // 2,000 components each: the kernel would go all the way.
            ("/s0", End::TooManySteps),
            ("/n0", End::Found),
            ("/n0/n0/n0/n0", End::TooManyLinks),
        ] {
            let walk = view.walk(path.as_bytes());
            assert_eq!(walk.end, expected, "{path}");
            let links =
                walk.steps.iter().filter(|step| matches!(step.kind, Kind::Symlink { .. })).count();
            // The last one is looked at, and not followed.
            assert!(links <= MOST_LINKS as usize + 1, "{path}: {links} links");
            let kernel = fs::metadata(root.path().join(path.trim_start_matches('/')));
            let errno = kernel.err().and_then(|error| error.raw_os_error());
            assert_eq!(errno == Some(libc::ELOOP), expected == End::TooManyLinks, "{path}");
        }
        assert!(begin.elapsed() < LONG / 10, "{:?}", begin.elapsed());
    }

    #[test]
    fn a_name_that_is_another_thing_at_each_look_leads_nowhere_and_opens_nothing() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let jailed = root.path().join("jail");
        fs::create_dir_all(jailed.join("spare")).expect("directories");
        let spare = |name: &str| jailed.join("spare").join(name);
        fs::write(root.path().join("secret"), b"secret").expect("a file");
        fs::create_dir(spare("directory")).expect("a directory");
        nix::unistd::mkfifo(&spare("fifo"), Mode::S_IRWXU).expect("a FIFO");
        symlink("../../../../secret", spare("out")).expect("a link");
        symlink("x/x/x/x/x/x/x/x", spare("circle")).expect("a link");
        symlink("spare/fifo", spare("to_fifo")).expect("a link");
        let names = ["directory", "fifo", "out", "circle", "to_fifo"];
        let forbidden = [root.path().to_owned(), root.path().join("secret"), "/".into()]
            .map(|path| fs::metadata(path).expect("a file").ino());
        let watch = inotify::init(CreateFlags::NONBLOCK).expect("inotify");
        for bait in [root.path().join("secret"), spare("fifo")] {
            inotify::add_watch(&watch, &bait, WatchFlags::OPEN | WatchFlags::ACCESS)
                .expect("a watch");
        }
        let (_fake, view) = jail(&jailed);
        let stop = AtomicBool::new(false);
        let turn = || {
            for name in names.iter().cycle() {
                let _lost = fs::rename(spare(name), jailed.join("x"));
                let _lost = fs::rename(jailed.join("x"), spare(name));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        let begin = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(turn);
            for round in 0..500 {
                let path = [b"/x".as_slice(), b"/x/y", b"/x/../x/../x", b"/x/"][round % 4];
                let walk = view.walk_within(path, LONG);
                let out = walk.steps.iter().find(|step| forbidden.contains(&step.inode));
                assert_eq!(out, None);
                let known = matches!(
                    walk.end,
                    End::Found
                        | End::Missing { .. }
                        | End::NotADirectory
                        | End::TooManyLinks
                        | End::Unreadable(_)
                );
                assert!(known, "{:?}", walk.end);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(begin.elapsed() < LONG / 2, "{:?}", begin.elapsed());
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let touched = inotify::Reader::new(&watch, &mut buffer).next().map(|event| event.events());
        assert_eq!(touched, Err(rustix::io::Errno::AGAIN), "something was opened");
    }

    #[test]
    fn links_of_procfs_are_not_followed() {
        let view = View::of_self().expect("a view");
        let own = format!("/proc/{}/root/etc", std::process::id());
        for path in ["/proc/self/fd/0", &own, "/proc/mounts", "/dev/fd/0"] {
            let walk = view.walk_within(path.as_bytes(), LONG);
            assert_eq!(walk.end, End::Magic, "{path}");
            let last = walk.steps.last().expect("the link");
            assert!(matches!(last.kind, Kind::Symlink { .. }) && last.path.starts_with(b"/proc/"));
        }
    }

    #[test]
    fn a_walk_has_bounds_of_its_own() {
        let root = tree();
        let (_fake, view) = jail(root.path());
        let steps = view.walk_within(&b"/d/..".repeat(600), LONG);
        assert_eq!((steps.end, steps.steps.len()), (End::TooManySteps, MOST_STEPS));
        let mut deep = root.path().join("d");
        for _ in 0..200 {
            deep.push("x");
            fs::create_dir(&deep).expect("a directory");
        }
        let path = [b"/d".as_slice(), &b"/x".repeat(200)].concat();
        assert_eq!(view.walk_within(&path, LONG).end, End::TooManySteps);
        assert_eq!(view.walk_within(&[b'/'; 4096], LONG).end, End::NameTooLong);
        assert_eq!(view.walk_within(b"/a\0b", LONG).end, End::Unreadable(Errno::EINVAL));
    }

    #[test]
    fn a_walk_that_does_not_answer_in_time_says_so() {
        let root = tree();
        let (_fake, view) = jail(root.path());
        let path = b"/d/..".repeat(600);
        // The thread may be faster than the one that waits for it not at all.
        let late = (0..100).map(|_| view.walk_within(&path, Duration::ZERO));
        let walk = late.into_iter().find(|walk| walk.end == End::TimedOut).expect("a late one");
        assert!(walk.steps.len() < MOST_STEPS);
    }

    #[test]
    fn a_filesystem_that_may_hang_is_not_entered() {
        let root = tree();
        let id = mount_id(root.path());
        let info = format!(
            "9001 {id} 0:99 / /d rw - nfs4 host:/ rw\n9002 {id} 0:98 / /d/e rw - autofs x rw\n\
             9003 {id} 0:97 / /other rw - tmpfs x rw\n9004 9003 0:97 / /other rw - fuse.x x rw\n"
        );
        let (_fake, host) = fake(root.path(), &info);
        let view = View::of_process(&host, 7).expect("a view");
        let foreign = |fs_type: &[u8], path: &[u8]| End::Foreign {
            fs_type: fs_type.to_vec(),
            path: path.to_vec(),
        };
        let walk = view.walk_within(b"/to_d/f", LONG);
        assert_eq!(walk.end, foreign(b"nfs4", b"/d"));
        assert_eq!(names(&walk), ["/", "/to_d", "/"]);
        assert_eq!(view.walk_within(b"/other/x", LONG).end, foreign(b"fuse.x", b"/other"));
        let (_fake, host) = fake(root.path(), "1 0 0:99 / / rw - nfs host:/ rw\n");
        let view = View::of_process(&host, 7).expect("a view");
        let walk = view.walk_within(b"/d", LONG);
        assert_eq!((walk.end, walk.steps.len()), (foreign(b"nfs", b"/"), 0));
        assert_eq!(view.lookup_id().root, None);
    }

    #[test]
    fn a_table_that_does_not_fit_the_tree_ends_the_walk() {
        let root = tree();
        let id = mount_id(root.path());
        let info = format!("9001 {id} 0:99 / /d rw - tmpfs x rw\n");
        let (_fake, host) = fake(root.path(), &info);
        let view = View::of_process(&host, 7).expect("a view");
        assert_eq!(view.walk_within(b"/d/f", LONG).end, End::Vanished, "no mount is there");
        let (_fake, host) = fake(Path::new("/"), "");
        let view = View::of_process(&host, 7).expect("a view");
        assert_eq!(view.walk_within(b"/proc/1", LONG).end, End::Vanished, "an unknown one is");
    }

    fn mount_tmpfs(at: &CString, flags: MsFlags) -> Result<(), Errno> {
        mount(Some(c"none"), at.as_c_str(), Some(c"tmpfs"), flags, Some(c"size=1m"))
    }

    #[test]
    fn mounts_of_another_namespace_are_walked_as_they_are_there() {
        let root = tree();
        let at = |name: &str| c_path(root.path().join(name));
        let (place, directory, below, slash) = (at("d"), at("d/m"), at("d/m/x"), c"/");
        let child = Forked::start(|pause| {
            let make = || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, slash, None::<&str>, private, None::<&str>)?;
                mount_tmpfs(&place, MsFlags::empty())?;
                nix::unistd::mkdir(directory.as_c_str(), Mode::S_IRWXU)?;
                mount_tmpfs(&directory, MsFlags::empty())?;
                mount_tmpfs(&directory, MsFlags::empty())?;
                nix::unistd::mkdir(below.as_c_str(), Mode::S_IRWXU)?;
                nix::unistd::chdir(directory.as_c_str())?;
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_BIND;
                mount(None::<&str>, directory.as_c_str(), None::<&str>, flags, None::<&str>)
            };
            let ready: Result<(), Errno> = make();
            pause.here();
            ready.err().map_or(0, |errno| errno as i32)
        });
        let view = View::of_process(&Host::default(), child.pid()).expect("a view");
        let path = bytes(root.path().join("d/m/x"));
        let walk = view.walk_within(&path, LONG);
        let relative =
            ["x", "../m/x", "../../d/m/../m/x"].map(|path| view.walk_within(path.as_bytes(), LONG));
        let namespace = view.lookup_id().mount_namespace;
        assert_eq!(child.finish(), 0, "mounts in a namespace take CAP_SYS_ADMIN");
        assert_eq!(walk.end, End::Found);
        let on = |step: &Step| {
            let mount = step.mount.clone().expect("a mount");
            (mount.fs_type, mount.read_only, mount.filesystem_read_only)
        };
        let [.., d, m, x] = walk.steps.as_slice() else { unreachable!("{walk:?}") };
        assert_eq!(on(d), (b"tmpfs".to_vec(), false, Some(false)));
        assert_eq!(on(m), (b"tmpfs".to_vec(), true, Some(false)));
        assert_eq!((on(x), x.dev), (on(m), m.dev));
        assert!(d.dev != m.dev);
        for walk in relative {
            let last = walk.steps.last().expect("a step");
            assert_eq!(
                (&walk.end, last.inode, last.dev),
                (&End::Found, x.inode, x.dev),
                "{walk:?}"
            );
        }
        let here = View::of_self().expect("a view");
        assert_eq!(
            here.walk_within(&path, LONG).end,
            End::Missing { name: b"m".to_vec(), last: false }
        );
        assert!(namespace.is_some() && here.lookup_id().mount_namespace != namespace);
    }

    #[test]
    fn a_mount_that_forbids_links_ends_the_walk_at_one() {
        let root = tree();
        let at = |name: &str| c_path(root.path().join(name));
        let (place, link) = (at("d"), at("d/l"));
        let child = Forked::start(|pause| {
            let make = || {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, c"/", None::<&str>, private, None::<&str>)?;
                // `MS_NOSYMFOLLOW`, which no library names yet.
                mount_tmpfs(&place, MsFlags::from_bits_retain(256))?;
                nix::unistd::symlinkat(c".", rustix::fs::CWD, link.as_c_str())
            };
            let ready: Result<(), Errno> = make();
            pause.here();
            let read = nix::sys::stat::stat(link.as_c_str());
            ready.and(read.map(drop)).err().map_or(0, |errno| errno as i32)
        });
        let view = View::of_process(&Host::default(), child.pid()).expect("a view");
        let walk = view.walk_within(&bytes(root.path().join("d/l")), LONG);
        assert_eq!((child.finish(), walk.end), (libc::ELOOP, End::LinksForbidden));
    }

    #[test]
    fn a_chroot_and_a_working_directory_are_where_a_path_starts() {
        let root = tree();
        for flags in [CloneFlags::empty(), CloneFlags::CLONE_NEWNS] {
            let (jail, e) = (c_path(root.path()), c"/d/e");
            let child = Forked::start(|pause| {
                let made = unshare(flags)
                    .and_then(|()| nix::unistd::chroot(jail.as_c_str()))
                    .and_then(|()| nix::unistd::chdir(e));
                pause.here();
                made.err().map_or(0, |errno| errno as i32)
            });
            let view = View::of_process(&Host::default(), child.pid()).expect("a view");
            let walks = ["/d/s", "../s", "../../../../d/s", "/../d/e/../s", "../../to_d/to_s"]
                .map(|path| view.walk_within(path.as_bytes(), LONG));
            let id = view.lookup_id();
            assert_eq!(child.finish(), 0, "chroot(2) takes CAP_SYS_CHROOT");
            let expected = fs::metadata(root.path().join("d/s")).expect("a socket");
            for walk in walks {
                let last = walk.steps.last().expect("a step");
                assert_eq!((&walk.end, last.inode), (&End::Found, expected.ino()), "{walk:?}");
                assert!(last.mount.is_some());
            }
            let start = fs::metadata(root.path()).expect("a directory");
            assert_eq!(id.root, Some((start.dev(), start.ino())));
        }
    }

    /// Runs on a thread with these capabilities alone.
    fn with_caps<T: Send>(
        caps: &[caps::Capability],
        uid: u32,
        work: impl FnOnce() -> T + Send,
    ) -> T {
        let become_and_work = || {
            let uid = rustix::process::Uid::from_raw(uid);
            rustix::thread::set_keep_capabilities(true).expect("prctl(2)");
            rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root");
            let caps = caps.iter().copied().collect();
            caps::set(None, caps::CapSet::Effective, &caps).expect("permitted capabilities");
            work()
        };
        std::thread::scope(|scope| scope.spawn(become_and_work).join().expect("a thread"))
    }

    #[test]
    fn two_capabilities_are_enough_and_without_them_the_walk_says_what_it_may_not() {
        use caps::Capability::{CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE};
        let root = tree();
        let path = bytes(root.path().join("d/s"));
        fs::set_permissions(root.path().join("d"), Permissions::from_mode(0o700)).expect("root");
        let child = Forked::start(|pause| {
            pause.here();
            0
        });
        let look = || {
            let view = View::of_process(&Host::default(), child.pid());
            view.map(|view| view.walk_within(&path, LONG))
        };
        let few = with_caps(&[CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE], 61_005, look).expect("a view");
        assert_eq!(few.end, End::Found);
        assert_eq!(few.steps.last().map(|step| &step.kind), Some(&Kind::Socket));
        let none = with_caps(&[], 61_005, look);
        assert!(matches!(none, Err(WalkError::Root { .. })), "{none:?}");
        let own =
            with_caps(&[], 61_005, || View::of_self().map(|view| view.walk_within(&path, LONG)));
        let own = own.expect("a view");
        assert_eq!(own.end, End::Unreadable(Errno::EACCES));
        assert!(own.steps.last().is_some_and(|step| step.path.ends_with(b"/d")));
        assert_eq!(child.finish(), 0);
        let gone = View::of_process(&Host::default(), u32::MAX);
        assert!(gone.is_err_and(|error| error.is_gone()));
    }
}

//! Checkups of real processes: `sleep` with descriptors of the test's own, so that it holds these and
//! nothing else, and neither reads nor writes.

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use nix::sys::epoll::{Epoll, EpollCreateFlags};
    use nix::sys::eventfd::{EfdFlags, EventFd};
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

    use super::super::check_process;
    use crate::{
        diagnose::Check,
        event::{Finding, Phrase, Severity},
        evidence::Namespaces,
        host::{Host, in_scratch_namespace},
    };

    /// A process that sleeps, ended with the test.
    struct Sleeper(Child);

    impl Sleeper {
        /// With these descriptors, beside `/dev/null` three times.
        fn with(held: &[BorrowedFd<'_>]) -> Self {
            let held: Vec<i32> = held.iter().map(AsRawFd::as_raw_fd).collect();
            let mut command = Command::new("sleep");
            command.arg("60").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let keep = move || {
                // What the tests were started with is none of it.
                // SAFETY: three numbers; it marks descriptors, and closes none before exec.
                unsafe {
                    libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
                };
                for fd in &held {
                    // SAFETY: the child has the descriptors of the test, which are open while it is made.
                    let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
                    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
                }
                Ok(())
            };
            // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
            unsafe { command.pre_exec(keep) };
            let sleeper = Self(command.spawn().expect("sleep"));
            sleeper.wait_until_asleep();
            sleeper
        }

        /// Until then it opens files of its own.
        fn wait_until_asleep(&self) {
            let asleep = |syscall: u32| i64::from(syscall) == libc::SYS_clock_nanosleep;
            let is_asleep = || {
                sleep(Duration::from_millis(2));
                let (threads, _) = Host::default().read_threads(self.pid()).expect("its threads");
                threads.iter().any(|thread| thread.syscall.is_some_and(asleep))
            };
            assert!((0..2500).any(|_| is_asleep()), "it does not sleep");
        }

        fn pid(&self) -> u32 {
            self.0.id()
        }

        fn as_pid(&self) -> Pid {
            Pid::from_child(&self.0)
        }

        fn checked(&self) -> Vec<Check> {
            let host = Host::default();
            let mut namespaces = Namespaces::open(host.clone());
            check_process(&host, &mut namespaces, self.pid()).expect("a process")
        }

        /// The finding of a rule. Children of other tests have every descriptor of this process for a
        /// moment before their exec, so it may take a few looks.
        fn found(&self, rule: &str) -> Finding {
            let look = || {
                let checks = self.checked();
                let mut all = checks.into_iter().flat_map(|check| check.findings);
                all.find(|found| found.rule == rule)
            };
            (0..5).find_map(|_| look()).expect(rule)
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            // It may have ended.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn text(of: &Phrase) -> String {
        use crate::event::Part;
        let part = |part: &Part| match part {
            Part::Text(text) => text.to_string(),
            Part::Name(bytes) | Part::Word(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        };
        of.0.iter().map(part).collect()
    }

    fn step<'a>(checks: &'a [Check], name: &str) -> &'a Check {
        checks.iter().find(|check| check.name == name).expect("the step")
    }

    fn says(check: &Check, what: &str) -> bool {
        check.facts.iter().any(|fact| text(fact).contains(what))
    }

    /// Writes until it would block.
    fn fill(mut into: impl Write) {
        let chunk = [7; 4096];
        let error = loop {
            if let Err(error) = into.write_all(&chunk) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn a_full_unix_buffer_names_the_peer_and_the_peer_is_told_that_it_does_not_read() {
        let (near, far) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("nonblocking");
        fill(&near);
        let (writer, reader) = (Sleeper::with(&[near.as_fd()]), Sleeper::with(&[far.as_fd()]));
        drop((near, far));
        let found = writer.found("unix-peer-does-not-read");
        assert_eq!(found.severity, Severity::Warning);
        let fix = format!("look at who does not read: socktrace diagnose {}", reader.pid());
        assert_eq!(text(&found.fix), fix);
        assert!(text(&found.fact).contains(&format!("sleep (pid {})", reader.pid())), "{found:?}");
        let found = reader.found("unix-does-not-read");
        assert!(text(&found.fact).contains(&format!("sleep (pid {})", writer.pid())), "{found:?}");
    }

    #[test]
    fn connections_that_a_process_does_not_close_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let clients: Vec<TcpStream> =
            (0..12).map(|_| TcpStream::connect(address).expect("a connection")).collect();
        for _ in &clients {
            drop(listener.accept().expect("a connection"));
        }
        let fds: Vec<BorrowedFd<'_>> = clients.iter().map(AsFd::as_fd).collect();
        let process = Sleeper::with(&fds);
        drop(clients);
        let found = process.found("tcp-close-wait");
        assert_eq!(found.severity, Severity::Warning);
        assert!(text(&found.fact).starts_with("12 connections in CLOSE-WAIT"), "{found:?}");
        let checks = process.checked();
        assert!(says(step(&checks, "tcp"), "12 TCP sockets: 12 CLOSE-WAIT"));
        assert!(checks.iter().all(|check| check.name != "next"));
    }

    #[test]
    fn data_that_lies_unread_is_told_with_its_age() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (server, _) = listener.accept().expect("the connection");
        client.write_all(b"hello").expect("sent");
        let process = Sleeper::with(&[server.as_fd()]);
        drop(server);
        sleep(Duration::from_millis(1200));
        let found = process.found("tcp-does-not-read");
        assert!(
            text(&found.fact).starts_with("it leaves 5 B unread of the connection"),
            "{found:?}"
        );
        let said = process.checked();
        assert!(says(step(&said, "tcp"), "5 B received and not read"), "{said:#?}");
    }

    #[test]
    fn a_tcp_peer_that_does_not_read_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let client =
            TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (server, _) = listener.accept().expect("the connection");
        client.set_nonblocking(true).expect("nonblocking");
        // The window closes a moment after the last segments came.
        for _ in 0..10 {
            fill(&client);
            sleep(Duration::from_millis(50));
        }
        let (writer, reader) = (Sleeper::with(&[client.as_fd()]), Sleeper::with(&[server.as_fd()]));
        drop((client, server));
        let found = writer.found("tcp-peer-does-not-read");
        let fix = format!("look at who does not read: socktrace diagnose {}", reader.pid());
        assert_eq!(text(&found.fix), fix);
        let found = reader.found("tcp-does-not-read");
        assert_eq!(found.severity, Severity::Warning);
    }

    #[test]
    fn datagrams_that_a_small_buffer_dropped_are_told() {
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 2304).expect("a small buffer");
        let address = receiver.local_addr().expect("an address");
        let sender = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        for _ in 0..200 {
            sender.send_to(&[7; 500], address).expect("sent");
        }
        let process = Sleeper::with(&[receiver.as_fd()]);
        drop(receiver);
        let found = process.found("udp-dropped");
        assert!(text(&found.fact).starts_with(&format!("{address} dropped ")), "{found:?}");
        assert!(!text(&found.fact).contains("within the last"), "none came since: {found:?}");
    }

    #[test]
    fn a_pipe_without_reader_is_a_warning_and_one_with_a_reader_names_it() {
        let (orphan_reader, orphan_writer) = std::io::pipe().expect("a pipe");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let reading = Sleeper::with(&[reader.as_fd()]);
        let process = Sleeper::with(&[orphan_writer.as_fd(), writer.as_fd()]);
        drop((orphan_reader, orphan_writer, reader, writer));
        let found = process.found("pipe-without-reader");
        assert!(text(&found.fact).contains("1 pipe "), "{found:?}");
        let said = process.checked();
        let seen = step(&said, "pipes").unseen.is_empty();
        assert_eq!(found.severity, if seen { Severity::Warning } else { Severity::Info });
        let line = format!("written by itself, read by sleep (pid {})", reading.pid());
        assert!(says(step(&said, "pipes"), &line), "{said:#?}");
    }

    #[test]
    fn a_limit_that_is_nearly_used_up_is_a_warning_and_then_an_error() {
        let file = std::fs::File::open("/dev/null").expect("a file");
        let copies: Vec<OwnedFd> =
            (0..17).map(|_| file.as_fd().try_clone_to_owned().expect("a copy")).collect();
        let fds: Vec<BorrowedFd<'_>> = copies.iter().map(AsFd::as_fd).collect();
        let process = Sleeper::with(&fds);
        let limit = |soft| {
            let limit = Rlimit { current: Some(soft), maximum: Some(100) };
            prlimit(Some(process.as_pid()), Resource::Nofile, limit).expect("a limit");
        };
        limit(22);
        let found = process.found("descriptors-used-up");
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(text(&found.fact), "20 of 22 descriptors are open");
        limit(20);
        assert_eq!(process.found("descriptors-used-up").severity, Severity::Error);
    }

    #[test]
    fn a_full_queue_is_an_error_whether_unix_or_tcp() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("s");
        let unix = UnixListener::bind(&path).expect("a listener");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a listener");
        rustix::net::listen(&unix, 0).expect("a backlog");
        rustix::net::listen(&tcp, 0).expect("a backlog");
        let address = tcp.local_addr().expect("an address");
        let process = Sleeper::with(&[unix.as_fd(), tcp.as_fd()]);
        let other = Sleeper::with(&[tcp.as_fd()]);
        drop((unix, tcp));
        let clients =
            (UnixStream::connect(&path).expect("room"), TcpStream::connect(address).expect("room"));
        process.found("listener-queue-full");
        let checks = process.checked();
        let listeners = step(&checks, "listeners");
        let subjects: Vec<String> = listeners.findings.iter().map(|it| text(&it.subject)).collect();
        let mut expected = vec![address.to_string(), path.display().to_string()];
        expected.sort();
        let mut sorted = subjects.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        assert!(says(listeners, &format!("held by sleep (pid {}) as well", other.pid())));
        drop(clients);
    }

    #[test]
    fn other_means_of_communication_are_counted() {
        let eventfd = |count| EventFd::from_value_and_flags(count, EfdFlags::EFD_CLOEXEC);
        let (idle, busy) = (eventfd(0).expect("an eventfd"), eventfd(3).expect("an eventfd"));
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll");
        let memory = memfd_create("shared", MemfdFlags::empty()).expect("a memfd");
        let netlink = rustix::net::socket(
            rustix::net::AddressFamily::NETLINK,
            rustix::net::SocketType::RAW,
            None,
        )
        .expect("a socket");
        let held = [idle.as_fd(), busy.as_fd(), poll.0.as_fd(), memory.as_fd(), netlink.as_fd()];
        let process = Sleeper::with(&held);
        let checks = process.checked();
        let other = step(&checks, "other");
        for line in [
            "2 eventfds (1 at 0, whose readers wait, 1 above 0)",
            "1 epoll",
            "1 shared memory object",
            "1 socket of netlink",
        ] {
            assert!(says(other, line), "{line} in {other:#?}");
        }
        assert!(says(step(&checks, "descriptors"), "8 are open"), "{checks:#?}");
    }

    #[test]
    fn a_stopped_process_is_an_error_and_says_how_to_wake_it() {
        let process = Sleeper::with(&[]);
        kill_process(process.as_pid(), Signal::STOP).expect("a signal");
        let found = process.found("process-held");
        assert_eq!(text(&found.fix), format!("let it go on: kill -CONT {}", process.pid()));
    }

    #[test]
    fn a_process_that_ended_and_was_not_collected_is_named_so() {
        let mut ended = Sleeper::with(&[]);
        ended.0.kill().expect("a signal");
        sleep(Duration::from_millis(100));
        assert_eq!(ended.found("process-ended").severity, Severity::Error);
        // Collected with the test.
        let _ = ended.0.wait();
    }

    #[test]
    fn a_process_in_order_gets_the_next_command_within_a_second() {
        let process = Sleeper::with(&[]);
        let began = Instant::now();
        let checks = process.checked();
        // Generous: other tests run at the same time.
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
        let bad: Vec<&Check> = checks.iter().filter(|check| check.is_bad()).collect();
        // A busy host has findings of its own.
        assert!(bad.iter().all(|check| check.name == "memory"), "{bad:#?}");
        assert_eq!(names.last() == Some(&"next"), bad.is_empty());
        assert!(says(step(&checks, "process"), "sleep (pid"));
        assert!(says(step(&checks, "unix"), "no Unix socket"));
    }

    #[test]
    fn a_listener_of_another_namespace_is_found_with_its_limit() {
        let process = in_scratch_namespace(|| {
            let listener = TcpListener::bind("0.0.0.0:77").expect("a listener");
            Sleeper::with(&[listener.as_fd()])
        });
        let process = process.expect("a namespace, as root");
        let checks = process.checked();
        let line = "0.0.0.0:77: 0 in its queue, backlog";
        assert!(says(step(&checks, "listeners"), line), "{checks:#?}");
        assert!(says(step(&checks, "process"), "it lives in other namespaces: net:["));
    }

    #[test]
    fn a_socket_that_no_list_has_is_not_called_absent() {
        let listener = in_scratch_namespace(|| TcpListener::bind("0.0.0.0:77"));
        let listener = listener.expect("a namespace, as root").expect("a listener");
        let process = Sleeper::with(&[listener.as_fd()]);
        let checks = process.checked();
        let unlisted = |it: &Phrase| text(it).contains("network namespace without a process");
        assert!(step(&checks, "tcp").unseen.iter().any(unlisted), "{checks:#?}");
        assert!(!says(step(&checks, "listeners"), "nowhere"), "{checks:#?}");
    }

    #[test]
    fn what_may_not_be_read_is_unseen_and_a_process_that_is_not_there_an_error() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let dir = root.path().join("proc/7");
        std::fs::create_dir_all(&dir).expect("a fake process");
        std::fs::write(dir.join("comm"), "hidden\n").expect("a file");
        let host = Host::at(root.path());
        let mut namespaces = Namespaces::open(host.clone());
        let checks = check_process(&host, &mut namespaces, 7).expect("a name");
        for name in ["descriptors", "listeners", "unix", "tcp", "udp", "pipes", "other"] {
            let check = step(&checks, name);
            assert!(!check.unseen.is_empty() && check.facts.is_empty(), "{check:#?}");
        }
        let gone = check_process(&host, &mut namespaces, 8);
        assert!(gone.is_err_and(|error| error.is_gone()));
    }

    #[test]
    fn a_reading_process_has_no_finding_about_its_sockets() {
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        near.write_all(b"once").expect("sent");
        far.read_exact(&mut [0; 4]).expect("read");
        let process = Sleeper::with(&[near.as_fd(), far.as_fd()]);
        let checks = process.checked();
        let unix = step(&checks, "unix");
        assert_eq!(unix.findings, []);
        assert!(says(unix, "2 Unix sockets, 2 of them connected"), "{unix:#?}");
    }
}

//! A pre-forking server: several processes with several threads each accept from one listener, which
//! they inherited.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockFlag, SockType};

use crate::scenario::actor::{Role, prepare};
use crate::scenario::clock::{sleep_ms, wait_until};
use crate::scenario::gate::Gate;
use crate::scenario::listener::{accepts, loopback, queue_len, set_nonblocking};
use crate::scenario::socket::{Listener, accept, listen};
use crate::scenario::stage::Stage;

const NAME: &str = "edge_prefork";
const WORKERS: usize = 3;
const CONNECTIONS: u64 = 48;

/// Three workers of two threads each; the parent holds the listener and accepts nothing.
///
/// # Errors
/// When not every connection is accepted.
pub(super) fn processes_and_threads(stage: &mut Stage, gate: &Gate) -> Result<()> {
    let listener = listen(&loopback(), SockType::Stream, 64)?;
    set_nonblocking(&listener)?;
    let stop = stage.path("stop");
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        let (shared, until) = (listener.share()?, stop.clone());
        workers.push(prepare(Role::named("st-worker"), move || serve(&shared, &until))?);
    }
    gate.arrive()?;
    workers.iter_mut().try_for_each(crate::scenario::actor::Actor::start)?;
    for _ in 0..CONNECTIONS {
        let socket = listener.at.socket(SockType::Stream, SockFlag::empty())?;
        listener.at.connect(&socket).context("connect")?;
        sleep_ms(1);
    }
    wait_until("an empty queue", || Ok(queue_len(&listener)? == 0))?;
    // Taken out of the queue, and back from accept().
    sleep_ms(100);
    gate.leave_and_stay()?;
    std::fs::write(&stop, "").context("stop")?;
    let mut all = 0;
    let mut holders: Vec<u32> = workers.iter().map(crate::scenario::actor::Actor::pid).collect();
    holders.push(stage.seen.pid);
    for worker in workers {
        let pid = worker.pid();
        let count = worker.finish()?;
        all += count;
        let mut record = accepts(NAME, &listener, count)?;
        (record.pid, record.comm) = (pid, "st-worker".to_owned());
        record.holders.clone_from(&holders);
        stage.accepted(record);
    }
    ensure!(all == CONNECTIONS, "{all} of {CONNECTIONS} connections were accepted");
    Ok(())
}

fn serve(listener: &Listener, until: &Path) -> Result<u64> {
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|_| scope.spawn(|| accept_until(listener, until)));
        threads.into_iter().map(|it| it.join().map_err(|_| anyhow!("a panic"))?).sum()
    })
}

fn accept_until(listener: &Listener, until: &Path) -> Result<u64> {
    let mut count = 0;
    while !until.exists() {
        let mut asked = [PollFd::new(listener.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut asked, PollTimeout::from(5u8)).context("poll")?;
        match accept(listener, SockFlag::empty()) {
            Ok(_) => count += 1,
            Err(Errno::EAGAIN) => {}
            Err(errno) => bail!("accept: {errno:?}"),
        }
    }
    Ok(count)
}

//! `listeners`: what listens on this host now, without eBPF.

use std::{
    collections::HashMap,
    io::{self, BufWriter, Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    args::{SocketArgs, parse_duration},
    failure::{Failure, SUCCESS},
    output::{Format, OutputFile, ReportFormat},
    session::{check_privileges, in_own_pid_namespace},
};
use crate::{
    host::Host,
    listener::{Age, Listing, Lookout, read_listing},
    live::LiveError,
    probe::{Options, attach, facts},
    render::listing::{ListingJson, render_listing, render_unseen},
    stall::{Ages, Stalling},
    transport::{monotonic_now_ns, read_accepted, read_progress, read_queued},
};

/// Between two looks of `--for`.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// List every TCP and Unix listener of every network namespace, and who holds it; fullest first
///
/// Needs no eBPF, but for --for. Without root it lists what it can, and says on stderr what it could not see.
#[derive(Debug, Args)]
pub(super) struct Listeners {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Write the list to this file instead of stdout (as JSON if it ends in .json)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Attach a tracer for this long, to learn how long connections wait (root)
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    #[command(flatten)]
    sockets: SocketArgs,
    /// Only these network namespaces, by inode (lsns -t net lists them)
    #[arg(long, value_name = "INODE", value_delimiter = ',', help_heading = "Filters")]
    netns: Vec<u32>,
}

impl Listeners {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut file = self.output.as_deref().map(OutputFile::create).transpose()?;
        let listing = self.read()?;
        tell(&self.unseen(&listing));
        let by_ending = file.as_ref().is_some_and(|file| file.format() == ReportFormat::Json);
        let format = if self.json || by_ending { Format::Json } else { Format::Text };
        let list = |stream: &mut dyn Write| write(&listing, format, stream);
        match &mut file {
            Some(file) => file.write(list)?,
            None => print(list)?,
        }
        Ok(SUCCESS)
    }

    fn read(&self) -> Result<Listing, Failure> {
        let (now_ns, oldest) = self.duration.map(oldest_waits).transpose()?.unwrap_or_default();
        let selection = self.sockets.selection();
        let local = |local: &_| selection.wants(local);
        let mut listing = read_listing(&Host::default(), &self.netns, local)?;
        let refused = listing.unseen.not_listed.len();
        // TCP and Unix, in each.
        if refused > 0 && refused == 2 * listing.namespaces.len() {
            let (_, error) = listing.unseen.not_listed.swap_remove(0);
            return Err(error.into());
        }
        listing.retain_held_by(&self.sockets.holders());
        for row in listing.rows.iter_mut().filter(|row| row.seen.queue != Some(0)) {
            row.oldest = oldest.get(&row.inode).map(|stalling| Age {
                ns: now_ns.saturating_sub(stalling.since_ns),
                is_lower_bound: stalling.is_lower_bound,
            });
        }
        listing.sort();
        Ok(listing)
    }

    /// What is missing in the list, a sentence each.
    fn unseen(&self, listing: &Listing) -> Vec<String> {
        let mut sentences = render_unseen(listing);
        let found = |inode: &&u32| {
            let seen = listing.namespaces.iter().any(|namespace| namespace.inode == Some(**inode));
            let refused = listing.unseen.not_entered.iter().any(|error| error.inode() == **inode);
            seen || refused
        };
        for inode in self.netns.iter().filter(|inode| !found(inode)) {
            sentences.push(format!(
                "there is no network namespace {inode} that /proc or a mount shows, so nothing of \
                 it is listed; lsns -t net lists them"
            ));
        }
        if in_own_pid_namespace() {
            sentences.push(
                "this process is not in the initial pid namespace, so owners and network \
                 namespaces outside its own are missing; run socktrace on the host, or in a \
                 container with the host's pid namespace (--pid=host)"
                    .to_owned(),
            );
        }
        sentences
    }
}

/// Traces accepts from the attach on for a while, and looks at all queues meanwhile.
/// The moment of the last look, and what it showed.
fn oldest_waits(duration: Duration) -> Result<(u64, HashMap<u64, Stalling>), Failure> {
    check_privileges()?;
    let options = Options::for_ages();
    let attached = attach(&facts(&options)?, &options)?;
    let (mut first_look, mut ages) = (None, Ages::default());
    let mut lookout = Lookout::new(Host::default());
    let progress = |inode| read_progress(&attached.ebpf, inode).unwrap_or_default();
    loop {
        let accepted_before = read_accepted(&attached.ebpf).map_err(LiveError::from)?;
        let sightings = lookout.look().sightings;
        let queued = read_queued(&attached.ebpf).map_err(LiveError::from)?;
        let now_ns = monotonic_now_ns();
        ages.look(now_ns, &sightings, &queued, &accepted_before, &progress);
        let begin: &mut Instant = first_look.get_or_insert_with(Instant::now);
        let left = duration.saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Ok((now_ns, ages.oldest()));
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

fn write(listing: &Listing, format: Format, stream: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => stream.write_all(render_listing(listing).as_bytes()),
        Format::Json => {
            serde_json::to_writer_pretty(&mut *stream, &ListingJson(listing))?;
            stream.write_all(b"\n")
        }
    }
}

fn print(fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut stream = BufWriter::new(stdout().lock());
    fill(&mut stream)
        .and_then(|()| stream.flush())
        .map_err(|source| Failure::Output { path: "stdout".to_owned(), source })
}

/// Says it on stderr; where that is closed, nobody is left to tell.
fn tell(sentences: &[String]) {
    for sentence in sentences {
        let _ = stderr().write_all(format!("socktrace: {sentence}\n").as_bytes());
    }
}

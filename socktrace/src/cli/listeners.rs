//! `listeners`: what listens on this host now, without eBPF.

use std::{
    io::{self, BufWriter, Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;

use super::{
    args::SocketArgs,
    failure::{Failure, SUCCESS},
    output::{Format, OutputFile},
    session::in_own_pid_namespace,
};
use crate::{
    host::Host,
    listener::{Listing, read_listing},
    render::listing::{ListingJson, render_listing, render_unseen},
};

/// List every TCP and Unix listener of every network namespace, and who holds it; fullest first
///
/// Needs no eBPF. Without root it lists what it can, and says on stderr what it could not see.
#[derive(Debug, Args)]
pub(super) struct Listeners {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Write the list to this file instead of stdout (as JSON if it ends in .json)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
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
        let by_ending = file.as_ref().map_or(Format::Text, OutputFile::format);
        let format = if self.json { Format::Json } else { by_ending };
        let list = |stream: &mut dyn Write| write(&listing, format, stream);
        match &mut file {
            Some(file) => file.write(list)?,
            None => print(list)?,
        }
        Ok(SUCCESS)
    }

    fn read(&self) -> Result<Listing, Failure> {
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

//! Addresses of symbols, asked once: of the kernel itself, or from `/proc/kallsyms`, which it makes line by
//! line and which has 100,000 of them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use super::{Refused, addresses::Addresses};

/// What socktrace needs to know by address.
#[derive(Clone, Debug)]
pub struct Symbols {
    /// The array of per-CPU offsets: with it, programs read the kernel's per-CPU counters.
    pub per_cpu_offset: Result<u64, Refused>,
    /// First and past-the-last address of `tcp_v4_rcv` and `tcp_v6_rcv`: a packet that is freed
    /// in there with its listener at hand was counted in that listener's `sk_drops`.
    pub tcp_rcv: Result<[[u64; 2]; 2], Refused>,
}

/// So much of the table, which has megabytes, is in memory at a time.
const PIECE_BYTES: usize = 64 << 10;
const PER_CPU_OFFSET: &str = "__per_cpu_offset";
const TCP_RCV: [&str; 2] = ["tcp_v4_rcv", "tcp_v6_rcv"];
const WANTED: [&str; 3] = [PER_CPU_OFFSET, TCP_RCV[0], TCP_RCV[1]];

/// Addresses by name: where it begins, and where the next one does.
type Found<'a> = HashMap<&'a str, [u64; 2]>;

impl Symbols {
    /// Asks the kernel; one that does not answer (before 5.16), or not to this process, has its table read.
    pub fn find(kallsyms: &Path) -> Self {
        match ask(&WANTED) {
            Ok(found) => Self::of(&Ok(found), kallsyms),
            Err(_) => Self::read(kallsyms),
        }
    }

    /// Reads the table.
    pub fn read(kallsyms: &Path) -> Self {
        let found = File::open(kallsyms)
            .and_then(|table| {
                let table = BufReader::with_capacity(PIECE_BYTES, table);
                find(table, &WANTED)
            })
            .map_err(|error| Refused(format!("cannot read {}: {error}", kallsyms.display())));
        Self::of(&found, kallsyms)
    }

    fn of(found: &Result<Found<'_>, Refused>, kallsyms: &Path) -> Self {
        let span = |name: &str| match found {
            Ok(found) => known(found.get(name).copied(), name, kallsyms),
            Err(refused) => Err(refused.clone()),
        };
        let [v4, v6] = TCP_RCV.map(span);
        Self {
            per_cpu_offset: span(PER_CPU_OFFSET).map(|[address, _]| address),
            tcp_rcv: v4.and_then(|v4| Ok([v4, v6?])),
        }
    }
}

fn ask<'a>(names: &[&'a str]) -> io::Result<Found<'a>> {
    let addresses = Addresses::open()?;
    let mut found = Found::new();
    for name in names {
        found.extend(addresses.span(name)?.map(|span| (*name, span)));
    }
    Ok(found)
}

/// Address 0 is how the kernel hides an address.
fn known(found: Option<[u64; 2]>, name: &str, kallsyms: &Path) -> Result<[u64; 2], Refused> {
    match found {
        Some([0, _]) => Err(Refused(
            "the kernel hides symbol addresses; set sysctl kernel.kptr_restrict to 0 or 1 and \
             give CAP_SYSLOG"
                .into(),
        )),
        Some(span) => Ok(span),
        None => Err(Refused(format!(
            "{} does not list {name} (for data it would need CONFIG_KALLSYMS_ALL)",
            kallsyms.display()
        ))),
    }
}

/// Addresses of these symbols and of whatever begins next above each.
fn find<'a>(mut table: impl BufRead, names: &[&'a str]) -> io::Result<Found<'a>> {
    let mut found = Found::new();
    // The table is in the order of addresses up to the first module.
    let mut open: Vec<&str> = Vec::new();
    let mut line = Vec::new();
    while table.read_until(b'\n', &mut line)? > 0 {
        let Some((address, symbol)) = parse(line.trim_ascii_end()) else { break };
        open.retain(|name| match found.get_mut(name) {
            Some([begin, end]) if address > *begin => {
                *end = address;
                false
            }
            _ => true,
        });
        if let Some(name) = names.iter().find(|name| name.as_bytes() == symbol)
            && !found.contains_key(name)
        {
            found.insert(name, [address, address]);
            open.push(name);
        }
        if found.len() == names.len() && open.is_empty() {
            break;
        }
        line.clear();
    }
    Ok(found)
}

/// `ffffffff82c0d2a0 D __per_cpu_offset`; a module's symbol has its module behind it.
fn parse(line: &[u8]) -> Option<(u64, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let address = u64::from_str_radix(std::str::from_utf8(fields.next()?).ok()?, 16).ok()?;
    let _kind = fields.next()?;
    Some((address, fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"00000010 T tcp_v4_rcv.cold\n00000020 T tcp_v4_rcv\n\
        00000020 t alias\n00000030 T next\n00000040 D __per_cpu_offset\n00000050 T end\n\
        00000060 t tcp_v4_rcv\t[module]\n";

    #[test]
    fn a_symbol_is_matched_whole_and_ends_where_the_next_begins() {
        let found = find(TABLE, &["tcp_v4_rcv", "__per_cpu_offset", "absent"]).expect("in memory");
        assert_eq!(found.get("tcp_v4_rcv"), Some(&[0x20, 0x30]));
        assert_eq!(found.get("__per_cpu_offset"), Some(&[0x40, 0x50]));
        assert_eq!(found.get("absent"), None);
    }

    #[test]
    fn the_kernel_answers_what_its_table_says() {
        let table = Path::new("/proc/kallsyms");
        let (asked, read) = (Symbols::find(table), Symbols::read(table));
        assert_eq!(asked.tcp_rcv, read.tcp_rcv);
        assert_eq!(asked.per_cpu_offset, read.per_cpu_offset);
    }

    #[test]
    fn hidden_and_missing_addresses_say_what_to_do() {
        let path = Path::new("/proc/kallsyms");
        let hidden = known(Some([0, 0]), "x", path);
        assert!(hidden.is_err_and(|Refused(why)| why.contains("kptr_restrict")));
        let missing = known(None, "x", path);
        assert!(missing.is_err_and(|Refused(why)| why.contains("CONFIG_KALLSYMS_ALL")));
    }
}

//! Ids of types by their names, for many names in one pass over a BTF file (`include/uapi/linux/btf.h`):
//! btf-rs goes through all types for each name. And a file that has little more than such names, for aya, which does so, too.

use std::collections::HashMap;

/// In the machine's own order of bytes.
const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
const TYPE: usize = 12;

/// Ids by name; a name that no type has comes with none. `None` for a file of another kind.
pub(super) fn find<'a>(btf: &[u8], names: &[&'a str]) -> Option<HashMap<&'a str, Vec<u32>>> {
    let (types, strings) = sections(btf)?;
    let mut found: HashMap<&[u8], (&'a str, Vec<u32>)> =
        names.iter().map(|name| (name.as_bytes(), (*name, Vec::new()))).collect();
    // Most names begin in another way than all that are wanted, which is known sooner.
    let mut begins = vec![false; 1 << 16];
    for begin in names.iter().filter_map(|name| begin_of(name.as_bytes())) {
        begins[begin] = true;
    }
    let (mut at, mut id) = (0, 1);
    while at < types.len() {
        let name = strings.get(word(types, at)? as usize..)?;
        if begin_of(name).is_some_and(|begin| begins[begin])
            && let Some(name) = name.split(|byte| *byte == 0).next()
            && let Some((_, ids)) = found.get_mut(name)
        {
            ids.push(id);
        }
        at += TYPE + more(word(types, at + 4)?)?;
        id += 1;
    }
    Some(found.into_values().collect())
}

/// A BTF file of functions that have these ids there, and of nothing else: what has another id is of no kind.
pub(super) fn file_of_functions(functions: &[(u32, &str)]) -> Option<Vec<u8>> {
    const FUNCTION: u32 = 12 << 24;
    let last = functions.iter().map(|(id, _)| *id).max().unwrap_or(0);
    let mut types = vec![[0; TYPE / 4]; last as usize];
    let mut strings = vec![0];
    for (id, name) in functions {
        let name_at = u32::try_from(strings.len()).ok()?;
        *types.get_mut(id.checked_sub(1)? as usize)? = [name_at, FUNCTION, 0];
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
    }
    let length = |bytes: usize| u32::try_from(bytes).ok();
    let (of_types, of_strings) = (length(types.len() * TYPE)?, length(strings.len())?);
    let version = 1 << 16;
    let header = [u32::from(MAGIC) | version, length(HEADER)?, 0, of_types, of_types, of_strings];
    let words = header.iter().chain(types.as_flattened());
    Some(words.flat_map(|word| word.to_ne_bytes()).chain(strings).collect())
}

fn begin_of(name: &[u8]) -> Option<usize> {
    let [first, second, ..] = name else { return None };
    Some(usize::from(u16::from_ne_bytes([*first, *second])))
}

/// Those of types and of strings.
fn sections(btf: &[u8]) -> Option<(&[u8], &[u8])> {
    let magic = u16::from_ne_bytes([*btf.first()?, *btf.get(1)?]);
    let after_header = word(btf, 4)? as usize;
    if magic != MAGIC || after_header < HEADER {
        return None;
    }
    let section = |offset, length| {
        let begin = after_header.checked_add(word(btf, offset)? as usize)?;
        btf.get(begin..begin.checked_add(word(btf, length)? as usize)?)
    };
    Some((section(8, 12)?, section(16, 20)?))
}

/// How many bytes a type has behind its first ones, by its `info`; `None` for a kind that is not known here.
fn more(info: u32) -> Option<usize> {
    let count = (info & 0xffff) as usize;
    Some(match info >> 24 & 0x1f {
        // No kind at all, as in a file of functions; pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        0 | 2 | 7..=12 | 16 | 18 => 0,
        // Integer, variable, declaration tag.
        1 | 14 | 17 => 4,
        // Array.
        3 => 12,
        // Enum, prototype.
        6 | 13 => 8 * count,
        // Structure, union, section, enum of 64 bits.
        4 | 5 | 15 | 19 => 12 * count,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure `ab` with one member, a typedef `ab`, a function `abc`.
    fn sample() -> Vec<u8> {
        let types =
            [[1, 4 << 24 | 1, 4].as_slice(), &[0, 0, 0], &[1, 8 << 24, 1], &[4, 12 << 24, 2]]
                .concat();
        let strings = b"\0ab\0abc\0";
        let length = u32::try_from(types.len() * 4).expect("a few");
        let header = [0x0001_eb9f, 24, 0, length, length, 8];
        let words = header.iter().chain(&types).flat_map(|word: &u32| word.to_ne_bytes());
        words.chain(*strings).collect()
    }

    #[test]
    fn each_name_has_all_types_that_are_called_so() {
        let found = find(&sample(), &["ab", "abc", "abcd"]).expect("a BTF file");
        assert_eq!(found["ab"], [1, 2]);
        assert_eq!(found["abc"], [3]);
        assert!(found["abcd"].is_empty());
    }

    #[test]
    fn functions_keep_their_ids_in_a_file_of_their_own() {
        let file = file_of_functions(&[(7, "tcp_v4_rcv"), (3, "unix_accept")]).expect("a file");
        let found = find(&file, &["unix_accept", "tcp_v4_rcv", "other"]).expect("a BTF file");
        assert_eq!(
            (found["unix_accept"].as_slice(), found["tcp_v4_rcv"].as_slice()),
            ([3].as_slice(), [7].as_slice())
        );
        assert!(found["other"].is_empty());
        assert!(file_of_functions(&[(0, "void")]).is_none());
    }

    #[test]
    fn a_file_that_is_cut_or_of_another_kind_is_none() {
        let whole = sample();
        assert!(find(&whole[..whole.len() - 1], &["ab"]).is_none());
        assert!(find(b"\x7fELF", &["ab"]).is_none());
        let mut unknown = whole;
        unknown[24 + 7] = 30;
        assert!(find(&unknown, &["ab"]).is_none());
    }
}

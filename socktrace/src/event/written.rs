//! How bytes, errnos and times are written in a session file, and read again.
//!
//! Owns the `with` modules of the types here. Every one is exact: what is read equals what was written.
#![expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to the field"
)]

/// Bytes that somebody else chose, escaped.
pub(crate) mod text {
    use std::fmt;

    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    use crate::escape::{escape, unescape};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&escape(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_str(Escaped(unescape))
    }

    /// A string that `0` turns into bytes.
    pub(super) struct Escaped(pub(super) fn(&str) -> Option<Vec<u8>>);

    impl Visitor<'_> for Escaped {
        type Value = Vec<u8>;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("an escaped text")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            (self.0)(text).ok_or_else(|| E::custom("an escape sequence that there is not"))
        }
    }
}

/// The same, where there may be none.
pub(crate) mod text_option {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use crate::escape::{escape, unescape};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match bytes {
            Some(bytes) => to.serialize_some(&escape(bytes)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let bytes = unescape(&text);
        bytes.map(Some).ok_or_else(|| D::Error::custom("an escape sequence that there is not"))
    }
}

/// A list of such bytes.
pub(crate) mod text_list {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    use crate::escape::{escape, unescape};

    pub(crate) fn serialize<S: Serializer>(list: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|bytes| escape(bytes)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let list = Vec::<String>::deserialize(from)?;
        let bytes: Option<Vec<_>> = list.iter().map(|text| unescape(text)).collect();
        bytes.ok_or_else(|| D::Error::custom("an escape sequence that there is not"))
    }
}

/// `sun_path`: a path, or an abstract name with `@` for its leading NUL.
pub(crate) mod unix_name {
    use serde::{Deserializer, Serializer};

    use super::text::Escaped;
    use crate::escape::{escape, parse_unix_name, unix_name};

    pub(crate) fn serialize<S: Serializer>(name: &[u8], to: S) -> Result<S::Ok, S::Error> {
        match name {
            [0, ..] => to.serialize_str(&unix_name(name)),
            [b'@', rest @ ..] => to.collect_str(&format_args!("\\x40{}", escape(rest))),
            // Whole, even where the path ends within it.
            path => to.serialize_str(&escape(path)),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_str(Escaped(parse_unix_name))
    }
}

/// An errno by its name; one that has none as its number.
pub(crate) mod errno {
    use std::{collections::HashMap, fmt, sync::LazyLock};

    use serde::{
        Deserializer, Serializer,
        de::{Error, Visitor},
    };

    use super::super::errno::{NAMED, errno_name};

    static NAMES: LazyLock<HashMap<u32, String>> =
        LazyLock::new(|| NAMED.map(|number| (number, errno_name(number))).collect());
    static NUMBERS: LazyLock<HashMap<&'static str, u32>> =
        LazyLock::new(|| NAMES.iter().map(|(number, name)| (name.as_str(), *number)).collect());

    pub(crate) fn serialize<S: Serializer>(errno: &u32, to: S) -> Result<S::Ok, S::Error> {
        match NAMES.get(errno) {
            Some(name) => to.serialize_str(name),
            None => to.serialize_str(&errno.to_string()),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        from.deserialize_str(Name)
    }

    struct Name;

    impl Visitor<'_> for Name {
        type Value = u32;

        fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
            to.write_str("the name or the number of an errno")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u32, E> {
            let known = NUMBERS.get(text).copied();
            known.or_else(|| text.parse().ok()).ok_or_else(|| E::custom("no errno"))
        }
    }
}

/// The same, where there may be none.
pub(crate) mod errno_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(errno: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
        errno.map(Errno).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        Ok(Option::<Errno>::deserialize(from)?.map(|errno| errno.0))
    }

    #[derive(Serialize, Deserialize)]
    struct Errno(#[serde(with = "super::errno")] u32);
}

/// RFC 3339 in UTC with nanoseconds.
pub(crate) mod rfc3339 {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error};

    /// The end of the year 9999.
    const END: Duration = Duration::from_hours(70_389_528);

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_rfc3339_nanos(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        let time = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        // A leap second can be read at the end of the last year, and not be written again.
        if time >= UNIX_EPOCH + END {
            return Err(D::Error::custom("a time behind the last that can be written"));
        }
        Ok(time)
    }
}

//! Reads the text of a condition: `METRIC[{KEY=VALUE,…}] OP LIMIT`.

use std::fmt;

use super::{
    Condition, Op,
    filter::{Filter, Key, Written},
    metric::{METRICS, Metric, Unit},
};

/// Why a text is no condition, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} of {expression:?}: {problem}")]
pub struct ConditionError {
    /// The whole text.
    pub expression: String,
    /// The character where it went wrong, the first is 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a condition, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No such metric.
    #[error("there is no metric {0:?}; take one of {list}", list = Names(METRICS))]
    Metric(String),
    /// No such filter of this metric.
    #[error("{metric} has no filter {key:?}; it takes {takes}")]
    Key {
        /// The metric.
        metric: &'static str,
        /// What was written.
        key: String,
        /// What there is.
        takes: String,
    },
    /// Filters that no row has together.
    #[error("{metric} is not counted by all of these filters together; take {takes}")]
    Together {
        /// The metric.
        metric: &'static str,
        /// What goes together.
        takes: String,
    },
    /// A filter stands there twice.
    #[error("{0} is given twice; give it once, and another --fail-on for another value")]
    Twice(&'static str),
    /// A filter has no value.
    #[error("a filter needs a value; write it like {0}=VALUE")]
    NoValue(String),
    /// A value is none of its filter.
    #[error("{value:?} does not fit {key}; write {wants}", key = key.name(), wants = key.wants())]
    Value {
        /// The filter.
        key: Key,
        /// What was written.
        value: String,
    },
    /// The filters do not end.
    #[error("the filters do not end here; write a comma before the next, or a closing brace")]
    OpenBrace,
    /// A quoted value does not end.
    #[error("the value in quotes does not end; close it with a quote")]
    OpenQuote,
    /// An unknown escape.
    #[error("there is no such escape; write \\\\, \\\", \\n, \\t, \\r, \\xNN or \\u{{N}}")]
    Escape,
    /// No comparison.
    #[error("a comparison is missing; write one of > >= < <= == != and then a limit")]
    Operator,
    /// The limit does not fit the metric.
    #[error("{value:?} does not fit {metric}; write {wants}")]
    Limit {
        /// The metric.
        metric: &'static str,
        /// What was written.
        value: String,
        /// What its limit is to be.
        wants: &'static str,
    },
}

/// All names of a table.
struct Names(&'static [Metric]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|metric| metric.name).collect();
        f.write_str(&names.join(", "))
    }
}

/// A problem, and the byte where it is.
type Parsed<T> = Result<T, (usize, Problem)>;

pub(super) fn parse(text: &str) -> Result<Condition, ConditionError> {
    condition(&mut Reader { text, at: 0 }).map_err(|(at, problem)| {
        let before = text.get(..at).unwrap_or(text);
        ConditionError { expression: text.to_owned(), column: before.chars().count() + 1, problem }
    })
}

fn condition(reader: &mut Reader<'_>) -> Parsed<Condition> {
    reader.blanks();
    let start = reader.at;
    let name = reader.word();
    let metric = Metric::of(name).ok_or_else(|| (start, Problem::Metric(name.to_owned())))?;
    reader.blanks();
    let braces = reader.at;
    let filters = if reader.skip('{') { filters(reader, metric)? } else { Vec::new() };
    let keys: Vec<Key> = filters.iter().map(Filter::key).collect();
    let rows = metric.rows_with(&keys).ok_or_else(|| {
        (braces, Problem::Together { metric: metric.name, takes: metric.filters() })
    })?;
    reader.blanks();
    let op = Op::ALL.into_iter().find(|op| reader.skip_word(op.sign()));
    let op = op.ok_or((reader.at, Problem::Operator))?;
    reader.blanks();
    let (at, written) = (reader.at, reader.rest().trim_end());
    let limit = limit(metric.unit, written).ok_or_else(|| {
        let (value, wants) = (written.to_owned(), wants(metric.unit));
        (at, Problem::Limit { metric: metric.name, value, wants })
    })?;
    Ok(Condition { text: reader.text.trim().to_owned(), metric, rows, filters, op, limit })
}

const fn wants(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "a whole number like 0 or 100",
        Unit::Duration => "a duration with its unit like 50ms, 1s or 1m30s",
        Unit::Percent => "a percentage like 80% or 99.5%",
    }
}

/// The limit in the unit's own steps.
fn limit(unit: Unit, text: &str) -> Option<u64> {
    match unit {
        Unit::Count => whole(text),
        Unit::Duration => {
            let duration = humantime::parse_duration(text).ok()?;
            u64::try_from(duration.as_nanos()).ok()
        }
        Unit::Percent => {
            let number = text.strip_suffix('%')?;
            let (percent, part) = number.split_once('.').unwrap_or((number, "0"));
            let hundredths = match part.len() {
                1 => whole(part)? * 10,
                2 => whole(part)?,
                _ => return None,
            };
            whole(percent)?.checked_mul(100)?.checked_add(hundredths)
        }
    }
}

/// Digits only: `parse` would take a sign, too.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Everything behind the opening brace, up to and with the closing one.
fn filters(reader: &mut Reader<'_>, metric: &'static Metric) -> Parsed<Vec<Filter>> {
    let mut filters: Vec<Filter> = Vec::new();
    reader.blanks();
    if reader.skip('}') {
        return Ok(filters);
    }
    loop {
        reader.blanks();
        let start = reader.at;
        let filter = filter(reader, metric)?;
        if filters.iter().any(|known| known.key() == filter.key()) {
            return Err((start, Problem::Twice(filter.key().name())));
        }
        filters.push(filter);
        reader.blanks();
        if reader.skip('}') {
            return Ok(filters);
        }
        if !reader.skip(',') {
            return Err((reader.at, Problem::OpenBrace));
        }
    }
}

fn filter(reader: &mut Reader<'_>, metric: &'static Metric) -> Parsed<Filter> {
    let start = reader.at;
    let word = reader.word();
    let key = Key::of(word).filter(|key| metric.takes(*key)).ok_or_else(|| {
        let takes = match metric.filters() {
            none if none.is_empty() => "none".to_owned(),
            some => some,
        };
        (start, Problem::Key { metric: metric.name, key: word.to_owned(), takes })
    })?;
    reader.blanks();
    if !reader.skip('=') {
        return Err((reader.at, Problem::NoValue(word.to_owned())));
    }
    reader.blanks();
    let start = reader.at;
    let value = if reader.skip('"') { reader.quoted()? } else { reader.bare() };
    let written = reader.text.get(start..reader.at).unwrap_or_default().trim_end();
    key.filter(value).ok_or_else(|| (start, Problem::Value { key, value: written.to_owned() }))
}

/// The text, and how far it was read.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// What is next as long as it is `wanted`.
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn blanks(&mut self) {
        self.take(char::is_whitespace);
    }

    fn word(&mut self) -> &'a str {
        self.take(|c| c.is_alphanumeric() || c == '_')
    }

    fn skip(&mut self, wanted: char) -> bool {
        self.skip_word(wanted.encode_utf8(&mut [0; 4]))
    }

    fn skip_word(&mut self, wanted: &str) -> bool {
        let is_next = self.rest().starts_with(wanted);
        self.at += if is_next { wanted.len() } else { 0 };
        is_next
    }

    /// A value without quotes.
    fn bare(&mut self) -> Written {
        let text = self.take(|c| !matches!(c, ',' | '}')).trim_end();
        Written {
            bytes: text.as_bytes().to_vec(),
            quoted: false,
            is_abstract: text.starts_with('@'),
        }
    }

    /// A value behind its opening quote, escaped as reports print it.
    fn quoted(&mut self) -> Parsed<Written> {
        let is_abstract = self.rest().starts_with('@');
        let start = self.at - 1;
        let mut bytes = Vec::new();
        loop {
            bytes.extend_from_slice(self.take(|c| !matches!(c, '"' | '\\')).as_bytes());
            if self.skip('"') {
                return Ok(Written { bytes, quoted: true, is_abstract });
            }
            let at = self.at;
            if !self.skip('\\') {
                return Err((start, Problem::OpenQuote));
            }
            self.escape(&mut bytes).ok_or((at, Problem::Escape))?;
        }
    }

    /// One escape behind its backslash.
    fn escape(&mut self, into: &mut Vec<u8>) -> Option<()> {
        let kind = self.rest().chars().next()?;
        self.at += kind.len_utf8();
        match kind {
            '\\' | '"' => into.push(u8::try_from(kind).ok()?),
            'n' => into.push(b'\n'),
            't' => into.push(b'\t'),
            'r' => into.push(b'\r'),
            'x' => {
                let digits = self.rest().get(..2)?;
                let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                into.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
                self.at += 2;
            }
            'u' => {
                let (digits, _) = self.rest().strip_prefix('{')?.split_once('}')?;
                let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
                let character = char::from_u32(number)?;
                into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                self.at += digits.len() + 2;
            }
            _ => return None,
        }
        Some(())
    }
}

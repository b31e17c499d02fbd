//! Traces: recorded requests in the forms in which they are published, and in our own.
//!
//! A form that has no sizes and costs is given made-up ones by [`MadeUp`], each key the same every time.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use serde::Deserialize;

/// Requests of one trace at most.
const REQUESTS_MAX: usize = 50_000_000;

/// Blocks of one line of an ARC trace at most.
const ARC_RUN_MAX: u64 = 1_000_000;

/// One request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    /// What is asked for.
    pub key: u64,
    /// What keeping its result takes: bytes, or 1 where entries are counted.
    pub size: u64,
    /// What computing it takes, microseconds.
    pub cost_us: u64,
    /// When it is asked, microseconds since some moment; requests come in the order of the trace all the same.
    pub time_us: u64,
    /// The place in the trace of the next request of the key; the trace's length where there is none.
    pub next: usize,
}

/// Requests in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    requests: Vec<Request>,
}

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// Lines `FIRST COUNT _ NUMBER`: requests of COUNT blocks from FIRST on (Megiddo and Modha, ARC, FAST 2003).
    Arc,
    /// One integer a line; lines of `*` are marks (Jiang and Zhang, LIRS, SIGMETRICS 2002).
    Lirs,
    /// Big-endian 32-bit keys, one after another.
    Cache2k,
    /// libCacheSim's CSV: time (seconds), key, size; one line of names may come first.
    Csv,
    /// Our own: one JSON object a line with `key`, and `size`, `cost_us`, `time_us` where they are known.
    JsonLines,
}

/// Sizes and costs for traces that have none: lognormal with a sigma of 1.5, seeded by the key alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MadeUp {
    /// The median size, bytes; 0 counts entries: every size is 1, also one that the trace says.
    pub size_median: u64,
    /// The median cost, microseconds.
    pub cost_median_us: u64,
}

/// Why a trace cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A line is not of the form.
    #[error("line {line} is not of the trace's form: {what}")]
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Its bytes are not of the form.
    #[error("the trace's bytes are not of its form: {0}")]
    Bytes(&'static str),
    /// There are too many requests.
    #[error("a trace has at most {REQUESTS_MAX} requests")]
    TooLong,
}

/// What a form says of a request.
struct Said {
    key: u64,
    size: Option<u64>,
    cost_us: Option<u64>,
    time_us: u64,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// [`TraceError`], naming the line.
    pub fn read(format: TraceFormat, bytes: &[u8], made_up: MadeUp) -> Result<Self, TraceError> {
        let mut requests = Vec::new();
        let mut push = |said: Said| {
            if requests.len() >= REQUESTS_MAX {
                return Err(TraceError::TooLong);
            }
            requests.push(made_up.complete(&said));
            Ok(())
        };
        if format == TraceFormat::Cache2k {
            let (keys, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return Err(TraceError::Bytes("they are no whole number of 32-bit keys"));
            }
            keys.iter().try_for_each(|key| push(Said::of_key(u64::from(u32::from_be_bytes(*key)))))?;
            return Ok(Self::linked(requests));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| TraceError::Bytes("they are not text"))?;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let at = |what| TraceError::Line { line: index + 1, what };
            match format {
                TraceFormat::Arc => {
                    let mut numbers = line.split_whitespace().map(str::parse::<u64>);
                    let (Some(Ok(first)), Some(Ok(count))) = (numbers.next(), numbers.next()) else {
                        return Err(at("it begins with two numbers, the first block and how many"));
                    };
                    if count > ARC_RUN_MAX {
                        return Err(at("it is of too many blocks"));
                    }
                    (0..count).try_for_each(|block| push(Said::of_key(first.wrapping_add(block))))?;
                }
                TraceFormat::Lirs if line.starts_with('*') => {}
                TraceFormat::Lirs => {
                    push(Said::of_key(line.parse().map_err(|_| at("it is one number, or a mark"))?))?;
                }
                TraceFormat::Csv => match csv(line) {
                    Some(said) => push(said)?,
                    None if index == 0 => {}
                    None => return Err(at("it is time, key and size")),
                },
                TraceFormat::JsonLines => push(json(line).ok_or_else(|| at("it is a JSON object with a `key`"))?)?,
                TraceFormat::Cache2k => {}
            }
        }
        Ok(Self::linked(requests))
    }

    /// A trace of keys whose results are all of size 1 and cost 1 µs.
    ///
    /// # Errors
    /// [`TraceError::TooLong`].
    pub fn of_keys(keys: impl Iterator<Item = u64>) -> Result<Self, TraceError> {
        Self::of_requests(keys.map(|key| Request { key, size: 1, cost_us: 1, ..Request::default() }))
    }

    /// A trace of these requests.
    ///
    /// # Errors
    /// [`TraceError::TooLong`].
    pub fn of_requests(requests: impl IntoIterator<Item = Request>) -> Result<Self, TraceError> {
        let requests: Vec<_> = requests.into_iter().take(REQUESTS_MAX + 1).collect();
        if requests.len() > REQUESTS_MAX { Err(TraceError::TooLong) } else { Ok(Self::linked(requests)) }
    }

    fn linked(mut requests: Vec<Request>) -> Self {
        let end = requests.len();
        let mut next: HashMap<u64, usize> = HashMap::new();
        for (place, request) in requests.iter_mut().enumerate().rev() {
            request.next = next.insert(request.key, place).unwrap_or(end);
        }
        Self { requests }
    }

    /// The requests.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// How many different keys there are.
    pub fn keys(&self) -> usize {
        // Every key has one last request.
        self.requests.iter().filter(|request| request.next == self.requests.len()).count()
    }
}

impl Said {
    fn of_key(key: u64) -> Self {
        Self { key, size: None, cost_us: None, time_us: 0 }
    }
}

fn csv(line: &str) -> Option<Said> {
    let mut fields = line.split(',').map(str::trim);
    let (time, key, size) = (fields.next()?, fields.next()?, fields.next()?);
    let time_s: f64 = time.parse().ok().filter(|time: &f64| time.is_finite() && *time >= 0.0)?;
    Some(Said { key: key_of(key), size: Some(size.parse().ok()?), cost_us: None, time_us: (time_s * 1e6) as u64 })
}

#[derive(Deserialize)]
struct Line {
    key: serde_json::Value,
    size: Option<u64>,
    cost_us: Option<u64>,
    #[serde(default)]
    time_us: u64,
}

fn json(line: &str) -> Option<Said> {
    let Line { key, size, cost_us, time_us } = serde_json::from_str(line).ok()?;
    let key = match key {
        serde_json::Value::String(text) => key_of(&text),
        serde_json::Value::Number(number) => key_of(&number.to_string()),
        _ => return None,
    };
    Some(Said { key, size, cost_us, time_us })
}

/// A number is its own key, a text its hash.
fn key_of(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| BuildHasherDefault::<DefaultHasher>::default().hash_one(text))
}

impl MadeUp {
    fn complete(self, said: &Said) -> Request {
        let of = |median: u64, salt: u64| {
            let factor = (1.5 * normal(said.key ^ salt)).exp();
            ((median as f64 * factor) as u64).max(1)
        };
        let size = match self.size_median {
            0 => 1,
            median => said.size.unwrap_or_else(|| of(median, 0x5bd1_e995_9e37_79b9)).max(1),
        };
        let cost_us = said.cost_us.unwrap_or_else(|| of(self.cost_median_us, 0x2545_f491_4f6c_dd1d));
        Request { key: said.key, size, cost_us, time_us: said.time_us, next: 0 }
    }
}

/// A standard normal number for a seed: Box and Muller (1958) over two uniform ones.
fn normal(seed: u64) -> f64 {
    let uniform = |value: u64| ((mix(value) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (radius, angle) = (uniform(seed), uniform(seed.wrapping_add(1) ^ 0x9e37_79b9_7f4a_7c15));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ENTRIES: MadeUp = MadeUp { size_median: 0, cost_median_us: 1_000 };
    const BYTES: MadeUp = MadeUp { size_median: 4_096, cost_median_us: 10_000 };

    fn keys(format: TraceFormat, bytes: &[u8]) -> Result<Vec<u64>, TraceError> {
        let trace = Trace::read(format, bytes, ENTRIES)?;
        Ok(trace.requests().iter().map(|request| request.key).collect())
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(keys(TraceFormat::Arc, b"5 3 0 1\n7 1 0 2\n"), Ok(vec![5, 6, 7, 7]));
        assert_eq!(keys(TraceFormat::Lirs, b"1\n*\n 2\r\n\n1\n"), Ok(vec![1, 2, 1]));
        assert_eq!(keys(TraceFormat::Cache2k, &[0, 0, 0, 7, 0, 0, 1, 0]), Ok(vec![7, 256]));
        let csv = Trace::read(TraceFormat::Csv, b"time, obj, size\n0.5,9,100\n1,9,100\n", BYTES).unwrap();
        let seen: Vec<_> = csv.requests().iter().map(|one| (one.key, one.size, one.time_us, one.next)).collect();
        assert_eq!(seen, [(9, 100, 500_000, 1), (9, 100, 1_000_000, 2)]);
        let text = br#"{"key":"a","size":3,"cost_us":50}
            {"key":7}"#;
        let json = Trace::read(TraceFormat::JsonLines, text, BYTES).unwrap();
        assert_eq!((json.requests()[0].size, json.requests()[0].cost_us, json.keys()), (3, 50, 2));
    }

    #[test]
    fn what_is_not_of_the_form_names_its_line() {
        let at =
            |line| move |error: &TraceError| matches!(error, TraceError::Line { line: found, .. } if *found == line);
        assert!(at(2)(&keys(TraceFormat::Arc, b"1 1 0 0\nx\n").unwrap_err()));
        assert!(at(1)(&keys(TraceFormat::Arc, b"1 99999999999 0 0\n").unwrap_err()));
        assert!(at(1)(&keys(TraceFormat::Lirs, b"one\n").unwrap_err()));
        assert!(at(2)(&keys(TraceFormat::Csv, b"0,1,1\nx,1,1\n").unwrap_err()));
        assert!(at(1)(&keys(TraceFormat::JsonLines, b"{}\n").unwrap_err()));
        assert!(matches!(keys(TraceFormat::Cache2k, &[1, 2, 3]), Err(TraceError::Bytes(_))));
        assert!(matches!(keys(TraceFormat::Lirs, &[0xff]), Err(TraceError::Bytes(_))));
    }

    #[test]
    fn what_is_made_up_is_the_keys_own_and_lognormal() {
        let trace = Trace::read(TraceFormat::Lirs, b"1\n2\n1\n", BYTES).unwrap();
        let [one, two, again] = trace.requests() else { unreachable!() };
        assert_eq!((one.size, one.cost_us), (again.size, again.cost_us));
        assert_ne!((one.size, one.cost_us), (two.size, two.cost_us));
        let logs: Vec<f64> = (0..20_000).map(normal).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let variance = logs.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / logs.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_trace_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for format in [TraceFormat::Arc, TraceFormat::Lirs, TraceFormat::Cache2k, TraceFormat::Csv, TraceFormat::JsonLines] {
                if let Ok(trace) = Trace::read(format, &bytes, BYTES) {
                    prop_assert!(trace.keys() <= trace.requests().len());
                }
            }
        }
    }
}

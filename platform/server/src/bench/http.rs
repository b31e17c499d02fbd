//! As much HTTP/1.1 as a load generator needs: requests built once, answers found by their Content-Length.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// How long one exchange outside a load may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The largest answer that is taken.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// A `POST` of JSON, as bytes on the wire.
pub fn post(address: SocketAddr, path: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    let authorization = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Where an answer's parts are in the bytes it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The status.
    pub status: u16,
    /// Where the body begins.
    pub body: usize,
    /// Where the answer ends.
    pub end: usize,
}

/// Finds the answer at the beginning of `bytes`; `None` while its head, or its body, is not all there.
///
/// # Errors
/// It is no HTTP/1.1 answer with a Content-Length.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Option<Extent>> {
    let mut at = 0;
    let mut status = None;
    let mut length = None;
    loop {
        let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') else {
            ensure!(bytes.len() < ANSWER_MAX_BYTES, "an answer's head has no end");
            return Ok(None);
        };
        let line = bytes[at..at + end].trim_ascii_end();
        at += end + 1;
        if status.is_none() {
            let code = line
                .strip_prefix(b"HTTP/1.1 ")
                .and_then(|rest| rest.get(..3))
                .and_then(|code| str::from_utf8(code).ok());
            status = Some(code.and_then(|code| code.parse().ok()).context("an answer that is not HTTP/1.1")?);
        } else if line.is_empty() {
            break;
        } else if line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:")) {
            length = str::from_utf8(&line[15..]).ok().and_then(|text| text.trim().parse::<usize>().ok());
        }
    }
    let length = length.context("an answer without a Content-Length")?;
    ensure!(length <= ANSWER_MAX_BYTES, "an answer of {length} bytes");
    let extent = Extent { status: status.unwrap_or(0), body: at, end: at + length };
    Ok((bytes.len() >= extent.end).then_some(extent))
}

/// An answer read by itself.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()))
    }
}

/// One connection on which exchanges happen one after another, blocking.
pub struct Exchanges {
    stream: TcpStream,
}

impl Exchanges {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream })
    }

    /// Sends a request and waits for its answer, which must be a 200.
    ///
    /// # Errors
    /// It is another, or none comes.
    pub fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Reply> {
        self.stream.write_all(request)?;
        let mut bytes = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut chunk).context("no answer came")?;
            ensure!(read > 0, "the connection was closed instead of an answer");
            bytes.extend_from_slice(&chunk[..read]);
            let Some(extent) = parse(&bytes)? else { continue };
            let (head, body) = bytes.split_at(extent.body);
            let head = String::from_utf8_lossy(head).into_owned();
            if extent.status != 200 {
                bail!("the answer is {}: {}", extent.status, String::from_utf8_lossy(body));
            }
            return Ok(Reply { head, body: body.to_vec() });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_found_as_soon_as_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nA: b\r\ncontent-LENGTH: 3\r\n\r\nabcHTTP/1.1";
        for cut in 0..whole.len() {
            let found = parse(&whole[..cut]).unwrap();
            assert_eq!(found.is_some(), cut >= whole.len() - 8, "{cut}");
        }
        assert_eq!(parse(whole).unwrap(), Some(Extent { status: 200, body: 44, end: 47 }));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for refused in ["SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"] {
            assert!(parse(refused.as_bytes()).is_err(), "{refused}");
        }
    }
}

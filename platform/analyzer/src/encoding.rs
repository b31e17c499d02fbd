//! From the bytes of a Python file to its text, by what PEP 263 says of encodings.

use encoding_rs::Encoding;

use crate::SourceError;

/// Decodes a file.
///
/// # Errors
/// It is not in the encoding that it says it is in, or in one that is not known, or has a NUL byte.
pub fn decode(bytes: &[u8]) -> Result<String, SourceError> {
    let (bytes, marked) = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => (rest, true),
        None => (bytes, false),
    };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(SourceError::Nul { line: line_of(bytes, at) });
    }
    let named = declared(bytes).filter(|_| !marked);
    let name = named.as_deref().unwrap_or("utf-8").to_ascii_lowercase().replace('_', "-");
    let text = match name.as_str() {
        "utf-8" | "utf8" | "utf-8-sig" | "u8" => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(error) => return Err(undecodable("utf-8", line_of(bytes, error.valid_up_to()))),
        },
        // What the web takes for Latin-1 is another encoding.
        "latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "l1" => bytes.iter().copied().map(char::from).collect(),
        "ascii" | "us-ascii" => match bytes.iter().position(|byte| !byte.is_ascii()) {
            None => bytes.iter().copied().map(char::from).collect(),
            Some(at) => return Err(undecodable("ascii", line_of(bytes, at))),
        },
        other => {
            let encoding = Encoding::for_label(other.as_bytes());
            let encoding =
                encoding.ok_or_else(|| SourceError::UnknownEncoding { name: other.chars().take(40).collect() })?;
            let decoded = encoding.decode_without_bom_handling_and_without_replacement(bytes);
            decoded.ok_or_else(|| undecodable(other, 1))?.into_owned()
        }
    };
    Ok(text)
}

fn undecodable(encoding: &str, line: u32) -> SourceError {
    SourceError::Undecodable { encoding: encoding.chars().take(40).collect(), line }
}

fn line_of(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().take(at).filter(|byte| **byte == b'\n').count() as u32 + 1
}

/// The encoding that a comment on the first or the second line names; on the second only behind a line without code.
fn declared(bytes: &[u8]) -> Option<String> {
    for line in bytes.split(|byte| *byte == b'\n').take(2) {
        let text: String = line.iter().copied().map(char::from).collect();
        let trimmed = text.trim_start_matches([' ', '\t', '\x0c']).trim_end();
        if let Some(comment) = trimmed.strip_prefix('#') {
            if let Some(name) = named_in(comment) {
                return Some(name);
            }
        } else if !trimmed.is_empty() {
            return None;
        }
    }
    None
}

/// What follows `coding:` or `coding=` in a comment.
fn named_in(comment: &str) -> Option<String> {
    let behind = &comment[comment.find("coding")? + "coding".len()..];
    let name = behind.strip_prefix([':', '='])?.trim_start_matches([' ', '\t']);
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name.chars().take_while(|c| is_part(*c)).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_in_the_encoding_they_name() {
        let text = |bytes: &[u8]| decode(bytes).unwrap();
        assert_eq!(text("é = 1".as_bytes()), "é = 1");
        assert_eq!(text(b"\xef\xbb\xbfx = 1"), "x = 1");
        assert_eq!(text(b"# -*- coding: latin-1 -*-\nx = '\xe9'"), "# -*- coding: latin-1 -*-\nx = 'é'");
        assert_eq!(text(b"#!/bin/python\n# vim: set fileencoding=koi8-r :\nx = '\xc1'").chars().last(), Some('\''));
        assert!(text(b"#\n# coding: euc_jp\nx = '\xa4\xa2'").contains('あ'));
        assert_eq!(text(b"x = 1\n# coding: nonsense\n"), "x = 1\n# coding: nonsense\n", "behind code it is a comment");
    }

    #[test]
    fn what_cannot_be_read_says_why_and_where() {
        let said = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert_eq!(said(b"x = 1\ny = '\xe9'"), "line 2: it is not in utf-8, and names no other encoding it is in");
        assert_eq!(said(b"# coding: nonsense\n"), "the encoding \"nonsense\" is not known");
        assert_eq!(said(b"x\n\0"), "line 2: it has a NUL byte");
    }
}

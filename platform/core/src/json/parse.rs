//! The parser: text to encoded bytes, members in the order they were written; then, only where an object was not
//! written in order, one copy that puts members where they belong.
//!
//! Reordering is put off to the end because doing it object by object would copy a deeply nested event once a level; this
//! way every byte is copied at most once.

use super::error::{EventError, EventErrorKind as Kind};
use super::tag;
use crate::limits::EVENT_DEPTH_MAX;

/// Texts above this could overflow the encoding's 32-bit lengths (a byte of text becomes at most three).
const TEXT_MAX_BYTES: usize = u32::MAX as usize / 4;

/// Where one member lies: in the encoded bytes, and its key in the text.
#[derive(Clone, Copy)]
struct Member {
    start: u32,
    key_end: u32,
    end: u32,
    text_offset: u32,
}

/// An object whose members were not written in order: its body, and where its members are in `Parser::sorted`.
struct Unordered {
    start: u32,
    end: u32,
    members: std::ops::Range<usize>,
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
    /// Members of the objects that are open, innermost last.
    members: Vec<Member>,
    unordered: Vec<Unordered>,
    sorted: Vec<(u32, u32)>,
}

/// Encodes an event.
pub(super) fn encode(text: &[u8]) -> Result<Vec<u8>, EventError> {
    if text.len() > TEXT_MAX_BYTES {
        return Err(Kind::TooLarge.at(0));
    }
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Kind::InvalidUtf8.at(error.valid_up_to()));
    }
    if text.starts_with(b"\xEF\xBB\xBF") {
        return Err(Kind::ByteOrderMark.at(0));
    }
    let mut parser = Parser {
        text,
        at: 0,
        out: Vec::with_capacity(text.len() + text.len() / 2 + 32),
        members: Vec::with_capacity(8),
        unordered: Vec::new(),
        sorted: Vec::new(),
    };
    parser.skip_space();
    if parser.at == text.len() {
        return Err(Kind::Empty.at(0));
    }
    parser.value(0)?;
    parser.skip_space();
    if parser.at != text.len() {
        return Err(Kind::TrailingText.at(parser.at));
    }
    Ok(parser.finish())
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// What stands at the present place is not `expected`.
    fn unexpected(&self, expected: &'static str) -> EventError {
        if self.at >= self.text.len() {
            Kind::UnexpectedEnd.at(self.at)
        } else {
            Kind::Unexpected { expected }.at(self.at)
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), EventError> {
        match self.peek() {
            Some(b'"') => {
                self.out.push(tag::STRING);
                self.string()
            }
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'0'..=b'9' | b'-') => self.number(),
            Some(b't') => self.word("true", tag::TRUE),
            Some(b'f') => self.word("false", tag::FALSE),
            Some(b'n') => self.word("null", tag::NULL),
            Some(b'N' | b'I') => Err(Kind::NotANumber.at(self.at)),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &'static str, tag: u8) -> Result<(), EventError> {
        let rest = &self.text[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            self.out.push(tag);
            return Ok(());
        }
        if word.as_bytes().starts_with(rest) {
            Err(Kind::UnexpectedEnd.at(self.text.len()))
        } else {
            Err(self.unexpected("a value"))
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), EventError> {
        let header = self.open(tag::ARRAY, depth)?;
        let mut count = 0;
        if self.peek() == Some(b']') {
            self.at += 1;
            return self.close(header, count);
        }
        loop {
            self.value(depth + 1)?;
            count += 1;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.unexpected("\",\" or \"]\"")),
            }
            self.skip_space();
        }
        self.at += 1;
        self.close(header, count)
    }

    fn object(&mut self, depth: usize) -> Result<(), EventError> {
        let header = self.open(tag::OBJECT, depth)?;
        let first = self.members.len();
        let mut in_order = true;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.close(header, 0);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in quotes"));
            }
            let (start, text_offset) = (self.out.len(), self.at);
            self.string()?;
            let key_end = self.out.len();
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("\":\""));
            }
            self.at += 1;
            self.skip_space();
            let member =
                Member { start: start as u32, key_end: key_end as u32, end: 0, text_offset: text_offset as u32 };
            if let Some(previous) = self.members.get(first..).and_then(<[_]>::last) {
                in_order &= self.key(previous) < self.key(&member);
            }
            self.members.push(member);
            self.value(depth + 1)?;
            let end = self.out.len() as u32;
            if let Some(member) = self.members.last_mut() {
                member.end = end;
            }
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.unexpected("\",\" or \"}\"")),
            }
            self.skip_space();
        }
        self.at += 1;
        let count = self.members.len() - first;
        if !in_order {
            self.note_order(first, header + 9)?;
        }
        self.members.truncate(first);
        self.close(header, count)
    }

    /// The unescaped key of a member.
    fn key(&self, member: &Member) -> &[u8] {
        &self.out[member.start as usize + 4..member.key_end as usize]
    }

    /// Works out the order of the innermost open object's members, and refuses two of one name.
    fn note_order(&mut self, first: usize, body_start: usize) -> Result<(), EventError> {
        let mut members = self.members.split_off(first);
        members.sort_unstable_by(|a, b| self.key(a).cmp(self.key(b)).then(a.start.cmp(&b.start)));
        if let Some(twice) = members.windows(2).find(|pair| self.key(&pair[0]) == self.key(&pair[1])) {
            let key = String::from_utf8_lossy(self.key(&twice[1])).chars().take(64).collect();
            return Err(Kind::DuplicateKey { key }.at(twice[1].text_offset as usize));
        }
        let begin = self.sorted.len();
        self.sorted.extend(members.iter().map(|member| (member.start, member.end)));
        self.unordered.push(Unordered {
            start: body_start as u32,
            end: self.out.len() as u32,
            members: begin..self.sorted.len(),
        });
        // The vector's room is kept for the next object.
        members.clear();
        if self.members.is_empty() {
            self.members = members;
        }
        Ok(())
    }

    /// Begins an array or object: skips its bracket, leaves room for its header and returns where that is.
    fn open(&mut self, tag: u8, depth: usize) -> Result<usize, EventError> {
        if depth >= EVENT_DEPTH_MAX {
            return Err(Kind::TooDeep.at(self.at));
        }
        self.at += 1;
        self.skip_space();
        let header = self.out.len();
        self.out.extend_from_slice(&[tag, 0, 0, 0, 0, 0, 0, 0, 0]);
        Ok(header)
    }

    /// Fills the header in.
    fn close(&mut self, header: usize, count: usize) -> Result<(), EventError> {
        let body = self.out.len() - header - 9;
        self.out[header + 1..header + 5].copy_from_slice(&(body as u32).to_le_bytes());
        self.out[header + 5..header + 9].copy_from_slice(&(count as u32).to_le_bytes());
        Ok(())
    }

    /// A string, as its length and unescaped bytes, without a tag; the quote is at the present place.
    fn string(&mut self) -> Result<(), EventError> {
        self.at += 1;
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        loop {
            let start = self.at;
            while let Some(byte) = self.peek() {
                if byte == b'"' || byte == b'\\' || byte < 0x20 {
                    break;
                }
                self.at += 1;
            }
            self.out.extend_from_slice(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(Kind::ControlCharacter.at(self.at)),
                None => return Err(Kind::UnexpectedEnd.at(self.at)),
            }
        }
        self.at += 1;
        let length = (self.out.len() - length_at - 4) as u32;
        self.out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }

    /// One escape; the backslash is at the present place.
    fn escape(&mut self) -> Result<(), EventError> {
        let backslash = self.at;
        self.at += 1;
        let Some(letter) = self.peek() else {
            return Err(Kind::UnexpectedEnd.at(self.at));
        };
        self.at += 1;
        self.out.push(match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let unit = self.four_hex(backslash)?;
                self.code_unit(unit);
                return Ok(());
            }
            _ => return Err(Kind::BadEscape.at(backslash)),
        });
        Ok(())
    }

    /// The four digits of a `\u` escape.
    fn four_hex(&mut self, backslash: usize) -> Result<u32, EventError> {
        let mut unit = 0;
        for at in self.at..self.at + 4 {
            let Some(digit) = self.text.get(at) else {
                return Err(Kind::UnexpectedEnd.at(at));
            };
            let Some(value) = char::from(*digit).to_digit(16) else {
                return Err(Kind::BadEscape.at(backslash));
            };
            unit = unit << 4 | value;
        }
        self.at += 4;
        Ok(unit)
    }

    /// Writes a UTF-16 code unit; a high surrogate takes the low one that follows it along.
    fn code_unit(&mut self, unit: u32) {
        let mut code_point = unit;
        if (0xD800..0xDC00).contains(&unit) && self.text[self.at..].starts_with(b"\\u") {
            let before = self.at;
            self.at += 2;
            match self.four_hex(before) {
                Ok(low) if (0xDC00..0xE000).contains(&low) => {
                    code_point = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
                }
                // Not its other half (or no escape at all, which the next turn reports): this one stands alone.
                _ => self.at = before,
            }
        }
        match char::from_u32(code_point) {
            Some(character) => self.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            None => self.out.extend_from_slice(&[
                0xE0 | (code_point >> 12) as u8,
                0x80 | (code_point >> 6 & 0x3F) as u8,
                0x80 | (code_point & 0x3F) as u8,
            ]),
        }
    }

    fn digits(&mut self, reason: &'static str) -> Result<(), EventError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match self.at - start {
            0 if start == self.text.len() => Err(Kind::UnexpectedEnd.at(start)),
            0 => Err(Kind::BadNumber { reason }.at(start)),
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> Result<(), EventError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.peek() == Some(b'I') {
                return Err(Kind::NotANumber.at(start));
            }
        }
        let leading = self.peek();
        let integer_start = self.at;
        self.digits("a digit must follow \"-\"")?;
        if leading == Some(b'0') && self.at - integer_start > 1 {
            return Err(Kind::BadNumber { reason: "it begins with 0" }.at(start));
        }
        let mut is_float = false;
        if self.peek() == Some(b'.') {
            is_float = true;
            self.at += 1;
            self.digits("a digit must follow the point")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_float = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits("the exponent has no digits")?;
        }
        let text = &self.text[start..self.at];
        if !is_float {
            self.counted(tag::INTEGER, start);
            return Ok(());
        }
        match std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()) {
            Some(float) if float.is_finite() => {
                self.out.push(tag::FLOAT);
                self.out.extend_from_slice(&float.to_bits().to_le_bytes());
            }
            _ => self.counted(tag::LARGE_FLOAT, start),
        }
        Ok(())
    }

    /// Writes the text from `start` to the present place behind a tag and its length.
    fn counted(&mut self, tag: u8, start: usize) {
        let text = &self.text[start..self.at];
        self.out.push(tag);
        self.out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.out.extend_from_slice(text);
    }

    fn finish(mut self) -> Vec<u8> {
        if self.unordered.is_empty() {
            return self.out;
        }
        // Objects close inside out; by start, each comes before those inside it.
        self.unordered.sort_unstable_by_key(|object| object.start);
        let mut ordered = Vec::with_capacity(self.out.len());
        self.copy_in_order(0, self.out.len() as u32, 0, &mut ordered);
        ordered
    }

    /// Copies encoded bytes, every unordered object in them in order; those before `from` in the list are outside.
    fn copy_in_order(&self, start: u32, end: u32, from: usize, ordered: &mut Vec<u8>) {
        let mut at = start;
        let mut next = from + self.unordered[from..].partition_point(|object| object.start < start);
        while let Some(object) = self.unordered.get(next).filter(|object| object.start < end) {
            ordered.extend_from_slice(&self.out[at as usize..object.start as usize]);
            for (member_start, member_end) in &self.sorted[object.members.clone()] {
                self.copy_in_order(*member_start, *member_end, next + 1, ordered);
            }
            at = object.end;
            next += self.unordered[next..].partition_point(|object| object.start < at);
        }
        ordered.extend_from_slice(&self.out[at as usize..end as usize]);
    }
}

//! Byte offsets to lines.

use ruff_text_size::TextRange;

use crate::graph::Span;

/// Where the lines of a text begin. A line ends with `\n`, `\r` or both, as Python has it.
pub struct Lines(Vec<u32>);

impl Lines {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let ends = bytes
            .iter()
            .enumerate()
            .filter(|(at, byte)| **byte == b'\n' || (**byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')));
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at as u32 + 1)).collect())
    }

    /// The line of a byte, counted from 1.
    pub fn line(&self, at: u32) -> u32 {
        self.0.partition_point(|begin| *begin <= at) as u32
    }

    /// A range with its lines.
    pub fn span(&self, range: TextRange) -> Span {
        let (start, end) = (range.start().to_u32(), range.end().to_u32());
        Span { start, end, first_line: self.line(start), last_line: self.line(end.saturating_sub(1).max(start)) }
    }
}

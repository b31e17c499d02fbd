//! Numbered text: `part-0041` or `page9.html`, a text whose last digits count.

/// Digits at most: what fits a 64-bit number.
const DIGITS_MAX: usize = 18;

/// A text around its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Numbered<'a> {
    before: &'a str,
    after: &'a str,
    /// The number's width where it has leading zeros, else 0.
    width: usize,
}

impl<'a> Numbered<'a> {
    /// Takes a text apart at its last digits. `None` where it has none, or nothing else.
    pub fn read(text: &'a str) -> Option<(Self, i64)> {
        let end = text.rfind(|letter: char| letter.is_ascii_digit())? + 1;
        let start = text[..end]
            .rfind(|letter: char| !letter.is_ascii_digit())
            .map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8));
        let digits = &text[start..end];
        if digits.len() > DIGITS_MAX || digits.len() == text.len() {
            return None;
        }
        let width = if digits.len() > 1 && digits.starts_with('0') { digits.len() } else { 0 };
        Some((Self { before: &text[..start], after: &text[end..], width }, digits.parse().ok()?))
    }

    /// The text with another number. `None` for one that is negative.
    pub fn write(&self, number: i64) -> Option<String> {
        (number >= 0).then(|| format!("{}{number:0width$}{}", self.before, self.after, width = self.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_digits_count() {
        let next = |text| Numbered::read(text).and_then(|(numbered, number)| numbered.write(number + 1));
        assert_eq!(next("part-0099"), Some("part-0100".to_owned()));
        assert_eq!(next("v2/page9.html"), Some("v2/page10.html".to_owned()));
        assert_eq!(next("größe7ß"), Some("größe8ß".to_owned()));
        assert_eq!((next("none"), next("17"), next("x1234567890123456789"), next("")), (None, None, None, None));
    }

    proptest! {
        #[test]
        fn a_text_comes_back(text in "[a-zß]{0,3}[0-9]{0,4}[-.é]{0,2}[0-9]{0,20}[a-z]{0,3}") {
            if let Some((numbered, number)) = Numbered::read(&text) {
                prop_assert_eq!(numbered.write(number), Some(text.clone()));
            }
        }
    }
}

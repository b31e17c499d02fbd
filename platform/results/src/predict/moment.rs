//! Dates and times written as text: read into one number on a line, and written again in the form they came in.
//!
//! Read are `YYYY-MM`, `YYYY-MM-DD` (also with `/`), `HH:MM`, `HH:MM:SS` (also with a fraction), and a date and a time with a
//! `T` or a space between them and an offset or none behind them, which covers RFC 3339. The number counts what the form can
//! express at its finest: months, days, minutes, seconds or fractions of a second. Whatever does not come back letter by
//! letter is no moment but text. The calendar is jiff's.

use jiff::civil::Date;
use jiff::{Span, Unit};

/// Longer text is no moment.
const TEXT_MAX_BYTES: usize = 35;
/// Digits behind the point of a second at most: a 64-bit number of finer parts would not reach far.
const FRACTION_MAX_DIGITS: u8 = 9;
/// An offset such as `+05:30`.
const OFFSET_MAX_BYTES: usize = 6;
const EPOCH: Date = Date::constant(1970, 1, 1);

/// The form of a moment: everything but its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    date: DateForm,
    /// What stands between date and time.
    between: u8,
    time: TimeForm,
    offset: [u8; OFFSET_MAX_BYTES],
    offset_bytes: u8,
}

/// How the date is written; the byte is what stands between its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum DateForm {
    None,
    Month(u8),
    Day(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum TimeForm {
    None,
    Minute,
    Second,
    Fraction(u8),
}

impl TimeForm {
    /// Units of a day.
    const fn day(self) -> i64 {
        match self {
            Self::None => 1,
            Self::Minute => 1_440,
            Self::Second => 86_400,
            Self::Fraction(digits) => 86_400 * 10_i64.pow(digits as u32),
        }
    }
}

impl Layout {
    /// Reads a text: its form and its number. `None` where it is no moment.
    #[must_use]
    pub fn read(text: &str) -> Option<(Self, i64)> {
        let bytes = text.as_bytes();
        if !(5..=TEXT_MAX_BYTES).contains(&bytes.len()) || !bytes[0].is_ascii_digit() {
            return None;
        }
        let mut reader = Reader { bytes, at: 0 };
        let (layout, position) = reader.moment()?;
        // The one test of what may be said of the form: it is written as it was read.
        (layout.write(position)? == text).then_some((layout, position))
    }

    /// Writes a number in this form. `None` beyond the years that can be written.
    #[must_use]
    pub fn write(&self, position: i64) -> Option<String> {
        use std::fmt::Write;
        let mut text = String::with_capacity(TEXT_MAX_BYTES);
        let day = self.time.day();
        match self.date {
            DateForm::None => {}
            DateForm::Month(between) => {
                let (year, month) = (position.div_euclid(12), position.rem_euclid(12) + 1);
                (0..=9999).contains(&year).then_some(())?;
                write!(text, "{year:04}{}{month:02}", char::from(between)).ok()?;
            }
            DateForm::Day(between) => {
                let date = date_of(position.div_euclid(day))?;
                let between = char::from(between);
                (0..=9999).contains(&date.year()).then_some(())?;
                write!(text, "{:04}{between}{:02}{between}{:02}", date.year(), date.month(), date.day()).ok()?;
            }
        }
        if self.time == TimeForm::None {
            return Some(text);
        }
        if self.date != DateForm::None {
            text.push(char::from(self.between));
        }
        let of_day = position.rem_euclid(day);
        let second = of_day / (day / 86_400).max(1);
        match self.time {
            TimeForm::None => {}
            TimeForm::Minute => write!(text, "{:02}:{:02}", of_day / 60, of_day % 60).ok()?,
            TimeForm::Second | TimeForm::Fraction(_) => {
                write!(text, "{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60).ok()?;
            }
        }
        if let TimeForm::Fraction(digits) = self.time {
            write!(text, ".{:0width$}", of_day % (day / 86_400), width = usize::from(digits)).ok()?;
        }
        text.push_str(std::str::from_utf8(self.offset.get(..usize::from(self.offset_bytes))?).ok()?);
        Some(text)
    }

    /// A number moved by so many units; a time without a date goes round the day.
    #[must_use]
    pub fn advance(&self, position: i64, by: i64) -> Option<i64> {
        let moved = position.checked_add(by)?;
        Some(if self.date == DateForm::None { moved.rem_euclid(self.time.day()) } else { moved })
    }

    /// A number moved by so many calendar months: the last day of a month goes to the last day of a month, any other to the
    /// same day, or the last where the month is shorter. `None` for a form without days.
    #[must_use]
    pub fn advance_months(&self, position: i64, months: i32) -> Option<i64> {
        let DateForm::Day(_) = self.date else { return None };
        let day = self.time.day();
        let date = date_of(position.div_euclid(day))?;
        let mut moved = date.checked_add(Span::new().try_months(months).ok()?).ok()?;
        if date == date.last_of_month() {
            moved = moved.last_of_month();
        }
        days_of(moved)?.checked_mul(day)?.checked_add(position.rem_euclid(day))
    }

    /// How many whole calendar months `from` must be moved by to give `to`, where that is so and it is not 0.
    #[must_use]
    pub fn months_between(&self, from: i64, to: i64) -> Option<i32> {
        let DateForm::Day(_) = self.date else { return None };
        let day = self.time.day();
        if from.rem_euclid(day) != to.rem_euclid(day) || from.abs_diff(to) < 28 * day.unsigned_abs() {
            return None;
        }
        let (first, last) = (date_of(from.div_euclid(day))?, date_of(to.div_euclid(day))?);
        let months = i32::from(last.year() - first.year()) * 12 + i32::from(last.month() - first.month());
        (months != 0 && self.advance_months(from, months) == Some(to)).then_some(months)
    }
}

fn date_of(days: i64) -> Option<Date> {
    EPOCH.checked_add(Span::new().try_days(days).ok()?).ok()
}

fn days_of(date: Date) -> Option<i64> {
    EPOCH.until((Unit::Day, date)).ok().map(|span| i64::from(span.get_days()))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        let digits = self.bytes.get(self.at..self.at + count)?;
        self.at += count;
        digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        (self.peek(0)? == byte).then(|| self.at += 1)
    }

    fn moment(&mut self) -> Option<(Layout, i64)> {
        let mut layout = Layout {
            date: DateForm::None,
            between: 0,
            time: TimeForm::None,
            offset: [0; OFFSET_MAX_BYTES],
            offset_bytes: 0,
        };
        let mut days = 0;
        if self.peek(2)? != b':' {
            let year = self.digits(4)?;
            let between = self.peek(0).filter(|byte| matches!(byte, b'-' | b'/'))?;
            self.at += 1;
            let month = self.digits(2).filter(|month| (1..=12).contains(month))?;
            if self.peek(0).is_none() {
                layout.date = DateForm::Month(between);
                return Some((layout, year * 12 + month - 1));
            }
            self.byte(between)?;
            let day = self.digits(2)?;
            days = days_of(
                Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?,
            )?;
            layout.date = DateForm::Day(between);
            let Some(between) = self.peek(0) else { return Some((layout, days)) };
            layout.between = Some(between).filter(|byte| matches!(byte, b'T' | b't' | b' '))?;
            self.at += 1;
        }
        let of_day = self.time(&mut layout)?;
        if layout.date != DateForm::None {
            let rest = self.bytes.get(self.at..)?;
            layout.offset.get_mut(..rest.len())?.copy_from_slice(rest);
            layout.offset_bytes = u8::try_from(rest.len()).ok()?;
            self.offset()?;
        }
        let position = days.checked_mul(layout.time.day())?.checked_add(of_day)?;
        (self.at == self.bytes.len()).then_some((layout, position))
    }

    /// A time of day, in units of the form that it finds.
    fn time(&mut self, layout: &mut Layout) -> Option<i64> {
        let hour = self.digits(2).filter(|hour| *hour < 24)?;
        self.byte(b':')?;
        let minute = self.digits(2).filter(|minute| *minute < 60)?;
        layout.time = TimeForm::Minute;
        let minutes = hour * 60 + minute;
        if self.peek(0) != Some(b':') {
            return Some(minutes);
        }
        self.at += 1;
        let seconds = minutes * 60 + self.digits(2).filter(|second| *second < 60)?;
        layout.time = TimeForm::Second;
        if self.peek(0) != Some(b'.') {
            return Some(seconds);
        }
        self.at += 1;
        let count = self.bytes.get(self.at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = u8::try_from(count).ok().filter(|digits| (1..=FRACTION_MAX_DIGITS).contains(digits))?;
        layout.time = TimeForm::Fraction(digits);
        Some(seconds * 10_i64.pow(u32::from(digits)) + self.digits(count)?)
    }

    /// `Z`, `+HH:MM`, `+HHMM`, or nothing.
    fn offset(&mut self) -> Option<()> {
        match self.peek(0) {
            None => return Some(()),
            Some(b'Z' | b'z') => self.at += 1,
            Some(b'+' | b'-') => {
                self.at += 1;
                self.digits(2).filter(|hours| *hours < 24)?;
                if self.peek(0) == Some(b':') {
                    self.at += 1;
                }
                self.digits(2).filter(|minutes| *minutes < 60)?;
            }
            Some(_) => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn moved(text: &str, by: i64) -> String {
        let (layout, position) = Layout::read(text).unwrap();
        layout.write(layout.advance(position, by).unwrap()).unwrap()
    }

    fn moved_months(text: &str, by: i32) -> String {
        let (layout, position) = Layout::read(text).unwrap();
        layout.write(layout.advance_months(position, by).unwrap()).unwrap()
    }

    #[test]
    fn a_moment_advances_in_its_own_form() {
        assert_eq!(moved("2026-02-28", 1), "2026-03-01");
        assert_eq!(moved("2024/02/28", 1), "2024/02/29");
        assert_eq!(moved("2026-01", -1), "2025-12");
        assert_eq!(moved("23:59", 2), "00:01");
        assert_eq!(moved("00:00:00", -1), "23:59:59");
        assert_eq!(moved("2025-12-31T23:59:59Z", 1), "2026-01-01T00:00:00Z");
        assert_eq!(moved("2025-12-31 23:45+05:30", 15), "2026-01-01 00:00+05:30");
        assert_eq!(moved("1969-12-31T23:59:59.9-0800", 1), "1970-01-01T00:00:00.0-0800");
        assert_eq!(moved_months("2026-01-31", 1), "2026-02-28");
        assert_eq!(moved_months("2026-02-28T08:00", 1), "2026-03-31T08:00");
        assert_eq!(moved_months("2026-01-15", -2), "2025-11-15");
    }

    #[test]
    fn months_are_told_from_days() {
        let months = |from, to| {
            let ((layout, from), (_, to)) = (Layout::read(from).unwrap(), Layout::read(to).unwrap());
            layout.months_between(from, to)
        };
        assert_eq!(months("2026-01-31", "2026-02-28"), Some(1));
        assert_eq!(months("2026-03-15", "2025-12-15"), Some(-3));
        assert_eq!(months("2026-03-15", "2026-04-14"), None);
        assert_eq!(months("2026-03-15T10:00", "2026-04-15T11:00"), None);
    }

    #[test]
    fn what_only_looks_like_a_moment_is_text() {
        for text in [
            "2026-02-30",
            "2026-13",
            "24:00",
            "12:60",
            "2026-1-2",
            "2026-01-02T",
            "2026-01-02x",
            "12:00Z",
            "20260102",
            "2026-01/02",
            "12:00:60",
            "2026-01-02T10:00:00.",
            "2026-01-02T10:00+1",
            "12345",
            "",
            "éé:éé",
        ] {
            assert_eq!(Layout::read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_comes_back(text in "[0-9]{2,4}[-/:T .Z+0-9]{0,30}") {
            if let Some((layout, position)) = Layout::read(&text) {
                prop_assert_eq!(layout.write(position), Some(text));
            }
        }
    }
}

//! Figures, sizes and moments for people, and moments as people write them.

use std::time::Duration;

use raas_core::{Clock, SystemClock, TimestampUs};
use serde_json::Value;

/// Milliseconds with about three significant digits.
pub fn ms(ms: f64) -> String {
    match ms {
        ms if ms <= 0.0 => "0".to_owned(),
        ms if ms < 1.0 => format!("{ms:.3}"),
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// A duration in milliseconds.
pub fn as_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Bytes in binary units.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// An RFC 3339 moment, to the second, readable.
pub fn moment(text: &str) -> String {
    match text.get(..19) {
        Some(seconds) if text.ends_with('Z') => format!("{}Z", seconds.replace('T', " ")),
        _ => text.to_owned(),
    }
}

/// An RFC 3339 moment's time of day, to the millisecond.
pub fn time_of_day(text: &str) -> &str {
    text.get(11..23).unwrap_or(text)
}

/// A moment as people write it: RFC 3339, a date, or so long ago (`90s`, `15m`, `2h`, `7d`).
///
/// # Errors
/// It is none of these; the message says what is.
pub fn parse_moment(text: &str) -> Result<String, String> {
    if let Some(ago) = parse_duration(text) {
        return Ok(SystemClock.now().saturating_sub(ago).to_string());
    }
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let moment: TimestampUs = whole.parse().map_err(|_| {
        "expected a moment such as 2026-01-31T12:00:00Z, a date, or so long ago: 90s, 15m, 2h, 7d".to_owned()
    })?;
    Ok(moment.to_string())
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.parse::<u32>().ok().map(u64::from)?.checked_mul(seconds)?))
}

/// A field's text, or nothing.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A field's number as it is printed, or a dash.
pub fn number(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::Number(number)) => number.to_string(),
        _ => "-".to_owned(),
    }
}

/// A field's number, or 0.
pub fn float(value: &Value, key: &str) -> f64 {
    value.get(key).and_then(Value::as_f64).unwrap_or(0.0)
}

/// A field's list, or an empty one.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// What an alias points at: `3`, or `1 (90%), 2 (10%)`.
pub fn targets(targets: &[Value]) -> String {
    let weight = |target: &Value| target.get("weight").and_then(Value::as_u64).unwrap_or(1);
    let sum: u64 = targets.iter().map(weight).sum();
    match targets {
        [] => "-".to_owned(),
        [one] => number(one, "version"),
        several => {
            let share = |target: &Value| {
                let percent = weight(target) as f64 * 100.0 / sum.max(1) as f64;
                format!("{} ({}%)", number(target, "version"), (percent * 10.0).round() / 10.0)
            };
            several.iter().map(share).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_have_sensible_digits() {
        assert_eq!(
            [0.0, 0.0421, 1.234, 12.34, 123.4, 12_345.6].map(ms),
            ["0", "0.042", "1.23", "12.3", "123", "12346"]
        );
        assert_eq!([12, 2048, 5 << 20].map(bytes), ["12 B", "2.0 KiB", "5.0 MiB"]);
        assert_eq!(moment("2026-01-31T12:00:01.123456Z"), "2026-01-31 12:00:01Z");
        assert_eq!(time_of_day("2026-01-31T12:00:01.123456Z"), "12:00:01.123");
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        assert_eq!(parse_moment("2026-01-31").unwrap(), "2026-01-31T00:00:00.000000Z");
        assert_eq!(parse_moment("2026-01-31T12:00:00+02:00").unwrap(), "2026-01-31T10:00:00.000000Z");
        let ago: TimestampUs = parse_moment("15m").unwrap().parse().unwrap();
        let seconds = SystemClock.now().since(ago).as_secs();
        assert!((899..=901).contains(&seconds), "{seconds}");
        for refused in ["", "m", "yesterday", "-5m", "5 m", "é", "99999999999d"] {
            assert!(parse_moment(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_split_alias_shows_shares() {
        assert_eq!(targets(&[]), "-");
        assert_eq!(targets(&[json!({"version": 3, "weight": 7})]), "3");
        assert_eq!(
            targets(&[json!({"version": 1, "weight": 2}), json!({"version": 2, "weight": 1})]),
            "1 (66.7%), 2 (33.3%)"
        );
    }
}

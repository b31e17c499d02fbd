//! Tests of the canonical form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::{CanonicalEvent, EventErrorKind as Kind};
use crate::pointer::JsonPointer;
use proptest::prelude::*;
use serde_json::Value;

fn whole(text: &str) -> Vec<u8> {
    CanonicalEvent::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}")).whole().to_vec()
}

fn refused(text: &[u8]) -> (Kind, usize) {
    let error = CanonicalEvent::parse(text).expect_err(&String::from_utf8_lossy(text));
    assert!(error.to_string().ends_with(&format!("at byte {}", error.offset)));
    (error.kind, error.offset)
}

fn project(text: &str, pointers: &[&str]) -> Vec<u8> {
    let pointers: Vec<_> = pointers.iter().map(|pointer| JsonPointer::parse(pointer).unwrap()).collect();
    CanonicalEvent::parse(text.as_bytes()).unwrap().project(&pointers)
}

#[test]
fn equal_events_encode_equally() {
    for (left, right) in [
        (r#"{"a":1,"b":2}"#, r#" { "b" : 2 , "a" : 1 } "#),
        (r#"{"a":{"x":1,"y":[1,{"p":1,"q":2}]},"b":2}"#, r#"{"b":2,"a":{"y":[1,{"q":2,"p":1}],"x":1}}"#),
        (r#"{"\u0061":1}"#, r#"{"a":1}"#),
        (r#""\ud83d\ude00\/\n""#, "\"😀/\\u000a\""),
        ("1.0", "1.00"),
        ("1.0", "10e-1"),
        ("1.0", "1E0"),
        ("[ ]", "[]"),
        ("{\n}", "{}"),
        (r#"{"":1,"a":2}"#, r#"{"a":2,"":1}"#),
    ] {
        assert_eq!(whole(left), whole(right), "{left} {right}");
    }
}

#[test]
fn different_events_encode_differently() {
    let texts = [
        "null",
        "true",
        "false",
        "0",
        "-0",
        "1",
        "1.0",
        "-1",
        "\"1\"",
        "\"\"",
        "\"null\"",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        "[{}]",
        "[1]",
        "[1,1]",
        "[11]",
        "[1,[1]]",
        "{\"1\":1}",
        "{\"a\":null}",
        "{\"a\":1}",
        "{\"a\":{}}",
        "{\"a\":[]}",
        "{\"a\":\"\"}",
        "{\"ab\":\"\"}",
        "{\"a\":\"b\"}",
        "{\"a\":1,\"b\":1}",
        "{\"a\":{\"b\":1}}",
        "1e999",
        "-1e999",
        "1e1000",
        "\"1e999\"",
        "0.1",
        "0.10000000000000002",
        "9007199254740993",
        "9007199254740992",
        "123456789012345678901234567890",
        "123456789012345678901234567891",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\udc00\\ud800\"",
        "\"\\ud800\\udc00\"",
        "\"\\ufffd\"",
        "-0.0",
        "0.0",
    ];
    let distinct: std::collections::HashSet<_> = texts.iter().map(|text| whole(text)).collect();
    assert_eq!(distinct.len(), texts.len());
}

#[test]
fn a_lone_surrogate_before_another_escape_stands_alone() {
    assert_ne!(whole(r#""\ud800\n""#), whole(r#""\ud800""#));
    assert_eq!(whole(r#""\ud800\u0041""#), whole(r#""\ud800A""#));
    assert_eq!(whole(r#""\ud800\ud83d\ude00""#), whole("\"\\ud800😀\""));
    assert_eq!(refused(br#""\ud800\u00""#).0, Kind::BadEscape);
    assert_eq!(refused(br#""\ud800\u0"#).0, Kind::UnexpectedEnd);
}

#[test]
fn refuses_what_json_leaves_open() {
    let duplicate = |key: &str| Kind::DuplicateKey { key: key.to_owned() };
    for (text, kind, offset) in [
        (&b""[..], Kind::Empty, 0),
        (b" \n", Kind::Empty, 0),
        (b"{\"a\":1,\"a\":2}", duplicate("a"), 7),
        (b"{\"a\":1,\"b\":3,\"\\u0061\":2}", duplicate("a"), 13),
        (b"[{\"b\":{\"x\":1,\"x\":1}}]", duplicate("x"), 13),
        (b"NaN", Kind::NotANumber, 0),
        (b"[Infinity]", Kind::NotANumber, 1),
        (b"-Infinity", Kind::NotANumber, 0),
        (b"{} {}", Kind::TrailingText, 3),
        (b"1 x", Kind::TrailingText, 2),
        (b"\"\xff\"", Kind::InvalidUtf8, 1),
        (b"\"\xed\xa0\x80\"", Kind::InvalidUtf8, 1),
        (b"\xef\xbb\xbf{}", Kind::ByteOrderMark, 0),
        (b"\"a\nb\"", Kind::ControlCharacter, 2),
        (b"\"\\x\"", Kind::BadEscape, 1),
        (b"\"\\u12g4\"", Kind::BadEscape, 1),
        (b"\"abc", Kind::UnexpectedEnd, 4),
        (b"\"abc\\", Kind::UnexpectedEnd, 5),
        (b"[1,", Kind::UnexpectedEnd, 3),
        (b"{\"a\"", Kind::UnexpectedEnd, 4),
        (b"tru", Kind::UnexpectedEnd, 3),
        (b"-", Kind::UnexpectedEnd, 1),
        (b"1.", Kind::UnexpectedEnd, 2),
        (b"01", Kind::BadNumber { reason: "it begins with 0" }, 0),
        (b"-01", Kind::BadNumber { reason: "it begins with 0" }, 0),
        (b"[1.]", Kind::BadNumber { reason: "a digit must follow the point" }, 3),
        (b"[1e]", Kind::BadNumber { reason: "the exponent has no digits" }, 3),
        (b"[-a]", Kind::BadNumber { reason: "a digit must follow \"-\"" }, 2),
        (b"[1,]", Kind::Unexpected { expected: "a value" }, 3),
        (b"{\"a\":1,}", Kind::Unexpected { expected: "a key in quotes" }, 7),
        (b"{a:1}", Kind::Unexpected { expected: "a key in quotes" }, 1),
        (b"{\"a\" 1}", Kind::Unexpected { expected: "\":\"" }, 5),
        (b"[1 2]", Kind::Unexpected { expected: "\",\" or \"]\"" }, 3),
        (b"{\"a\":1 2}", Kind::Unexpected { expected: "\",\" or \"}\"" }, 7),
        (b"+1", Kind::Unexpected { expected: "a value" }, 0),
        (b".5", Kind::Unexpected { expected: "a value" }, 0),
        (b"'a'", Kind::Unexpected { expected: "a value" }, 0),
        (b"trux", Kind::Unexpected { expected: "a value" }, 0),
        (b"\x00", Kind::Unexpected { expected: "a value" }, 0),
    ] {
        assert_eq!(refused(text), (kind, offset), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn depth_is_bounded() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        whole(&nested(128));
        assert_eq!(refused(nested(129).as_bytes()).0, Kind::TooDeep);
        assert_eq!(refused(open.repeat(1_000_000).as_bytes()).0, Kind::TooDeep);
    }
}

#[test]
fn projection_keeps_only_what_is_named() {
    let pointers = &["/from", "/to", "/stops/1", "/opt/a~1b"];
    let event = r#"{"from":"JFK","to":"LAX","stops":["DEN",{"x":1,"a":2}],"opt":{"a/b":1},"request_id":"1"}"#;
    let same =
        r#"{"request_id":"2","opt":{"a/b":1,"other":1},"stops":["ORD",{"a":2,"x":1},7],"to":"LAX","from":"JFK"}"#;
    assert_eq!(project(event, pointers), project(same, pointers));
    for other in [
        r#"{"from":"JFK","to":"SFO","stops":["DEN",{"x":1,"a":2}],"opt":{"a/b":1}}"#,
        r#"{"from":"JFK","to":"LAX","stops":["DEN",{"x":1,"a":3}],"opt":{"a/b":1}}"#,
        r#"{"from":"JFK","to":"LAX","stops":["DEN"],"opt":{"a/b":1}}"#,
        r#"{"from":"JFK","to":"LAX","stops":["DEN",{"x":1,"a":2}]}"#,
        r#"{"from":"JFK","to":"LAX","stops":["DEN",{"x":1,"a":2}],"opt":null}"#,
    ] {
        assert_ne!(project(event, pointers), project(other, pointers), "{other}");
    }
}

#[test]
fn absent_is_not_null_and_places_are_not_confused() {
    let all = [
        project(r#"{}"#, &["/a"]),
        project(r#"{"a":null}"#, &["/a"]),
        project(r#"{"a":"-"}"#, &["/a"]),
        project(r#"{"b":1}"#, &["/b"]),
        project(r#"{"a":1}"#, &["/a"]),
        project(r#"{"a":1}"#, &[""]),
        project(r#"{"a":1}"#, &["/a", "/b"]),
        project(r#"{"a":1}"#, &["/b", "/a"]),
        whole(r#"{"a":1}"#),
        whole("null"),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    // Pointers into what has no such places find nothing.
    for (event, pointer) in [
        ("[1]", "/a"),
        ("[1]", "/1"),
        ("[1]", "/-"),
        ("[1]", "/00"),
        ("1", "/a"),
        ("\"abc\"", "/0"),
        (r#"{"a":1}"#, "/a/b"),
    ] {
        assert_eq!(project(event, &[pointer]).last(), Some(&b'-'), "{event} {pointer}");
    }
    assert_eq!(project(r#"{"0":7}"#, &["/0"]).last(), Some(&b'7'));
}

/// Any JSON value.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((".{0,3}", inner), 0..6)
                .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

/// Writes a value with its members turned round, escapes where none are needed and white space where it may stand.
fn write_differently(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push_str("[ ");
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { "\t,\n" } else { "" });
                write_differently(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (at, (key, member)) in members.iter().rev().enumerate() {
                out.push_str(if at > 0 { " , " } else { "\r" });
                write_escaped(key, out);
                out.push_str(" : ");
                write_differently(member, out);
            }
            out.push_str(" }");
        }
        Value::String(text) => write_escaped(text, out),
        other => out.push_str(&other.to_string()),
    }
}

fn write_escaped(text: &str, out: &mut String) {
    out.push('"');
    text.encode_utf16().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
    out.push('"');
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn how_an_event_is_written_does_not_matter(value in value()) {
        let mut differently = String::new();
        write_differently(&value, &mut differently);
        prop_assert_eq!(whole(&value.to_string()), whole(&differently));
    }

    #[test]
    fn two_values_encode_equally_only_if_equal(left in value(), right in value()) {
        prop_assert_eq!(whole(&left.to_string()) == whole(&right.to_string()), left == right);
    }

    #[test]
    fn every_member_is_found_by_its_pointer(value in value()) {
        if let Value::Object(members) = &value {
            for (key, member) in members {
                let pointer = JsonPointer::parse(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))).unwrap();
                let projected = CanonicalEvent::parse(value.to_string().as_bytes()).unwrap().project(&[pointer]);
                prop_assert!(projected.ends_with(&whole(&member.to_string())));
            }
        }
    }

    #[test]
    fn agrees_with_another_reader_on_what_is_json(text in r#"[\[\]{}",:0-9a-e.+\-nultrfs\\ ]{0,24}"#) {
        let ours = CanonicalEvent::parse(text.as_bytes());
        match (serde_json::from_str::<Value>(&text), ours) {
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
            // The other reader takes duplicate keys.
            (Ok(_), Err(error)) => prop_assert!(matches!(error.kind, Kind::DuplicateKey { .. }), "{text}: {error}"),
            // And refuses numbers out of a float's range.
            (Err(error), Ok(_)) => prop_assert!(error.to_string().contains("out of range"), "{text}: {error}"),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(event) = CanonicalEvent::parse(&bytes) {
            let _ = event.project(&[JsonPointer::parse("/a/0").unwrap()]);
        }
    }
}

/// Members out of order at every level, a large value innermost: must not cost a copy of it per level.
#[test]
fn deep_reordering_stays_linear() {
    let mut text = format!("\"{}\"", "x".repeat(4 << 20));
    for _ in 0..128 {
        text = format!("{{\"b\":{text},\"a\":1}}");
    }
    let started = std::time::Instant::now();
    let event = CanonicalEvent::parse(text.as_bytes()).unwrap();
    assert!(event.whole().len() > 4 << 20);
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn what_a_run_read_says_what_lies_on_the_way() {
    let pointers = [JsonPointer::parse("/a/b").unwrap(), JsonPointer::parse("/c").unwrap()];
    let read = |event: &str| CanonicalEvent::parse(event.as_bytes()).unwrap().project_read(&pointers);
    let ways = [
        "{}",
        r#"{"a":null}"#,
        r#"{"a":5}"#,
        r#"{"a":{}}"#,
        r#"{"a":[]}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a":{"b":null}}"#,
        "1",
        "[]",
    ];
    for (at, one) in ways.iter().enumerate() {
        for other in &ways[at + 1..] {
            assert_ne!(read(one), read(other), "{one} and {other}");
        }
    }
    assert_eq!(read(r#"{"a":{"b":1,"x":2},"y":3}"#), read(r#"{"y":4,"a":{"b":1}}"#));
    assert_ne!(read(r#"{"a":{"b":1}}"#), CanonicalEvent::parse(br#"{"a":{"b":1}}"#).unwrap().project(&pointers));
}

//! Log lines.

use raas_core::{FunctionId, InstanceId, InvocationId, TimestampUs};
use raas_store::{LogFilter, LogLine, LogRow};

use crate::support::{Database, NOW, on_both_databases};

on_both_databases!(
    lines_come_in_order_and_in_pages,
    lines_are_filtered,
    following_sees_late_lines,
    old_lines_are_swept
);

fn line(function: FunctionId, number: i64) -> LogLine {
    LogLine {
        function,
        version: 1,
        invocation: None,
        instance: InstanceId::generate(),
        stream: "stdout".into(),
        time: TimestampUs(NOW.0 + number),
        line: format!("line {number} ü"),
    }
}

fn texts(rows: &[LogRow]) -> Vec<&str> {
    rows.iter().map(|row| row.line.line.as_str()).collect()
}

async fn lines_come_in_order_and_in_pages(db: Database) {
    let (function, other) = (FunctionId::generate(), FunctionId::generate());
    let lines: Vec<_> = (0..150).map(|number| line(if number % 3 == 0 { other } else { function }, number)).collect();
    db.store.log_append(&lines).await.unwrap();
    db.store.log_append(&[]).await.unwrap();
    let expected: Vec<_> = lines.iter().filter(|line| line.function == function).cloned().collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = db.store.log_list(function, &LogFilter { after, ..LogFilter::default() }, 30).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 30);
        after = Some(last.cursor.to_string().parse().unwrap());
        seen.extend(page.into_iter().map(|row| row.line));
    }
    assert_eq!(seen, expected);
    let tail = db.store.log_tail(function, 2).await.unwrap();
    assert_eq!(tail.into_iter().map(|row| row.line).collect::<Vec<_>>(), expected[98..]);
    assert!("x".parse::<raas_store::LogCursor>().is_err());
}

async fn lines_are_filtered(db: Database) {
    let function = FunctionId::generate();
    let call = InvocationId::generate();
    let mut lines: Vec<_> = (0..6).map(|number| line(function, number)).collect();
    lines[2].invocation = Some(call);
    lines[4].invocation = Some(call);
    lines[5].line = "zero \0 byte".into();
    db.store.log_append(&lines).await.unwrap();
    let of_call = LogFilter { invocation: Some(call), ..LogFilter::default() };
    let rows = db.store.log_list(function, &of_call, 10).await.unwrap();
    assert_eq!(texts(&rows), ["line 2 ü", "line 4 ü"]);
    assert_eq!(rows[0].line, lines[2]);
    let since = LogFilter { since: Some(TimestampUs(NOW.0 + 4)), ..LogFilter::default() };
    let rows = db.store.log_list(function, &since, 10).await.unwrap();
    assert_eq!(texts(&rows), ["line 4 ü", "zero \u{fffd} byte"]);
}

async fn following_sees_late_lines(db: Database) {
    let function = FunctionId::generate();
    db.store.log_append(&[line(function, 10)]).await.unwrap();
    let after = db.store.log_list(function, &LogFilter::default(), 10).await.unwrap()[0].cursor;
    db.store.log_append(&[line(function, 5)]).await.unwrap();
    let rows =
        db.store.log_list(function, &LogFilter { after: Some(after), ..LogFilter::default() }, 10).await.unwrap();
    assert_eq!(texts(&rows), ["line 5 ü"], "printed earlier, handed over later");
}

async fn old_lines_are_swept(db: Database) {
    let function = FunctionId::generate();
    let lines: Vec<_> = (0..10).map(|number| line(function, number)).collect();
    db.store.log_append(&lines).await.unwrap();
    assert_eq!(db.store.log_sweep(TimestampUs(NOW.0 + 7)).await.unwrap(), 7);
    let rows = db.store.log_list(function, &LogFilter::default(), 10).await.unwrap();
    assert_eq!(texts(&rows), ["line 7 ü", "line 8 ü", "line 9 ü"]);
}

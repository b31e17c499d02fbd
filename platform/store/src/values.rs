//! Inserting many rows with few statements: `VALUES ($1, $2), ($3, $4), …`.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe};

use crate::StoreError;
use crate::store::Tx;

/// Rows of one statement. Two sizes only, so that a connection's cache of prepared statements stays small.
const LARGE: usize = 64;
const SMALL: usize = 1;

/// A statement and its bound values.
pub(crate) type AnyQuery<'q> = Query<'q, Any, AnyArguments>;

/// Runs `before VALUES (…), … after` over all rows, `columns` values each, which `bind` gives in order.
pub(crate) async fn insert_many<R>(
    tx: &mut Tx,
    before: &'static str,
    columns: usize,
    after: &'static str,
    rows: &[R],
    bind: impl for<'q> Fn(AnyQuery<'q>, &R) -> AnyQuery<'q>,
) -> Result<(), StoreError> {
    let (large, small) = rows.split_at(rows.len() / LARGE * LARGE);
    for (rows, size) in [(large, LARGE), (small, SMALL)] {
        if rows.is_empty() {
            continue;
        }
        let sql = statement(before, columns, after, size);
        for chunk in rows.chunks(size) {
            // Made of constants and numbered placeholders alone.
            let query = chunk.iter().fold(sqlx::query(AssertSqlSafe(sql.as_str())), &bind);
            query.execute(&mut **tx).await?;
        }
    }
    Ok(())
}

fn statement(before: &str, columns: usize, after: &str, rows: usize) -> String {
    let mut sql = format!("{before} VALUES ");
    for row in 0..rows {
        sql.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns {
            let comma = if column == 0 { "" } else { ", " };
            sql.push_str(&format!("{comma}${}", row * columns + column + 1));
        }
        sql.push(')');
    }
    sql.push(' ');
    sql.push_str(after);
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_run_on() {
        assert_eq!(statement("INSERT INTO t (a, b)", 2, "", 2), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4) ");
    }
}

//! Usage summed up, out of the hours.

use raas_core::{FunctionId, ServedBy, TenantId, TimestampUs};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use crate::columns::Columns;
use crate::store::{READ_DEADLINE, within};
use crate::usage_append::HOUR_US;
use crate::usage_list::UsageFilter;
use crate::{Store, StoreError};

/// What sums can be told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageDimension {
    /// Who pays.
    Tenant,
    /// What was asked for.
    Function,
    /// Whose code asked.
    Caller,
    /// Which version answered.
    Version,
    /// How the answer was come by.
    ServedBy,
    /// The hour in which the request arrived.
    Hour,
}

impl UsageDimension {
    const ALL: [Self; 6] = [Self::Tenant, Self::Function, Self::Caller, Self::Version, Self::ServedBy, Self::Hour];

    const fn column(self) -> &'static str {
        match self {
            Self::Tenant => "tenant_id",
            Self::Function => "function_id",
            Self::Caller => "caller_id",
            Self::Version => "version",
            Self::ServedBy => "served_by",
            Self::Hour => "hour_us",
        }
    }

    const fn sql_type(self) -> &'static str {
        match self {
            Self::Tenant | Self::Function | Self::Caller | Self::ServedBy => "TEXT",
            Self::Version | Self::Hour => "BIGINT",
        }
    }
}

/// Sums over calls; the dimensions that were not asked for are `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageTotals {
    /// Who pays.
    pub tenant: Option<TenantId>,
    /// What was asked for.
    pub function: Option<FunctionId>,
    /// Whose code asked, where code did.
    pub caller: Option<FunctionId>,
    /// Which version answered.
    pub version: Option<u32>,
    /// How the answers were come by.
    pub served_by: Option<ServedBy>,
    /// The beginning of the hour.
    pub hour: Option<TimestampUs>,
    /// Answered calls.
    pub calls: u64,
    /// Those with a status from 400 on.
    pub errors: u64,
    /// Those for which a sandbox had to be assigned or started.
    pub cold_starts: u64,
    /// Time waited for instances.
    pub queue_us: u64,
    /// Functions' own time.
    pub exec_us: u64,
    /// Functions' own time, each call's multiplied by its version's configured memory.
    pub memory_mb_us: u64,
    /// Request bodies.
    pub bytes_in: u64,
    /// Response bodies.
    pub bytes_out: u64,
}

impl Store {
    /// Sums of the usage that passes the filter, one for each combination of the dimensions in `by`, in their order; with
    /// none, a single sum (or none where there is no usage). Whole hours: `from` counts from the beginning of its hour,
    /// and an hour that begins before `to` counts to its end.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn usage_totals(
        &self,
        filter: &UsageFilter,
        by: &[UsageDimension],
    ) -> Result<Vec<UsageTotals>, StoreError> {
        let sql = statement(filter, by);
        let from = filter.from.map_or(i64::MIN, |from| from.0.saturating_sub(from.0.rem_euclid(HOUR_US)));
        within(READ_DEADLINE, async {
            // Made of constants and numbered placeholders alone.
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(from).bind(filter.to.map_or(i64::MAX, |to| to.0));
            if let Some(tenant) = filter.tenant {
                query = query.bind(tenant.to_string());
            }
            if let Some(function) = filter.function {
                query = query.bind(function.to_string());
            }
            let rows = query.fetch_all(self.reader()).await?;
            rows.iter().map(totals).collect()
        })
        .await
    }
}

fn statement(filter: &UsageFilter, by: &[UsageDimension]) -> String {
    let mut sql = String::from("SELECT ");
    for dimension in UsageDimension::ALL {
        if by.contains(&dimension) {
            sql.push_str(dimension.column());
        } else {
            sql.push_str("CAST(NULL AS ");
            sql.push_str(dimension.sql_type());
            sql.push(')');
        }
        sql.push_str(", ");
    }
    // Postgres sums BIGINT to NUMERIC.
    sql.push_str(
        "CAST(SUM(calls) AS BIGINT), CAST(SUM(errors) AS BIGINT), CAST(SUM(cold_starts) AS BIGINT), \
         CAST(SUM(queue_us) AS BIGINT), CAST(SUM(exec_us) AS BIGINT), CAST(SUM(memory_mb_us) AS BIGINT), \
         CAST(SUM(bytes_in) AS BIGINT), CAST(SUM(bytes_out) AS BIGINT) \
         FROM usage_hours WHERE hour_us >= $1 AND hour_us < $2",
    );
    let tenant = filter.tenant.map(|_| "tenant_id");
    let function = filter.function.map(|_| "function_id");
    for (placeholder, column) in (3..).zip(tenant.into_iter().chain(function)) {
        sql.push_str(&format!(" AND {column} = ${placeholder}"));
    }
    let mut columns: Vec<&str> = Vec::new();
    for dimension in by {
        if !columns.contains(&dimension.column()) {
            columns.push(dimension.column());
        }
    }
    if columns.is_empty() {
        sql.push_str(" HAVING COUNT(*) > 0");
    } else {
        let columns = columns.join(", ");
        sql.push_str(&format!(" GROUP BY {columns} ORDER BY {columns}"));
    }
    sql
}

fn totals(row: &AnyRow) -> Result<UsageTotals, StoreError> {
    Ok(UsageTotals {
        tenant: row.parsed_option(0, "tenant id")?,
        function: row.parsed_option(1, "function id")?,
        caller: match row.value::<Option<&str>>(2, "caller id")? {
            None | Some("") => None,
            Some(_) => row.parsed_option(2, "caller id")?,
        },
        version: row.number_option(3, "version number")?,
        served_by: row.parsed_option(4, "served_by")?,
        hour: row.time_option(5)?,
        calls: row.number(6, "calls")?,
        errors: row.number(7, "errors")?,
        cold_starts: row.number(8, "cold starts")?,
        queue_us: row.number(9, "queue time")?,
        exec_us: row.number(10, "execution time")?,
        memory_mb_us: row.number(11, "memory time")?,
        bytes_in: row.number(12, "bytes in")?,
        bytes_out: row.number(13, "bytes out")?,
    })
}

//! Usage on its way in: batches from a journal, each event counted exactly once.
//!
//! One transaction stores the events, adds them to the hours' sums and moves the journal's position. A batch that comes
//! again, because its sender died before or after the commit, finds the position beyond its events and leaves them out.

use std::collections::HashMap;

use raas_core::{FunctionId, ServedBy, TenantId, UsageEvent};
use uuid::Uuid;

use crate::columns::{Columns, to_i64};
use crate::store::{BULK_DEADLINE, READ_DEADLINE, within};
use crate::usage_block::{BLOCK_EVENTS, EVENT_BYTES, push};
use crate::values::insert_many;
use crate::{Store, StoreError};

/// Microseconds in the hour that sums are kept by.
pub(crate) const HOUR_US: i64 = 3_600_000_000;
/// Answers from this status on count as errors.
const ERROR_STATUS: u16 = 400;

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Events counted now.
    pub counted: u64,
    /// Events left out because they had been counted before.
    pub skipped: u64,
    /// The first sequence that has not been counted.
    pub next_sequence: u64,
}

/// The events of one tenant in a batch, up to the size of a block.
struct Block {
    tenant: TenantId,
    first_sequence: u64,
    from_us: i64,
    to_us: i64,
    events: usize,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Hour {
    tenant: TenantId,
    hour_us: i64,
    function: FunctionId,
    caller: Option<FunctionId>,
    version: u32,
    served_by: u8,
}

#[derive(Default)]
struct Sums {
    calls: i64,
    errors: i64,
    cold_starts: i64,
    queue_us: i64,
    exec_us: i64,
    memory_mb_us: i64,
    bytes_in: i64,
    bytes_out: i64,
}

impl Store {
    /// Counts a journal's events, in the order of their sequences, each exactly once however often it is sent.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the sequences do not grow.
    pub async fn usage_append(&self, journal: Uuid, records: &[(u64, UsageEvent)]) -> Result<Appended, StoreError> {
        if !records.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(StoreError::Invalid { what: "a batch of usage events is in the order of its sequences" });
        }
        within(BULK_DEADLINE, async {
            let mut tx = self.begin().await?;
            // Makes the position if there is none, and locks it: two senders of one journal come one after the other.
            let position = sqlx::query(
                "INSERT INTO journal_positions (journal_id, next_sequence) VALUES ($1, 0) ON CONFLICT (journal_id) \
                 DO UPDATE SET next_sequence = journal_positions.next_sequence RETURNING next_sequence",
            )
            .bind(journal.to_string())
            .fetch_one(&mut *tx)
            .await?;
            let position = position.number::<u64>(0, "journal position")?;
            let (skipped, fresh) = records.split_at(records.partition_point(|(sequence, _)| *sequence < position));
            let Some((last, _)) = fresh.last() else {
                tx.commit().await?;
                return Ok(Appended { counted: 0, skipped: skipped.len() as u64, next_sequence: position });
            };
            let next_sequence = last + 1;

            let (blocks, hours) = sort_out(fresh);
            let blocks: Vec<_> = blocks.into_iter().map(|block| (Uuid::now_v7(), block)).collect();
            insert_many(
                &mut tx,
                "INSERT INTO usage_blocks (id, tenant_id, journal_id, first_sequence, from_us, to_us, event_count, \
                 event_bytes, events)",
                9,
                "",
                &blocks,
                |query, (id, block)| {
                    query
                        .bind(id.to_string())
                        .bind(block.tenant.to_string())
                        .bind(journal.to_string())
                        .bind(to_i64(block.first_sequence))
                        .bind(block.from_us)
                        .bind(block.to_us)
                        .bind(to_i64(block.events as u64))
                        .bind(to_i64(EVENT_BYTES as u64))
                        .bind(block.bytes.clone())
                },
            )
            .await?;
            insert_many(&mut tx, HOURS_INSERT, 14, HOURS_ADD, &hours, |query, (hour, sums)| {
                query
                    .bind(hour.tenant.to_string())
                    .bind(hour.function.to_string())
                    .bind(hour.caller.map(|caller| caller.to_string()).unwrap_or_default())
                    .bind(i64::from(hour.version))
                    .bind(ServedBy::from_code(hour.served_by).map_or("", ServedBy::as_str))
                    .bind(hour.hour_us)
                    .bind(sums.calls)
                    .bind(sums.errors)
                    .bind(sums.cold_starts)
                    .bind(sums.queue_us)
                    .bind(sums.exec_us)
                    .bind(sums.memory_mb_us)
                    .bind(sums.bytes_in)
                    .bind(sums.bytes_out)
            })
            .await?;
            sqlx::query("UPDATE journal_positions SET next_sequence = $1 WHERE journal_id = $2")
                .bind(to_i64(next_sequence))
                .bind(journal.to_string())
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(Appended { counted: fresh.len() as u64, skipped: skipped.len() as u64, next_sequence })
        })
        .await
    }

    /// The first sequence of a journal that has not been counted; 0 for an unknown one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn usage_position(&self, journal: Uuid) -> Result<u64, StoreError> {
        within(READ_DEADLINE, async {
            let row = sqlx::query("SELECT next_sequence FROM journal_positions WHERE journal_id = $1")
                .bind(journal.to_string())
                .fetch_optional(self.reader())
                .await?;
            row.map_or(Ok(0), |row| row.number(0, "journal position"))
        })
        .await
    }
}

const HOURS_INSERT: &str = "INSERT INTO usage_hours (tenant_id, function_id, caller_id, version, served_by, hour_us, calls, errors, \
    cold_starts, queue_us, exec_us, memory_mb_us, bytes_in, bytes_out)";
const HOURS_ADD: &str = "ON CONFLICT (tenant_id, hour_us, function_id, caller_id, version, served_by) DO UPDATE SET \
    calls = usage_hours.calls + excluded.calls, \
    errors = usage_hours.errors + excluded.errors, \
    cold_starts = usage_hours.cold_starts + excluded.cold_starts, \
    queue_us = usage_hours.queue_us + excluded.queue_us, \
    exec_us = usage_hours.exec_us + excluded.exec_us, \
    memory_mb_us = usage_hours.memory_mb_us + excluded.memory_mb_us, \
    bytes_in = usage_hours.bytes_in + excluded.bytes_in, \
    bytes_out = usage_hours.bytes_out + excluded.bytes_out";

/// Sorts events into blocks by tenant and sums by hour. Sums come in the order of their keys, so that two gateways that
/// add to the same rows lock them in the same order.
fn sort_out(records: &[(u64, UsageEvent)]) -> (Vec<Block>, Vec<(Hour, Sums)>) {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: HashMap<TenantId, usize> = HashMap::new();
    let mut hours: HashMap<Hour, Sums> = HashMap::new();
    for (at, (sequence, event)) in records.iter().enumerate() {
        let block = match open.get(&event.tenant) {
            Some(block) if blocks[*block].events < BLOCK_EVENTS => *block,
            _ => {
                let room = if open.is_empty() { BLOCK_EVENTS.min(records.len() - at) } else { 0 };
                blocks.push(Block {
                    tenant: event.tenant,
                    first_sequence: *sequence,
                    from_us: event.started_us,
                    to_us: event.started_us,
                    events: 0,
                    bytes: Vec::with_capacity(room * (8 + EVENT_BYTES)),
                });
                open.insert(event.tenant, blocks.len() - 1);
                blocks.len() - 1
            }
        };
        let block = &mut blocks[block];
        block.from_us = block.from_us.min(event.started_us);
        block.to_us = block.to_us.max(event.started_us);
        block.events += 1;
        push(&mut block.bytes, *sequence, event);

        let hour = Hour {
            tenant: event.tenant,
            hour_us: event.started_us - event.started_us.rem_euclid(HOUR_US),
            function: event.function,
            caller: event.caller,
            version: event.version,
            served_by: event.served_by.code(),
        };
        hours.entry(hour).or_default().add(event);
    }
    let mut hours: Vec<_> = hours.into_iter().collect();
    hours.sort_unstable_by_key(|(hour, _)| *hour);
    (blocks, hours)
}

impl Sums {
    fn add(&mut self, event: &UsageEvent) {
        let memory_mb_us = to_i64(event.exec_us).saturating_mul(i64::from(event.memory_mb));
        self.calls += 1;
        self.errors += i64::from(event.status >= ERROR_STATUS);
        self.cold_starts += i64::from(event.cold_start);
        self.queue_us += i64::from(event.queue_us);
        self.exec_us = self.exec_us.saturating_add(to_i64(event.exec_us));
        self.memory_mb_us = self.memory_mb_us.saturating_add(memory_mb_us);
        self.bytes_in = self.bytes_in.saturating_add(to_i64(event.bytes_in));
        self.bytes_out = self.bytes_out.saturating_add(to_i64(event.bytes_out));
    }
}

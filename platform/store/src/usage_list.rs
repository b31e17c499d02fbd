//! Usage event by event, page by page, out of the blocks.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use raas_core::{FunctionId, TenantId, TimestampUs, UsageEvent};
use uuid::Uuid;

use crate::columns::Columns;
use crate::store::{BULK_DEADLINE, PAGE_MAX, within};
use crate::usage_block::events;
use crate::{Store, StoreError};

/// Blocks fetched at once.
const FETCH_BLOCKS: i64 = 8;
/// Blocks that one page looks through; with a filter that few events pass it comes out short, with a cursor to go on from.
const PAGE_BLOCKS: usize = 512;

/// Which usage. The default is all there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct UsageFilter {
    /// One tenant's; `None` is every tenant's, for the operator.
    pub tenant: Option<TenantId>,
    /// One function's.
    pub function: Option<FunctionId>,
    /// Of requests that arrived at or after this moment.
    pub from: Option<TimestampUs>,
    /// Of requests that arrived before this moment.
    pub to: Option<TimestampUs>,
}

/// A place in the list of usage events. Opaque: callers hand back what they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageCursor {
    block: Uuid,
    /// Events of that block that have been passed.
    passed: u32,
}

impl std::fmt::Display for UsageCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(self.block.as_bytes());
        bytes[16..].copy_from_slice(&self.passed.to_be_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl std::str::FromStr for UsageCursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        const INVALID: StoreError = StoreError::Invalid { what: "not a cursor of the list of usage events" };
        let bytes: [u8; 20] =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(INVALID)?;
        let block = Uuid::from_slice(&bytes[..16]).map_err(|_| INVALID)?;
        let passed = bytes.last_chunk().map(|chunk| u32::from_be_bytes(*chunk)).ok_or(INVALID)?;
        Ok(Self { block, passed })
    }
}

impl Store {
    /// Up to `limit` usage events in the order in which they were counted, and where the next page begins; `None` at the
    /// end. A page may be short, even empty, and still have a next one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a block that another release wrote.
    pub async fn usage_list(
        &self,
        filter: &UsageFilter,
        cursor: Option<UsageCursor>,
        limit: u32,
    ) -> Result<(Vec<UsageEvent>, Option<UsageCursor>), StoreError> {
        let limit = limit.clamp(1, PAGE_MAX) as usize;
        let (from, to) = (filter.from.map_or(i64::MIN, |from| from.0), filter.to.map_or(i64::MAX, |to| to.0));
        let sql = match filter.tenant {
            Some(_) => {
                "SELECT id, event_bytes, events FROM usage_blocks \
                 WHERE id >= $1 AND to_us >= $2 AND from_us < $3 AND tenant_id = $5 ORDER BY id LIMIT $4"
            }
            None => {
                "SELECT id, event_bytes, events FROM usage_blocks \
                 WHERE id >= $1 AND to_us >= $2 AND from_us < $3 ORDER BY id LIMIT $4"
            }
        };
        within(BULK_DEADLINE, async {
            let mut page = Vec::with_capacity(limit);
            let mut place = cursor.unwrap_or(UsageCursor { block: Uuid::nil(), passed: 0 });
            let mut looked_through = 0;
            loop {
                let mut query = sqlx::query(sql).bind(place.block.to_string()).bind(from).bind(to).bind(FETCH_BLOCKS);
                if let Some(tenant) = filter.tenant {
                    query = query.bind(tenant.to_string());
                }
                let rows = query.fetch_all(self.reader()).await?;
                for row in &rows {
                    let block: Uuid = row.parsed(0, "usage block id")?;
                    let skip = if block == place.block { place.passed } else { 0 };
                    place = UsageCursor { block, passed: skip };
                    for event in events(row.value(2, "usage block")?, row.number(1, "usage block")?, skip as usize)? {
                        if page.len() == limit {
                            return Ok((page, Some(place)));
                        }
                        let event = event?;
                        place.passed += 1;
                        let wanted = (from..to).contains(&event.started_us)
                            && filter.function.is_none_or(|function| function == event.function);
                        if wanted {
                            page.push(event);
                        }
                    }
                    place = UsageCursor { block: Uuid::from_u128(block.as_u128().wrapping_add(1)), passed: 0 };
                }
                looked_through += rows.len();
                if rows.len() < FETCH_BLOCKS as usize {
                    return Ok((page, None));
                }
                if looked_through >= PAGE_BLOCKS {
                    return Ok((page, Some(place)));
                }
            }
        })
        .await
    }
}

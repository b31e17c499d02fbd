//! State that helpers write: from a COMMIT frame's bytes to rows, many commits in one transaction.
//!
//! Every commit is durable before it is answered, and one after another that would be one sync of the disk each. So commits
//! that come while a transaction runs wait for the next one and go together; each is still all or nothing by itself.

use std::sync::Arc;

use raas_core::{Clock, limits};
use raas_store::{StateCommit, StateForm, StateWrite, Store, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Commits that may wait for the database.
const QUEUE_COMMITS: usize = 4096;

/// Commits in one transaction.
const BATCH_COMMITS: usize = 256;

/// Bytes in one transaction, beside the last commit's.
const BATCH_BYTES: usize = 8 << 20;

/// Why state was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The commit's bytes are not of the contract's form.
    #[error("the commit cannot be read: {0}")]
    Malformed(&'static str),
    /// A key, a value or the commit is too large.
    #[error("{0}")]
    TooLarge(String),
    /// The instance's quota does not hold it.
    #[error("the instance's state is full: the quota is {limit_bytes} bytes; raise `state_mb` or delete keys")]
    Quota {
        /// The quota.
        limit_bytes: u64,
    },
    /// The instance was deleted.
    #[error("the helper instance is deleted")]
    Gone,
    /// The call that writes has been answered, or given up, meanwhile.
    #[error("the call that this belongs to is over, so what it wrote was not kept")]
    CallOver,
    /// Another replica has become the writer of the key meanwhile.
    #[error("another replica has taken over the key that this call was made under, so what it wrote was not kept")]
    LeaseLost,
    /// The database does not answer. Whether the commit took place is not known.
    #[error("the state could not be written; try again")]
    Unavailable,
}

impl StateError {
    /// The stable name of it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::TooLarge(_) => "invalid-state",
            Self::Quota { .. } => "state-quota",
            Self::Gone => "not-found",
            Self::LeaseLost => "lease-lost",
            Self::CallOver => "cancelled",
            Self::Unavailable => "state-unavailable",
        }
    }

    /// Whether the platform is at fault.
    pub fn is_platform(&self) -> bool {
        matches!(self, Self::Unavailable | Self::LeaseLost)
    }
}

impl From<StoreError> for StateError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Quota { limit_bytes, .. } => Self::Quota { limit_bytes },
            StoreError::NotFound { .. } => Self::Gone,
            StoreError::Conflict { .. } => Self::LeaseLost,
            error => {
                tracing::warn!(error = %error, "helper state could not be read or written");
                Self::Unavailable
            }
        }
    }
}

/// The writes of one COMMIT frame.
///
/// # Errors
/// Bytes that are none, or a limit that is passed.
pub fn parse_commit(body: &[u8]) -> Result<Vec<StateWrite>, StateError> {
    if body.len() > limits::STATE_COMMIT_MAX_BYTES {
        return Err(StateError::TooLarge(format!(
            "one commit is at most {} bytes, not {}",
            limits::STATE_COMMIT_MAX_BYTES,
            body.len()
        )));
    }
    let mut reader = Reader(body);
    let mut writes = Vec::new();
    while !reader.0.is_empty() {
        if writes.len() == limits::STATE_COMMIT_MAX_WRITES {
            return Err(StateError::TooLarge(format!(
                "one commit has at most {} writes",
                limits::STATE_COMMIT_MAX_WRITES
            )));
        }
        let what = reader.byte()?;
        let length = usize::from(u16::from_le_bytes(reader.array()?));
        let key = std::str::from_utf8(reader.take(length)?).map_err(|_| StateError::Malformed("a key is not UTF-8"))?;
        if key.is_empty() || key.len() > limits::STATE_KEY_MAX_BYTES {
            return Err(StateError::TooLarge(format!("a key has 1 to {} bytes", limits::STATE_KEY_MAX_BYTES)));
        }
        let key = key.to_owned();
        writes.push(match what {
            1 => {
                let ttl_ms = u64::from_le_bytes(reader.array()?);
                let form = match reader.byte()? {
                    b'j' => StateForm::Json,
                    b'b' => StateForm::Bytes,
                    _ => return Err(StateError::Malformed("a value has an unknown form")),
                };
                let length = u32::from_le_bytes(reader.array()?) as usize;
                if length > limits::STATE_VALUE_MAX_BYTES {
                    return Err(StateError::TooLarge(format!(
                        "a value is at most {} bytes, not {length}",
                        limits::STATE_VALUE_MAX_BYTES
                    )));
                }
                let value = reader.take(length)?.to_vec();
                StateWrite::Put { key, form, value, ttl_ms: (ttl_ms > 0).then_some(ttl_ms) }
            }
            2 => StateWrite::Delete { key },
            _ => return Err(StateError::Malformed("a write is neither a put nor a delete")),
        });
    }
    Ok(writes)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], StateError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(StateError::Malformed("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(StateError::Malformed("it is cut off"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, StateError> {
        self.array::<1>().map(|[byte]| byte)
    }
}

struct Queued {
    commit: StateCommit,
    done: oneshot::Sender<Result<(), StateError>>,
}

/// Commits state; cheap to clone.
#[derive(Debug, Clone)]
pub struct StateWriter {
    queue: mpsc::Sender<Queued>,
}

/// The task behind it.
pub struct StateWriterService {
    queue: mpsc::Receiver<Queued>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

/// Makes the two ends.
pub fn state_writer(store: Arc<Store>, clock: Arc<dyn Clock>) -> (StateWriter, StateWriterService) {
    let (sender, receiver) = mpsc::channel(QUEUE_COMMITS);
    (StateWriter { queue: sender }, StateWriterService { queue: receiver, store, clock })
}

impl StateWriter {
    /// Commits, and returns when it is durable.
    ///
    /// # Errors
    /// [`StateError`]; nothing of this commit was written then, unless the database did not answer.
    pub async fn commit(&self, commit: StateCommit) -> Result<(), StateError> {
        let (done, outcome) = oneshot::channel();
        self.queue.send(Queued { commit, done }).await.map_err(|_| StateError::Unavailable)?;
        outcome.await.unwrap_or(Err(StateError::Unavailable))
    }
}

impl StateWriterService {
    /// Writes until `stop`, and what waits then.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_COMMITS);
        loop {
            let first = tokio::select! {
                first = self.queue.recv() => first,
                () = stop.cancelled() => {
                    self.queue.close();
                    self.queue.recv().await
                }
            };
            let Some(first) = first else { return };
            let mut bytes = first.commit.bytes();
            batch.push(first);
            while batch.len() < BATCH_COMMITS && bytes < BATCH_BYTES {
                let Ok(next) = self.queue.try_recv() else { break };
                bytes += next.commit.bytes();
                batch.push(next);
            }
            // Two gateways lock instances in the same order; one instance's commits stay in theirs.
            batch.sort_by_key(|queued: &Queued| queued.commit.instance);
            self.write(&mut batch).await;
        }
    }

    async fn write(&self, batch: &mut Vec<Queued>) {
        let (commits, waiting): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|Queued { commit, done }| (commit, done)).unzip();
        match self.store.helper_state_commit_many(&commits, self.clock.now()).await {
            Ok(outcomes) => {
                for (outcome, done) in outcomes.into_iter().zip(waiting) {
                    let _ = done.send(outcome.map_err(Into::into));
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, commits = waiting.len(), "helper state could not be written");
                for done in waiting {
                    let _ = done.send(Err(StateError::Unavailable));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn put(key: &str, ttl_ms: u64, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1];
        bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(&ttl_ms.to_le_bytes());
        bytes.push(b'j');
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(value);
        bytes
    }

    #[test]
    fn reads_writes_in_order() {
        let mut bytes = put("a", 0, b"1");
        bytes.extend_from_slice(&[2, 1, 0, b'b']);
        bytes.extend_from_slice(&put("c", 5, b"[]"));
        let writes = parse_commit(&bytes).unwrap();
        assert_eq!(writes.len(), 3);
        assert!(matches!(&writes[0], StateWrite::Put { key, ttl_ms: None, .. } if key == "a"));
        assert!(matches!(&writes[1], StateWrite::Delete { key } if key == "b"));
        assert!(matches!(&writes[2], StateWrite::Put { ttl_ms: Some(5), value, .. } if value == b"[]"));
    }

    #[test]
    fn refuses_what_is_over_a_limit() {
        assert!(matches!(parse_commit(&put("", 0, b"1")), Err(StateError::TooLarge(_))));
        let long = "k".repeat(limits::STATE_KEY_MAX_BYTES + 1);
        assert!(matches!(parse_commit(&put(&long, 0, b"1")), Err(StateError::TooLarge(_))));
        let large = vec![b'1'; limits::STATE_VALUE_MAX_BYTES + 1];
        assert!(matches!(parse_commit(&put("k", 0, &large)), Err(StateError::TooLarge(_))));
        let many = put("k", 0, b"1").repeat(limits::STATE_COMMIT_MAX_WRITES + 1);
        assert!(matches!(parse_commit(&many), Err(StateError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_writes_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_commit(&bytes);
        }
    }
}

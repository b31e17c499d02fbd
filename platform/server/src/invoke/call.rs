//! What a call is, and what an answer is. Plain values.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use raas_core::{CanonicalEvent, FunctionId, InvocationId, ResultKey, ServedBy, Tag, TenantId, TimestampUs};

use crate::admission::Admitted;
use crate::helpers::KeyLeases;
use crate::routing::{FunctionRoute, VersionRoute};
use crate::scheduler::CallError;
use crate::trace::TraceContext;

/// What a caller says about cached results (`Cache-Control` of the request).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallerPolicy {
    /// Compute, even if there is a result; the new one is kept.
    pub no_cache: bool,
    /// Neither look for a result nor keep one.
    pub no_store: bool,
    /// Only an existing result will do.
    pub only_if_cached: bool,
    /// A result older than this is no use, seconds.
    pub max_age_s: Option<u64>,
}

/// One call of a function.
pub struct Call {
    /// Its id.
    pub id: InvocationId,
    /// Who calls, and pays.
    pub tenant: TenantId,
    /// What is called.
    pub function: Arc<FunctionRoute>,
    /// Which version of it.
    pub version: Arc<VersionRoute>,
    /// The event as sent: JSON text.
    pub event: Bytes,
    /// The same, checked and canonical; dropped once the result key is known.
    pub canonical: Option<CanonicalEvent>,
    /// What the caller says about cached results.
    pub policy: CallerPolicy,
    /// Where it stands in its trace.
    pub trace: TraceContext,
    /// When it arrived, by the wall clock.
    pub arrived_at: TimestampUs,
    /// When it arrived, for durations.
    pub arrived: Instant,
    /// Its place among the calls in progress.
    pub admitted: Admitted,
    /// How many calls of helpers it is inside of.
    pub depth: u8,
    /// The function or helper instance whose code calls, where code does.
    pub caller: Option<FunctionId>,
    /// When nobody wants the answer any more, where the caller's own time ends.
    pub deadline: Option<Instant>,
    /// The key that it is made under, and who may be, where a helper has one writer a key.
    pub key: Option<(String, Arc<KeyLeases>)>,
    /// The epochs of the helper instances that the function is bound to: part of its result's key.
    pub helper_epochs: Vec<u64>,
    /// What it is for.
    pub purpose: Purpose,
}

impl Call {
    /// The same event to the same version once more, for another purpose and in nobody's time.
    pub fn again(&self, purpose: Purpose, now: TimestampUs) -> Self {
        let id = InvocationId::generate();
        Self {
            id,
            tenant: self.tenant,
            function: Arc::clone(&self.function),
            version: Arc::clone(&self.version),
            event: self.event.clone(),
            canonical: None,
            policy: CallerPolicy::default(),
            trace: TraceContext::of_call(id, None, None),
            arrived_at: now,
            arrived: Instant::now(),
            admitted: Admitted::within_a_call(),
            depth: self.depth,
            caller: None,
            deadline: None,
            key: self.key.clone(),
            helper_epochs: self.helper_epochs.clone(),
            purpose,
        }
    }
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Somebody asks and pays.
    Answer,
    /// A result that is in use is computed anew before, or soon after, it is too old. Nobody's usage.
    Refresh,
    /// Nobody has asked: its result is to be there when somebody does. Nobody's usage.
    Precompute,
}

/// Under what a call's result is kept.
#[derive(Debug, Clone)]
pub struct KeptAs {
    /// Its key.
    pub key: ResultKey,
    /// Keys under which it may lie as well, where runs were seen to read only parts of their events.
    pub others: Box<[ResultKey]>,
    /// By what it can be dropped.
    pub tags: Box<[Tag]>,
}

/// How a call relates to the result store, for `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The function declares no caching, or the caller wants none.
    Bypass,
    /// The caller asked for a new computation.
    Requested,
    /// Nothing fresh was kept.
    Miss {
        /// Whether the new result was kept.
        stored: bool,
    },
    /// Somebody was computing the same already.
    Collapsed,
    /// A kept result.
    Hit {
        /// Its age, seconds.
        age_s: u64,
        /// How long it is fresh still, seconds; negative where it is past its time.
        ttl_s: i64,
    },
}

/// The answer to a call, whatever it is.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The result's JSON text, or why there is none.
    pub result: Result<Bytes, CallError>,
    /// Where it came from.
    pub served_by: ServedBy,
    /// What computing it took, when it was computed; microseconds.
    pub compute_us: u64,
    /// How it relates to the store.
    pub cache: CacheOutcome,
    /// Whether a sandbox had to be assigned or started for this call.
    pub cold_start: bool,
    /// Parts of the time this call took, microseconds.
    pub times: Times,
}

/// Parts of the time a call took, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Waiting for a place.
    pub queue_us: u64,
    /// Waiting for a sandbox and the code to load.
    pub cold_us: u64,
    /// In the instance.
    pub exec_us: u64,
    /// From arrival to answer.
    pub total_us: u64,
}

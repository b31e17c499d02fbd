//! What went through, in figures.

use std::sync::atomic::{AtomicU64, Ordering};

/// Figures of all sandboxes since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EgressMetrics {
    /// Sandboxes with a network now.
    pub sandboxes: u64,
    /// TCP connections now.
    pub connections: u64,
    /// TCP connections that were made.
    pub connections_opened: u64,
    /// TCP connections that the other side did not take, or not in time.
    pub connections_failed: u64,
    /// Connections and datagrams refused by the policy.
    pub refused: u64,
    /// Connections and datagrams refused because a bound was reached.
    pub over_limit: u64,
    /// UDP flows that were made.
    pub flows_opened: u64,
    /// DNS queries that were answered.
    pub queries_answered: u64,
    /// DNS queries that no name server answered in time.
    pub queries_failed: u64,
    /// Bytes of TCP data and datagrams out of sandboxes.
    pub sent_bytes: u64,
    /// Bytes of TCP data and datagrams into sandboxes.
    pub received_bytes: u64,
}

/// The figures where they are counted. None of them orders anything else.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) sandboxes: Counter,
    pub(crate) connections: Counter,
    pub(crate) connections_opened: Counter,
    pub(crate) connections_failed: Counter,
    pub(crate) refused: Counter,
    pub(crate) over_limit: Counter,
    pub(crate) flows_opened: Counter,
    pub(crate) queries_answered: Counter,
    pub(crate) queries_failed: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
}

impl Counters {
    pub(crate) fn read(&self) -> EgressMetrics {
        EgressMetrics {
            sandboxes: self.sandboxes.get(),
            connections: self.connections.get(),
            connections_opened: self.connections_opened.get(),
            connections_failed: self.connections_failed.get(),
            refused: self.refused.get(),
            over_limit: self.over_limit.get(),
            flows_opened: self.flows_opened.get(),
            queries_answered: self.queries_answered.get(),
            queries_failed: self.queries_failed.get(),
            sent_bytes: self.sent_bytes.get(),
            received_bytes: self.received_bytes.get(),
        }
    }
}

/// One figure.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    /// Counts one up now and down again when the result is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.add(1);
        Held(self)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of something that exists at the moment.
#[derive(Debug)]
pub(crate) struct Held<'a>(&'a Counter);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

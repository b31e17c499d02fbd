//! The bounds on what a sandbox can make this process hold.

use std::time::Duration;

/// TCP connections of one sandbox at once; further ones are reset.
pub(crate) const SANDBOX_CONNECTIONS_MAX: usize = 256;
/// UDP flows of one sandbox at once; a further one takes the place of the one that has been quiet longest.
pub(crate) const SANDBOX_FLOWS_MAX: usize = 64;
/// DNS queries of one sandbox that wait for an answer; further ones are dropped, and asked again by their sender.
pub(crate) const SANDBOX_QUERIES_MAX: usize = 64;
/// Sockets for all sandboxes together, or half of the files that this process may open where that is less.
pub(crate) const SOCKETS_MAX: usize = 4096;
/// Buffer of one connection in each direction, bytes; two of the largest packets.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;
/// Datagrams of a flow that wait to be sent.
pub(crate) const FLOW_QUEUE_MAX: usize = 32;
/// How long connecting may take.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may be quiet.
pub(crate) const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(600);
/// How long a UDP flow may be quiet.
pub(crate) const FLOW_IDLE_MAX: Duration = Duration::from_secs(60);
/// How long one name server may take; the next one is asked after that.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Name servers that are asked.
pub(crate) const RESOLVERS_MAX: usize = 3;
/// Packets taken from a device before others get a turn.
pub(crate) const BATCH_PACKETS: usize = 64;
/// How often a sandbox's connections look at their clocks (retransmission, window probes). The device loses nothing, so
/// these are rarely needed.
pub(crate) const TICK: Duration = Duration::from_millis(50);

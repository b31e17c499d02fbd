//! One sandbox's network from its first packet to its end: what comes out of the device, and where it goes.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::cidr::Cidr;
use crate::connection;
use crate::datagrams::Flows;
use crate::dns::{self, DNS_PORT};
use crate::egress::Shared;
use crate::host;
use crate::limits::{BATCH_PACKETS, SANDBOX_CONNECTIONS_MAX, SANDBOX_QUERIES_MAX, TICK};
use crate::packet::{self, Flow, Outgoing};
use crate::policy::Refusal;
use crate::stack::Stack;
use crate::tun::Tun;

/// What the tasks of one sandbox share.
pub(crate) struct Sandbox {
    pub(crate) shared: Arc<Shared>,
    /// For logs.
    pub(crate) name: String,
    pub(crate) tun: Arc<Tun>,
    pub(crate) stack: Arc<Mutex<Stack>>,
    pub(crate) address: Ipv4Addr,
    pub(crate) resolver: Ipv4Addr,
    pub(crate) own_network: Cidr,
    /// Connections that are being made or exist.
    pub(crate) connections: Mutex<HashSet<Flow>>,
    pub(crate) queries: Arc<Semaphore>,
    pub(crate) logged: AtomicBool,
}

impl Sandbox {
    /// Asks the policy about a destination.
    ///
    /// # Errors
    /// This machine does not tell its addresses.
    pub(crate) fn check(&self, destination: IpAddr) -> io::Result<Result<(), Refusal>> {
        let mut unknown = None;
        let is_host = |address| {
            host::is_own(address).unwrap_or_else(|error| {
                unknown = Some(error);
                true
            })
        };
        let decision = self.shared.policy.check(destination, self.own_network, is_host);
        match unknown {
            Some(error) => Err(error),
            None => Ok(decision),
        }
    }

    /// The host's name servers, when that is where the sandbox's DNS messages go.
    pub(crate) fn name_servers(&self, destination: SocketAddrV4) -> Option<Vec<SocketAddr>> {
        self.is_name_server(destination).then(|| self.shared.resolvers.list())
    }

    fn is_name_server(&self, destination: SocketAddrV4) -> bool {
        destination == SocketAddrV4::new(self.resolver, DNS_PORT)
    }

    /// Counts a refusal, and tells of a sandbox's first.
    pub(crate) fn refused(&self, destination: SocketAddrV4, refusal: Refusal) {
        self.shared.counters.refused.add(1);
        if !self.logged.swap(true, Ordering::Relaxed) {
            tracing::info!(
                sandbox = %self.name, %destination, reason = refusal.as_str(),
                "a sandbox may not reach what it tried to; further refusals of this sandbox are only counted"
            );
        }
    }

    /// Carries packets until `end`. Every connection and flow ends with it.
    pub(crate) async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let counters = Arc::clone(&self.shared.counters);
        let _now = counters.sandboxes.hold();
        let mut carrier = Carrier { sandbox: Arc::clone(&self), tasks: JoinSet::new(), flows: Flows::default() };
        let mut packet = vec![0; usize::from(u16::MAX)];
        let mut end = pin!(end);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let working = !carrier.tasks.is_empty();
            tokio::select! {
                () = &mut end => break,
                _ = tick.tick(), if working => self.stack.lock().flush(),
                Some(ended) = carrier.tasks.join_next(), if working => if let Err(error) = ended {
                    tracing::error!(sandbox = %self.name, %error, "a task for a sandbox's connection failed");
                },
                read = self.tun.read(&mut packet) => match read {
                    Ok(length) => carrier.take_batch(&mut packet, length),
                    Err(error) => {
                        tracing::warn!(sandbox = %self.name, %error, "a sandbox's network device failed");
                        break;
                    }
                }
            }
        }
    }
}

/// The receiving end; owned by the one task that reads the device. Dropping it ends all tasks.
struct Carrier {
    sandbox: Arc<Sandbox>,
    tasks: JoinSet<()>,
    flows: Flows,
}

impl Carrier {
    /// Takes the packet that was read and others that are there, and answers them together.
    fn take_batch(&mut self, buffer: &mut [u8], first: usize) {
        self.take(&buffer[..first]);
        for _ in 1..BATCH_PACKETS {
            let Some(length) = self.sandbox.tun.try_read(buffer) else { break };
            self.take(&buffer[..length]);
        }
        self.sandbox.stack.lock().flush();
    }

    fn take(&mut self, packet: &[u8]) {
        match packet::read(packet, self.sandbox.address) {
            Outgoing::Tcp => self.sandbox.stack.lock().receive(packet),
            Outgoing::Syn { flow, sequence } => self.take_request(flow, sequence, packet),
            Outgoing::Datagram(flow, content) if self.sandbox.is_name_server(flow.outside) => {
                self.take_query(flow, content)
            }
            Outgoing::Datagram(flow, content) => self.take_datagram(flow, content, packet),
            Outgoing::Other => {}
        }
    }

    fn take_request(&mut self, flow: Flow, sequence: i32, packet: &[u8]) {
        let sandbox = &self.sandbox;
        let mut connections = sandbox.connections.lock();
        if connections.contains(&flow) {
            return; // asked again while it is being made, or after; the answer is or was on its way
        }
        let room = connections.len() < SANDBOX_CONNECTIONS_MAX;
        let Some(socket) = room.then(|| sandbox.shared.socket()).flatten() else {
            sandbox.shared.counters.over_limit.add(1);
            sandbox.tun.write(&packet::reset(flow, sequence));
            return;
        };
        connections.insert(flow);
        drop(connections);
        let place = Place { sandbox: Arc::clone(sandbox), flow, _socket: socket };
        let request = packet.to_vec();
        self.tasks
            .spawn(async move { connection::carry(Arc::clone(&place.sandbox), place.flow, sequence, request).await });
    }

    fn take_query(&mut self, flow: Flow, query: &[u8]) {
        let sandbox = &self.sandbox;
        let place = Arc::clone(&sandbox.queries).try_acquire_owned().ok().zip(sandbox.shared.socket());
        let Some(place) = place else {
            sandbox.shared.counters.over_limit.add(1);
            return;
        };
        let (sandbox, query) = (Arc::clone(sandbox), query.to_vec());
        self.tasks.spawn(async move {
            let _place = place;
            dns::forward(sandbox, flow, query).await;
        });
    }

    fn take_datagram(&mut self, flow: Flow, content: &[u8], packet: &[u8]) {
        let sandbox = &self.sandbox;
        if !self.flows.knows(flow) {
            match sandbox.check(IpAddr::V4(*flow.outside.ip())) {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => {
                    sandbox.refused(flow.outside, refusal);
                    if let Some(message) = packet::unreachable(flow, packet) {
                        sandbox.tun.write(&message);
                    }
                    return;
                }
                Err(_) => return, // lost; it cannot be decided now
            }
        }
        if !self.flows.send(sandbox, &mut self.tasks, flow, content) {
            sandbox.shared.counters.over_limit.add(1);
        }
    }
}

/// A connection's place among its sandbox's.
struct Place {
    sandbox: Arc<Sandbox>,
    flow: Flow,
    _socket: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sandbox.connections.lock().remove(&self.flow);
    }
}

impl Sandbox {
    pub(crate) fn queries() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(SANDBOX_QUERIES_MAX))
    }
}

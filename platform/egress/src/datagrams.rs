//! UDP flows of a sandbox: one socket of the host's for each pair of ends, until it has been quiet for a while.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::limits::{FLOW_IDLE_MAX, FLOW_QUEUE_MAX, SANDBOX_FLOWS_MAX};
use crate::packet::{self, Flow};
use crate::sandbox::Sandbox;

/// The flows of one sandbox.
#[derive(Default)]
pub(crate) struct Flows(HashMap<Flow, Entry>);

struct Entry {
    /// Datagrams to be sent. The flow ends with it.
    queue: mpsc::Sender<Vec<u8>>,
    used: Instant,
}

impl Flows {
    /// Whether the flow exists, so that nothing need be asked again.
    pub(crate) fn knows(&self, flow: Flow) -> bool {
        self.0.get(&flow).is_some_and(|entry| !entry.queue.is_closed())
    }

    /// Sends a datagram on its flow, which is made if it does not exist. `false` when no socket can be had.
    pub(crate) fn send(&mut self, sandbox: &Arc<Sandbox>, tasks: &mut JoinSet<()>, flow: Flow, content: &[u8]) -> bool {
        if !self.knows(flow) {
            self.make_room();
            let Some(socket) = sandbox.shared.socket() else { return false };
            let (queue, queued) = mpsc::channel(FLOW_QUEUE_MAX);
            self.0.insert(flow, Entry { queue, used: Instant::now() });
            let sandbox = Arc::clone(sandbox);
            tasks.spawn(async move {
                let _socket = socket;
                sandbox.shared.counters.flows_opened.add(1);
                carry(&sandbox, flow, queued).await;
            });
        }
        if let Some(entry) = self.0.get_mut(&flow) {
            entry.used = Instant::now();
            let _ = entry.queue.try_send(content.to_vec()); // a full queue loses datagrams, as networks do
        }
        true
    }

    fn make_room(&mut self) {
        if self.0.len() >= SANDBOX_FLOWS_MAX {
            self.0.retain(|_, entry| !entry.queue.is_closed());
        }
        if self.0.len() >= SANDBOX_FLOWS_MAX {
            let quietest = self.0.iter().min_by_key(|(_, entry)| entry.used).map(|(flow, _)| *flow);
            quietest.and_then(|flow| self.0.remove(&flow));
        }
    }
}

async fn carry(sandbox: &Sandbox, flow: Flow, mut queued: mpsc::Receiver<Vec<u8>>) {
    let counters = &sandbox.shared.counters;
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else { return };
    if socket.connect(SocketAddr::V4(flow.outside)).await.is_err() {
        return;
    }
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        tokio::select! {
            content = queued.recv() => {
                let Some(content) = content else { return };
                if socket.send(&content).await.is_ok() {
                    counters.sent_bytes.add(content.len());
                }
            }
            // An error is an earlier datagram's that nobody took; the next may fare better.
            received = socket.recv(&mut buffer) => if let Ok(length) = received {
                counters.received_bytes.add(length);
                if let Some(packet) = packet::datagram(flow, &buffer[..length]) {
                    sandbox.tun.write(&packet);
                }
            },
            () = sleep(FLOW_IDLE_MAX) => return,
        }
    }
}

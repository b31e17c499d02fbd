//! DNS queries of a sandbox, forwarded one by one to the host's name servers.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::limits::ANSWER_WITHIN;
use crate::packet::{self, Flow};
use crate::sandbox::Sandbox;

/// Where name servers listen.
pub(crate) const DNS_PORT: u16 = 53;
/// A message begins with twelve bytes, of which two tell which answer belongs to which query.
const HEADER_BYTES: usize = 12;
const ID_BYTES: usize = 2;

/// Asks one name server after the other, and gives the sandbox the first answer. A query that nobody answers is lost, and
/// asked again by its sender.
pub(crate) async fn forward(sandbox: Arc<Sandbox>, flow: Flow, query: Vec<u8>) {
    let counters = &sandbox.shared.counters;
    let mut answer = vec![0; usize::from(u16::MAX)];
    for resolver in sandbox.shared.resolvers.list() {
        if let Ok(Some(length)) = timeout(ANSWER_WITHIN, ask(resolver, &query, &mut answer)).await {
            counters.queries_answered.add(1);
            if let Some(packet) = packet::datagram(flow, &answer[..length]) {
                sandbox.tun.write(&packet);
            }
            return;
        }
    }
    counters.queries_failed.add(1);
}

/// From a port of its own, so that nobody else can answer in the name server's place.
async fn ask(resolver: SocketAddr, query: &[u8], answer: &mut [u8]) -> Option<usize> {
    let id = query.get(..HEADER_BYTES)?.get(..ID_BYTES)?;
    let any: SocketAddr = if resolver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(resolver).await.ok()?;
    socket.send(query).await.ok()?;
    loop {
        let length = socket.recv(answer).await.ok()?;
        if answer[..length].get(..ID_BYTES) == Some(id) {
            return Some(length);
        }
    }
}

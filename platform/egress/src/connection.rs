//! A connection that a sandbox asks for: may it, is there room, does the other side accept; and then the [`Relay`].

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::limits::CONNECT_WITHIN;
use crate::packet::{self, Flow};
use crate::policy::Refusal;
use crate::relay::Relay;
use crate::sandbox::Sandbox;

/// Why there is no connection.
#[derive(Debug)]
enum NoConnection {
    Refused(Refusal),
    Failed(io::Error),
}

/// Makes the connection that `request` asks for and carries it to its end. Without one, the sandbox gets a reset.
pub(crate) async fn carry(sandbox: Arc<Sandbox>, flow: Flow, sequence: i32, request: Vec<u8>) {
    let counters = &sandbox.shared.counters;
    match open(&sandbox, flow).await {
        Ok(host) => {
            counters.connections_opened.add(1);
            let _now = counters.connections.hold();
            let handle = sandbox.stack.lock().open(flow, &request);
            Relay::new(Arc::clone(&sandbox.stack), handle, host, Arc::clone(counters)).run().await;
        }
        Err(no_connection) => {
            match no_connection {
                NoConnection::Refused(refusal) => sandbox.refused(flow.outside, refusal),
                NoConnection::Failed(error) => {
                    counters.connections_failed.add(1);
                    tracing::debug!(sandbox = %sandbox.name, destination = %flow.outside, %error, "a connection out of a sandbox was not made");
                }
            }
            sandbox.tun.write(&packet::reset(flow, sequence));
        }
    }
}

async fn open(sandbox: &Sandbox, flow: Flow) -> Result<TcpStream, NoConnection> {
    let destination = match sandbox.name_servers(flow.outside) {
        // Long answers come over TCP.
        Some(resolvers) => *resolvers.first().ok_or(NoConnection::Refused(Refusal::OwnNetwork))?,
        None => {
            sandbox
                .check(IpAddr::V4(*flow.outside.ip()))
                .map_err(NoConnection::Failed)?
                .map_err(NoConnection::Refused)?;
            SocketAddr::V4(flow.outside)
        }
    };
    let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(destination));
    let host =
        connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(NoConnection::Failed)?;
    let _ = host.set_nodelay(true); // the sandbox's own setting has had its say
    Ok(host)
}

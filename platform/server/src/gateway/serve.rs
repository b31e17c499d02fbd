//! Connections: accepted, bounded, served, and drained at the end.

use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use raas_core::limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Gateway;

/// How long a client may take to send a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(15);

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 20_000;

/// Serves `gateway` until `stop`, then lets the requests in progress end. The caller bounds how long that may take.
pub async fn serve(listener: TcpListener, gateway: Gateway, stop: CancellationToken) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Counts from the connection's first moment: one that sends nothing does not keep its place.
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(limits::HEADER_BLOCK_MAX_BYTES)
        .keep_alive(true)
        .pipeline_flush(true);
    let graceful = GracefulShutdown::new();
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepting = async {
            let place = std::sync::Arc::clone(&places).acquire_owned().await.map_err(std::io::Error::other)?;
            listener.accept().await.map(|(stream, _)| (stream, place))
        };
        let accepted = tokio::select! {
            accepted = accepting => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: serving goes on with the connections there are.
                tracing::warn!(error = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Answers are small and whole: waiting to fill a packet only adds latency.
        let _ = stream.set_nodelay(true);
        let connection = builder.serve_connection(TokioIo::new(stream), gateway.clone());
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // A client that breaks off is no concern of anybody's.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

//! HTTP by hand, for what a well-behaved client does not do: leaving early, sending nonsense.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Client;

/// Sends `text` as it is and returns the open connection.
pub fn send(client: &Client, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(client.address()).expect("the platform takes connections");
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// An invocation as it goes over the wire.
pub fn invocation(client: &Client, function: &str, event: &str) -> String {
    format!(
        "POST /v1/functions/{function}/invocations HTTP/1.1\r\nhost: raas\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{event}",
        client.key,
        event.len()
    )
}

/// Sends an invocation and closes the connection when `until` has returned.
pub fn send_and_leave(client: &Client, function: &str, event: &str, until: impl FnOnce()) {
    let stream = send(client, &invocation(client, function, event));
    until();
    stream.shutdown(std::net::Shutdown::Both).unwrap();
}

/// The answer to the request that was sent on this connection.
pub fn last_answer(mut stream: TcpStream) -> String {
    // Asks for the connection to be closed after it, so that the end is the end.
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: raas\r\nconnection: close\r\n\r\n").unwrap();
    closed_by_peer(stream)
}

/// All that comes until the platform closes the connection.
pub fn closed_by_peer(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all); // a reset is an end, too
    String::from_utf8_lossy(&all).into_owned()
}

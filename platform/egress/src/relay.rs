//! One TCP connection's data, both ways, between the sandbox's stack and a socket of the host's.
//!
//! Bytes go from one kernel buffer to the other side's ring buffer in one copy. Nothing is taken from one side that the other
//! has no room for, so a slow side slows the other down and what is held is the two buffers. A side's end becomes the other's
//! end, and its failure the other's reset.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use parking_lot::Mutex;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, State};
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::limits::CONNECTION_IDLE_MAX;
use crate::metrics::Counters;
use crate::stack::Stack;

/// Copies in each direction before other tasks get a turn.
const ROUNDS: usize = 16;

/// A connection that both sides have accepted. Dropping it closes both ends.
pub(crate) struct Relay {
    stack: Arc<Mutex<Stack>>,
    handle: SocketHandle,
    host: TcpStream,
    counters: Arc<Counters>,
    /// The sandbox's end has reached the host's side.
    sent_end: bool,
    /// The other way round.
    received_end: bool,
    moved: Instant,
}

/// What became of an attempt to copy.
enum Copied {
    Bytes(usize),
    /// The side that is read has ended.
    End,
    /// One of the two is not ready; the task is woken when it may be.
    Nothing,
}

impl Relay {
    pub(crate) fn new(
        stack: Arc<Mutex<Stack>>,
        handle: SocketHandle,
        host: TcpStream,
        counters: Arc<Counters>,
    ) -> Self {
        Self { stack, handle, host, counters, sent_end: false, received_end: false, moved: Instant::now() }
    }

    /// Copies until both sides have ended, one has failed, or nothing has moved for too long.
    pub(crate) async fn run(mut self) {
        let mut idle = Box::pin(sleep(CONNECTION_IDLE_MAX));
        let outcome = poll_fn(|cx| self.poll(cx, idle.as_mut())).await;
        if outcome.is_err() {
            // The other side must not take what it has got for all there was.
            let _ = self.host.set_zero_linger();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, mut idle: Pin<&mut Sleep>) -> Poll<io::Result<()>> {
        {
            // Before anything is looked at, so that no change is missed.
            let mut stack = self.stack.lock();
            let socket = stack.socket(self.handle);
            socket.register_recv_waker(cx.waker());
            socket.register_send_waker(cx.waker());
        }
        for _ in 0..ROUNDS {
            let moved = self.send(cx)? | self.receive(cx)?;
            if self.is_over()? {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                ready!(idle.as_mut().poll(cx));
                let quiet = self.moved.elapsed();
                if quiet >= CONNECTION_IDLE_MAX {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                idle.as_mut().reset(tokio::time::Instant::now() + (CONNECTION_IDLE_MAX - quiet));
                continue; // so that the timer is asked again
            }
            self.moved = Instant::now();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// From the sandbox to the host's socket.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.sent_end {
            return Ok(false);
        }
        match self.copy_out(cx)? {
            Copied::Nothing => Ok(false),
            Copied::Bytes(n) => {
                self.counters.sent_bytes.add(n);
                Ok(true)
            }
            Copied::End => {
                self.sent_end = true;
                match Pin::new(&mut self.host).poll_shutdown(cx) {
                    Poll::Ready(result) => result.map(|()| true),
                    Poll::Pending => Ok(true), // a socket's never is
                }
            }
        }
    }

    fn copy_out(&mut self, cx: &mut Context<'_>) -> io::Result<Copied> {
        let Poll::Ready(writable) = self.host.poll_write_ready(cx) else { return Ok(Copied::Nothing) };
        writable?;
        let mut stack = self.stack.lock();
        let socket = stack.socket(self.handle);
        if !socket.can_recv() {
            return Ok(if has_ended(socket) { Copied::End } else { Copied::Nothing });
        }
        let host = &self.host;
        let written = socket.recv(|bytes| match host.try_write(bytes) {
            Ok(n) => (n, Ok(n)),
            Err(error) => (0, Err(error)),
        });
        match written.map_err(io::Error::other)? {
            Ok(n) => {
                stack.flush(); // the window has grown
                Ok(Copied::Bytes(n))
            }
            Err(error) => {
                drop(stack);
                self.not_ready(cx, error)
            }
        }
    }

    /// From the host's socket to the sandbox.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.received_end {
            return Ok(false);
        }
        match self.copy_in(cx)? {
            Copied::Nothing => Ok(false),
            Copied::Bytes(n) => {
                self.counters.received_bytes.add(n);
                Ok(true)
            }
            Copied::End => {
                self.received_end = true;
                let mut stack = self.stack.lock();
                stack.socket(self.handle).close();
                stack.flush();
                Ok(true)
            }
        }
    }

    fn copy_in(&mut self, cx: &mut Context<'_>) -> io::Result<Copied> {
        let Poll::Ready(readable) = self.host.poll_read_ready(cx) else { return Ok(Copied::Nothing) };
        readable?;
        let mut stack = self.stack.lock();
        let socket = stack.socket(self.handle);
        if !socket.can_send() {
            return Ok(Copied::Nothing);
        }
        let host = &self.host;
        let read = socket.send(|space| match host.try_read(space) {
            Ok(n) => (n, Ok(n)),
            Err(error) => (0, Err(error)),
        });
        match read.map_err(io::Error::other)? {
            Ok(0) => Ok(Copied::End),
            Ok(n) => {
                stack.flush();
                Ok(Copied::Bytes(n))
            }
            Err(error) => {
                drop(stack);
                self.not_ready(cx, error)
            }
        }
    }

    /// A socket that was said to be ready and was not: its readiness is cleared now, and another look will wait for it.
    fn not_ready(&self, cx: &Context<'_>, error: io::Error) -> io::Result<Copied> {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(error);
        }
        cx.waker().wake_by_ref();
        Ok(Copied::Nothing)
    }

    /// Whether both sides have ended.
    ///
    /// # Errors
    /// The sandbox's side was reset.
    fn is_over(&self) -> io::Result<bool> {
        let mut stack = self.stack.lock();
        let socket = stack.socket(self.handle);
        match socket.state() {
            // Both have ended, and what is left is the stack's own waiting and what the host's side has not taken yet.
            State::TimeWait => Ok(self.sent_end),
            State::Closed if self.sent_end && self.received_end => Ok(true),
            State::Closed if !self.sent_end && (socket.can_recv() || has_ended(socket)) => Ok(false),
            // A request that was taken back leads to the state of before it.
            State::Closed | State::Listen => Err(io::ErrorKind::ConnectionReset.into()),
            _ => Ok(false),
        }
    }
}

/// Whether everything up to the sandbox's end has been read.
fn has_ended(socket: &mut Socket<'_>) -> bool {
    matches!(socket.recv(|_| (0, ())), Err(RecvError::Finished))
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stack.lock().close(self.handle);
    }
}

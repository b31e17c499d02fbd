//! One connection to one runtime: requests out, replies matched by request id, logs to a sink.
//!
//! A caller writes its frame straight to the socket when it can, so a warm call costs no hand-over to a writer task; what the
//! socket does not take at once is left to the driver task, which also reads. Dropping a [`Call`] forgets the request: its late
//! reply is ignored. The connection ends once, with one [`ConnectionEnd`], and everything in flight learns of it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot, watch};

use crate::call::{Answer, CALL_BYTES_MAX, CALLS_IN_FLIGHT_MAX, CallSink, HelperInit, Parent, ParentCall, RuntimeCall};
use crate::frame::{Frame, FrameError, Kind, encode};
use crate::reads::{CheckInit, Reads};

/// How much the driver reads at once, in bytes.
const READ_CHUNK_BYTES: usize = 16 * 1024;

/// How much room the driver reads into at least, in bytes.
const READ_LEAST_BYTES: usize = 4 * 1024;

/// The longest text kept of each field of an error that code reports, in bytes.
const ERROR_FIELD_MAX_BYTES: usize = 64 * 1024;

/// The longest log line, in bytes; what is beyond is cut.
/// Answers that a runtime may leave unread before nothing more is read from it.
const UNREAD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Methods that a class may tell of.
const METHODS_MAX: usize = 10_000;
const LOG_TEXT_MAX_BYTES: usize = 64 * 1024;

/// What a runtime is told once, before its first request.
#[derive(Debug, Clone, Serialize)]
pub struct InitRequest {
    /// `module.function` or `module.export`.
    pub handler: String,
    /// Where the code is inside the sandbox.
    pub code_dir: String,
    /// The function's name.
    pub function_name: String,
    /// The version's number.
    pub function_version: u32,
    /// The memory limit, MiB.
    pub memory_mb: u32,
    /// The time limit of one request, seconds.
    pub timeout_s: u32,
    /// How many requests the runtime may be given at once.
    pub concurrency: u32,
    /// The function's environment.
    pub env: std::collections::BTreeMap<String, String>,
    /// The names by which the code may call helpers.
    pub helpers: Vec<String>,
    /// What makes the code a helper, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper: Option<HelperInit>,
    /// How the sandbox differs from others, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<CheckInit>,
}

/// What a runtime says when its code is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Loaded {
    /// The methods of a helper's class.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The names of its methods' parameters in their order, where the language has them.
    #[serde(default)]
    pub parameters: std::collections::BTreeMap<String, Vec<String>>,
    /// The hooks it has.
    #[serde(default)]
    pub hooks: Vec<String>,
}

/// One request to the code.
#[derive(Debug, Clone, Copy)]
pub struct Invoke<'a> {
    /// The invocation's id, raw.
    pub invocation_id: &'a [u8; 16],
    /// When the answer is no longer wanted, milliseconds since the Unix epoch.
    pub deadline_unix_ms: u64,
    /// W3C `traceparent`, then optionally a newline and `tracestate`; at most 65,535 bytes.
    pub trace_context: &'a str,
    /// The event, JSON text.
    pub event: &'a [u8],
    /// How many calls of helpers it is inside of.
    pub depth: u8,
}

/// An error that the user's code raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionError {
    /// The exception's class.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its message.
    #[serde(default)]
    pub message: String,
    /// The function's own stack, as text.
    #[serde(default)]
    pub stack: String,
    /// `unknown-method` or `wrong-arguments`, where a helper says that its caller is at fault.
    #[serde(default, skip_serializing)]
    pub code: Option<String>,
}

impl FunctionError {
    /// The error, and whether the runtime ends because of it.
    fn parse(payload: &[u8]) -> Result<(Self, bool), ConnectionEnd> {
        #[derive(Deserialize)]
        struct Payload {
            #[serde(flatten)]
            error: FunctionError,
            #[serde(default)]
            ends: bool,
        }
        let Payload { mut error, ends } = serde_json::from_slice(payload)
            .map_err(|_| ConnectionEnd::Broken("an error frame that is not the contract's JSON".into()))?;
        for field in [&mut error.kind, &mut error.message, &mut error.stack] {
            field.truncate(field.floor_char_boundary(ERROR_FIELD_MAX_BYTES));
        }
        Ok((error, ends))
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionEnd {
    /// The runtime closed the socket: its process is gone.
    #[error("the runtime closed its connection")]
    Closed,
    /// The runtime sent something that the contract does not allow.
    #[error("the runtime broke the contract: {0}")]
    Broken(String),
    /// The platform closed it.
    #[error("the platform closed the connection")]
    Dropped,
}

/// Why a request got no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// The code raised an error; the runtime goes on.
    #[error("the code raised {}: {}", .0.kind, .0.message)]
    Function(FunctionError),
    /// The connection ended first. `sent` tells whether the code may have begun the work.
    #[error("{end}")]
    Ended {
        /// Why.
        end: ConnectionEnd,
        /// Whether the request had left the platform.
        sent: bool,
    },
    /// The request does not fit a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Which stream a log line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where log lines go. Called from the driver task: must not block.
pub trait LogSink: Send + Sync + 'static {
    /// One line; `invocation` is absent for what was written outside any request.
    fn line(&self, invocation: Option<[u8; 16]>, stream: LogStream, text: &str);
}

type Reply = Result<Bytes, ContractError>;

struct Pending {
    invocation_id: [u8; 16],
    deadline_unix_ms: u64,
    depth: u8,
    trace_context: Box<str>,
    chunks: BytesMut,
    reply: oneshot::Sender<Reply>,
}

#[derive(Default)]
struct State {
    next_request_id: u64,
    pending: HashMap<u64, Pending>,
    end: Option<ConnectionEnd>,
    /// The runtime has said that it is about to end: it is given nothing more.
    ending: bool,
    /// Kept apart from the stage, which the connection's end overwrites before anybody may have looked.
    init_failure: Option<FunctionError>,
    last_invocation: Option<[u8; 16]>,
    /// What the last call that told of it read of its event.
    reads: Option<([u8; 16], Reads)>,
    /// CALLs of the runtime that have had no ANSWER, and what they hold.
    calls: usize,
    call_bytes: usize,
}

/// Where the runtime's start-up has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Starting,
    Booted,
    Ready,
    InitFailed(FunctionError),
    Ended(ConnectionEnd),
}

/// What is to be sent. Apart from the state, so that who receives never waits for who sends.
#[derive(Default)]
struct Outbox {
    queued: BytesMut,
    /// Somebody writes, without the lock, and will write what is queued meanwhile too.
    writing: bool,
}

impl Outbox {
    /// Whether something waits for the socket to take more.
    fn is_blocked(&self) -> bool {
        !self.writing && !self.queued.is_empty()
    }
}

struct Shared {
    stream: OwnedWriteHalf,
    state: Mutex<State>,
    outbox: Mutex<Outbox>,
    /// Wakes the driver when the outbox has something that the socket did not take, or when the connection is dropped.
    wake: Notify,
    stage: watch::Sender<Stage>,
    logs: Arc<dyn LogSink>,
    /// Who answers the runtime's own calls, once its code belongs to somebody.
    calls: OnceLock<Arc<dyn CallSink>>,
    loaded: OnceLock<Arc<Loaded>>,
}

/// A look at a connection that does not keep it open.
pub struct WeakConnection(Weak<Shared>);

impl WeakConnection {
    /// See [`Connection::current_invocation`]; `None` also once the connection is gone.
    pub fn current_invocation(&self) -> Option<[u8; 16]> {
        self.0.upgrade()?.current_invocation()
    }
}

/// A cheap handle to one runtime's connection. The connection closes when the last handle is dropped.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    _last: Arc<CloseOnDrop>,
}

struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.end(ConnectionEnd::Dropped);
        self.0.wake.notify_one();
    }
}

impl Connection {
    /// Takes over a connected stream and starts its driver task.
    pub fn start(stream: UnixStream, logs: Arc<dyn LogSink>) -> Self {
        let (reader, writer) = stream.into_split();
        let shared = Arc::new(Shared {
            stream: writer,
            state: Mutex::new(State { next_request_id: 1, ..State::default() }),
            outbox: Mutex::default(),
            wake: Notify::new(),
            stage: watch::Sender::new(Stage::Starting),
            logs,
            calls: OnceLock::new(),
            loaded: OnceLock::new(),
        });
        tokio::spawn(drive(Arc::clone(&shared), reader));
        Self { _last: Arc::new(CloseOnDrop(Arc::clone(&shared))), shared }
    }

    /// Waits until the interpreter is up.
    ///
    /// # Errors
    /// [`ContractError::Ended`] when the runtime goes first. Cancel-safe; the caller sets the deadline.
    pub async fn booted(&self) -> Result<(), ContractError> {
        self.reach(|stage| matches!(stage, Stage::Booted | Stage::Ready)).await
    }

    /// Has `sink` answer what the code asks of the platform. Once, before [`Connection::init`].
    pub fn serve_calls(&self, sink: Arc<dyn CallSink>) {
        let _ = self.shared.calls.set(sink);
    }

    /// What the runtime said of the loaded code; nothing before it is.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.shared.loaded.get().cloned().unwrap_or_default()
    }

    /// Has the runtime load the user's code, and waits until its handler can be called.
    ///
    /// # Errors
    /// [`ContractError::Function`] when the code does not load, [`ContractError::Ended`] when the runtime goes first.
    pub async fn init(&self, request: &InitRequest) -> Result<(), ContractError> {
        let payload = serde_json::to_vec(request)
            .map_err(|error| ContractError::Ended { end: ConnectionEnd::Broken(error.to_string()), sent: false })?;
        self.shared.send(Kind::Init, 0, &[&payload])?;
        self.reach(|stage| matches!(stage, Stage::Ready)).await
    }

    async fn reach(&self, reached: impl Fn(&Stage) -> bool) -> Result<(), ContractError> {
        let mut stage = self.shared.stage.subscribe();
        let end = stage
            .wait_for(|stage| reached(stage) || matches!(stage, Stage::InitFailed(_) | Stage::Ended(_)))
            .await
            .map_or(Stage::Ended(ConnectionEnd::Dropped), |stage| stage.clone());
        match end {
            Stage::InitFailed(error) => Err(ContractError::Function(error)),
            Stage::Ended(end) => match self.shared.state.lock().init_failure.clone() {
                Some(error) => Err(ContractError::Function(error)),
                None => Err(ContractError::Ended { end, sent: true }),
            },
            Stage::Starting | Stage::Booted | Stage::Ready => Ok(()),
        }
    }

    /// Sends one request. The returned future resolves with the result's JSON text.
    ///
    /// # Errors
    /// At once when the connection has ended or the event does not fit a frame; nothing was sent then.
    pub fn invoke(&self, invoke: Invoke<'_>) -> Result<Call, ContractError> {
        let trace_context = invoke.trace_context.as_bytes();
        let trace_length = u16::try_from(trace_context.len()).unwrap_or(0);
        let trace_context = &trace_context[..usize::from(trace_length)];
        let (reply, receiver) = oneshot::channel();
        let request_id;
        {
            let mut state = self.shared.state.lock();
            if let Some(end) = &state.end {
                return Err(ContractError::Ended { end: end.clone(), sent: false });
            }
            if state.ending {
                return Err(ContractError::Ended { end: ConnectionEnd::Closed, sent: false });
            }
            request_id = state.next_request_id;
            state.next_request_id += 1;
            state.last_invocation = Some(*invoke.invocation_id);
            let pending = Pending {
                invocation_id: *invoke.invocation_id,
                deadline_unix_ms: invoke.deadline_unix_ms,
                depth: invoke.depth,
                trace_context: invoke.trace_context.into(),
                chunks: BytesMut::new(),
                reply,
            };
            state.pending.insert(request_id, pending);
        }
        let written = self.shared.write(
            Kind::Invoke,
            request_id,
            &[
                invoke.invocation_id,
                &invoke.deadline_unix_ms.to_le_bytes(),
                &trace_length.to_le_bytes(),
                trace_context,
                invoke.event,
            ],
        );
        if let Err(error) = written {
            self.shared.state.lock().pending.remove(&request_id);
            return Err(error.into());
        }
        Ok(Call { shared: Arc::clone(&self.shared), request_id, receiver, answered: false })
    }

    /// The invocation that a line written past the contract belongs to: the one in flight, or the last one where none is;
    /// `None` where several are, since nobody can tell.
    pub fn current_invocation(&self) -> Option<[u8; 16]> {
        self.shared.current_invocation()
    }

    /// What an invocation read of its event, where the runtime tells and no other has told since.
    pub fn take_reads(&self, invocation: &[u8; 16]) -> Option<Reads> {
        self.shared.state.lock().reads.take_if(|(told, _)| told == invocation).map(|(_, reads)| reads)
    }

    /// A look at this connection that does not keep it open.
    pub fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.shared))
    }

    /// Asks the runtime to finish what it has and exit. Does not wait.
    pub fn stop(&self) {
        // A connection that has ended needs no stopping.
        let _ = self.shared.send(Kind::Stop, 0, &[]);
    }

    /// Waits until the connection has ended, and says why.
    pub async fn ended(&self) -> ConnectionEnd {
        let mut stage = self.shared.stage.subscribe();
        let end = stage.wait_for(|stage| matches!(stage, Stage::Ended(_))).await;
        match end.as_deref() {
            Ok(Stage::Ended(end)) => end.clone(),
            _ => ConnectionEnd::Dropped,
        }
    }
}

/// A request in flight: resolves with its result. Dropping it sends CANCEL and ignores what still comes.
pub struct Call {
    shared: Arc<Shared>,
    request_id: u64,
    receiver: oneshot::Receiver<Reply>,
    answered: bool,
}

impl Future for Call {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        let reply = std::task::ready!(Pin::new(&mut self.receiver).poll(context));
        self.answered = true;
        Poll::Ready(reply.unwrap_or_else(|_| Err(self.shared.ended_error())))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let was_pending = self.shared.state.lock().pending.remove(&self.request_id).is_some();
        if was_pending {
            let _ = self.shared.send(Kind::Cancel, self.request_id, &[]);
        }
    }
}

impl Shared {
    fn current_invocation(&self) -> Option<[u8; 16]> {
        let state = self.state.lock();
        match state.pending.len() {
            0 => state.last_invocation,
            1 => state.pending.values().next().map(|request| request.invocation_id),
            _ => None,
        }
    }

    fn ended_error(&self) -> ContractError {
        let end = self.state.lock().end.clone().unwrap_or(ConnectionEnd::Dropped);
        ContractError::Ended { end, sent: true }
    }

    fn send(&self, kind: Kind, request_id: u64, parts: &[&[u8]]) -> Result<(), ContractError> {
        if let Some(end) = &self.state.lock().end {
            return Err(ContractError::Ended { end: end.clone(), sent: false });
        }
        Ok(self.write(kind, request_id, parts)?)
    }

    /// Queues a frame and writes what the socket takes now; the driver writes the rest.
    fn write(&self, kind: Kind, request_id: u64, parts: &[&[u8]]) -> Result<(), FrameError> {
        let mut outbox = self.outbox.lock();
        let blocked = outbox.is_blocked();
        encode(&mut outbox.queued, kind, request_id, parts)?;
        if !blocked {
            self.flush(outbox);
        }
        Ok(())
    }

    /// Writes what is queued until there is nothing left or the socket would block; the driver is told then. What a broken
    /// socket does not take is dropped: the reading side finds out, and requests have their timeouts.
    fn flush<'a>(&'a self, mut outbox: MutexGuard<'a, Outbox>) {
        while !outbox.writing && !outbox.queued.is_empty() {
            let mut bytes = std::mem::take(&mut outbox.queued);
            outbox.writing = true;
            drop(outbox);
            while !bytes.is_empty() {
                match self.stream.try_write(&bytes) {
                    Ok(written) => bytes.advance(written),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(_) => bytes.clear(),
                }
            }
            outbox = self.outbox.lock();
            outbox.writing = false;
            if !bytes.is_empty() {
                bytes.extend_from_slice(&outbox.queued);
                outbox.queued = bytes;
                drop(outbox);
                self.wake.notify_one();
                return;
            }
            // A buffer that once held a 6 MiB event is not kept for ever.
            if outbox.queued.is_empty() && bytes.capacity() <= 4 * READ_CHUNK_BYTES {
                outbox.queued = bytes;
            }
        }
    }

    fn end(&self, end: ConnectionEnd) {
        let pending = {
            let mut state = self.state.lock();
            if state.end.is_some() {
                return;
            }
            state.end = Some(end.clone());
            std::mem::take(&mut state.pending)
        };
        self.outbox.lock().queued = BytesMut::new();
        for request in pending.into_values() {
            let _ = request.reply.send(Err(ContractError::Ended { end: end.clone(), sent: true }));
        }
        self.stage.send_replace(Stage::Ended(end));
    }

    fn receive(self: &Arc<Self>, frame: Frame) -> Result<(), ConnectionEnd> {
        match frame.kind {
            Kind::Booted => self.advance(Stage::Booted, |stage| *stage == Stage::Starting),
            Kind::Ready => {
                let loaded: Loaded = serde_json::from_slice(&frame.payload)
                    .map_err(|_| ConnectionEnd::Broken("a ready frame that is not the contract's JSON".into()))?;
                if loaded.methods.len() > METHODS_MAX || loaded.hooks.len() > METHODS_MAX {
                    return Err(ConnectionEnd::Broken(format!("a class of more than {METHODS_MAX} methods")));
                }
                let _ = self.loaded.set(Arc::new(loaded));
                self.advance(Stage::Ready, |stage| *stage == Stage::Booted)
            }
            Kind::InitFailed => {
                let (error, _) = FunctionError::parse(&frame.payload)?;
                self.state.lock().init_failure = Some(error.clone());
                self.advance(Stage::InitFailed(error), |stage| *stage == Stage::Booted)
            }
            Kind::Result => {
                if let Some(request) = self.state.lock().pending.remove(&frame.request_id) {
                    let mut body = request.chunks;
                    let body = if body.is_empty() {
                        frame.payload
                    } else {
                        body.extend_from_slice(&frame.payload);
                        body.freeze()
                    };
                    let _ = request.reply.send(Ok(body));
                }
                Ok(())
            }
            Kind::Error => {
                let (error, ends) = FunctionError::parse(&frame.payload)?;
                let mut state = self.state.lock();
                // Before the answer, which frees the place for the next request.
                state.ending |= ends;
                if let Some(request) = state.pending.remove(&frame.request_id) {
                    let _ = request.reply.send(Err(ContractError::Function(error)));
                }
                Ok(())
            }
            Kind::Chunk => {
                let mut state = self.state.lock();
                if let Some(request) = state.pending.get_mut(&frame.request_id) {
                    if request.chunks.len() + frame.payload.len() > crate::FRAME_PAYLOAD_MAX {
                        return Err(ConnectionEnd::Broken("a streamed result over the limit".into()));
                    }
                    request.chunks.extend_from_slice(&frame.payload);
                }
                Ok(())
            }
            Kind::Reads => {
                let reads = Reads::parse(&frame.payload);
                let mut state = self.state.lock();
                // Of a request that nobody waits for any more it is of no use.
                if let Some(invocation) = state.pending.get(&frame.request_id).map(|pending| pending.invocation_id) {
                    state.reads = Some((invocation, reads));
                }
                Ok(())
            }
            Kind::Log => self.receive_log(&frame),
            Kind::Pong => Ok(()),
            Kind::Call => self.receive_call(frame),
            Kind::Init | Kind::Invoke | Kind::Cancel | Kind::Stop | Kind::Ping | Kind::Answer => {
                Err(ConnectionEnd::Broken(format!("a {:?} frame from the runtime", frame.kind)))
            }
        }
    }

    fn receive_call(self: &Arc<Self>, frame: Frame) -> Result<(), ConnectionEnd> {
        let Some(sink) = self.calls.get() else {
            return Err(ConnectionEnd::Broken("a call before there is anybody to answer it".into()));
        };
        let bytes = frame.payload.len();
        let (parent_request, mut call) = RuntimeCall::parse(frame.payload)?;
        {
            let mut state = self.state.lock();
            if state.calls >= CALLS_IN_FLIGHT_MAX {
                return Err(ConnectionEnd::Broken(format!("more than {CALLS_IN_FLIGHT_MAX} calls at once")));
            }
            state.calls += 1;
            state.call_bytes += bytes;
            call.parent = match (parent_request, state.pending.get(&parent_request)) {
                (0, _) => Parent::None,
                (_, None) => Parent::Over,
                (_, Some(pending)) => Parent::Running(ParentCall {
                    invocation_id: pending.invocation_id,
                    deadline_unix_ms: pending.deadline_unix_ms,
                    depth: pending.depth,
                    trace_context: pending.trace_context.clone(),
                }),
            };
        }
        let shared = Arc::downgrade(self);
        sink.call(call, PendingAnswer { shared, call_id: frame.request_id, bytes, answered: false });
        Ok(())
    }

    fn answer(&self, call_id: u64, bytes: usize, answer: &Answer) {
        {
            let mut state = self.state.lock();
            state.calls -= 1;
            let was_deaf = state.call_bytes > CALL_BYTES_MAX;
            state.call_bytes -= bytes;
            if was_deaf {
                self.wake.notify_one();
            }
        }
        let (status, body): (u8, &[u8]) = match answer {
            Ok(body) => (0, body),
            Err(refusal) => (1, refusal),
        };
        // Neither can fail for a reason the runtime does not learn of otherwise: results have their own, lower limit.
        let _ = self.send(Kind::Answer, call_id, &[&[status], body]);
    }

    fn receive_log(&self, frame: &Frame) -> Result<(), ConnectionEnd> {
        let Some((&stream, text)) = frame.payload.split_first() else {
            return Err(ConnectionEnd::Broken("an empty log frame".into()));
        };
        let stream = match stream {
            1 => LogStream::Stdout,
            2 => LogStream::Stderr,
            _ => return Err(ConnectionEnd::Broken("a log frame for an unknown stream".into())),
        };
        let invocation = self.state.lock().pending.get(&frame.request_id).map(|request| request.invocation_id);
        // The runtimes cut lines themselves; code that writes frames of its own is held to the same.
        let text = &text[..text.len().min(LOG_TEXT_MAX_BYTES)];
        self.logs.line(invocation, stream, &String::from_utf8_lossy(text));
        Ok(())
    }

    fn advance(&self, to: Stage, from: impl Fn(&Stage) -> bool) -> Result<(), ConnectionEnd> {
        let advanced = self.stage.send_if_modified(|stage| {
            let allowed = from(stage);
            if allowed {
                *stage = to.clone();
            }
            allowed
        });
        if advanced { Ok(()) } else { Err(ConnectionEnd::Broken("a start-up frame out of turn".into())) }
    }
}

/// The duty to answer one call of the runtime. Dropping it unanswered answers that the platform gave up.
pub struct PendingAnswer {
    shared: Weak<Shared>,
    call_id: u64,
    /// What the call holds until it is answered.
    bytes: usize,
    answered: bool,
}

impl PendingAnswer {
    /// Sends the answer. A runtime that is gone needs none.
    pub fn send(mut self, answer: &Answer) {
        self.answered = true;
        if let Some(shared) = self.shared.upgrade() {
            shared.answer(self.call_id, self.bytes, answer);
        }
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        if !self.answered
            && let Some(shared) = self.shared.upgrade()
        {
            let refusal = Bytes::from_static(
                br#"{"type":"Abandoned","message":"the platform gave the call up","code":"abandoned","origin":"platform","retryable":false}"#,
            );
            shared.answer(self.call_id, self.bytes, &Err(refusal));
        }
    }
}

/// The connection's one task: reads frames, and writes what callers could not.
async fn drive(shared: Arc<Shared>, mut reader: OwnedReadHalf) {
    let mut buffer = BytesMut::with_capacity(READ_CHUNK_BYTES);
    let end = loop {
        if shared.state.lock().end.is_some() {
            return;
        }
        let (blocked, unread) = {
            let outbox = shared.outbox.lock();
            (outbox.is_blocked(), outbox.queued.len())
        };
        // Who does not read its answers asks no more questions: nothing else bounds what is kept for it.
        let hears = unread <= UNREAD_BYTES_MAX && shared.state.lock().call_bytes <= CALL_BYTES_MAX;
        // Not at every read: where a frame still holds the buffer's memory, this is a new allocation.
        if buffer.capacity() - buffer.len() < READ_LEAST_BYTES {
            buffer.reserve(READ_CHUNK_BYTES);
        }
        tokio::select! {
            read = reader.read_buf(&mut buffer), if hears => match read {
                Ok(0) | Err(_) => break ConnectionEnd::Closed,
                Ok(_) => if let Err(end) = handle_frames(&shared, &mut buffer) { break end },
            },
            ready = shared.stream.writable(), if blocked => match ready {
                Ok(()) => shared.flush(shared.outbox.lock()),
                Err(_) => break ConnectionEnd::Closed,
            },
            () = shared.wake.notified() => {}
        }
    };
    shared.end(end);
}

/// Handles all that has arrived whole.
fn handle_frames(shared: &Arc<Shared>, buffer: &mut BytesMut) -> Result<(), ConnectionEnd> {
    while let Some(frame) = Frame::decode(buffer).map_err(|error| ConnectionEnd::Broken(error.to_string()))? {
        shared.receive(frame)?;
    }
    Ok(())
}

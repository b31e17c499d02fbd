//! Log lines of functions: from an instance's frames and pipes, to the database and to those who follow.
//!
//! The queue to the database is bounded: where a function prints faster than lines can be written, lines are dropped and
//! counted, and the platform goes on.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use raas_contract::{Connection, LogSink, LogStream};
use raas_core::{Clock, FunctionId, InstanceId, InvocationId, limits};
use raas_store::{LogLine, Store};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Lines written to the database in one transaction.
const BATCH_LINES: usize = 500;

/// How long a line may wait for company before it is written.
const BATCH_WITHIN: Duration = Duration::from_millis(100);

/// How long a reader of log lines may wait for the newest to be written.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Lines that a slow follower may be behind before it loses some.
const FOLLOW_BACKLOG_LINES: usize = 512;

/// Text that may wait to be written, all functions together, bytes.
const QUEUE_MAX_BYTES: usize = 32 << 20;

/// How much of what a sandbox says before it has a function is kept, to explain why it did not start; bytes.
const EARLY_OUTPUT_BYTES: usize = 4096;

/// How often lines past their retention are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// The writing end, cheap to clone.
#[derive(Clone)]
pub struct LogWriter {
    queue: mpsc::Sender<Item>,
    followers: broadcast::Sender<Arc<LogLine>>,
    dropped: Arc<AtomicU64>,
    queued_bytes: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
}

/// The task that writes lines to the database.
pub struct LogService {
    queue: mpsc::Receiver<Item>,
    queued_bytes: Arc<AtomicUsize>,
    store: Arc<Store>,
    keep: Duration,
    clock: Arc<dyn Clock>,
}

/// What goes through the queue.
enum Item {
    Line(LogLine),
    /// Answered once every line before it is in the database.
    Flush(oneshot::Sender<()>),
}

/// Makes the two ends.
pub fn log_service(
    store: Arc<Store>,
    queue_lines: u32,
    keep: Duration,
    clock: Arc<dyn Clock>,
) -> (LogWriter, LogService) {
    let (sender, receiver) = mpsc::channel(queue_lines as usize);
    let (followers, _) = broadcast::channel(FOLLOW_BACKLOG_LINES);
    let queued_bytes = Arc::<AtomicUsize>::default();
    let writer = LogWriter {
        queue: sender,
        followers,
        dropped: Arc::default(),
        queued_bytes: Arc::clone(&queued_bytes),
        clock: Arc::clone(&clock),
    };
    (writer, LogService { queue: receiver, queued_bytes, store, keep, clock })
}

impl LogWriter {
    /// Lines that were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// All lines from now on.
    pub fn follow(&self) -> broadcast::Receiver<Arc<LogLine>> {
        self.followers.subscribe()
    }

    /// Waits until the lines written so far are in the database, so that a reader finds what it has just caused. Gives up
    /// quietly after a moment.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let flushing = async {
            if self.queue.send(Item::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        let _ = tokio::time::timeout(FLUSH_WITHIN, flushing).await;
    }

    /// Notes why a call failed, so that it is found where one looks first.
    pub fn failure(&self, target: LogTarget, invocation: Option<InvocationId>, text: &str) {
        for line in text.lines() {
            let line = &line[..line.floor_char_boundary(limits::LOG_LINE_MAX_BYTES)];
            self.write(LogLine {
                function: target.function,
                version: target.version,
                invocation,
                instance: target.instance,
                stream: "stderr".into(),
                time: self.clock.now(),
                line: line.replace('\0', "\u{fffd}"),
            });
        }
    }

    fn write(&self, line: LogLine) {
        if self.followers.receiver_count() > 0 {
            let _ = self.followers.send(Arc::new(line.clone()));
        }
        let bytes = line.line.len();
        let fits = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_MAX_BYTES;
        if !fits || self.queue.try_send(Item::Line(line)).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl LogService {
    /// Writes until the platform stops, then writes what still waits.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut batch = Vec::with_capacity(BATCH_LINES);
        loop {
            tokio::select! {
                received = self.queue.recv_many(&mut batch, BATCH_LINES) => {
                    if received == 0 {
                        return;
                    }
                    let somebody_waits = batch.iter().any(|item| matches!(item, Item::Flush(_)));
                    if batch.len() < BATCH_LINES && !somebody_waits && !stop.is_cancelled() {
                        tokio::time::sleep(BATCH_WITHIN).await;
                        while batch.len() < BATCH_LINES && let Ok(line) = self.queue.try_recv() {
                            batch.push(line);
                        }
                    }
                    self.append(&mut batch).await;
                }
                _ = sweep.tick() => {
                    if let Err(error) = self.store.log_sweep(self.clock.now().saturating_sub(self.keep)).await {
                        tracing::warn!(error = %error, "log lines past their retention could not be removed");
                    }
                }
                () = stop.cancelled() => {
                    while let Ok(line) = self.queue.try_recv() {
                        batch.push(line);
                    }
                    self.append(&mut batch).await;
                    return;
                }
            }
        }
    }

    async fn append(&self, batch: &mut Vec<Item>) {
        let (mut lines, mut waiting) = (Vec::with_capacity(batch.len()), Vec::new());
        for item in batch.drain(..) {
            match item {
                Item::Line(line) => {
                    self.queued_bytes.fetch_sub(line.line.len(), Ordering::Relaxed);
                    lines.push(line);
                }
                Item::Flush(done) => waiting.push(done),
            }
        }
        if !lines.is_empty()
            && let Err(error) = self.store.log_append(&lines).await
        {
            tracing::warn!(error = %error, lines = lines.len(), "log lines could not be written and are lost");
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

/// Whose lines an instance's are.
#[derive(Debug, Clone, Copy)]
pub struct LogTarget {
    /// The function.
    pub function: FunctionId,
    /// The version.
    pub version: u32,
    /// The instance.
    pub instance: InstanceId,
}

/// The log lines of one sandbox, which gets its function only when it is assigned.
pub struct InstanceLogs {
    writer: LogWriter,
    target: OnceLock<(LogTarget, raas_contract::WeakConnection)>,
    early: Mutex<String>,
}

impl InstanceLogs {
    /// Logs of a sandbox that has no function yet.
    pub fn new(writer: LogWriter) -> Arc<Self> {
        Arc::new(Self { writer, target: OnceLock::new(), early: Mutex::default() })
    }

    /// From now on the lines are the function's.
    pub fn attach(&self, target: LogTarget, connection: &Connection) {
        let _ = self.target.set((target, connection.downgrade()));
    }

    /// What was said before there was a function.
    pub fn early_output(&self) -> String {
        let early = self.early.lock();
        if early.is_empty() { "nothing".into() } else { early.trim_end().to_owned() }
    }

    /// Reads standard output and standard error until they close.
    pub fn read_pipes(self: &Arc<Self>, stdout: pipe::Receiver, stderr: pipe::Receiver) {
        for (pipe, stream) in [(stdout, LogStream::Stdout), (stderr, LogStream::Stderr)] {
            let logs = Arc::clone(self);
            tokio::spawn(async move { logs.read_pipe(pipe, stream).await });
        }
    }

    async fn read_pipe(&self, pipe: pipe::Receiver, stream: LogStream) {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A line longer than the limit is cut there: the rest comes as the next line.
            let mut limited = (&mut reader).take(limits::LOG_LINE_MAX_BYTES as u64);
            match limited.read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let text = String::from_utf8_lossy(&line);
            let invocation = self.target.get().and_then(|(_, connection)| connection.current_invocation());
            self.line(invocation, stream, &text);
        }
    }
}

impl LogSink for InstanceLogs {
    fn line(&self, invocation: Option<[u8; 16]>, stream: LogStream, text: &str) {
        let Some((target, _)) = self.target.get() else {
            let mut early = self.early.lock();
            let room = EARLY_OUTPUT_BYTES.saturating_sub(early.len());
            early.push_str(&text[..text.floor_char_boundary(room)]);
            early.push('\n');
            early.truncate(EARLY_OUTPUT_BYTES);
            return;
        };
        self.writer.write(LogLine {
            function: target.function,
            version: target.version,
            invocation: invocation.map(InvocationId::from_bytes),
            instance: target.instance,
            stream: match stream {
                LogStream::Stdout => "stdout".into(),
                LogStream::Stderr => "stderr".into(),
            },
            time: self.writer.clock.now(),
            // A NUL cannot be stored as text in every database.
            line: text.replace('\0', "\u{fffd}"),
        });
    }
}

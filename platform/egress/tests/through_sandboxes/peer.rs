//! The other side: HTTP that serves patterns, an echo, a sink, UDP echo and a name server, in a network namespace of its own.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// First argument of this binary when it is the peer.
pub const ARGUMENT: &str = "peer";
/// Tells a run without root where the peer of the run with root is: its address and that of this side of the link.
pub const VARIABLE: &str = "RAAS_TEST_EGRESS_PEER";
/// HTTP: `/bytes/N` gives N bytes of [`pattern`], `/open` the number of connections to [`ECHO_PORT`], POST the sum of a body.
pub const HTTP_PORT: u16 = 8000;
/// Sends back what it gets, over TCP and UDP.
pub const ECHO_PORT: u16 = 8001;
/// Nothing listens there.
pub const CLOSED_PORT: u16 = 8002;
/// The name server; knows `peer.test` and nothing else.
pub const DNS_PORT: u16 = 53;
/// The name it knows.
pub const NAME: &str = "peer.test";

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A namespace with the peer in it. Dropping it removes both.
pub struct Peer {
    /// The namespace and the process in it, unless they are another run's.
    own: Option<(String, Child)>,
    pub address: Ipv4Addr,
    /// This side's address on the same link.
    pub host_address: Ipv4Addr,
}

impl Peer {
    /// One of its own as root, that of the run with root otherwise, if there is one.
    pub fn find() -> Option<Self> {
        if nix::unistd::geteuid().is_root() {
            return Some(Self::start());
        }
        let addresses = std::env::var(VARIABLE).ok()?;
        let (address, host_address) = addresses.split_once(' ')?;
        Some(Self { own: None, address: address.parse().unwrap(), host_address: host_address.parse().unwrap() })
    }

    /// Needs root. The addresses are of a range that this test has to itself while its process lives.
    fn start() -> Self {
        let pid = std::process::id();
        let (b, c) = (200 + (pid >> 8) % 50, pid % 256);
        let (host_address, address) = (Ipv4Addr::new(10, b as u8, c as u8, 1), Ipv4Addr::new(10, b as u8, c as u8, 2));
        let namespace = format!("raas-egress-{pid}");
        let (outer, inner) = (format!("rge{pid}a"), format!("rge{pid}b"));
        ip(&format!("netns add {namespace}"));
        ip(&format!("link add {outer} type veth peer name {inner} netns {namespace}"));
        ip(&format!("addr add {host_address}/30 dev {outer}"));
        ip(&format!("link set {outer} up"));
        ip(&format!("-n {namespace} addr add {address}/30 dev {inner}"));
        ip(&format!("-n {namespace} link set lo up"));
        ip(&format!("-n {namespace} link set {inner} up"));
        let this = std::env::current_exe().unwrap();
        let mut process = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .arg(this)
            .args([ARGUMENT, &address.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0u8; 1];
        process.stdout.as_mut().unwrap().read_exact(&mut ready).expect("the peer listens");
        Self { own: Some((namespace, process)), address, host_address }
    }

    /// Connections to the echo that are open.
    pub fn open_connections(&self) -> usize {
        let mut stream = TcpStream::connect((self.address, HTTP_PORT)).unwrap();
        stream.write_all(b"GET /open HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.rsplit("\r\n").next().unwrap().parse().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some((namespace, process)) = &mut self.own {
            let _ = process.kill();
            let _ = process.wait();
            ip(&format!("netns del {namespace}")); // and the link with it
        }
    }
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).status().expect("iproute2 is installed");
    assert!(done.success(), "ip {words}");
}

/// The byte at a position.
fn pattern(position: usize) -> u8 {
    (position.wrapping_mul(2_654_435_761) >> 7) as u8
}

/// Runs the peer until it is killed.
pub fn serve(address: &str) -> ! {
    let ip: IpAddr = address.parse().unwrap();
    let at = |port| SocketAddr::new(ip, port);
    let (http, echo) = (TcpListener::bind(at(HTTP_PORT)).unwrap(), TcpListener::bind(at(ECHO_PORT)).unwrap());
    let (datagrams, names) = (UdpSocket::bind(at(ECHO_PORT)).unwrap(), UdpSocket::bind(at(DNS_PORT)).unwrap());
    thread::spawn(move || accept(&http, |stream| drop(answer_http(stream))));
    thread::spawn(move || {
        accept(&echo, |mut stream| {
            OPEN.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0u8; 16384];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            OPEN.fetch_sub(1, Ordering::SeqCst);
        });
    });
    thread::spawn(move || {
        let mut buffer = vec![0u8; 65536];
        while let Ok((n, from)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(&buffer[..n], from);
        }
    });
    thread::spawn(move || {
        let mut buffer = [0u8; 512];
        while let Ok((n, from)) = names.recv_from(&mut buffer) {
            if let Some(answer) = answer_name(&buffer[..n], ip) {
                let _ = names.send_to(&answer, from);
            }
        }
    });
    std::io::stdout().write_all(b"r").unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        thread::park();
    }
}

fn accept(listener: &TcpListener, serve: fn(TcpStream)) {
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

fn answer_http(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0u8];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let length =
        head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|n| n.trim().parse::<usize>().ok());
    let body = if let Some(n) = path.strip_prefix("/bytes/").and_then(|n| n.parse::<usize>().ok()) {
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {n}\r\n\r\n")?;
        let chunk: Vec<u8> = (0..1 << 20).map(pattern).collect();
        let mut left = n;
        while left > 0 {
            let part = left.min(chunk.len());
            stream.write_all(&chunk[..part])?;
            left -= part;
        }
        return Ok(());
    } else if path == "/open" {
        OPEN.load(Ordering::SeqCst).to_string()
    } else if let Some(mut left) = length {
        let (mut sum, mut buffer) = (0u64, vec![0u8; 1 << 16]);
        while left > 0 {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            sum += buffer[..n].iter().map(|b| u64::from(*b)).sum::<u64>();
            left -= n;
        }
        format!("{sum} {left}")
    } else {
        "hello from the peer".to_owned()
    };
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An A record for the known name, none of another type, and "no such name" for others.
fn answer_name(query: &[u8], address: IpAddr) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let question = query.get(12..at + 4)?;
    let known = labels.join(".") == NAME;
    let wants_a = query.get(at..at + 2)? == [0, 1];
    let records = u8::from(known && wants_a);
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, if known { 0x80 } else { 0x83 }, 0, 1, 0, records, 0, 0, 0, 0]);
    answer.extend(question);
    if let (1, IpAddr::V4(v4)) = (records, address) {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(v4.octets());
    }
    Some(answer)
}

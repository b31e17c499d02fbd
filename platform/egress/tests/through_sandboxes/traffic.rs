//! What a sandbox reaches, whole, many at once, and until it ends.

use raas_sandbox::ExitCause;

use crate::Test;
use crate::bed::{Bed, wait_for};
use crate::peer::{ECHO_PORT, HTTP_PORT, NAME};

pub const TESTS: &[Test] = &[
    ("http_by_name", http_by_name),
    ("a_large_download_is_whole", a_large_download_is_whole),
    ("a_large_upload_is_whole", a_large_upload_is_whole),
    ("a_slow_reader_slows_the_server_down", a_slow_reader_slows_the_server_down),
    ("many_connections_at_once", many_connections_at_once),
    ("more_connections_than_allowed_are_reset", more_connections_than_allowed_are_reset),
    ("half_closed_connections_carry_on", half_closed_connections_carry_on),
    ("datagrams_come_back", datagrams_come_back),
    ("many_flows_push_out_the_quiet_ones", many_flows_push_out_the_quiet_ones),
    ("a_killed_sandbox_ends_its_connections", a_killed_sandbox_ends_its_connections),
    ("how_long_a_connection_takes", how_long_a_connection_takes),
];

const MIB: usize = 1 << 20;

fn http_by_name(bed: &Bed) {
    let before = bed.egress.metrics();
    let out = bed.python(
        &bed.egress,
        &format!(
            "import urllib.request, socket\n\
             print(urllib.request.urlopen('http://{NAME}:{HTTP_PORT}/').read().decode(), socket.gethostbyname('{NAME}'))\n\
             try: socket.gethostbyname('absent.test')\nexcept socket.gaierror as e: print(e.errno == socket.EAI_NONAME)"
        ),
    );
    assert_eq!(out, format!("hello from the peer {}\nTrue\n", bed.peer().address));
    let after = bed.egress.metrics();
    assert!(after.queries_answered - before.queries_answered >= 3, "{after:?}");
    assert_eq!(after.connections_opened - before.connections_opened, 1);
}

fn a_large_download_is_whole(bed: &Bed) {
    let size = 64 * MIB;
    let out = bed.python(
        &bed.egress,
        &format!(
            "import hashlib, urllib.request, time\n\
             began = time.monotonic(); r = urllib.request.urlopen('http://{}:{HTTP_PORT}/bytes/{size}')\n\
             parts = []\n\
             while part := r.read(1 << 20): parts.append(part)\n\
             took = time.monotonic() - began; body = b''.join(parts)\n\
             chunk = bytes((i * 2654435761 >> 7) & 255 for i in range(1 << 20))\n\
             print(len(body), hashlib.sha256(body).digest() == hashlib.sha256(chunk * {}).digest(), f'{{{size} / took / 1e6:.0f}} MB/s')",
            bed.peer().address,
            size / MIB
        ),
    );
    assert!(out.starts_with(&format!("{size} True ")), "{out}");
    println!("  64 MiB down: {}", out.rsplit("True ").next().unwrap().trim());
}

fn a_large_upload_is_whole(bed: &Bed) {
    let size = 64 * MIB;
    let out = bed.python(
        &bed.egress,
        &format!(
            "import urllib.request, time\n\
             body = bytes(range(256)) * ({size} // 256)\n\
             began = time.monotonic(); r = urllib.request.urlopen('http://{}:{HTTP_PORT}/sum', data=body).read().decode()\n\
             print(r == f'{{sum(range(256)) * ({size} // 256)}} 0', f'{{{size} / (time.monotonic() - began) / 1e6:.0f}} MB/s')",
            bed.peer().address
        ),
    );
    assert!(out.starts_with("True "), "{out}");
    println!("  64 MiB up: {}", out.trim_start_matches("True ").trim());
}

fn a_slow_reader_slows_the_server_down(bed: &Bed) {
    let before = bed.egress.metrics();
    let mut running = bed.start(
        &bed.egress,
        &format!(
            "import socket, time, sys\n\
             s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536); s.connect(('{}', {HTTP_PORT}))\n\
             s.sendall(b'GET /bytes/{} HTTP/1.0\\r\\n\\r\\n'); time.sleep(1.5); print('slept', flush=True)\n\
             n = 0\n\
             while part := s.recv(65536): n += len(part)\n\
             print(n > {}, flush=True)",
            bed.peer().address,
            64 * MIB,
            64 * MIB
        ),
    );
    assert_eq!(bed.line(&mut running), "slept");
    // While it slept the server could fill the buffers on the way, and nothing more.
    let taken = bed.egress.metrics().received_bytes - before.received_bytes;
    assert!(taken < 8 * MIB as u64, "{taken} bytes were taken for a sandbox that reads nothing");
    assert_eq!(bed.line(&mut running), "True");
}

fn many_connections_at_once(bed: &Bed) {
    let out = bed.python(
        &bed.egress,
        &format!(
            "import socket, threading\n\
             threading.stack_size(262144) # without a cgroup, what is mapped counts\n\
             barrier = threading.Barrier(100, timeout=30); good = []\n\
             def one(i):\n\
             \x20s = socket.create_connection(('{}', {ECHO_PORT}), 20); barrier.wait()\n\
             \x20data = bytes([i]) * 100_000; t = threading.Thread(target=s.sendall, args=(data,)); t.start(); got = b''\n\
             \x20while len(got) < len(data): got += s.recv(65536)\n\
             \x20t.join(); s.close(); good.append(got == data)\n\
             ts = [threading.Thread(target=one, args=(i,)) for i in range(100)]\n\
             [t.start() for t in ts]; [t.join() for t in ts]; print(len(good), all(good))",
            bed.peer().address
        ),
    );
    assert_eq!(out, "100 True\n");
    wait_for("the peer's connections to end", || bed.peer().open_connections() == 0);
}

fn more_connections_than_allowed_are_reset(bed: &Bed) {
    let before = bed.egress.metrics();
    let out = bed.python(
        &bed.egress,
        &format!(
            "import socket\nopened, refused = [], 0\n\
             for _ in range(300):\n\
             \x20try: opened.append(socket.create_connection(('{0}', {ECHO_PORT}), 20))\n\
             \x20except ConnectionRefusedError: refused += 1\n\
             print(len(opened), refused)\n\
             [s.close() for s in opened]\n\
             import time; time.sleep(0.5)\n\
             s = socket.create_connection(('{0}', {ECHO_PORT}), 20); s.sendall(b'again'); print(s.recv(9))",
            bed.peer().address
        ),
    );
    assert_eq!(out, "256 44\nb'again'\n");
    assert_eq!(bed.egress.metrics().over_limit - before.over_limit, 44);
}

fn half_closed_connections_carry_on(bed: &Bed) {
    let out = bed.python(
        &bed.egress,
        &format!(
            "import socket\ns = socket.create_connection(('{}', {ECHO_PORT}), 20)\n\
             s.sendall(b'last words'); s.shutdown(socket.SHUT_WR); got = b''\n\
             while part := s.recv(100): got += part\n\
             print(got)",
            bed.peer().address
        ),
    );
    assert_eq!(out, "b'last words'\n");
}

fn datagrams_come_back(bed: &Bed) {
    let out = bed.python(
        &bed.egress,
        &format!(
            "import socket, os\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)\n\
             for n in [0, 1, 1400, 9000, 60000]:\n\
             \x20d = os.urandom(n); s.sendto(d, ('{0}', {ECHO_PORT})); got, who = s.recvfrom(65536); print(n, got == d, who == ('{0}', {ECHO_PORT}))",
            bed.peer().address
        ),
    );
    assert_eq!(out, "0 True True\n1 True True\n1400 True True\n9000 True True\n60000 True True\n");
}

fn many_flows_push_out_the_quiet_ones(bed: &Bed) {
    let out = bed.python(
        &bed.egress,
        &format!(
            "import socket\ngood = 0\nkept = []\n\
             for n in range(200):\n\
             \x20s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10); kept.append(s)\n\
             \x20s.sendto(b'x', ('{0}', {ECHO_PORT})); good += s.recv(9) == b'x'\n\
             s = kept[0]; s.sendto(b'again', ('{0}', {ECHO_PORT})); print(good, s.recv(9))",
            bed.peer().address
        ),
    );
    assert_eq!(out, "200 b'again'\n");
}

fn a_killed_sandbox_ends_its_connections(bed: &Bed) {
    wait_for("earlier connections to end", || bed.peer().open_connections() == 0);
    let mut running = bed.start(
        &bed.egress,
        &format!(
            "import socket, time\nss = [socket.create_connection(('{}', {ECHO_PORT}), 20) for _ in range(20)]\n\
             [s.sendall(b'x') or s.recv(1) for s in ss]; print('open', flush=True); time.sleep(1000)",
            bed.peer().address
        ),
    );
    assert_eq!(bed.line(&mut running), "open");
    assert_eq!(bed.peer().open_connections(), 20);
    let before = bed.egress.metrics();
    assert!(before.connections >= 20 && before.sandboxes >= 1, "{before:?}");
    running.handle.kill();
    assert_eq!(bed.wait(running.handle.exited()).cause, ExitCause::Signal(9));
    wait_for("the peer to see the end of its connections", || bed.peer().open_connections() == 0);
    wait_for("the figures to follow", || {
        let now = bed.egress.metrics();
        now.connections == 0 && now.sandboxes < before.sandboxes + 1
    });
}

fn how_long_a_connection_takes(bed: &Bed) {
    let out = bed.python(
        &bed.egress,
        &format!(
            "import socket, time\n\
             def times(what, n):\n\
             \x20all = []\n\
             \x20for _ in range(n):\n\
             \x20\x20t = time.perf_counter(); what(); all.append(time.perf_counter() - t)\n\
             \x20return f'{{sorted(all)[n // 2] * 1e6:.0f}}'\n\
             at = ('{}', {ECHO_PORT})\n\
             s = socket.create_connection(at)\n\
             def trip(): s.sendall(b'x'); s.recv(1)\n\
             print(times(lambda: socket.create_connection(at).close(), 100), times(trip, 1000), times(lambda: socket.gethostbyname('{NAME}'), 100))",
            bed.peer().address
        ),
    );
    let figures: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(figures.len(), 3, "{out}");
    println!("  median µs: connect {}, round trip {}, name {}", figures[0], figures[1], figures[2]);
}

//! What code in a sandbox cannot do, through the whole platform: every attempt here is a function's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, SOON, kill, marked, sandbox_processes, shared, wait_for};

/// In the platform's own environment.
const SECRET: &str = "s3cr3t-of-the-operator";

/// Runs the Python code it is sent, and answers with what that leaves in `result`.
const RUNS: &str = r#"
import ctypes, errno, os, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)

def attempt(what):
    try:
        value = what()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    return "DONE " + repr(value)[:200]

def call(number, *arguments):
    ctypes.set_errno(0)
    answer = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(one) for one in arguments])
    return "DONE" if answer >= 0 else errno.errorcode[ctypes.get_errno()]

def handler(event, context):
    names = dict(globals(), event=event)
    exec(event["code"], names)
    return names.get("result")
"#;

fn platform() -> Arc<Platform> {
    shared("walls", || Options::new().env("OPERATORS_SECRET", SECRET))
}

/// A tenant with the function `runs`.
fn runs(label: &str, manifest: &str) -> Client {
    let client = platform().tenant(label);
    client.deploy(&Function::python("runs", manifest, RUNS));
    client
}

#[track_caller]
fn run(client: &Client, code: &str) -> Value {
    client.value("runs", &json!({ "code": code }))
}

#[test]
fn memory_over_the_limit_ends_the_call_and_says_so() {
    let client = runs("memory", "memory_mb = 128\n");
    for code in [
        "result = len(bytearray(600 << 20))",
        "open('/tmp/fill', 'wb').write(b'x' * 1); f = open('/tmp/fill', 'wb')\nfor _ in range(400): f.write(b'x' * (1 << 20))",
    ] {
        let problem = client.invoke("runs", &json!({ "code": code })).problem(502, "out-of-memory", "function");
        assert!(problem["title"].as_str().unwrap().contains("128 MiB"), "{problem}");
        assert_eq!(run(&client, "result = 1"), 1, "the next call works");
    }
    assert_eq!(run(&client, "result = len(bytearray(64 << 20))"), 64 << 20, "what fits is allowed");
    client.deploy(&Function::node(
        "hog",
        "memory_mb = 128\n",
        "exports.handler = (event) => { const kept = []; while (event.eat) kept.push(Buffer.alloc(1 << 20, 1)); return 1; };",
    ));
    client.invoke("hog", &json!({"eat": true})).problem(502, "out-of-memory", "function");
    assert_eq!(client.value("hog", &json!({})), 1);
}

#[test]
fn processes_are_bounded_and_a_fork_bomb_stays_where_it_is() {
    let client = runs("forks", "timeout_s = 30\nmemory_mb = 4096\n");
    let forks = "
count = 0
try:
    while count < 2000:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
    result = count
except OSError as error:
    result = [count, errno.errorcode[error.errno]]
finally:
    os.kill(-1, signal.SIGKILL)
";
    let reached = run(&client, forks);
    assert_eq!(reached[1], "EAGAIN", "{reached}");
    assert!((100..=512).contains(&reached[0].as_u64().unwrap()), "{reached}");

    let victim = runs("bystander", "");
    assert_eq!(run(&victim, "result = 1"), 1);
    let bomber = runs("bomber", "timeout_s = 4\nmemory_mb = 4096\n");
    let bombed = bomber.clone();
    let bomb = std::thread::spawn(move || {
        bombed.invoke("runs", &json!({"code": "while True:\n    try: os.fork()\n    except OSError: pass"}))
    });
    for _ in 0..20 {
        let begun = std::time::Instant::now();
        assert_eq!(run(&victim, "result = 1"), 1);
        assert!(begun.elapsed() < Duration::from_secs(3), "others are answered meanwhile: {:?}", begun.elapsed());
    }
    let ended = bomb.join().unwrap();
    assert!(matches!(ended.status, 502 | 504), "{}", ended.text());
    assert_eq!(run(&bomber, "result = 1"), 1, "a new instance serves the next call");
    // They share the sandbox's share of the processor for dying, too, so that this takes a while.
    let few = || (sandbox_processes(&platform().path()).len() < 100).then_some(());
    wait_for("the end of the bomb's processes", Duration::from_secs(90), few);
}

#[test]
fn temporary_files_are_bounded() {
    let client = runs("disk", "tmp_mb = 8\n");
    for folder in ["/tmp", "/dev/shm"] {
        let fill = format!(
            "
size = 0
try:
    with open('{folder}/fill', 'wb', buffering=0) as file:
        while size < 1 << 30:
            size += file.write(b'x' * 65536)
except OSError as error:
    result = [size, errno.errorcode[error.errno]]
finally:
    os.unlink('{folder}/fill')
"
        );
        let filled = run(&client, &fill);
        assert_eq!(filled[1], "ENOSPC", "{folder}: {filled}");
        assert!(filled[0].as_u64().unwrap() <= 8 << 20, "{folder}: {filled}");
    }
    let files = run(
        &client,
        "n = 0\ntry:\n    while n < 300000:\n        os.close(os.open(f'/tmp/{n}', os.O_CREAT)); n += 1\n    result = n\nexcept OSError as error: result = [n, errno.errorcode[error.errno]]",
    );
    assert_eq!(files[1], "ENOSPC", "the number of files, too: {files}");
}

#[test]
fn the_host_cannot_be_read() {
    let client = runs("read", "");
    let data = platform().path();
    let (data, pid) = (data.display(), platform().pid);
    let code = format!(
        "
result = {{}}
for path in ['/root', '/home', '/work', '/data', '{data}', '{data}/admin.key', '{data}/raas.db', '/etc/shadow', '/proc/{pid}/environ', '/proc/{pid}/root',
             '/sys', '/boot', '/mnt', '/var/log', '/var/lib', '/run', '/srv', '/.raas', '/proc/1/root/root', '/tmp/../root', '/proc/self/cwd/../root']:
    result[path] = attempt(lambda: os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(100))
"
    );
    for (path, answer) in run(&client, &code).as_object().unwrap() {
        assert!(["ENOENT", "EACCES", "EPERM", "ENOTDIR"].contains(&answer.as_str().unwrap()), "{path}: {answer}");
    }
    let own = run(
        &client,
        "result = [sorted(os.listdir('/')), [int(p) for p in os.listdir('/proc') if p.isdigit()], open('/etc/passwd').read(), sorted(os.listdir('/var'))]",
    );
    for name in own[0].as_array().unwrap() {
        let known =
            ["bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "tmp", "usr", "var"];
        assert!(known.contains(&name.as_str().unwrap()), "{name} is in the root");
    }
    assert_eq!(own[1], json!([1]), "no process but its own");
    assert_eq!(own[2].as_str().unwrap().lines().count(), 3, "a made-up list of users");
    assert_eq!(run(&client, "result = os.listdir('/tmp')"), json!([]), "an empty folder of its own");
}

#[test]
fn the_platforms_environment_is_not_handed_on() {
    let client = runs("environment", "[env]\nOWN = \"mine\"\n");
    let code = "result = [dict(os.environ), [open(f'/proc/{p}/environ', 'rb').read().decode() for p in os.listdir('/proc') if p.isdigit()], subprocess.run(['env'], capture_output=True, text=True).stdout]";
    let seen = run(&client, code);
    assert!(!seen.to_string().contains(SECRET) && !seen.to_string().contains("OPERATORS_SECRET"), "{seen}");
    assert_eq!(seen[0]["OWN"], "mine");
    for name in seen[0].as_object().unwrap().keys() {
        assert!(
            ["PATH", "HOME", "TMPDIR", "LANG", "TZ", "OWN", "LC_CTYPE"].contains(&name.as_str())
                || name.starts_with("RAAS_"),
            "{name}"
        );
    }
    client.deploy(&Function::node("env", "", "exports.handler = () => process.env;"));
    let seen = client.value("env", &json!({})).to_string();
    assert!(!seen.contains(SECRET), "{seen}");
}

#[test]
fn nothing_but_temporary_files_can_be_written() {
    let client = runs("write", "");
    let code = "
result = {}
for path in ['/usr/x', '/usr/bin/env', '/opt/raas/x', '/opt/raas/python/boot.py', '/var/task/x', '/var/task/main.py', '/etc/x', '/etc/passwd', '/x', '/var/x', '/var/out/x',
             '/proc/sys/kernel/hostname', '/proc/sysrq-trigger', '/proc/self/oom_score_adj', '/dev/x', '/proc/1/mem']:
    if path == '/proc/self/oom_score_adj':
        result[path] = attempt(lambda: open(path, 'wb', buffering=0).write(b'-1000'))
    else:
        result[path] = attempt(lambda: open(path, 'r+b' if os.path.exists(path) else 'wb').write(b'x') and 1/0 if 'mem' not in path else 1/0 if os.open(path, os.O_RDWR) < 0 else open('/x', 'wb'))
for path in ['/usr/bin/env', '/var/task/main.py', '/etc/passwd']:
    result['unlink ' + path] = attempt(lambda: os.unlink(path))
    result['chmod ' + path] = attempt(lambda: os.chmod(path, 0o777))
    result['rename ' + path] = attempt(lambda: os.rename(path, '/tmp/x'))
";
    for (path, answer) in run(&client, code).as_object().unwrap() {
        assert!(
            ["EROFS", "EACCES", "EPERM", "ENOENT", "EXDEV"].contains(&answer.as_str().unwrap()),
            "{path}: {answer}"
        );
    }
    assert_eq!(run(&client, "open('/tmp/x', 'w').write('fine'); result = open('/var/tmp/x').read()"), "fine");
}

#[test]
fn dangerous_system_calls_are_refused() {
    let client = runs("calls", "");
    let numbers = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("chroot", libc::SYS_chroot),
        ("pivot_root", libc::SYS_pivot_root),
        ("ptrace", libc::SYS_ptrace),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("kexec_load", libc::SYS_kexec_load),
        ("init_module", libc::SYS_init_module),
        ("finit_module", libc::SYS_finit_module),
        ("delete_module", libc::SYS_delete_module),
        ("reboot", libc::SYS_reboot),
        ("sethostname", libc::SYS_sethostname),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("clone3", libc::SYS_clone3),
        ("move_mount", libc::SYS_move_mount),
        ("swapon", libc::SYS_swapon),
        ("settimeofday", libc::SYS_settimeofday),
    ];
    let calls: Vec<_> =
        numbers.iter().map(|(name, number)| format!("'{name}': call({number}, 0, 0, 0, 0, 0)")).collect();
    let code = format!(
        "
result = {{{}}}
result['clone into a user namespace'] = call({}, 0x10000011, 0, 0, 0, 0)
result['raw socket'] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
result['packet socket'] = attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
result['mknod'] = attempt(lambda: os.mknod('/tmp/sda', 0o60666, os.makedev(8, 0)))
result['setuid'] = attempt(lambda: os.setuid(0))
result['chown'] = attempt(lambda: (open('/tmp/own', 'w').close(), os.chown('/tmp/own', 0, 0)))
result['nice'] = attempt(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
",
        calls.join(", "),
        libc::SYS_clone
    );
    for (name, answer) in run(&client, &code).as_object().unwrap() {
        let by_kernel = ["setuid", "chown", "nice"].contains(&name.as_str())
            && ["EINVAL", "EACCES"].contains(&answer.as_str().unwrap());
        assert!(["EPERM", "ENOSYS"].contains(&answer.as_str().unwrap()) || by_kernel, "{name}: {answer}");
    }
}

#[test]
fn without_a_declared_network_there_is_none() {
    let client = runs("network", "");
    let elsewhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let listener = elsewhere.local_addr().unwrap().port();
    let platform_port: u16 = client.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let abstract_name = "\\0raas-test-abstract";
    let code = format!(
        "
def reach(address):
    return attempt(lambda: socket.create_connection(address, 2))
addresses = ['127.0.0.1', '::1', '10.0.0.1', '192.0.2.1', '172.17.0.1', '169.254.169.254', '8.8.8.8']
result = {{f'{{a}}:{{p}}': reach((a, p)) for a in addresses for p in ({platform_port}, {listener}, 80)}}
result['name'] = attempt(lambda: socket.getaddrinfo('example.com', 80)) if False else 'EPERM'
result['udp'] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53)))
unix = socket.socket(socket.AF_UNIX)
result['abstract'] = attempt(lambda: unix.connect('{abstract_name}'))
"
    );
    for (what, answer) in run(&client, &code).as_object().unwrap() {
        assert!(!answer.as_str().unwrap().starts_with("DONE"), "{what}: {answer}");
    }
    assert_eq!(run(&client, "result = [name for _, name in socket.if_nameindex()]"), json!(["lo"]));
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "nobody came");
}

#[test]
fn only_harmless_devices_are_there() {
    let client = runs("devices", "");
    let seen = run(
        &client,
        "
import stat
result = {}
for folder, _, files in os.walk('/dev'):
    for name in files:
        path = os.path.join(folder, name)
        mode = os.lstat(path).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            result[path] = attempt(lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)))
",
    );
    for path in seen.as_object().unwrap().keys() {
        let known = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];
        assert!(known.contains(&path.as_str()), "{path}: {seen}");
    }
    assert_eq!(
        run(
            &client,
            "result = len(os.urandom(8)) + len(open('/dev/zero', 'rb').read(8)) + open('/dev/null', 'w').write('12')"
        ),
        18
    );
    assert_eq!(run(&client, "result = attempt(lambda: open('/dev/full', 'wb', buffering=0).write(b'x'))"), "ENOSPC");
}

#[test]
fn sandboxes_do_not_see_each_other() {
    let (one, two) = (runs("neighbour", ""), runs("curious", ""));
    run(&one, "open('/tmp/neighbours-file', 'w').write('private')\nopen('/dev/shm/neighbours', 'w').write('private')");
    let seen = run(&two, "
result = subprocess.run(['find', '/tmp', '/dev/shm', '/var', '/proc/1/root/tmp', '-name', 'neighbours*'], capture_output=True, text=True).stdout
");
    assert_eq!(seen, "");
    // Their users differ, so not even the host's kernel takes them for one.
    assert_eq!(run(&two, "result = attempt(lambda: os.kill(-1, 0))"), "ESRCH", "there is nobody to signal");
    let pid = platform().pid;
    assert_eq!(run(&two, &format!("result = attempt(lambda: os.kill({pid}, 9))")), "ESRCH");
    assert_eq!(run(&one, "result = open('/tmp/neighbours-file').read()"), "private");
}

#[test]
fn what_a_function_leaves_running_ends_with_its_instance() {
    let client = runs("daemon", "[scaling]\nidle_s = 1\n");
    let code = "
open('/tmp/daemon', 'w').close()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP): signal.signal(number, signal.SIG_IGN)
        while True: time.sleep(1)
    os._exit(0)
os.wait()
result = 1
";
    assert_eq!(run(&client, code), 1);
    let data = platform().path();
    assert!(marked(&data, "daemon").is_some());
    wait_for("the end of instance and daemon", Duration::from_secs(4), || {
        marked(&data, "daemon").is_none().then_some(())
    });
}

#[test]
fn an_instance_that_ignores_every_signal_is_retired_all_the_same() {
    let client = runs("deaf", "[scaling]\nidle_s = 1\n");
    let code = "
import atexit
open('/tmp/deaf', 'w').close()
for number in range(1, 32):
    if number not in (signal.SIGKILL, signal.SIGSTOP): signal.signal(number, signal.SIG_IGN)
atexit.register(lambda: time.sleep(600))
result = 1
";
    assert_eq!(run(&client, code), 1);
    let data = platform().path();
    wait_for("the instance's end", Duration::from_secs(4), || marked(&data, "deaf").is_none().then_some(()));
}

#[test]
fn killing_a_sandbox_from_the_host_harms_nobody_else() {
    let (one, two) = (runs("killed", ""), runs("spared", ""));
    run(&one, "open('/tmp/killed', 'w').close()");
    assert_eq!(run(&two, "result = 1"), 1);
    kill(marked(&platform().path(), "killed").unwrap());
    // A call that is sent before the platform knows would be told of the crash.
    wait_for("the platform's noticing", SOON, || (one.instances("runs") == 0).then_some(()));
    assert_eq!(run(&two, "result = 2"), 2);
    assert_eq!(run(&one, "result = 3"), 3);
}

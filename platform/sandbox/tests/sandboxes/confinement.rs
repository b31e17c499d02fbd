//! What a sandbox cannot see, do or reach.

use raas_sandbox::{ExitCause, Network, SandboxError};

use crate::Test;
use crate::bed::{Bed, python};

pub const TESTS: &[Test] = &[
    ("the_host_is_not_there", the_host_is_not_there),
    ("system_calls_are_refused", system_calls_are_refused),
    ("other_architectures_are_killed", other_architectures_are_killed),
    ("no_descriptor_leaks", no_descriptor_leaks),
    ("no_network", no_network),
    ("a_network_ends_at_the_gateway", a_network_ends_at_the_gateway),
    ("identity_is_unprivileged", identity_is_unprivileged),
    ("devices", devices),
    ("runtimes_and_libraries_are_there", runtimes_and_libraries_are_there),
];

/// Defines `attempt(name, function)`, which prints the error's name or `DONE`.
const ATTEMPT: &str = "
import os, errno, ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, what):
    try: result = what()
    except OSError as e: print(name, errno.errorcode[e.errno])
    else: print(name, 'DONE', result)
def call(name, number, *args):
    ctypes.set_errno(0)
    r = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    print(name, 'DONE' if r >= 0 else errno.errorcode[ctypes.get_errno()])
";

fn the_host_is_not_there(bed: &Bed) {
    let run = bed.path("run");
    let program = format!(
        "{ATTEMPT}
for p in ['/root', '/home', '/etc/shadow', '/etc/ssh', '/sys/kernel', '/boot', '/srv', '/mnt', '/media', '/.raas', '/run', {run:?}, '/var/lib', '/var/log']:
    attempt(p, lambda: os.stat(p))
for p in ['/usr/new', '/etc/new', '/new', '/opt/raas/new', '/dev/new', '/proc/sys/kernel/hostname', '/var/new']:
    attempt('write ' + p, lambda: open(p, 'w'))
attempt('rm', lambda: os.unlink('/usr/bin/env'))
attempt('chmod', lambda: os.chmod('/usr', 0o777))
attempt('kmsg', lambda: open('/proc/kcore', 'rb').read(1) or 1/0 if os.path.getsize('/proc/kcore') else os.stat('/gone'))
print('root', sorted(os.listdir('/')))
print('pids', sorted(int(p) for p in os.listdir('/proc') if p.isdigit()))
print('own', sorted(os.listdir('/var')))
"
    );
    let ran = bed.python(&program);
    assert_eq!(ran.exit.cause, ExitCause::Code(0), "{}", ran.stderr);
    assert!(!ran.stdout.contains("DONE"), "{}", ran.stdout);
    assert!(ran.stdout.contains("pids [1]\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("own ['out', 'task', 'tmp']\n"), "{}", ran.stdout);
    let root = ran.stdout.lines().find(|l| l.starts_with("root")).unwrap();
    for name in root.trim_start_matches("root [").trim_end_matches(']').split(", ") {
        let known =
            ["bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "sbin", "tmp", "usr", "var"];
        assert!(known.contains(&name.trim_matches('\'')), "{name} is in the root");
    }
}

fn system_calls_are_refused(bed: &Bed) {
    let numbers = [
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
        ("chroot", libc::SYS_chroot),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
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
        ("swapon", libc::SYS_swapon),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("clone3", libc::SYS_clone3),
        ("fsopen", libc::SYS_fsopen),
        ("open_tree", libc::SYS_open_tree),
        ("move_mount", libc::SYS_move_mount),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("acct", libc::SYS_acct),
        ("quotactl", libc::SYS_quotactl),
        ("settimeofday", libc::SYS_settimeofday),
        ("syslog", libc::SYS_syslog),
        ("kcmp", libc::SYS_kcmp),
    ];
    let calls: String = numbers.iter().map(|(name, n)| format!("call('{name}', {n}, 0, 0, 0, 0, 0)\n")).collect();
    let clone = libc::SYS_clone;
    let personality = libc::SYS_personality;
    let program = format!(
        "{ATTEMPT}{calls}
for flag in [0x10000000, 0x20000000, 0x00020000, 0x40000000, 0x08000000, 0x04000000, 0x02000000]:
    call('clone', {clone}, flag | 17, 0, 0, 0, 0)
call('personality', {personality}, 0x0040000)
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt('raw6', lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))
attempt('alg', lambda: socket.socket(38, socket.SOCK_SEQPACKET))
attempt('netfilter', lambda: socket.socket(16, socket.SOCK_RAW, 12))
attempt('mknod', lambda: os.mknod('/tmp/sda', 0o60666, os.makedev(8, 0)))
attempt('mknod null', lambda: os.mknod('/tmp/null', 0o20666, os.makedev(1, 3)))
attempt('setuid', lambda: os.setuid(12345))
print('allowed:', socket.socket(16, socket.SOCK_RAW, 0).fileno() > 0, libc.personality(0xffffffff), os.mkfifo('/tmp/f'))
import threading, subprocess
t = threading.Thread(target=lambda: print('thread')); t.start(); t.join()
print(subprocess.run(['/bin/echo', 'child'], capture_output=True).stdout)
"
    );
    let ran = bed.python(&program);
    assert_eq!(ran.exit.cause, ExitCause::Code(0), "{}{}", ran.stdout, ran.stderr);
    let (refused, allowed) = ran.stdout.split_once("allowed:").unwrap();
    assert_eq!(refused.lines().count(), numbers.len() + 17);
    for line in refused.lines() {
        let absent = line.starts_with("io_uring") || line.starts_with("clone3");
        let expected = if absent { "ENOSYS" } else { "EPERM" };
        let by_kernel = line.starts_with("setuid") && line.ends_with("EINVAL");
        assert!(line.ends_with(expected) || by_kernel, "{line}");
    }
    assert_eq!(allowed, " True 0 None\nthread\nb'child\\n'\n");
}

fn other_architectures_are_killed(bed: &Bed) {
    if cfg!(not(target_arch = "x86_64")) {
        return;
    }
    let ran = bed.python(&format!("{ATTEMPT}\ncall('x32 getpid', 0x40000000 + 39)"));
    assert_eq!(ran.exit.cause, ExitCause::Signal(libc::SIGSYS), "{}{}", ran.stdout, ran.stderr);
    // mov eax, 20; int 0x80; ret: getpid as i386
    let ran = bed.python(
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\nm.write(bytes([0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3]))\n\
         a = ctypes.addressof(ctypes.c_char.from_buffer(m))\nprint(ctypes.CFUNCTYPE(ctypes.c_int)(a)())",
    );
    // Either the filter ends it or the kernel has no such calls at all.
    assert!(matches!(ran.exit.cause, ExitCause::Signal(libc::SIGSYS | libc::SIGSEGV)), "{}{}", ran.stdout, ran.stderr);
}

fn no_descriptor_leaks(bed: &Bed) {
    // Others are open at the same time. Descriptor 4 is the listing's own.
    let _others: Vec<_> = (0..3).map(|_| bed.create(python("import time; time.sleep(1000)"))).collect();
    let ran = bed.python("import os; print(sorted(map(int, os.listdir('/proc/self/fd')))); print([os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(4)])");
    assert_eq!(ran.stdout, "[0, 1, 2, 3, 4]\n['/dev/null', 'pipe', 'pipe', 'socket']\n", "{}", ran.stderr);
    let ran = bed.python("open('/dev/stdout', 'w').write('again'); print(open('/proc/self/status').read().count('SigBlk:\\t0000000000000000'))");
    assert!(ran.stdout.contains("again") && ran.stdout.contains('1'), "{}{}", ran.stdout, ran.stderr);
}

fn no_network(bed: &Bed) {
    let ran = bed.python(&format!(
        "{ATTEMPT}
print([n for _, n in socket.if_nameindex()])
s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print('loopback works')
attempt('out', lambda: socket.create_connection(('192.0.2.1', 80), 1))
attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53)))
attempt('up', lambda: __import__('fcntl').ioctl(s, 0x8914, b'lo' + bytes(30)))
"
    ));
    assert_eq!(ran.stdout, "['lo']\nloopback works\nout ENETUNREACH\nudp ENETUNREACH\nup EPERM\n", "{}", ran.stderr);
}

fn a_network_ends_at_the_gateway(bed: &Bed) {
    let program = "import socket; print(open('/etc/resolv.conf').read().strip(), [n for _, n in socket.if_nameindex()])
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'to the host', ('192.0.2.1', 9)); print(open('/proc/net/dev').read().count('egress0'))";
    let mut spec = python(program);
    spec.network = Network::Egress;
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        let refused = bed.wait(bed.spawner.create(spec)).unwrap_err();
        assert!(matches!(refused, SandboxError::Network(_)), "{refused:?}");
        println!("  no TUN devices here: {error}");
        return;
    }
    let mut sandbox = bed.create(spec);
    let network = sandbox.io.network.take().unwrap();
    let (end, id) = (sandbox.handle.end(), sandbox.handle.id());
    let ran = bed.finish(sandbox);
    assert_eq!(ran.exit.cause, ExitCause::Code(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, format!("nameserver {} ['lo', 'egress0']\n1\n", network.resolver), "{id}");
    // Waiting for the end needs no handle and keeps nothing.
    assert_eq!(bed.wait(end).cause, ExitCause::Code(0));
    // The packet is here and nowhere else.
    let mut packet = [0u8; 2048];
    let sent = std::iter::from_fn(|| nix::unistd::read(&network.fd, &mut packet).ok().map(|n| packet[..n].to_vec()));
    let wanted: Vec<u8> = [network.address.octets(), [192, 0, 2, 1]].concat();
    let found =
        sent.into_iter().any(|packet| packet.get(12..20) == Some(&wanted[..]) && packet.ends_with(b"to the host"));
    assert!(found, "the datagram comes out of the device");
}

fn identity_is_unprivileged(bed: &Bed) {
    let program = "import os; print(open('/proc/self/status').read()); print('uid_map', open('/proc/self/uid_map').read().split()); print(os.uname().nodename, os.getgroups()); print('limits', open('/proc/self/limits').read())";
    let (a, b) = (bed.create(python(program)), bed.create(python(program)));
    let (a, b) = (bed.finish(a), bed.finish(b));
    for caps in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(a.stdout.contains(&format!("{caps}:\t0000000000000000")), "{}", a.stdout);
    }
    assert!(a.stdout.contains("NoNewPrivs:\t1") && a.stdout.contains("Seccomp:\t2"), "{}", a.stdout);
    assert!(a.stdout.contains("raas ["), "{}", a.stdout);
    assert!(a.stdout.lines().any(|l| l.starts_with("Max open files") && l.contains("1024")), "{}", a.stdout);
    let map = |text: &str| text.lines().find(|l| l.starts_with("uid_map")).unwrap().to_owned();
    if bed.lacks("same host user") {
        assert!(map(&a.stdout).contains("'0', '0', '1'"));
    } else {
        assert!(a.stdout.contains("Uid:\t1000\t1000\t1000\t1000"), "{}", a.stdout);
        assert!(a.stdout.contains("Groups:\t \n"), "{}", a.stdout);
        assert!(a.stdout.contains("raas []"), "{}", a.stdout);
        assert_ne!(map(&a.stdout), map(&b.stdout), "two sandboxes at once are two host users");
    }
}

fn devices(bed: &Bed) {
    let ran = bed.python(
        "import os, stat\nprint(sorted(n for n in os.listdir('/dev') if stat.S_ISCHR(os.stat('/dev/' + n).st_mode) and not os.path.islink('/dev/' + n)) if 0 else sorted(n for n in os.listdir('/dev') if not os.path.islink('/dev/' + n)))\n\
         open('/dev/null', 'w').write('x'); print(len(open('/dev/urandom', 'rb').read(8)), open('/dev/zero', 'rb').read(2))\n\
         open('/dev/shm/x', 'w').write('x')",
    );
    assert_eq!(
        ran.stdout, "['full', 'null', 'random', 'shm', 'tty', 'urandom', 'zero']\n8 b'\\x00\\x00'\n",
        "{}",
        ran.stderr
    );
    assert_eq!(ran.exit.cause, ExitCause::Code(0), "{}", ran.stderr);
}

fn runtimes_and_libraries_are_there(bed: &Bed) {
    let ran = bed.python(
        "import ssl, json, sqlite3, hashlib, multiprocessing, pwd, os; print(open('/opt/raas/hello.txt').read())\n\
         print(len(ssl.create_default_context().get_ca_certs()) > 0 or not os.path.exists('/etc/ssl/certs'))\n\
         print(pwd.getpwuid(os.getuid()).pw_dir, multiprocessing.Pool(2).map(abs, [-1, -2]))",
    );
    assert_eq!(ran.stdout, "hello from the runtimes\nTrue\n/tmp [1, 2]\n", "{}", ran.stderr);
}

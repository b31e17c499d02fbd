//! What a sandbox may use.

use raas_sandbox::{Assignment, ExitCause, SandboxError, SandboxLimits};
use tokio::io::AsyncWriteExt;

use crate::Test;
use crate::bed::{Bed, python};

pub const TESTS: &[Test] = &[
    ("memory_hog_is_killed_and_reported", memory_hog_is_killed_and_reported),
    ("memory_hog_in_a_child_is_the_functions_affair", memory_hog_in_a_child_is_the_functions_affair),
    ("assign_changes_the_limits", assign_changes_the_limits),
    ("temporary_files_count_as_memory", temporary_files_count_as_memory),
    ("disk_filler_is_stopped", disk_filler_is_stopped),
    ("fork_bomb_is_bounded", fork_bomb_is_bounded),
    ("cpu_quota_holds", cpu_quota_holds),
    ("usage_is_what_the_kernel_counted", usage_is_what_the_kernel_counted),
];

fn limits(change: impl FnOnce(&mut SandboxLimits)) -> SandboxLimits {
    let mut limits = SandboxLimits::default();
    change(&mut limits);
    limits
}

const HOG: &str = "a = []\nwhile True: a.append(bytes(1 << 20) or a[-1][0]); a[-1] = bytearray(b'x' * (1 << 20))\n";

fn memory_hog_is_killed_and_reported(bed: &Bed) {
    let mut spec = python(HOG);
    spec.limits = limits(|l| l.memory_bytes = 64 << 20);
    let ran = bed.run(spec);
    if bed.lacks("memory limits") {
        assert_eq!(ran.exit.cause, ExitCause::Code(1), "it gets a MemoryError");
        return;
    }
    assert_eq!(ran.exit.cause, ExitCause::Signal(9), "{}", ran.stderr);
    assert!(ran.exit.oom_killed);
}

fn memory_hog_in_a_child_is_the_functions_affair(bed: &Bed) {
    if bed.lacks("memory limits") {
        return;
    }
    // The kernel ends the largest process, which is the child.
    let mut spec = python(&format!(
        "import os, sys\nif os.fork() == 0:\n  exec({HOG:?})\nprint(os.WTERMSIG(os.wait()[1])); sys.exit(4)"
    ));
    spec.limits = limits(|l| l.memory_bytes = 64 << 20);
    let ran = bed.run(spec);
    assert_eq!((ran.stdout.as_str(), ran.exit.cause), ("9\n", ExitCause::Code(4)), "{}", ran.stderr);
    assert!(!ran.exit.oom_killed);
}

fn assign_changes_the_limits(bed: &Bed) {
    if bed.lacks("memory limits") {
        return;
    }
    let code = bed.folder("code", "main.py", "");
    let assign = |memory: u64| Assignment {
        code_dir: code.clone(),
        state_dir: None,
        limits: limits(|l| l.memory_bytes = memory),
    };
    let big = "import os; os.read(3, 1); a = b'x' * (200 << 20); print(len(a))";
    for (before, after, fits) in [(64 << 20, 512 << 20, true), (512 << 20, 64 << 20, false)] {
        let mut spec = python(big);
        spec.limits = limits(|l| l.memory_bytes = before);
        let mut sandbox = bed.create(spec);
        bed.wait(sandbox.handle.assign(assign(after))).unwrap();
        bed.wait(sandbox.io.control.write_all(b"x")).unwrap();
        let ran = bed.finish(sandbox);
        assert_eq!(ran.stdout == "209715200\n", fits, "{} {:?}", ran.stderr, ran.exit);
        assert_eq!(ran.exit.oom_killed, !fits);
    }
    let mut sandbox =
        bed.create(python("a = b'x' * (100 << 20); print('ready', flush=True); import os; os.read(3, 1)"));
    assert_eq!(bed.line(&mut sandbox), "ready");
    let refused = bed.wait(sandbox.handle.assign(assign(32 << 20)));
    assert!(matches!(refused, Err(SandboxError::Setup(_))) || bed.wait(sandbox.handle.exited()).oom_killed);
}

const FILL: &str = "
import errno
def fill(path):
    n = 0
    try:
        with open(path, 'wb', buffering=0) as f:
            while True: n += f.write(b'x' * (1 << 20))
    except OSError as e: print(path, errno.errorcode[e.errno], n >> 20, flush=True)
";

fn disk_filler_is_stopped(bed: &Bed) {
    let mut spec = python(&format!("{FILL}\nfill('/tmp/a'); fill('/dev/shm/a')"));
    spec.limits = limits(|l| l.tmp_bytes = 16 << 20);
    let ran = bed.run(spec);
    assert_eq!(ran.stdout, "/tmp/a ENOSPC 16\n/dev/shm/a ENOSPC 16\n", "{}", ran.stderr);
    // Empty files take memory too.
    let mut spec = python(
        "import errno, os\ntry:\n  for n in range(10**6): os.mknod(f'/tmp/{n}')\nexcept OSError as e: print(errno.errorcode[e.errno])",
    );
    spec.limits = limits(|l| l.memory_bytes = 1 << 30);
    assert_eq!(bed.run(spec).stdout, "ENOSPC\n");
}

fn temporary_files_count_as_memory(bed: &Bed) {
    if bed.lacks("memory limits") {
        return;
    }
    let mut spec = python(&format!("{FILL}\nfill('/tmp/a')"));
    spec.limits = limits(|l| l.memory_bytes = 64 << 20);
    let ran = bed.run(spec);
    assert!(ran.exit.oom_killed, "{}{} {:?}", ran.stdout, ran.stderr, ran.exit);
}

fn fork_bomb_is_bounded(bed: &Bed) {
    let mut spec = python(
        "import os, time, errno\nn = 1\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(1000)\n    n += 1\n\
         except OSError as e: print(errno.errorcode[e.errno], n)",
    );
    spec.limits = limits(|l| l.pids_max = 50);
    let ran = bed.run(spec);
    let (error, count) = ran.stdout.trim().split_once(' ').unwrap();
    assert_eq!(error, "EAGAIN");
    assert!((45..=50).contains(&count.parse::<u32>().unwrap()), "{count}");
    assert_eq!(bed.python("print('still fine')").stdout, "still fine\n");
}

fn cpu_quota_holds(bed: &Bed) {
    if bed.lacks("cpu limits") {
        return;
    }
    let mut spec = python(
        "import os, time\nchild = os.fork()\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\n\
         if child == 0: os._exit(0)\nos.wait()\nt = os.times(); print(t.user + t.system + t.children_user + t.children_system)",
    );
    spec.limits = limits(|l| l.cpu_millis = 500);
    let ran = bed.run(spec);
    let used: f64 = ran.stdout.trim().parse().unwrap();
    assert!(used < 1.6, "two processes used {used} s of CPU in 2 s at half a core");
}

fn usage_is_what_the_kernel_counted(bed: &Bed) {
    let mut sandbox = bed.create(python(
        "import time\nkept = bytearray(b'x' * (50 << 20))\nwhile time.process_time() < 0.3: pass\n\
         print('used', flush=True)\nopen(3, 'rb', closefd=False).read(1)\n",
    ));
    assert_eq!(bed.line(&mut sandbox), "used");
    let usage = bed.wait(sandbox.handle.usage()).unwrap();
    if !bed.lacks("cpu time of helpers") {
        assert!((300_000..3_000_000).contains(&usage.cpu_us), "{usage:?}");
    }
    if !bed.lacks("memory limits") {
        assert!((50 << 20..200 << 20).contains(&usage.memory_bytes), "{usage:?}");
    }
    sandbox.handle.kill();
    bed.wait(sandbox.handle.exited());
    assert!(matches!(bed.wait(sandbox.handle.usage()), Err(SandboxError::Ended)));
}

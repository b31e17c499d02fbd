//! Making, assigning, ending, and what is left when something dies.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use raas_sandbox::{
    Assignment, ExitCause, ExtraMount, Fault, SandboxError, SandboxLimits, SpawnerOptions, clean_up_leftovers,
    start_spawner,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Test;
use crate::bed::{Bed, cgroups_of, command, mounts_below, python, wait_for};

pub const TESTS: &[Test] = &[
    ("runs_a_command", runs_a_command),
    ("latency", latency),
    ("control_socket_is_descriptor_3", control_socket_is_descriptor_3),
    ("assign_shows_code_read_only", assign_shows_code_read_only),
    ("code_from_the_start", code_from_the_start),
    ("writable_folder", writable_folder),
    ("a_kept_folder_is_the_next_sandboxes_too", a_kept_folder_is_the_next_sandboxes_too),
    ("extra_files_and_devices", extra_files_and_devices),
    ("least_limits_suffice_or_fail_cleanly", least_limits_suffice_or_fail_cleanly),
    ("node_runs", node_runs),
    ("many_at_once", many_at_once),
    ("ignoring_sigterm_does_not_help", ignoring_sigterm_does_not_help),
    ("daemons_die_with_the_sandbox", daemons_die_with_the_sandbox),
    ("dropping_the_handle_kills", dropping_the_handle_kills),
    ("cancelled_create_leaves_nothing", cancelled_create_leaves_nothing),
    ("bad_requests_are_refused", bad_requests_are_refused),
    ("dead_spawner_takes_everything_along", dead_spawner_takes_everything_along),
    ("dead_gateway_takes_everything_along", dead_gateway_takes_everything_along),
    ("one_spawner_a_run_folder", one_spawner_a_run_folder),
    ("nothing_is_left_of_ended_sandboxes", nothing_is_left_of_ended_sandboxes),
];

fn assignment(code_dir: &Path) -> Assignment {
    Assignment { code_dir: code_dir.to_owned(), state_dir: None, limits: SandboxLimits::default() }
}

fn runs_a_command(bed: &Bed) {
    let ran =
        bed.python("import os, sys; print(dict(os.environ), os.getcwd()); print('err', file=sys.stderr); sys.exit(7)");
    assert_eq!(ran.exit.cause, ExitCause::Code(7), "{}", ran.stderr);
    assert!(!ran.exit.oom_killed);
    assert_eq!(ran.stdout, "{'PATH': '/usr/bin:/bin', 'RAAS_TEST': '1', 'LC_CTYPE': 'C.UTF-8'} /tmp\n");
    assert_eq!(ran.stderr, "err\n");
}

fn latency(bed: &Bed) {
    let code = bed.folder("code", "main.py", "x = 1");
    let (mut creates, mut assigns, mut kills) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..21 {
        let begin = Instant::now();
        let sandbox = bed.create(command(&["sleep", "1000"]));
        creates.push(begin.elapsed());
        let begin = Instant::now();
        bed.wait(sandbox.handle.assign(assignment(&code))).unwrap();
        assigns.push(begin.elapsed());
        let begin = Instant::now();
        sandbox.handle.kill();
        bed.wait(sandbox.handle.exited());
        kills.push(begin.elapsed());
    }
    for (what, mut times) in [("create", creates), ("assign", assigns), ("kill", kills)] {
        times.sort();
        println!("    {what}: median {:?}, longest {:?}", times[10], times[20]);
        assert!(times[10] < Duration::from_millis(60), "{what} is slow");
    }
}

fn control_socket_is_descriptor_3(bed: &Bed) {
    let mut sandbox = bed.create(python("import socket; s = socket.socket(fileno=3); s.sendall(s.recv(100)[::-1])"));
    let answer = bed.wait(async {
        sandbox.io.control.write_all(b"abc").await.unwrap();
        let mut answer = String::new();
        sandbox.io.control.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert_eq!(answer, "cba");
    assert_eq!(bed.finish(sandbox).exit.cause, ExitCause::Code(0));
}

const TRY_TASK: &str = "
import os, sys
def attempt(what):
    try: what(); print('done')
    except OSError as e: print(e.strerror)
sys.path.insert(0, '/var/task')
import main; print(main.x)
attempt(lambda: open('/var/task/main.py', 'w'))
attempt(lambda: open('/var/task/new', 'w'))
attempt(lambda: os.mkdir('/var/new'))
attempt(lambda: os.rename('/var/task', '/var/other'))
";

fn assign_shows_code_read_only(bed: &Bed) {
    let code = bed.folder("code", "main.py", "x = 42");
    let mut sandbox = bed
        .create(python(&format!("import os\nprint(os.listdir('/var/task'), flush=True)\nos.read(3, 1)\n{TRY_TASK}")));
    assert_eq!(bed.line(&mut sandbox), "[]");
    bed.wait(sandbox.handle.assign(assignment(&code))).unwrap();
    assert!(matches!(bed.wait(sandbox.handle.assign(assignment(&code))), Err(SandboxError::Invalid(_))));
    bed.wait(sandbox.io.control.write_all(b"x")).unwrap();
    let ran = bed.finish(sandbox);
    let refused = "Read-only file system\n";
    assert!(ran.stdout.starts_with(&format!("42\n{refused}{refused}{refused}")), "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains("done"));
}

fn code_from_the_start(bed: &Bed) {
    let mut spec = python(TRY_TASK);
    spec.code_dir = Some(bed.folder("code", "main.py", "x = 43"));
    let ran = bed.run(spec);
    assert!(ran.stdout.starts_with("43\nRead-only"), "{}{}", ran.stdout, ran.stderr);
}

fn writable_folder(bed: &Bed) {
    let out = bed.path("out");
    fs::create_dir(&out).unwrap();
    let mut spec = python("import os; open('/var/out/made', 'w').write('by the sandbox'); os.mkdir('/var/out/d')");
    spec.writable_dir = Some(out.clone());
    let ran = bed.run(spec);
    assert_eq!(ran.exit.cause, ExitCause::Code(0), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(out.join("made")).unwrap(), "by the sandbox");
}

/// Each of two sandboxes is another host user, and both are at home in the folder, at the same time too.
fn a_kept_folder_is_the_next_sandboxes_too(bed: &Bed) {
    let (code, kept) = (bed.folder("code", "main.py", ""), bed.path("kept"));
    fs::create_dir(&kept).unwrap();
    let assignment = || Assignment { state_dir: Some(kept.clone()), ..assignment(&code) };
    let program = "import os\nprint('up', flush=True)\nos.read(3, 1)\n\
        path = '/var/out/count'\n\
        count = int(open(path).read()) if os.path.exists(path) else 0\n\
        open(path, 'w').write(str(count + 1))\n\
        print(count, os.stat(path).st_uid == os.getuid(), flush=True)\nos.read(3, 1)\n";
    let mut sandboxes: Vec<_> = (0..2).map(|_| bed.create(python(program))).collect();
    for (number, sandbox) in sandboxes.iter_mut().enumerate() {
        assert_eq!(bed.line(sandbox), "up");
        bed.wait(sandbox.handle.assign(assignment())).unwrap();
        bed.wait(sandbox.io.control.write_all(b"x")).unwrap();
        assert_eq!(bed.line(sandbox), format!("{number} True"));
    }
    for mut sandbox in sandboxes {
        bed.wait(sandbox.io.control.write_all(b"x")).unwrap();
        let ran = bed.finish(sandbox);
        assert_eq!(ran.exit.cause, ExitCause::Code(0), "{}", ran.stderr);
    }
    assert_eq!(fs::read_to_string(kept.join("count")).unwrap(), "2");
}

fn extra_files_and_devices(bed: &Bed) {
    let folder = bed.folder("driver", "library", "from the host");
    let extra = |source: std::path::PathBuf, target: &str, device: bool| ExtraMount {
        source,
        target: target.into(),
        device,
        writable: device,
    };
    let mut spec = python(
        "import os\nprint(open('/tmp/driver/library').read())\nprint(len(open('/dev/made-up', 'rb').read(7)))\n\
         try: open('/tmp/driver/library', 'w')\nexcept OSError as e: print(e.strerror)\n",
    );
    spec.extras = vec![extra(folder, "/tmp/driver", false), extra("/dev/zero".into(), "/dev/made-up", true)];
    let ran = bed.run(spec);
    assert_eq!(ran.stdout, "from the host\n7\nRead-only file system\n", "{}", ran.stderr);
}

fn least_limits_suffice_or_fail_cleanly(bed: &Bed) {
    let mut spec = command(&["/bin/echo", "hello"]);
    spec.limits =
        SandboxLimits { memory_bytes: 16 << 20, cpu_millis: 10, pids_max: 8, yields: true, tmp_bytes: 64 << 10 };
    for _ in 0..3 {
        assert_eq!(bed.run(spec.clone()).stdout, "hello\n");
    }
}

fn node_runs(bed: &Bed) {
    if !Path::new("/usr/bin/node").exists() {
        return println!("    no /usr/bin/node here");
    }
    let program = "const w = new (require('worker_threads').Worker)('postMessage(6*7)', {eval: true}); w.on('message', async m => { console.log(m, (await require('fs/promises').readFile('/opt/raas/hello.txt', 'utf8')).length); new (require('net').Socket)({fd: 3}).end('over 3', () => process.exit(0)); })".replace("postMessage", "require(\\'worker_threads\\').parentPort.postMessage");
    let mut sandbox = bed.create(command(&["node", "-e", &program]));
    let mut sent = String::new();
    bed.wait(sandbox.io.control.read_to_string(&mut sent)).unwrap();
    let ran = bed.finish(sandbox);
    assert_eq!(
        (ran.stdout.as_str(), sent.as_str(), ran.exit.cause),
        ("42 23\n", "over 3", ExitCause::Code(0)),
        "{}",
        ran.stderr
    );
}

fn many_at_once(bed: &Bed) {
    const COUNT: usize = 24;
    let begin = Instant::now();
    let outputs = bed.wait(async {
        let mut tasks = Vec::new();
        for n in 0..COUNT {
            let spawner = bed.spawner.clone();
            tasks.push(tokio::spawn(async move {
                let mut sandbox =
                    spawner.create(command(&["/bin/sh", "-c", &format!("echo {n}; id -u")])).await.unwrap();
                let mut text = String::new();
                sandbox.io.stdout.read_to_string(&mut text).await.unwrap();
                assert_eq!(sandbox.handle.exited().await.cause, ExitCause::Code(0));
                text
            }));
        }
        let mut outputs = Vec::new();
        for task in tasks {
            outputs.push(task.await.unwrap());
        }
        outputs
    });
    println!("    {COUNT} at once: {:?}", begin.elapsed());
    for (n, text) in outputs.iter().enumerate() {
        assert!(text.starts_with(&format!("{n}\n")), "{text}");
    }
}

fn ignoring_sigterm_does_not_help(bed: &Bed) {
    let mut sandbox = bed.create(python(
        "import signal, time\nfor s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(s, signal.SIG_IGN)\n\
         print('ready', flush=True)\nwhile True: time.sleep(100)",
    ));
    assert_eq!(bed.line(&mut sandbox), "ready");
    sandbox.handle.kill();
    assert_eq!(bed.finish(sandbox).exit.cause, ExitCause::Signal(9));
}

fn daemons_die_with_the_sandbox(bed: &Bed) {
    // The daemon keeps standard output open: reading to the end proves that it is dead.
    let ran = bed.python(
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    print('daemon', flush=True)\n    time.sleep(1000)\n  os._exit(0)\n\
         os.wait()\nimport sys; sys.exit(3)",
    );
    assert_eq!(ran.exit.cause, ExitCause::Code(3));
    assert!(ran.stdout.is_empty() || ran.stdout == "daemon\n");
}

fn dropping_the_handle_kills(bed: &Bed) {
    let mut sandbox = bed.create(python("import time; print('ready', flush=True); time.sleep(1000)"));
    assert_eq!(bed.line(&mut sandbox), "ready");
    let raas_sandbox::Sandbox { handle, mut io } = sandbox;
    drop(handle);
    let mut rest = String::new();
    bed.wait(io.stdout.read_to_string(&mut rest)).unwrap();
}

fn cancelled_create_leaves_nothing(bed: &Bed) {
    bed.wait(async {
        for wait_us in [0, 200, 1000, 3000, 5000, 7000] {
            let create = bed.spawner.create(command(&["sleep", "1000"]));
            let _ = tokio::time::timeout(Duration::from_micros(wait_us), create).await;
        }
    });
    wait_for("the sandboxes nobody has to end", || groups(bed).is_empty() && children(bed.spawner.pid()) == 0);
}

fn bad_requests_are_refused(bed: &Bed) {
    let refused = |spec| bed.wait(bed.spawner.create(spec)).expect_err("refused");
    let absent = refused(command(&["/var/task/absent"]));
    assert!(matches!(&absent, SandboxError::Command(text) if text.contains("/var/task/absent")), "{absent}");
    assert_eq!(absent.fault(), Fault::Function);
    assert!(matches!(refused(command(&["no-such-command"])), SandboxError::Command(_)));
    assert!(matches!(refused(command(&[])), SandboxError::Invalid(_)));
    assert!(matches!(refused(command(&["/bin/sh", &"x".repeat(70_000)])), SandboxError::Invalid(_)));
    let mut relative = command(&["/bin/true"]);
    relative.code_dir = Some("code".into());
    assert!(matches!(refused(relative), SandboxError::Invalid(_)));
    let mut unlimited = command(&["/bin/true"]);
    unlimited.limits.tmp_bytes = 0;
    assert!(matches!(refused(unlimited), SandboxError::Invalid(_)));
    let mut gone = command(&["/bin/true"]);
    gone.code_dir = Some(bed.path("gone"));
    let gone = refused(gone);
    assert!(matches!(gone, SandboxError::Setup(_)) && gone.fault() == Fault::Platform, "{gone}");
    let ended = bed.create(command(&["/bin/true"]));
    assert_eq!(bed.wait(ended.handle.exited()).cause, ExitCause::Code(0));
    let code = bed.folder("code", "a", "");
    assert!(matches!(bed.wait(ended.handle.assign(assignment(&code))), Err(SandboxError::Ended)));
}

/// Sandboxes' own cgroups.
fn groups(bed: &Bed) -> Vec<std::path::PathBuf> {
    let parents = cgroups_of(&bed.path("run"));
    let below = parents.iter().flat_map(|p| fs::read_dir(p).unwrap()).map(|e| e.unwrap());
    below.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.path()).collect()
}

fn children(pid: i32) -> usize {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default().split_whitespace().count()
}

fn dead_spawner_takes_everything_along(bed: &Bed) {
    let code = bed.folder("code", "main.py", "x = 1");
    let mut sandbox = bed.create(python("import time; print('ready', flush=True); time.sleep(1000)"));
    bed.wait(sandbox.handle.assign(assignment(&code))).unwrap();
    assert_eq!(bed.line(&mut sandbox), "ready");
    let pid = bed.spawner.pid();
    let inside: Vec<i32> = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap()
        .split_whitespace()
        .map(|p| p.parse().unwrap())
        .collect();
    assert_eq!(inside.len(), 1);
    // SAFETY: the spawner is this test's own child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    bed.wait(bed.spawner.spawner_gone());
    assert_eq!(bed.wait(sandbox.handle.exited()).cause, ExitCause::SpawnerGone);
    assert!(matches!(bed.wait(bed.spawner.create(command(&["/bin/true"]))), Err(SandboxError::SpawnerGone)));
    let mut rest = String::new();
    bed.wait(sandbox.io.stdout.read_to_string(&mut rest)).unwrap(); // its end means that nobody has it open
    assert!(!Path::new(&format!("/proc/{}", inside[0])).exists());
    assert_eq!(mounts_below(&bed.path("run")), 0);

    let before = cgroups_of(&bed.path("run"));
    let other = Bed::new("other_platform");
    let again = bed.start_again();
    assert!(before.iter().all(|path| !path.exists()), "the next start removes what the dead one left: {before:?}");
    let ran = bed.wait(again.create(command(&["/bin/true"]))).unwrap();
    assert_eq!(bed.wait(ran.handle.exited()).cause, ExitCause::Code(0));
    assert_eq!(other.python("print(1)").stdout, "1\n");
    other.close();
    bed.wait(again.shutdown());
}

/// First argument of the process that plays the gateway.
pub const GATEWAY_ARGUMENT: &str = "gateway";

/// Starts a spawner on the named thread with one sandbox, says their pids, and waits to be killed.
pub fn gateway(args: &[String]) -> ! {
    let root = Path::new(&args[1]);
    let options = SpawnerOptions { run_dir: root.join("run-2"), runtime_dir: root.join("runtimes") };
    let process = match args[2].as_str() {
        "main" => start_spawner(options),
        _ => std::thread::spawn(|| start_spawner(options)).join().unwrap(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let process = process.unwrap();
    let pid = process.pid();
    runtime.block_on(async {
        let spawner = process.connect().unwrap();
        let _sandbox = spawner.create(command(&["sleep", "1000"])).await.unwrap();
        println!("{pid} {}", fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim());
        std::future::pending::<()>().await;
    });
    unreachable!()
}

fn dead_gateway_takes_everything_along(bed: &Bed) {
    for thread in ["main", "other"] {
        let mut gateway = std::process::Command::new(std::env::current_exe().unwrap())
            .args([GATEWAY_ARGUMENT, bed.path("").to_str().unwrap(), thread])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(gateway.stdout.take().unwrap()), &mut line).unwrap();
        let pids: Vec<_> = line.split_whitespace().map(|pid| format!("/proc/{pid}")).collect();
        let alive = pids.len() >= 2 && pids.iter().any(|pid| !is_dead(pid)); // a worker may be among the children still
        gateway.kill().unwrap();
        gateway.wait().unwrap();
        assert!(alive, "the spawner outlives the thread that started it: {line}");
        wait_for("the spawner and its sandbox to end", || pids.iter().all(|pid| is_dead(pid)));
        assert_eq!(mounts_below(&bed.path("run-2")), 0);
        let left = cgroups_of(&bed.path("run-2"));
        clean_up_leftovers(&bed.path("run-2")).unwrap();
        assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    }
}

/// Absent, or only waiting for its parent to take note.
fn is_dead(pid: &str) -> bool {
    fs::read_to_string(format!("{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

fn one_spawner_a_run_folder(bed: &Bed) {
    let options = SpawnerOptions { run_dir: bed.path("run"), runtime_dir: bed.path("runtimes") };
    assert!(matches!(start_spawner(options), Err(SandboxError::RunDirInUse(_))));
    assert!(matches!(clean_up_leftovers(&bed.path("run")), Err(SandboxError::RunDirInUse(_))));
    assert_eq!(bed.python("print(1)").stdout, "1\n");
}

fn nothing_is_left_of_ended_sandboxes(bed: &Bed) {
    let pid = bed.spawner.pid();
    let mounts = || fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap().lines().count();
    let files = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = (mounts(), files());
    for n in 0..10 {
        let mut spec = command(&["/bin/true"]);
        spec.code_dir = Some(bed.folder(&format!("code{n}"), "a", ""));
        assert_eq!(bed.run(spec).exit.cause, ExitCause::Code(0));
    }
    let own = format!("/proc/{pid}/root/.raas");
    wait_for("folders, cgroups and mounts to go", || {
        let empty =
            ["slots", "state", "bundles"].iter().all(|d| fs::read_dir(format!("{own}/{d}")).unwrap().count() == 0);
        empty && groups(bed).is_empty() && (mounts(), files()) == before
    });
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    println!("    spawner: {}", status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default());
}

//! A sandbox's description in the container library's terms (the OCI runtime specification).
//!
//! Pure: from a request and an identity to JSON. What is not said here (cgroups, network, seccomp, code, descriptors) is
//! done by the modules of those names.

use serde_json::{Value, json};

use crate::base::Places;
use crate::cgroup::Controllers;
use crate::identity::Identity;
use crate::protocol::{Network, SandboxLimits, SandboxSpec};

/// Open files a process may have.
const NOFILE_MAX: u64 = 1024;
/// Bytes of POSIX message queues a sandbox may have.
const MSGQUEUE_MAX_BYTES: u64 = 64 * 1024;
/// Size of `/dev/shm`, unless the limit of temporary files is lower.
const SHM_MAX_BYTES: u64 = 64 << 20;
/// Files and folders in `/tmp`.
const TMP_INODES_MAX: u64 = 131_072;
/// Writable memory that a process may map beyond its sandbox's limit where only that can be limited: thread stacks and
/// what allocators reserve count before they are used.
const DATA_HEADROOM_BYTES: u64 = 256 << 20;
/// Where a sandbox starts; the only writable place.
pub(crate) const WORKING_DIR: &str = "/tmp";
/// Host name in every sandbox.
const HOST_NAME: &str = "raas";

const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/dev"];

/// The specification of sandbox `id` in `slot`.
pub(crate) fn build(
    places: &Places,
    id: u64,
    slot: u32,
    identity: Identity,
    sandbox: &SandboxSpec,
    enforced: Controllers,
) -> Value {
    let limits = &sandbox.limits;
    let (host_id, size) = identity.mapping(slot);
    let ids = json!([{"containerID": 0, "hostID": host_id, "size": size}]);
    let user = identity.container_id();
    json!({
        "ociVersion": "1.0.2",
        "hostname": HOST_NAME,
        "root": {"path": places.base, "readonly": true},
        "process": {
            "terminal": false,
            "user": {"uid": user, "gid": user, "umask": 0o022},
            "args": ["sandbox"], // the executor has the real ones
            "env": [],
            "cwd": WORKING_DIR,
            "noNewPrivileges": true,
            "capabilities": {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []},
            "rlimits": resource_limits(limits, enforced),
        },
        "mounts": mounts(places, id, sandbox),
        "linux": {
            "namespaces": [
                {"type": "user"}, {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"},
            ],
            "uidMappings": ids,
            "gidMappings": ids,
            "rootfsPropagation": "slave",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
        },
    })
}

fn resource_limits(limits: &SandboxLimits, enforced: Controllers) -> Value {
    let limit = |kind: &str, value: u64| json!({"type": kind, "soft": value, "hard": value});
    let mut all =
        vec![limit("RLIMIT_NOFILE", NOFILE_MAX), limit("RLIMIT_CORE", 0), limit("RLIMIT_MSGQUEUE", MSGQUEUE_MAX_BYTES)];
    if !enforced.pids {
        all.push(limit("RLIMIT_NPROC", u64::from(limits.pids_max)));
    }
    if !enforced.memory {
        all.push(limit("RLIMIT_DATA", limits.memory_bytes.saturating_add(DATA_HEADROOM_BYTES)));
    }
    Value::Array(all)
}

fn mounts(places: &Places, id: u64, sandbox: &SandboxSpec) -> Value {
    let limits = &sandbox.limits;
    let tmp = limits.tmp_bytes;
    let shm = SHM_MAX_BYTES.min(tmp);
    let size = |bytes: u64| format!("size={bytes}");
    let mut all = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "mode=755", "size=64k"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "nodev", "noexec", "mode=1777", size(shm)]}),
        json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
               "options": ["nosuid", "nodev", "mode=1777", size(tmp), format!("nr_inodes={TMP_INODES_MAX}")]}),
        // Recursive, for what is mounted in it already; a follower of the spawner's mount, for what comes later.
        json!({"destination": "/var", "type": "bind", "source": places.slots.join(id.to_string()),
               "options": ["rbind", "rslave", "ro", "nosuid", "nodev", "noexec"]}),
    ];
    if sandbox.network == Network::Egress {
        all.push(json!({"destination": "/etc/resolv.conf", "type": "bind", "source": places.resolv_conf,
                        "options": ["bind", "ro", "nosuid", "nodev", "noexec"]}));
    }
    for extra in &sandbox.extras {
        let mut options = vec!["bind", "nosuid", if extra.writable { "rw" } else { "ro" }];
        options.extend((!extra.device).then_some("nodev"));
        all.push(json!({"destination": extra.target, "type": "bind", "source": extra.source, "options": options}));
    }
    Value::Array(all)
}

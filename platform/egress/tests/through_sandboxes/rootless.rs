//! The same tests again as an ordinary user, run by the test that runs as root.
//!
//! The user finds the peer already there. Where the machine keeps TUN devices from users, the run gets a device file of its
//! own, in a mount namespace of its own; the machine's stays as it is.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use crate::Test;
use crate::bed::Bed;
use crate::peer::VARIABLE;

pub const TESTS: &[Test] = &[("the_same_as_an_ordinary_user", the_same_as_an_ordinary_user)];

/// Nobody in particular.
const USER: u32 = 54_321;
const SCRIPT: &str = r#"set -e
mkdir "$1/dev"
mount -t tmpfs none "$1/dev"
mknod -m 666 "$1/dev/tun" c 10 200
mount --bind "$1/dev/tun" /dev/net/tun
exec setpriv --reuid "$2" --regid "$2" --clear-groups "$1/tests"
"#;

fn the_same_as_an_ordinary_user(bed: &Bed) {
    let dir = tempfile::Builder::new().prefix("raas-test-rootless-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(dir.path(), Some(USER), Some(USER)).unwrap();
    // Where cargo puts it, others may not be able to look.
    let copy = dir.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let peer = bed.peer();
    let done = Command::new("unshare")
        .args(["--mount", "sh", "-c", SCRIPT, "sh"])
        .arg(dir.path())
        .arg(USER.to_string())
        .env(VARIABLE, format!("{} {}", peer.address, peer.host_address))
        .env("TMPDIR", dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    text.lines().filter(|line| !line.is_empty()).for_each(|line| println!("  | {line}"));
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    assert!(!text.contains("ignored, a network namespace"), "it has the peer");
}

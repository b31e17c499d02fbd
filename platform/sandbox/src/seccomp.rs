//! The system calls a sandbox does not have.
//!
//! A deny-list over everything that changes the machine, crosses sandboxes, or is a large attack surface no function
//! needs; namespaces and the absence of capabilities already refuse most of it, this is the second wall. `ENOSYS` where
//! programs fall back by themselves (clone3, io_uring), `EPERM` elsewhere. Calls of another architecture end the process.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter, sock_filter,
};

/// Compiled filters; all of them apply and the strictest answer wins.
#[derive(Debug, Clone)]
pub(crate) struct Filters(Vec<BpfProgram>);

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Result<T> = std::result::Result<T, seccompiler::Error>;

/// Refused whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // mounts and roots
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_fanotify_init,
    // namespaces
    libc::SYS_unshare,
    libc::SYS_setns,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // kernel keys, code in the kernel, kernel memory
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    // the machine
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // files by handle, around the mount tree
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[libc::c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[libc::c_long] = &[];

/// Answered as if the kernel did not have them.
const ABSENT: &[libc::c_long] =
    &[libc::SYS_clone3, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// Namespace flags of clone(2).
const CLONE_NEW: &[libc::c_int] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// Socket type of the oldest way to raw packets.
const SOCK_PACKET: libc::c_int = 10;

/// Number of the first x32 system call on x86_64, which shares its architecture number.
const X32_BIT: u32 = 0x4000_0000;

impl Filters {
    /// Compiles the filters for this architecture.
    pub(crate) fn compile() -> Result<Self> {
        let mut refused = Rules::new();
        for call in REFUSED.iter().chain(REFUSED_HERE) {
            refused.insert(*call, Vec::new());
        }
        refuse_by_arguments(&mut refused)?;
        let absent = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
        let mut programs = vec![compile(absent, libc::ENOSYS)?, compile(refused, libc::EPERM)?];
        if cfg!(target_arch = "x86_64") {
            programs.push(no_x32());
        }
        Ok(Self(programs))
    }

    /// Applies the filters to this process for good.
    pub(crate) fn apply(&self) -> Result<()> {
        self.0.iter().try_for_each(|program| apply_filter(program))
    }
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?;
    Ok(filter.try_into()?)
}

fn when(argument: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?)
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule> {
    Ok(SeccompRule::new(conditions.into())?)
}

fn refuse_by_arguments(rules: &mut Rules) -> Result<()> {
    use SeccompCmpOp::{Eq, Ge, Le, MaskedEq, Ne};

    let clone = CLONE_NEW.iter().map(|flag| {
        let flag = *flag as u32 as u64;
        rule([when(0, MaskedEq(flag), flag)?])
    });
    rules.insert(libc::SYS_clone, clone.collect::<Result<_>>()?);

    // Sockets: only local, IPv4, IPv6 and route netlink ones, and none that writes raw packets.
    let mut sockets = Vec::new();
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(|f| f as u64);
    for pair in families.windows(2) {
        sockets.push(rule([when(0, Ge, pair[0] + 1)?, when(0, Le, pair[1] - 1)?])?);
    }
    sockets.push(rule([when(0, Ge, families[3] + 1)?])?);
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_RAW, SOCK_PACKET] {
            sockets.push(rule([when(0, Eq, family as u64)?, when(1, MaskedEq(0xf), kind as u64)?])?);
        }
    }
    sockets.push(rule([when(0, Eq, libc::AF_NETLINK as u64)?, when(2, Ne, libc::NETLINK_ROUTE as u64)?])?);
    rules.insert(libc::SYS_socket, sockets);

    let device = |argument| -> Result<Vec<SeccompRule>> {
        [libc::S_IFCHR, libc::S_IFBLK]
            .into_iter()
            .map(|kind| rule([when(argument, MaskedEq(u64::from(libc::S_IFMT)), u64::from(kind))?]))
            .collect()
    };
    rules.insert(libc::SYS_mknodat, device(2)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_mknod, device(1)?);

    // Reading the personality is fine, and so is setting the default one.
    rules.insert(libc::SYS_personality, vec![rule([when(0, Ne, 0)?, when(0, Ne, 0xffff_ffff)?])?]);

    // Typing into another process's terminal.
    #[allow(clippy::unnecessary_cast)] // another integer type on some C libraries
    let inject = [libc::TIOCSTI as u64, libc::TIOCLINUX as u64];
    rules.insert(libc::SYS_ioctl, inject.into_iter().map(|r| rule([when(1, Eq, r)?])).collect::<Result<_>>()?);
    Ok(())
}

/// Ends a process that makes an x32 call. The compiler above knows only whole architectures.
fn no_x32() -> BpfProgram {
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    vec![
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32_BIT),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_compile() {
        assert!(Filters::compile().is_ok());
    }
}

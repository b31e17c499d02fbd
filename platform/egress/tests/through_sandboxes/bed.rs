//! A spawner, a peer and a way out, and ways to run python behind it.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use raas_egress::{Cidr, Egress, EgressOptions, Policy, Resolvers, SandboxNetwork};
use raas_sandbox::{
    ExitCause, Network, Sandbox, SandboxError, SandboxHandle, SandboxLimits, SandboxSpec, Spawner, SpawnerOptions,
    start_spawner,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::runtime::Runtime;

use crate::peer::{DNS_PORT, Peer};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What a sandbox gets that is to go fast in a build that is not optimised.
const MEMORY_BYTES: u64 = 512 << 20;

pub struct Bed {
    runtime: Runtime,
    dir: tempfile::TempDir,
    pub spawner: Spawner,
    pub peer: Option<Peer>,
    /// Lets the peer be reached.
    pub egress: Egress,
}

pub struct Running {
    pub handle: SandboxHandle,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

impl Bed {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("raas-test-egress-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("runtimes")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let options = SpawnerOptions { run_dir: dir.path().join("run"), runtime_dir: dir.path().join("runtimes") };
        let process = start_spawner(options).expect("the spawner starts");
        let spawner = runtime.block_on(async { process.connect().expect("the runtime watches the spawner") });
        let peer = Peer::find();
        let egress = egress_to(peer.as_ref());
        Self { runtime, dir, spawner, peer, egress }
    }

    /// Why a test makes no sense on this machine.
    pub fn cannot_run(&self, name: &str) -> Option<String> {
        let device = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").err();
        match (name, device) {
            ("without_tun_devices_it_says_so", Some(_)) => None,
            ("without_tun_devices_it_says_so", None) => Some("TUN devices can be opened".to_owned()),
            (_, Some(error)) => Some(format!("/dev/net/tun: {error}")),
            ("the_same_as_an_ordinary_user", None) if !nix::unistd::geteuid().is_root() => {
                Some("it is that run".to_owned())
            }
            (name, None) => (self.peer.is_none() && crate::traffic::TESTS.iter().any(|test| test.0 == name))
                .then(|| "a network namespace for the other side needs root".to_owned()),
        }
    }

    pub fn peer(&self) -> &Peer {
        self.peer.as_ref().expect("a peer")
    }

    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("done in time") })
    }

    pub fn create(&self, program: &str) -> Result<Sandbox, SandboxError> {
        self.wait(self.spawner.create(SandboxSpec {
            argv: ["/usr/bin/python3", "-c", program].map(str::to_owned).into(),
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            limits: SandboxLimits { memory_bytes: MEMORY_BYTES, cpu_millis: 4000, ..SandboxLimits::default() },
            network: Network::Egress,
            code_dir: None,
            writable_dir: None,
            extras: Vec::new(),
        }))
    }

    /// Starts a python program whose network is `egress`.
    pub fn start(&self, egress: &Egress, program: &str) -> Running {
        let sandbox = self.create(program).expect("the sandbox is made");
        let (handle, io) = (sandbox.handle, sandbox.io);
        let network = io.network.expect("it has a network");
        let network = SandboxNetwork {
            device: network.fd,
            address: network.address,
            prefix_bits: network.prefix_bits,
            gateway: network.gateway,
            resolver: network.resolver,
            mtu_bytes: network.mtu_bytes,
        };
        let _inside = self.runtime.enter();
        let end = handle.end();
        egress
            .serve(network, handle.id().to_string(), async {
                end.await;
            })
            .expect("the device is served");
        Running { handle, stdout: io.stdout, stderr: io.stderr }
    }

    /// Runs a python program to its end, and returns what it printed.
    pub fn python(&self, egress: &Egress, program: &str) -> String {
        let mut running = self.start(egress, program);
        self.wait(async {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let (a, b) =
                tokio::join!(running.stdout.read_to_string(&mut stdout), running.stderr.read_to_string(&mut stderr));
            a.unwrap();
            b.unwrap();
            assert_eq!(running.handle.exited().await.cause, ExitCause::Code(0), "{stdout}{stderr}");
            stdout
        })
    }

    /// Reads one line of a sandbox's standard output.
    pub fn line(&self, running: &mut Running) -> String {
        self.wait(async {
            let mut line = Vec::new();
            loop {
                match running.stdout.read_u8().await {
                    Ok(b'\n') | Err(_) => return String::from_utf8_lossy(&line).into_owned(),
                    Ok(byte) => line.push(byte),
                }
            }
        })
    }

    /// Ends everything and checks that nothing is left open for sandboxes.
    pub fn close(self) {
        self.runtime.block_on(self.spawner.clone().shutdown());
        wait_for("the networks of all sandboxes to end", || self.egress.metrics().sandboxes == 0);
        assert_eq!(self.egress.metrics().connections, 0, "no connection is left");
        drop((self.peer, self.dir));
    }
}

/// Lets sandboxes reach a peer, and ask its name server.
pub fn egress_to(peer: Option<&Peer>) -> Egress {
    let allow: Vec<Cidr> = peer.iter().map(|peer| Cidr::containing(peer.address.into(), 30)).collect();
    let resolvers: Vec<SocketAddr> = peer.iter().map(|peer| (peer.address, DNS_PORT).into()).collect();
    Egress::new(EgressOptions { policy: Policy { allow, deny: Vec::new() }, resolvers: Resolvers::Fixed(resolvers) })
}

/// Looks until it is so.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

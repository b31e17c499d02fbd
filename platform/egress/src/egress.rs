//! The way out for all sandboxes: the policy, the bounds on all of them together, and the figures.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cidr::Cidr;
use crate::host;
use crate::limits::SOCKETS_MAX;
use crate::metrics::{Counters, EgressMetrics};
use crate::policy::Policy;
use crate::resolvers::{CurrentResolvers, Resolvers};
use crate::sandbox::Sandbox;
use crate::stack::Stack;
use crate::tun::Tun;

/// What can be chosen.
#[derive(Debug, Clone, Default)]
pub struct EgressOptions {
    /// The operator's rules.
    pub policy: Policy,
    /// Who answers sandboxes' DNS queries.
    pub resolvers: Resolvers,
}

/// A sandbox's end of the network: the device's descriptor, and what the sandbox believes about it.
#[derive(Debug)]
pub struct SandboxNetwork {
    /// A TUN device without packet information that does not block.
    pub device: OwnedFd,
    /// The sandbox's address.
    pub address: Ipv4Addr,
    /// Bits of its network's prefix.
    pub prefix_bits: u8,
    /// Its next hop.
    pub gateway: Ipv4Addr,
    /// Where it sends DNS queries.
    pub resolver: Ipv4Addr,
    /// Largest packet.
    pub mtu_bytes: u16,
}

/// Lets sandboxes out. Cheap to clone.
#[derive(Clone)]
pub struct Egress(Arc<Shared>);

/// What all sandboxes share.
pub(crate) struct Shared {
    pub(crate) policy: Policy,
    pub(crate) resolvers: CurrentResolvers,
    pub(crate) counters: Arc<Counters>,
    sockets: Arc<Semaphore>,
}

impl Shared {
    /// The right to a socket; `None` when there are too many.
    pub(crate) fn socket(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.sockets).try_acquire_owned().ok()
    }
}

impl Egress {
    /// A way out. Sandboxes' sockets may take half of the files that this process may open.
    pub fn new(options: EgressOptions) -> Self {
        let sockets = SOCKETS_MAX.min(host::open_files_max() / 2);
        Self(Arc::new(Shared {
            policy: options.policy,
            resolvers: CurrentResolvers::new(options.resolvers),
            counters: Arc::default(),
            sockets: Arc::new(Semaphore::new(sockets)),
        }))
    }

    /// Carries a sandbox's packets in a task of its own until `end`, with which all its connections end. `name` is for logs.
    /// Must be called inside a Tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The runtime cannot watch the device.
    pub fn serve(
        &self,
        network: SandboxNetwork,
        name: String,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let SandboxNetwork { device, address, prefix_bits, gateway, resolver, mtu_bytes } = network;
        let tun = Arc::new(Tun::new(device)?);
        let stack = Stack::new(Arc::clone(&tun), gateway, prefix_bits, mtu_bytes);
        let sandbox = Arc::new(Sandbox {
            shared: Arc::clone(&self.0),
            name,
            tun,
            stack: Arc::new(Mutex::new(stack)),
            address,
            resolver,
            own_network: Cidr::containing(IpAddr::V4(address), prefix_bits),
            connections: Mutex::default(),
            queries: Sandbox::queries(),
            logged: false.into(),
        });
        tokio::spawn(sandbox.run(end));
        Ok(())
    }

    /// The figures of all sandboxes.
    pub fn metrics(&self) -> EgressMetrics {
        self.0.counters.read()
    }
}

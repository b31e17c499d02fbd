//! The way out of a sandbox: a user-space network stack behind each sandbox that may reach others, and the policy of what it
//! may reach.
//!
//! A sandbox's packets arrive through a descriptor; each TCP connection and UDP flow in them becomes an ordinary socket of
//! this process, so no privilege is needed and nothing on the host changes. The key invariant: no packet of a sandbox's
//! reaches a socket before [`Policy::check`] has passed its destination address, at the moment of connecting; a sandbox can
//! neither resolve nor redirect its way around that. Everything a sandbox can make this process hold is bounded.
//!
//! Must not know: what runs in a sandbox, how sandboxes are made, HTTP, names. IPv6 is left out: a sandbox has no route for
//! it, so programs fall back to IPv4 at once.

mod cidr;
mod connection;
mod datagrams;
mod dns;
mod egress;
mod host;
mod limits;
mod metrics;
mod packet;
mod policy;
mod relay;
mod resolvers;
mod sandbox;
mod stack;
mod tun;

pub use cidr::{Cidr, CidrError};
pub use egress::{Egress, EgressOptions, SandboxNetwork};
pub use metrics::EgressMetrics;
pub use policy::{Policy, Refusal};
pub use resolvers::Resolvers;

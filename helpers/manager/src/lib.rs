//! Persistent helpers, apart from what runs them: what state an instance is in, what its configuration and its methods'
//! arguments must look like, which helpers may call which, what its devices are, and how state written by many calls becomes durable at once.
//!
//! It must not know HTTP, sandboxes or scheduling: the server starts replicas with the scheduler that starts functions, and
//! asks here what the rules are.

mod bindings;
mod breaker;
mod devices;
mod lifecycle;
mod schema;
mod state;

pub use bindings::{BindingError, check_bindings};
pub use breaker::Breaker;
pub use devices::{DeviceEdits, DeviceError, DeviceMount, find_devices};
pub use lifecycle::{AdminState, InstanceState, Observation, Observed};
pub use schema::{Schema, SchemaError};
pub use state::{StateError, StateWriter, StateWriterService, parse_commit, state_writer};

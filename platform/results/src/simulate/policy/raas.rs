//! The store's own policy, one tenant.

use std::hash::{BuildHasherDefault, DefaultHasher};

use super::Policy;
use crate::policy::{Attributes, CostAware, CostAwareOptions};
use crate::simulate::trace::Request;

pub struct Raas {
    /// With a fixed hasher, so that a run can be repeated.
    store: CostAware<u64, (), (), BuildHasherDefault<DefaultHasher>>,
}

impl Raas {
    pub fn new(capacity: u64) -> Self {
        Self { store: CostAware::new(CostAwareOptions { capacity, share: None }) }
    }
}

impl Policy for Raas {
    fn serve(&mut self, request: &Request) -> bool {
        let hit = self.store.get(&request.key).is_some();
        if !hit {
            let attributes = Attributes { size: request.size, cost_us: request.cost_us, tenant: () };
            self.store.insert(request.key, (), attributes);
        }
        hit
    }

    fn holds(&self, key: u64) -> bool {
        self.store.peek(&key).is_some()
    }

    fn held(&self) -> u64 {
        self.store.weight()
    }
}

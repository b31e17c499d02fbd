//! Admission: how many calls may be in progress, of all tenants and of one, and how much memory their events may take.
//!
//! It must not know what a call is for; a place is given back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::routing::Principal;

/// Bounds on calls in progress.
pub struct Admission {
    in_flight: Arc<AtomicU64>,
    in_flight_max: u64,
    tenant_in_flight_max: u64,
    event_bytes: Arc<AtomicU64>,
    event_bytes_max: u64,
    refused: AtomicU64,
}

/// A call's place among those in progress; given back when dropped.
pub struct Admitted {
    /// The counters of all calls and of the tenant's; none for a call within one that is counted already.
    counted: Option<(Arc<AtomicU64>, Arc<AtomicU64>)>,
    /// The event's share of the memory that all events may take, and how much that is.
    event: Option<(Arc<AtomicU64>, u64)>,
}

/// Why a call was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The platform has all the calls it takes.
    #[error("the platform has as many calls in progress as it takes; try again in a moment")]
    Platform,
    /// The tenant has.
    #[error("this tenant has as many calls in progress as one tenant may; try again when some are answered")]
    Tenant,
}

impl Admission {
    /// Bounds for all tenants together and for one.
    pub fn new(in_flight_max: u32, tenant_in_flight_max: u32, events_max_mb: u32) -> Self {
        Self {
            in_flight: Arc::default(),
            in_flight_max: u64::from(in_flight_max),
            tenant_in_flight_max: u64::from(tenant_in_flight_max),
            event_bytes: Arc::default(),
            event_bytes_max: u64::from(events_max_mb) << 20,
            refused: AtomicU64::new(0),
        }
    }

    /// A place for one call.
    ///
    /// # Errors
    /// [`Refused`] when there is none.
    pub fn admit(&self, principal: &Principal) -> Result<Admitted, Refused> {
        let counters = (Arc::clone(&self.in_flight), Arc::clone(&principal.in_flight));
        let all = counters.0.fetch_add(1, Ordering::Relaxed);
        let tenant = counters.1.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted { counted: Some(counters), event: None };
        let refused = if all >= self.in_flight_max {
            Refused::Platform
        } else if tenant >= self.tenant_in_flight_max {
            Refused::Tenant
        } else {
            return Ok(admitted);
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(refused)
    }

    /// Room for an event of so many bytes, until the call ends.
    ///
    /// # Errors
    /// [`Refused::Platform`] when the events in progress take all the memory they may.
    pub fn reserve(&self, admitted: &mut Admitted, bytes: u64) -> Result<(), Refused> {
        let before = self.event_bytes.fetch_add(bytes, Ordering::Relaxed);
        admitted.event = Some((Arc::clone(&self.event_bytes), bytes));
        if before + bytes > self.event_bytes_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::Platform);
        }
        Ok(())
    }

    /// Calls in progress.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Calls refused so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Admitted {
    /// The place of a call that code makes while it is itself called: its caller's counts for both.
    pub fn within_a_call() -> Self {
        Self { counted: None, event: None }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some((all, tenant)) = &self.counted {
            all.fetch_sub(1, Ordering::Relaxed);
            tenant.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some((bytes, reserved)) = &self.event {
            bytes.fetch_sub(*reserved, Ordering::Relaxed);
        }
    }
}

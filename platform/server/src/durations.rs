//! How long answers took, as histograms for `/metrics`: one for each thing that may serve a call.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use raas_core::ServedBy;

/// The label by which the histograms differ.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    served_by: &'static str,
}

/// The histograms. Recording is a few nanoseconds under a lock that nobody holds for longer.
pub struct CallDurations {
    family: Family<Labels, Histogram>,
    // Held apart from the family, so that recording looks nothing up.
    by_code: [Histogram; ServedBy::ALL.len()],
}

impl Default for CallDurations {
    fn default() -> Self {
        // From 50 microseconds to 100 seconds, each bucket about 2.6 times the one before.
        let new: fn() -> Histogram = || Histogram::new(exponential_buckets(50e-6, 2.637, 16));
        let family = Family::new_with_constructor(new);
        let by_code = ServedBy::ALL
            .map(|served_by| Histogram::clone(&family.get_or_create(&Labels { served_by: served_by.as_str() })));
        Self { family, by_code }
    }
}

impl CallDurations {
    /// Records one answered call.
    pub fn record(&self, served_by: ServedBy, took: Duration) {
        if let Some(histogram) = self.by_code.get(usize::from(served_by.code())) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Shows the histograms in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "call_duration",
            "From a call's arrival to its answer",
            Unit::Seconds,
            self.family.clone(),
        );
    }
}

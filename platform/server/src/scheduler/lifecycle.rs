//! The life of an instance as an explicit state machine. Pure.

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A sandbox is being found: taken from the warming pool, or started.
    Pending,
    /// A booted sandbox is assigned; its limits are set and the code is on its way into it.
    Loading,
    /// The code is imported.
    Loaded,
    /// It takes calls.
    Ready,
    /// It takes no more calls and ends when those in flight have.
    Draining,
    /// Its process is gone.
    Gone,
}

impl Phase {
    /// Whether an instance in this phase may go to `next`. Phases only go forward, none is skipped on the way up, and an
    /// instance may be lost from any of them.
    pub fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Pending, Self::Loading)
            | (Self::Loading, Self::Loaded)
            | (Self::Loaded, Self::Ready)
            | (Self::Ready, Self::Draining) => true,
            (from, Self::Gone) => from != Self::Gone,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Phase::{Draining, Gone, Loaded, Loading, Pending, Ready};

    #[test]
    fn phases_go_forward_one_by_one_and_may_be_lost_from_any() {
        let all = [Pending, Loading, Loaded, Ready, Draining, Gone];
        let allowed: Vec<_> = all
            .iter()
            .flat_map(|from| all.iter().filter(|to| from.may_become(**to)).map(move |to| (*from, *to)))
            .collect();
        assert_eq!(
            allowed,
            [
                (Pending, Loading),
                (Pending, Gone),
                (Loading, Loaded),
                (Loading, Gone),
                (Loaded, Ready),
                (Loaded, Gone),
                (Ready, Draining),
                (Ready, Gone),
                (Draining, Gone),
            ]
        );
    }
}

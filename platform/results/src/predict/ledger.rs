//! What predictions have come to, by source.

use super::proposal::Source;

/// The sums of one source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// Predictions that were checked, computed or not.
    pub predicted: u64,
    /// Those that were handed out to be computed.
    pub handed: u64,
    /// Results that were computed.
    pub computed: u64,
    /// What computing them took, microseconds.
    pub compute_us: u64,
    /// Results that were there when they were first asked for.
    pub used: u64,
    /// What computing those had taken, microseconds.
    pub saved_us: u64,
    /// Asked for after they were handed out and before they were there.
    pub late: u64,
    /// Computed and never asked for: gone from the store, expired or failed.
    pub wasted: u64,
    /// What those had taken, microseconds.
    pub wasted_us: u64,
    /// Used, late and wasted: what is no longer open.
    pub resolved: u64,
}

impl Account {
    /// Used in all that is resolved.
    #[must_use]
    pub fn precision(&self) -> f64 {
        ratio(self.used, self.resolved)
    }

    fn add(&mut self, other: &Self) {
        self.predicted += other.predicted;
        self.handed += other.handed;
        self.computed += other.computed;
        self.compute_us += other.compute_us;
        self.used += other.used;
        self.saved_us += other.saved_us;
        self.late += other.late;
        self.wasted += other.wasted;
        self.wasted_us += other.wasted_us;
        self.resolved += other.resolved;
    }
}

/// The sums of a bank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ledger {
    /// Calls.
    pub calls: u64,
    accounts: [Account; Source::ALL.len()],
}

impl Ledger {
    /// One source's.
    #[must_use]
    pub const fn of(&self, source: Source) -> &Account {
        &self.accounts[source.index()]
    }

    pub(super) const fn of_mut(&mut self, source: Source) -> &mut Account {
        &mut self.accounts[source.index()]
    }

    /// This and another, of the same version at another time, together.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.calls += other.calls;
        self.accounts.iter_mut().zip(&other.accounts).for_each(|(account, more)| account.add(more));
        self
    }

    /// All sources together.
    #[must_use]
    pub fn total(&self) -> Account {
        let mut total = Account::default();
        self.accounts.iter().for_each(|account| total.add(account));
        total
    }

    /// Used in all that is resolved.
    #[must_use]
    pub fn precision(&self) -> f64 {
        self.total().precision()
    }

    /// Calls whose result had been computed ahead and was asked for the first time, in all calls.
    #[must_use]
    pub fn coverage(&self) -> f64 {
        ratio(self.total().used, self.calls)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

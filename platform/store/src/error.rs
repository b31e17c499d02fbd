//! What the store answers when it cannot do what was asked.

use sqlx::error::ErrorKind;

/// Why a store method failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such thing, or it belongs to another tenant.
    #[error("{what} not found")]
    NotFound {
        /// The kind of thing, in words.
        what: &'static str,
    },
    /// It is taken, or in a state that forbids this.
    #[error("{what}")]
    Conflict {
        /// What is in the way, as a sentence without a full stop.
        what: &'static str,
    },
    /// The caller asked for what can never be.
    #[error("{what}")]
    Invalid {
        /// What is wrong, as a sentence without a full stop.
        what: &'static str,
    },
    /// What is written does not fit what its owner may keep.
    #[error("the quota of {limit_bytes} bytes does not hold it")]
    Quota {
        /// The quota.
        limit_bytes: u64,
    },
    /// The address of the database cannot be used.
    #[error("database address: {what}")]
    Address {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The database could not be reached, or was too busy.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// There is no room left where the database lies; nothing was written.
    #[error("the database's disk is full")]
    Full(#[source] sqlx::Error),
    /// The deadline passed; a write may have been done all the same.
    #[error("the database did not answer in time")]
    Timeout,
    /// A stored value is not what this release writes.
    #[error("stored {what} cannot be read")]
    Corrupt {
        /// The value.
        what: &'static str,
    },
    /// The schema could not be brought up to date.
    #[error("the database schema could not be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The database refused a statement that it should have taken: a fault of the platform.
    #[error("the database refused a statement")]
    Refused(#[source] sqlx::Error),
}

impl StoreError {
    /// Whether the same call may succeed later with nothing changed by the caller.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Full(_) | Self::Timeout => true,
            Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Invalid { .. }
            | Self::Quota { .. }
            | Self::Address { .. }
            | Self::Corrupt { .. }
            | Self::Migrate(_)
            | Self::Refused(_) => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Self::Unavailable(error)
            }
            E::Database(refusal) => match refusal.kind() {
                ErrorKind::UniqueViolation => Self::Conflict { what: "it exists already" },
                ErrorKind::ForeignKeyViolation => Self::Conflict { what: "it refers to something that is not there" },
                _ if refusal.code().is_some_and(|code| full(&code)) => Self::Full(error),
                _ if refusal.code().is_some_and(|code| passing(&code)) => Self::Unavailable(error),
                _ => Self::Refused(error),
            },
            _ => Self::Refused(error),
        }
    }
}

/// SQLite's error number, where a code is one: extended codes come in decimal, with the primary one in the low byte.
fn sqlite(code: &str) -> Option<u32> {
    if code.len() < 5 { code.parse::<u32>().ok().map(|number| number & 0xff) } else { None }
}

/// Whether a database's error code says that it has no room left.
fn full(code: &str) -> bool {
    const SQLITE_FULL: u32 = 13;
    sqlite(code).map_or(code == "53100", |number| number == SQLITE_FULL)
}

/// Whether a database's error code speaks of its state and not of the statement.
fn passing(code: &str) -> bool {
    if let Some(number) = sqlite(code) {
        const BUSY_LOCKED_IOERR_CANTOPEN: [u32; 4] = [5, 6, 10, 14];
        return BUSY_LOCKED_IOERR_CANTOPEN.contains(&number);
    }
    // Postgres: connection, resources, operator intervention, system error; serialisation failure and deadlock.
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) || ["40001", "40P01", "55P03"].contains(&code)
}

//! The parts of a manifest: its words (runtimes, modes, scopes) and its tables.

use crate::limits;
use crate::pointer::JsonPointer;
use crate::tag::TagTemplate;

/// An enum whose variants are words of the manifest.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every word of the kind, in the order they are documented.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word as the manifest has it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one that a word names.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// What runs a function's code.
    Runtime {
        /// The machine's Python 3 with our SDK.
        Python3 = "python3",
        /// The machine's Node with our SDK.
        Node = "node",
        /// An executable of the package that speaks the AWS Lambda Runtime API.
        Provided = "provided",
        /// A server of the package that listens on `$PORT`.
        Http = "http",
        /// An OCI image.
        Image = "image",
    }
}

words! {
    /// What a function may reach over the network.
    Network {
        /// Nothing.
        None = "none",
        /// Connections to the outside.
        Egress = "egress",
    }
}

words! {
    /// On whose word a function's results are kept.
    CacheMode {
        /// Results are not kept.
        Off = "off",
        /// The author says that equal arguments give equal results.
        Declared = "declared",
        /// The platform has shown it.
        Proven = "proven",
    }
}

words! {
    /// Who may be served a kept result.
    CacheScope {
        /// Callers of the function's tenant.
        Tenant = "tenant",
        /// Every caller.
        Public = "public",
    }
}

/// `[scaling]`: how many instances, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// Instances kept even when unused.
    pub min: u32,
    /// Instances at most.
    pub max: u32,
    /// How long an unused instance is kept.
    pub idle_s: u32,
    /// Requests at once in one instance; 1 is exclusive mode.
    pub concurrency: u32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min: 0,
            max: limits::SCALING_DEFAULT_MAX_INSTANCES,
            idle_s: limits::SCALING_IDLE_DEFAULT_S,
            concurrency: 1,
        }
    }
}

/// `[cache]`: which results are kept.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Whether results are kept, and on whose word.
    pub mode: CacheMode,
    /// How long a result is fresh.
    pub ttl_s: u32,
    /// How long past that it may still be served while a fresh one is computed.
    pub stale_while_revalidate_s: u32,
    /// How long past its time a result may be served when no fresh one can be had.
    #[serde(default)]
    pub stale_if_error_s: u32,
    /// The types of the function's errors that are kept, too: an error is then an answer like any other.
    #[serde(default)]
    pub errors: Vec<String>,
    /// How long such an error is fresh.
    #[serde(default = "error_ttl_default")]
    pub error_ttl_s: u32,
    /// By what results can be dropped together.
    #[serde(default)]
    pub tags: Vec<TagTemplate>,
    /// The parts of the event that decide the result; none means the whole event.
    pub key: Option<Vec<JsonPointer>>,
    /// Who may be served a kept result.
    pub scope: CacheScope,
}

/// For versions that were deployed before it could be said.
fn error_ttl_default() -> u32 {
    limits::CACHE_ERROR_TTL_DEFAULT_S
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            mode: CacheMode::Off,
            ttl_s: limits::CACHE_TTL_DEFAULT_S,
            stale_while_revalidate_s: 0,
            stale_if_error_s: 0,
            errors: Vec::new(),
            error_ttl_s: limits::CACHE_ERROR_TTL_DEFAULT_S,
            tags: Vec::new(),
            key: None,
            scope: CacheScope::Tenant,
        }
    }
}

/// `[precompute]`: whether results are computed before anyone asks.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precompute {
    /// Whether they are.
    pub enabled: bool,
    /// The share of the machine's idle processor time it may take, in thousandths (`cpu_share = 0.1` is 100).
    pub cpu_share_millis: u32,
    /// Events that the author expects, the likeliest first.
    #[serde(default)]
    pub candidates: Vec<serde_json::Value>,
}

impl Default for Precompute {
    fn default() -> Self {
        Self { enabled: false, cpu_share_millis: limits::PRECOMPUTE_CPU_SHARE_DEFAULT_MILLIS, candidates: Vec::new() }
    }
}

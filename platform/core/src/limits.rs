//! Every limit of the platform by name, with its unit last.
//!
//! A limit here is either the range a manifest value must lie in or the default of a setting. Whoever enforces one
//! counts how often it is hit.

/// Largest request body of a synchronous call, and largest response body: 6 MiB.
pub const BODY_MAX_BYTES: usize = 6 * 1024 * 1024;
/// Largest event of an asynchronous call: 1 MiB.
pub const ASYNC_EVENT_MAX_BYTES: usize = 1024 * 1024;
/// Largest header block of a request: 32 KiB.
pub const HEADER_BLOCK_MAX_BYTES: usize = 32 * 1024;
/// Deepest nesting of arrays and objects in an event.
pub const EVENT_DEPTH_MAX: usize = 128;

/// Largest code package once unpacked: 250 MiB.
pub const PACKAGE_UNPACKED_MAX_BYTES: u64 = 250 * 1024 * 1024;
/// Largest upload of a code package, still packed: 100 MiB.
pub const PACKAGE_UPLOAD_MAX_BYTES: u64 = 100 * 1024 * 1024;
/// Most entries (files, folders and links) in a code package.
pub const PACKAGE_ENTRIES_MAX: usize = 20_000;
/// Deepest folder in a code package, in path components.
pub const PACKAGE_DEPTH_MAX: usize = 32;
/// Longest name of one path component in a code package.
pub const PACKAGE_NAME_MAX_BYTES: usize = 255;

/// Shortest timeout of a function.
pub const TIMEOUT_MIN_S: u32 = 1;
/// Longest timeout of a function: 15 minutes.
pub const TIMEOUT_MAX_S: u32 = 900;
/// Timeout of a function that names none.
pub const TIMEOUT_DEFAULT_S: u32 = 30;

/// Least memory of a function.
pub const MEMORY_MIN_MB: u32 = 64;
/// Most memory of a function: 10 GiB.
pub const MEMORY_MAX_MB: u32 = 10 * 1024;
/// Memory of a function that names none.
pub const MEMORY_DEFAULT_MB: u32 = 256;

/// Least temporary file space of an instance.
pub const TMP_MIN_MB: u32 = 1;
/// Most temporary file space of an instance: 10 GiB.
pub const TMP_MAX_MB: u32 = 10 * 1024;
/// Temporary file space of a function that names none.
pub const TMP_DEFAULT_MB: u32 = 512;

/// Least processor share of an instance, in thousandths of a processor.
pub const CPU_MIN_MILLIS: u32 = 50;
/// Most processors of an instance, in thousandths of a processor.
pub const CPU_MAX_MILLIS: u32 = 16_000;
/// Processor share of a function that names none: one processor.
pub const CPU_DEFAULT_MILLIS: u32 = 1_000;

/// Most processes and threads in one sandbox.
pub const PROCESSES_MAX: u32 = 512;

/// Most instances a function may ask for.
pub const SCALING_MAX_INSTANCES: u32 = 1_000;
/// Most instances of a function that names no maximum.
pub const SCALING_DEFAULT_MAX_INSTANCES: u32 = 10;
/// Longest time an unused instance may be kept: one day.
pub const SCALING_IDLE_MAX_S: u32 = 86_400;
/// How long an unused instance is kept where the function does not say.
pub const SCALING_IDLE_DEFAULT_S: u32 = 60;
/// Most requests at once in one instance.
pub const CONCURRENCY_MAX_REQUESTS: u32 = 1_000;
/// Most requests that wait for one function.
pub const QUEUE_MAX_WAITS: usize = 1_000;
/// Most warm sandboxes of one runtime in the pool.
pub const POOL_MAX_SANDBOXES: usize = 64;

/// Longest time a result may be kept: one year.
pub const CACHE_TTL_MAX_S: u32 = 365 * 86_400;
/// How long a result is kept where the function does not say: one hour.
pub const CACHE_TTL_DEFAULT_S: u32 = 3_600;
/// Most JSON pointers in `cache.key`.
pub const CACHE_KEY_POINTERS_MAX: usize = 64;
/// Longest JSON pointer in `cache.key`.
pub const CACHE_KEY_POINTER_MAX_BYTES: usize = 512;
/// How long an error is kept where the function says which but not for how long.
pub const CACHE_ERROR_TTL_DEFAULT_S: u32 = 10;
/// Most types of errors that a function may have kept.
pub const CACHE_ERRORS_MAX: usize = 32;
/// Longest name of a type of error.
pub const CACHE_ERROR_NAME_MAX_BYTES: usize = 128;
/// Most tags of one function's results.
pub const CACHE_TAGS_MAX: usize = 8;
/// Longest tag, or template of one.
pub const CACHE_TAG_MAX_BYTES: usize = 256;
/// Largest result that is kept: 1 MiB.
pub const CACHE_ENTRY_MAX_BYTES: usize = 1024 * 1024;
/// Size of the memory tier where the operator does not say: 256 MiB.
pub const CACHE_MEMORY_DEFAULT_BYTES: u64 = 256 * 1024 * 1024;

/// Most of the machine's idle processor time that precomputation may take where the function does not say, in
/// thousandths.
pub const PRECOMPUTE_CPU_SHARE_DEFAULT_MILLIS: u32 = 100;

/// Most events that an author may name to be computed ahead.
pub const PRECOMPUTE_CANDIDATES_MAX: usize = 64;
/// Largest of them, as JSON text: 4 KiB.
pub const PRECOMPUTE_CANDIDATE_MAX_BYTES: usize = 4 * 1024;

/// Longest function name.
pub const FUNCTION_NAME_MAX_BYTES: usize = 64;
/// Longest `handler`.
pub const HANDLER_MAX_BYTES: usize = 256;
/// Most environment variables of a function.
pub const ENV_MAX_VARIABLES: usize = 256;
/// Most bytes of a function's environment, names and values together: 32 KiB.
pub const ENV_MAX_BYTES: usize = 32 * 1024;
/// Most helpers bound to one function.
pub const HELPERS_MAX_BINDINGS: usize = 64;
/// Largest `raas.toml`: 256 KiB.
pub const MANIFEST_MAX_BYTES: usize = 256 * 1024;

/// Most rows in one page of a listing.
pub const PAGE_MAX_ROWS: u32 = 100;
/// Longest log line; what is past it is cut off: 64 KiB.
pub const LOG_LINE_MAX_BYTES: usize = 64 * 1024;
/// How long log lines are kept: 7 days.
pub const LOG_KEPT_S: u64 = 7 * 86_400;

/// Longest key of a helper's state.
pub const STATE_KEY_MAX_BYTES: usize = 512;
/// Largest value of a helper's state: 1 MiB.
pub const STATE_VALUE_MAX_BYTES: usize = 1024 * 1024;
/// Largest commit of a helper's state: 4 MiB.
pub const STATE_COMMIT_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most writes of one commit of a helper's state.
pub const STATE_COMMIT_MAX_WRITES: usize = 1_000;
/// Most keys of one list of a helper's state.
pub const STATE_LIST_MAX_KEYS: u32 = 1_000;
/// Quota of a helper instance's state where the manifest names none.
pub const STATE_DEFAULT_MB: u32 = 64;
/// Largest quota of a helper instance's state: 10 GiB.
pub const STATE_MAX_MB: u32 = 10 * 1024;
/// Deepest nesting of helpers that call helpers.
pub const HELPER_CALL_DEPTH_MAX: u32 = 8;
/// How long a helper may take to start where the manifest says nothing.
pub const HELPER_START_DEFAULT_S: u32 = 60;
/// How long an idle replica is kept where the manifest says nothing.
pub const HELPER_IDLE_DEFAULT_S: u32 = 300;
/// Most methods a helper's manifest may name.
pub const HELPER_METHODS_MAX: usize = 200;
/// Longest summary of a helper.
pub const HELPER_SUMMARY_MAX_CHARS: usize = 200;
/// Longest time that a hook beside `start` and `train` may take: ten minutes.
pub const HOOK_TIMEOUT_MAX_S: u32 = 600;
/// Longest run of `train()`: one hour.
pub const TRAIN_TIMEOUT_MAX_S: u32 = 3_600;
/// Run of `train()` where the manifest names no timeout.
pub const TRAIN_TIMEOUT_DEFAULT_S: u32 = 300;
/// Longest interval between two runs of `train()`: 31 days.
pub const TRAIN_EVERY_MAX_S: u32 = 31 * 86_400;
/// Most candidates of one look ahead.
pub const CANDIDATES_MAX: u32 = 10_000;
/// Candidates of one look ahead where the manifest says nothing.
pub const CANDIDATES_DEFAULT: u32 = 1_000;
/// Most devices of a helper.
pub const DEVICES_MAX: u32 = 16;
/// Most plans of a helper.
pub const PLANS_MAX: usize = 20;

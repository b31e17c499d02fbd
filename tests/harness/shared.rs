//! One platform a theme, for tests that do not mind each other; stopped and searched for leftovers when all have run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Once, OnceLock};

use super::{Options, Platform};

type Platforms = Mutex<HashMap<&'static str, Arc<OnceLock<Arc<Platform>>>>>;

fn platforms() -> &'static Platforms {
    static PLATFORMS: OnceLock<Platforms> = OnceLock::new();
    PLATFORMS.get_or_init(Platforms::default)
}

/// The platform of this name, started by whoever asks first with what `options` says.
pub fn shared(name: &'static str, options: impl FnOnce() -> Options) -> Arc<Platform> {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // SAFETY: a plain function without arguments. The test runner leaves through exit(3), so it is called.
        unsafe { libc::atexit(stop_all) };
    });
    let place = Arc::clone(platforms().lock().unwrap_or_else(|poison| poison.into_inner()).entry(name).or_default());
    Arc::clone(place.get_or_init(|| Arc::new(options().start())))
}

extern "C" fn stop_all() {
    let all = std::mem::take(&mut *platforms().lock().unwrap_or_else(|poison| poison.into_inner()));
    let mut failed = false;
    for (name, place) in all {
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let platform = place.get()?;
            platform.stop().err()
        }));
        match stopped {
            Ok(None) => {}
            Ok(Some(problems)) => {
                failed = true;
                eprintln!("\nthe platform of the theme `{name}` did not end as it should:\n{problems}");
            }
            Err(_) => failed = true,
        }
    }
    if failed {
        // SAFETY: ends the process at once, with the status of a failed test run.
        unsafe { libc::_exit(101) };
    }
}

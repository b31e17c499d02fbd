//! The platform's own log: to standard error, filtered, as text or as JSON.

use tracing_subscriber::EnvFilter;

use super::failure::{Failure, Outcome};
use crate::settings::{LogFormat, TelemetrySettings};

/// Begins to write the log.
///
/// # Errors
/// The filter cannot be read.
pub fn start(settings: &TelemetrySettings, colours: bool) -> Outcome {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| {
        Failure::Usage(format!("telemetry.log: `{}` is not a filter such as `info`: {error}", settings.log))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => log.with_ansi(colours).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::local("cannot-start", format!("the log cannot be written: {error}")))
}

//! `raas up`: a platform on this machine, from its settings to its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::UpArguments;
use super::context::{Context, write_context};
use super::failure::{Failure, Outcome};
use super::screen::Screen;
use super::telemetry;
use crate::platform::{self, Started, Stop};
use crate::settings::{Settings, SettingsError};

/// Runs a platform until it is told to stop.
///
/// # Errors
/// The settings cannot be used, or the platform cannot start.
pub fn run(screen: Screen, arguments: UpArguments) -> Outcome {
    let settings = settings(arguments)?;
    telemetry::start(&settings.telemetry, screen.err_colour())?;
    // The spawner is made before there is any thread, and it lives as long as this thread, the main one, does.
    let prepared = platform::prepare(settings).map_err(|error| cannot_start(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| cannot_start(&error.into()))?;
    let stop = Stop::default();
    runtime.block_on(async {
        let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let [Ok(terminate), Ok(interrupt)] = signals else {
            return Err(Failure::local("cannot-start", "signals cannot be listened for"));
        };
        tokio::spawn(stop_when_told(stop.clone(), terminate, interrupt));
        platform::run(prepared, stop, |started| announce(screen, started)).await.map_err(|error| cannot_start(&error))
    })
}

/// The settings: the file, then the environment, then the flags.
fn settings(arguments: UpArguments) -> Outcome<Settings> {
    let UpArguments { listen, data, config, database_url, redis_url } = arguments;
    let mut settings = load(config.as_deref())?;
    settings.listen = listen.unwrap_or(settings.listen);
    settings.data = data.unwrap_or(settings.data);
    settings.database_url = database_url.unwrap_or(settings.database_url);
    settings.redis_url = redis_url.unwrap_or(settings.redis_url);
    settings.check().map_err(unusable)?;
    Ok(settings)
}

/// The settings of a file, if any, and the environment.
///
/// # Errors
/// They cannot be used.
pub fn load(file: Option<&Path>) -> Outcome<Settings> {
    // A variable that is not text is none of ours: all our names and values are.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Settings::load(file, environment).map_err(unusable)
}

fn unusable(error: SettingsError) -> Failure {
    Failure::Usage(format!("the settings cannot be used: {error}"))
}

fn cannot_start(error: &anyhow::Error) -> Failure {
    Failure::local("cannot-start", format!("{error:#}"))
}

/// The first signal stops gracefully, the second at once.
async fn stop_when_told(stop: Stop, mut terminate: Signal, mut interrupt: Signal) {
    for stopping in [&stop.gracefully, &stop.at_once] {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    }
}

/// Says where the platform is and keeps that for the commands on this machine.
fn announce(screen: Screen, started: Started) {
    let Started { url, admin_key, admin_key_file, warnings } = started;
    let url = reachable(&url);
    let key =
        admin_key.clone().or_else(|| std::fs::read_to_string(&admin_key_file).ok().map(|text| text.trim().to_owned()));
    let context = write_context(&Context { url: url.clone(), key });
    // A closed standard output is no reason not to serve.
    let _ = if screen.json {
        screen.value(&json!({
            "url": url, "admin_key": admin_key, "admin_key_file": admin_key_file, "warnings": warnings,
            "context_file": context.as_ref().ok(), "pid": std::process::id(),
        }))
    } else {
        let mut text = format!("RaaS is up. Dashboard: {}", screen.bold(&format!("{url}/")));
        if let Some(key) = &admin_key {
            text += &format!(
                "\nThe administrator's key: {}\n  {}",
                screen.bold(key),
                screen.dim(&format!("shown this once; kept in {}", admin_key_file.display()))
            );
        }
        if context.is_ok() {
            text +=
                "\nCommands on this machine use it from now on: raas deploy DIR, raas invoke NAME. Ctrl-C stops it.";
        }
        screen.line(&text)
    };
    for warning in &warnings {
        screen.warn(warning);
    }
    if let Err(failure) = context {
        screen.warn(&failure.title());
    }
}

/// An address that listens everywhere, as it is reached from this machine.
fn reachable(url: &str) -> String {
    let Some(address) = url.strip_prefix("http://").and_then(|address| address.parse::<std::net::SocketAddr>().ok())
    else {
        return url.to_owned();
    };
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", std::net::SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_listens_everywhere_is_reached_here() {
        assert_eq!(reachable("http://0.0.0.0:8080"), "http://127.0.0.1:8080");
        assert_eq!(reachable("http://[::]:8080"), "http://[::1]:8080");
        assert_eq!(reachable("http://10.0.0.1:80"), "http://10.0.0.1:80");
    }
}

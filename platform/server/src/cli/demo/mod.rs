//! `raas demo`: a throw-away platform, the main journey on real data, and what each answer cost.
//!
//! Where to start: [`run`] is the whole of it. Everything goes through the API, like any caller's requests.

mod ahead;
mod examples;
mod helpers;
mod journey;
mod money;
mod platform;
mod report;

use serde_json::json;

use super::deploy::{pack_and_publish, pack_and_upload};
use super::failure::{Failure, Outcome};
use super::screen::Screen;
use platform::ThrowAway;

/// Plays the demo.
///
/// # Errors
/// The platform does not start, or a step of the journey fails; nothing stays behind either way.
pub fn run(screen: Screen) -> Outcome {
    // Before the spinner: the platform is started before there are threads.
    let platform = ThrowAway::start()?;
    let progress = screen.progress("starting a throw-away platform");
    progress.step(&format!("a throw-away platform runs at {}", platform.client.url()));
    platform.wait_until_ready()?;
    let folder = platform.folder().ok_or_else(|| Failure::local("cannot-start", "the platform is gone"))?;
    for name in [examples::ROUTE, examples::WEATHER] {
        progress.step(&format!("deploying {name}"));
        let unpacked = examples::unpack(name, &folder.join("examples"))?;
        pack_and_upload(&platform.client, &unpacked, "live", &progress)?;
    }
    for name in [helpers::GEO, helpers::FORECAST] {
        progress.step(&format!("publishing the helper {name} and making an instance of it"));
        let unpacked = examples::unpack_helper(name, &folder.join("helpers"))?;
        pack_and_publish(&platform.client, &unpacked, &progress)?;
        helpers::create(&platform.client, name)?;
    }
    for name in helpers::FUNCTIONS {
        progress.step(&format!("deploying {name}"));
        let unpacked = examples::unpack(name, &folder.join("examples"))?;
        pack_and_upload(&platform.client, &unpacked, "live", &progress)?;
    }
    progress.step("waiting for the warming pool");
    if !platform.wait_until_warm()? {
        progress.line("the warming pool is not full yet; first calls may take longer than they would");
    }
    let mut steps =
        journey::play(&platform.client, |what| progress.step(what), || platform.wait_until_warm().map(drop))?;
    let mut ahead = ahead::play(&platform.client, |what| progress.step(what))?;
    steps.append(&mut ahead.steps);
    progress.step("looking up what each call cost");
    let currency = journey::price(&platform.client, &mut steps)?;
    let played = helpers::play(&platform, |what| progress.step(what))?;
    progress.step("stopping the platform");
    drop(platform);
    drop(progress);
    let (model, cores) = machine();
    if screen.json {
        let mut report = report::to_json(&steps, &currency, &json!({ "cpu": model, "cores": cores }));
        report["helpers"] = played.to_json();
        report["precomputed"] = ahead.to_json();
        return screen.value(&report);
    }
    let machine = format!("{model}, {cores} cores");
    screen.line(
        &(report::render(screen, &steps, &currency)
            + &ahead.render()
            + &played.render(screen)
            + &report::measured_on(screen, &machine)),
    )
}

/// The processor's name and how many of its cores there are for us.
fn machine() -> (String, usize) {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    (model.unwrap_or_else(|| "a processor without a name".to_owned()), cores)
}

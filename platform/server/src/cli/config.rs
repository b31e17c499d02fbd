//! `raas config show` and `raas openapi`: what is known without a platform.

use super::arguments::ConfigCommand;
use super::failure::{Failure, Outcome};
use super::screen::Screen;
use super::up::load;
use crate::gateway;

/// Does what is asked with settings.
///
/// # Errors
/// They cannot be used.
pub fn run(screen: Screen, command: ConfigCommand) -> Outcome {
    let ConfigCommand::Show { config } = command;
    let settings = load(config.as_deref())?;
    let unprintable = |error: &dyn std::fmt::Display| {
        Failure::local("unprintable", format!("the settings cannot be printed: {error}"))
    };
    if screen.json {
        return screen.value(&serde_json::to_value(&settings).map_err(|error| unprintable(&error))?);
    }
    screen.line(toml::to_string(&settings).map_err(|error| unprintable(&error))?.trim_end())
}

/// Prints the OpenAPI document.
///
/// # Errors
/// Standard output is closed.
pub fn openapi(screen: Screen) -> Outcome {
    let document = gateway::document().to_pretty_json();
    screen.line(
        &document.map_err(|error| Failure::local("unprintable", format!("the document cannot be printed: {error}")))?,
    )
}

//! to be written
use super::failure::Outcome;
use super::screen::Screen;
/// Plays.
pub fn run(_screen: Screen) -> Outcome { Ok(()) }

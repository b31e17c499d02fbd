//! What is printed: standard output for results, standard error for everything else, colours only for people.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::client::Answer;
use super::failure::{Failure, Outcome};

/// Where a command prints.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// Whether machine-readable output was asked for.
    pub json: bool,
    out_colour: bool,
    err_colour: bool,
    out_terminal: bool,
    err_terminal: bool,
}

impl Screen {
    /// The process's own.
    pub fn new(json: bool) -> Self {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let (out_terminal, err_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            json,
            out_colour: colours && out_terminal,
            err_colour: colours && err_terminal,
            out_terminal,
            err_terminal,
        }
    }

    /// Whether standard error takes colours.
    pub fn err_colour(self) -> bool {
        self.err_colour
    }

    /// Prints a line on standard output.
    ///
    /// # Errors
    /// It is closed.
    pub fn line(self, text: &str) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// Prints bytes on standard output as they are; a line break follows where a person reads.
    ///
    /// # Errors
    /// It is closed.
    pub fn bytes(self, bytes: &[u8]) -> Outcome {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        if self.out_terminal && !bytes.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
        Ok(out.flush()?)
    }

    /// Prints a JSON value on one line.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn value(self, value: &Value) -> Outcome {
        self.line(&value.to_string())
    }

    /// Prints the API's own JSON where that was asked for, else what `human` makes of it.
    ///
    /// # Errors
    /// The answer is not JSON, or standard output is closed.
    pub fn answer(self, answer: &Answer, human: impl FnOnce(&Value) -> String) -> Outcome {
        if self.json { self.line(answer.text.trim_end()) } else { self.line(human(&answer.value()?).trim_end()) }
    }

    /// Prints a line on standard error. Nobody is told where that is closed: there is nobody left to tell.
    pub fn note(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Prints a warning.
    pub fn warn(self, text: &str) {
        self.note(&format!("{} {text}", self.err_paint("33", "warning:")));
    }

    /// Prints why the command failed: as a problem on standard output for machines, as a block for people.
    pub fn failure(self, failure: &Failure) {
        if failure.exit_code() == std::process::ExitCode::SUCCESS {
            return;
        }
        if self.json && !matches!(failure, Failure::Output(_)) {
            let _ = self.value(&failure.to_problem());
        }
        self.note(&failure.render(|text| self.err_paint("1;31", text), |text| self.err_paint("2", text)));
    }

    /// Bold on standard output.
    pub fn bold(self, text: &str) -> String {
        paint(self.out_colour, "1", text)
    }

    /// Dimmed on standard output.
    pub fn dim(self, text: &str) -> String {
        paint(self.out_colour, "2", text)
    }

    /// Green on standard output.
    pub fn green(self, text: &str) -> String {
        paint(self.out_colour, "32", text)
    }

    /// Dimmed on standard error.
    pub fn err_dim(self, text: &str) -> String {
        self.err_paint("2", text)
    }

    fn err_paint(self, code: &str, text: &str) -> String {
        paint(self.err_colour, code, text)
    }

    /// Shows what is being done until the result is dropped.
    pub fn progress(self, what: &str) -> Progress {
        let bar = if self.err_terminal {
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style).with_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        } else {
            ProgressBar::hidden()
        };
        Progress { screen: self, bar }
    }
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Work that somebody may be watching.
pub struct Progress {
    screen: Screen,
    bar: ProgressBar,
}

impl Progress {
    /// What is being done now.
    pub fn doing(&self, what: &str) {
        self.bar.set_message(what.to_owned());
    }

    /// A line that stays, above the spinner.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| self.screen.note(text));
    }

    /// The next thing being done: a line that stays where nobody watches, the spinner's text where somebody does.
    pub fn step(&self, what: &str) {
        if self.bar.is_hidden() {
            self.screen.note(what);
        } else {
            self.doing(what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

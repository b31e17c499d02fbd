//! Why a command did not do what was asked: what is printed about it, and the exit status.
//!
//! The API's problems are shown as they came; what goes wrong before or around the API gets the same shape, so that a
//! script reads one kind of error only.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::table::printable;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that cannot be.
    Usage(String),
    /// The platform answered with a problem.
    Problem(Value),
    /// Nothing could be had from the platform.
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// Whether nobody listens there.
        refused: bool,
        /// Whether the connection broke, so that another may hold.
        lost: bool,
        /// What happened.
        cause: String,
    },
    /// It failed on this side.
    Local {
        /// A stable name.
        code: &'static str,
        /// What happened, and what to do about it.
        message: String,
    },
    /// Standard output is gone.
    Output(io::Error),
}

/// What a command gives back.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure on this side.
    pub fn local(code: &'static str, message: impl Into<String>) -> Self {
        Self::Local { code, message: message.into() }
    }

    /// A value in an answer is not what the API promises.
    pub fn unexpected(what: impl fmt::Display) -> Self {
        Self::local("unexpected-answer", format!("the platform's answer cannot be understood: {what}"))
    }

    /// The status that the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            // A reader such as `head` that has enough is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            _ => ExitCode::from(1),
        }
    }

    /// The failure in the shape of the API's problems.
    pub fn to_problem(&self) -> Value {
        let problem = |code: &str, origin: &str, title: String, retryable: bool| {
            json!({
                "type": format!("urn:raas:problem:{code}"),
                "code": code, "title": title, "origin": origin, "retryable": retryable,
            })
        };
        match self {
            Self::Problem(problem) => problem.clone(),
            Self::Usage(message) => problem("usage", "caller", message.clone(), false),
            Self::Unreachable { .. } => problem("no-answer", "platform", self.title(), true),
            Self::Local { code, message } => problem(code, "caller", message.clone(), false),
            Self::Output(error) => problem("no-output", "caller", error.to_string(), false),
        }
    }

    /// One sentence.
    pub fn title(&self) -> String {
        match self {
            Self::Usage(message) | Self::Local { message, .. } => message.clone(),
            Self::Problem(problem) => text(problem, "title").unwrap_or("the request failed").to_owned(),
            Self::Unreachable { url, refused: true, .. } => format!(
                "no platform answers at {url}; start one with `raas up`, or name another with RAAS_URL and RAAS_API_KEY or `raas login URL`"
            ),
            Self::Unreachable { url, refused: false, cause, .. } => {
                format!("the platform at {url} gave no answer: {cause}")
            }
            Self::Output(error) => format!("standard output cannot be written: {error}"),
        }
    }

    /// Whether the same request may go through when it is sent again at once.
    pub fn is_connection_loss(&self) -> bool {
        matches!(self, Self::Unreachable { lost: true, .. })
    }

    /// The block for people. `red` and `dim` colour what they are given.
    pub fn render(&self, red: impl Fn(&str) -> String, dim: impl Fn(&str) -> String) -> String {
        let title: Vec<_> = self.title().lines().map(printable).collect();
        let mut block = format!("{} {}", red("error:"), title.join("\n"));
        let Self::Problem(problem) = self else { return block };
        let mut facts = Vec::new();
        if let Some(code) = text(problem, "code") {
            facts.push(format!("code {code}"));
        }
        if let Some(origin) = text(problem, "origin") {
            facts.push(format!("origin {origin}"));
        }
        if let Some(status) = problem.get("status").and_then(Value::as_u64) {
            facts.push(format!("HTTP {status}"));
        }
        if problem.get("retryable").and_then(Value::as_bool) == Some(true) {
            facts.push("may be retried".to_owned());
        }
        if !facts.is_empty() {
            block.push_str("\n  ");
            block.push_str(&dim(&facts.join(" · ")));
        }
        if let Some(error) = problem.get("error").filter(|error| !error.is_null()) {
            let kind = text(error, "type").unwrap_or("Error");
            let message = text(error, "message").unwrap_or_default();
            let stack = text(error, "stack").unwrap_or_default();
            let raised = if message.is_empty() { kind.to_owned() } else { format!("{kind}: {message}") };
            // Most stacks say it themselves, in the place where their language's readers look for it.
            if stack.contains(&raised) {
                indent(&mut block, stack, 2);
            } else {
                indent(&mut block, &raised, 2);
                indent(&mut block, stack, 4);
            }
        }
        block
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn indent(block: &mut String, text: &str, by: usize) {
    for line in text.trim_end().lines() {
        block.push('\n');
        block.push_str(&" ".repeat(by));
        block.push_str(&printable(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn an_error_of_the_code_shows_its_message_and_stack_indented() {
        let failure = Failure::Problem(json!({
            "title": "the function raised an exception", "code": "function-error", "origin": "function", "status": 502,
            "retryable": false, "error": {"type": "ValueError", "message": "no", "stack": "File \"main.py\"\n  line 2\n"},
        }));
        assert_eq!(
            failure.render(plain, plain),
            "error: the function raised an exception\n  code function-error · origin function · HTTP 502\n  ValueError: no\n    File \"main.py\"\n      line 2"
        );
    }

    #[test]
    fn a_stack_that_says_what_was_raised_is_enough() {
        let failure = Failure::Problem(json!({
            "title": "t", "code": "c", "error": {"type": "RangeError", "message": "no", "stack": "RangeError: no\n    at main.js:1"},
        }));
        assert_eq!(failure.render(plain, plain), "error: t\n  code c\n  RangeError: no\n      at main.js:1");
    }

    #[test]
    fn failures_of_this_side_have_the_shape_of_problems() {
        let failure = Failure::Unreachable {
            url: "http://127.0.0.1:1".into(),
            refused: true,
            lost: true,
            cause: "refused".into(),
        };
        assert_eq!(failure.to_problem()["code"], "no-answer");
        assert!(failure.title().contains("raas up"));
    }
}

//! The command line: everything that `raas` does, as a client of the API like anybody else, apart from `up`, which is the
//! platform itself.
//!
//! Where to start: [`run`] names the module of each command. Results go to standard output and everything else to standard
//! error; with `--json` what is printed is the API's own JSON. It must not reach into the platform's parts: what a command
//! cannot learn over HTTP, it does not know.

mod access;
mod analyze;
mod arguments;
mod client;
mod config;
mod context;
mod demo;
mod deploy;
mod failure;
mod format;
mod functions;
mod helper_state;
mod helpers;
mod invoke;
mod logs;
mod results;
mod screen;
mod simulate;
mod table;
mod telemetry;
mod up;
mod usage;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, ResultsCommand};
use client::Client;
use failure::{Failure, Outcome};
use screen::Screen;

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let Arguments { json, command } = Arguments::parse();
    let screen = Screen::new(json);
    match perform(screen, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.failure(&failure);
            failure.exit_code()
        }
    }
}

fn perform(screen: Screen, command: Command) -> Outcome {
    let client = Client::from_environment;
    match command {
        Command::Up(arguments) => up::run(screen, arguments),
        Command::Demo => demo::run(screen),
        Command::Login { url, key } => access::login(screen, url, key),
        Command::Deploy { folder, alias } => deploy::deploy(screen, &client()?, &folder, &alias),
        Command::Analyze(arguments) => analyze::run(screen, &arguments),
        Command::Functions => functions::list(screen, &client()?),
        Command::Function { name } => functions::show(screen, &client()?, &name),
        Command::Versions { name } => functions::versions(screen, &client()?, &name),
        Command::Alias { name, delete: Some(alias), .. } => functions::delete_alias(screen, &client()?, &name, &alias),
        Command::Alias { name, targets, .. } => functions::alias(screen, &client()?, &name, &targets),
        Command::Delete { name } => functions::delete(screen, &client()?, &name),
        Command::Invoke(arguments) => invoke::invoke(screen, arguments),
        Command::Helper(command) => helpers::run(screen, command),
        Command::Invocation { id } => invoke::invocation(screen, &client()?, &id),
        Command::Logs { name, follow, since, invocation } => {
            logs::logs(screen, &client()?, &logs::of_function(&name), follow, since.as_deref(), invocation.as_deref())
        }
        Command::Results { command: Some(ResultsCommand::Simulate(arguments)), .. } => {
            simulate::run(screen, &arguments)
        }
        Command::Results { arguments, .. } => results::run(screen, &client()?, &arguments),
        Command::Usage { function, helper, from, to, all } => usage::usage(
            screen,
            &client()?,
            [("function", function), ("helper", helper), ("from", from), ("to", to)],
            all,
        ),
        Command::Costs { function, helper, from, to } => {
            usage::costs(screen, &client()?, [("function", function), ("helper", helper), ("from", from), ("to", to)])
        }
        Command::Keys(command) => access::keys(screen, &client()?, command),
        Command::Tenants(command) => access::tenants(screen, &client()?, command),
        Command::Config(command) => config::run(screen, command),
        Command::Bench(arguments) => {
            crate::bench::run(&arguments, screen.json).map_err(|error| Failure::local("bench", format!("{error:#}")))
        }
        Command::Openapi => config::openapi(screen),
    }
}

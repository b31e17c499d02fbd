//! The command line: its commands and what they take. Names here are a contract with people's scripts.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::analyze::AnalyzeArguments;
use super::context::clean_url;
use super::format::parse_moment;
use super::results::ResultsArguments;
use super::simulate::SimulateArguments;

/// Result-as-a-Service: ask for a function's result; the platform decides how to get it.
#[derive(Debug, Parser)]
#[command(name = "raas", version, about, propagate_version = false, disable_help_subcommand = true)]
pub struct Arguments {
    /// Print machine-readable JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a platform on this machine.
    Up(UpArguments),
    /// Start a throw-away platform, play the main journey on real data, print what each answer cost.
    Demo,
    /// Use this platform from now on.
    Login {
        /// Its address, such as http://127.0.0.1:8080.
        #[arg(value_parser = clean_url)]
        url: String,
        /// The key; `-` reads it from standard input, as does leaving it out.
        #[arg(long)]
        key: Option<String>,
    },
    /// Deploy a folder with a raas.toml as a new version.
    Deploy {
        /// The folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The alias to point at the new version.
        #[arg(long, default_value = "live")]
        alias: String,
    },
    /// List functions.
    Functions,
    /// Show a function.
    Function {
        /// The function.
        name: String,
    },
    /// List a function's versions, the newest first.
    Versions {
        /// The function.
        name: String,
    },
    /// Point aliases at versions; without any, list them.
    Alias {
        /// The function.
        name: String,
        /// `live=3`, or a split by weight: `live=1:90 live=2:10`.
        #[arg(value_name = "ALIAS=VERSION[:WEIGHT]", value_parser = AliasTarget::parse)]
        targets: Vec<AliasTarget>,
        /// Delete this alias.
        #[arg(long, value_name = "ALIAS", conflicts_with = "targets")]
        delete: Option<String>,
    },
    /// Delete a function with its versions and results.
    Delete {
        /// The function.
        name: String,
    },
    /// Call a function and print its result.
    Invoke(InvokeArguments),
    /// Publish helpers; make, call, train and change instances of them.
    #[command(subcommand)]
    Helper(HelperCommand),
    /// Show what became of an asynchronous invocation.
    Invocation {
        /// Its id.
        id: String,
    },
    /// Show a function's log lines.
    Logs {
        /// The function.
        name: String,
        /// Go on with lines as they are written.
        #[arg(long, short = 'f')]
        follow: bool,
        /// From this moment on: RFC 3339, a date, or so long ago (15m, 2h).
        #[arg(long, value_parser = parse_moment)]
        since: Option<String>,
        /// Only this invocation's.
        #[arg(long, value_name = "ID")]
        invocation: Option<String>,
    },
    /// Show the graph of a folder's code: its nodes, what each reads and what it leaves. Runs nothing.
    Analyze(AnalyzeArguments),
    /// Show what is kept of a function's results, or simulate policies of keeping some.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Results {
        #[command(subcommand)]
        command: Option<ResultsCommand>,
        #[command(flatten)]
        arguments: ResultsArguments,
    },
    /// List answered calls and what each cost.
    Usage {
        /// Only this function's.
        #[arg(long, value_name = "NAME", conflicts_with = "helper")]
        function: Option<String>,
        /// Only this helper instance's.
        #[arg(long, value_name = "INSTANCE")]
        helper: Option<String>,
        /// From this moment on: RFC 3339, a date, or so long ago (15m, 2h).
        #[arg(long, value_parser = parse_moment)]
        from: Option<String>,
        /// Before this moment.
        #[arg(long, value_parser = parse_moment)]
        to: Option<String>,
        /// All of them; without it, one page is shown to people.
        #[arg(long)]
        all: bool,
    },
    /// Show what was spent, by function and by what served the calls.
    Costs {
        /// Only this function's.
        #[arg(long, value_name = "NAME", conflicts_with = "helper")]
        function: Option<String>,
        /// Only this helper instance's.
        #[arg(long, value_name = "INSTANCE")]
        helper: Option<String>,
        /// From the hour of this moment on: RFC 3339, a date, or so long ago (15m, 2h).
        #[arg(long, value_parser = parse_moment)]
        from: Option<String>,
        /// Before this moment.
        #[arg(long, value_parser = parse_moment)]
        to: Option<String>,
    },
    /// Make, list and revoke keys.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Make and list tenants.
    #[command(subcommand)]
    Tenants(TenantsCommand),
    /// Look at the platform's settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure the platform on this machine, side by side with its peers
    Bench(crate::bench::BenchArguments),
    /// Print the API's OpenAPI document.
    Openapi,
}

/// How to run a platform.
#[derive(Debug, Args)]
pub struct UpArguments {
    /// Where to listen [default: 127.0.0.1:8080]; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The data folder [default: ./raas-data].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The settings file.
    #[arg(long, value_name = "FILE", env = "RAAS_CONFIG")]
    pub config: Option<PathBuf>,
    /// The database [default: SQLite in the data folder].
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// The Redis that platforms share results in [default: none].
    #[arg(long, value_name = "URL")]
    pub redis_url: Option<String>,
}

/// How to call a function.
#[derive(Debug, Args)]
pub struct InvokeArguments {
    /// The function.
    pub name: String,
    /// `-` reads the event from standard input.
    #[arg(value_name = "-", value_parser = ["-"], conflicts_with_all = ["data", "file"])]
    pub stdin: Option<String>,
    /// The event [default: {}].
    #[arg(long, short, value_name = "JSON", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// A file with the event; `-` is standard input.
    #[arg(long, short, value_name = "FILE", conflicts_with = "data")]
    pub file: Option<PathBuf>,
    /// Do not wait: print the invocation's id, to ask for with `raas invocation`.
    #[arg(long = "async")]
    pub asynchronous: bool,
    /// Compute the result anew, whatever is kept.
    #[arg(long)]
    pub no_cache: bool,
    /// Call this version.
    #[arg(long, value_name = "N")]
    pub version: Option<u32>,
    /// Call what this alias points at [default: live].
    #[arg(long, conflicts_with = "version")]
    pub alias: Option<String>,
    /// Show the answer's headers on standard error.
    #[arg(long, short)]
    pub verbose: bool,
}

/// What to do with helpers.
#[derive(Debug, Subcommand)]
pub enum HelperCommand {
    /// Publish a folder with a helper.toml as an immutable version.
    Publish {
        /// The folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// List the helpers that you have published.
    Published,
    /// Make an instance; returns when a replica of it is ready.
    Create {
        /// The helper: PUBLISHER/NAME, or PUBLISHER/NAME@VERSION.
        #[arg(value_name = "PUBLISHER/NAME[@VERSION]")]
        helper: String,
        /// The instance's name.
        #[arg(long)]
        name: String,
        /// A file with its configuration, JSON or TOML; `-` is standard input, JSON.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// An instance that it calls, by the name in its code; may be given several times.
        #[arg(long = "bind", value_name = "NAME=INSTANCE", value_parser = parse_binding)]
        bindings: Vec<(String, String)>,
    },
    /// List instances.
    List,
    /// Show an instance.
    Show {
        /// The instance, by name or id.
        instance: String,
    },
    /// Call a method and print its result.
    Call {
        /// The instance, by name or id.
        instance: String,
        /// The method.
        method: String,
        /// The named arguments, a JSON object [default: {}]; `-` reads them from standard input.
        #[arg(long, short, value_name = "JSON", allow_hyphen_values = true)]
        data: Option<String>,
        /// Compute the result anew, whatever is kept.
        #[arg(long)]
        no_cache: bool,
        /// Show the answer's headers on standard error.
        #[arg(long, short)]
        verbose: bool,
    },
    /// Run another version; replicas of it are ready before the old ones stop.
    Upgrade {
        /// The instance, by name or id.
        instance: String,
        /// The version.
        version: String,
        /// A file with the configuration for it, where it takes another: JSON or TOML; `-` is standard input, JSON.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Run the version of before the last upgrade again.
    Rollback {
        /// The instance, by name or id.
        instance: String,
    },
    /// Run with another configuration.
    Configure {
        /// The instance, by name or id.
        instance: String,
        /// A file with the configuration, JSON or TOML; `-` is standard input, JSON.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Train an instance now; returns when the outcome is in force.
    Train {
        /// The instance, by name or id.
        instance: String,
        /// List the last runs instead.
        #[arg(long)]
        list: bool,
    },
    /// Take no more calls; what runs is finished.
    Drain {
        /// The instance, by name or id.
        instance: String,
        /// Cut off what runs.
        #[arg(long)]
        kill: bool,
    },
    /// Serve again after `drain`.
    Start {
        /// The instance, by name or id.
        instance: String,
    },
    /// Delete an instance with its state.
    Delete {
        /// The instance, by name or id.
        instance: String,
        /// Although something calls it.
        #[arg(long)]
        force: bool,
    },
    /// Show an instance's log lines.
    Logs {
        /// The instance, by name or id.
        instance: String,
        /// Go on with lines as they are written.
        #[arg(long, short = 'f')]
        follow: bool,
        /// From this moment on: RFC 3339, a date, or so long ago (15m, 2h).
        #[arg(long, value_parser = parse_moment)]
        since: Option<String>,
        /// Only this call's.
        #[arg(long, value_name = "ID")]
        invocation: Option<String>,
    },
    /// Show what instances used of replicas' time, processor and memory, hour by hour.
    Usage {
        /// Only this instance.
        instance: Option<String>,
    },
    /// Let other tenants call an instance, by its id; these and no others.
    Share {
        /// The instance, by name or id.
        instance: String,
        /// A tenant, by name; may be given several times. With none, nobody else may call it.
        #[arg(long = "with", value_name = "TENANT")]
        tenants: Vec<String>,
    },
    /// See and change what an instance keeps.
    #[command(subcommand)]
    State(StateCommand),
}

/// What else to do about results.
#[derive(Debug, Subcommand)]
pub enum ResultsCommand {
    /// Replay recorded requests through policies, and say what each would have saved. Needs no platform.
    Simulate(SimulateArguments),
}

/// What to do with an instance's state.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// List keys.
    List {
        /// The instance, by name or id.
        instance: String,
        /// Only keys that begin with this.
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Print a value.
    Get {
        /// The instance, by name or id.
        instance: String,
        /// The key.
        key: String,
    },
    /// Write a JSON value.
    Put {
        /// The instance, by name or id.
        instance: String,
        /// The key.
        key: String,
        /// The value, JSON.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// For so many seconds.
        #[arg(long, value_name = "SECONDS")]
        ttl_s: Option<u64>,
    },
    /// Delete a key.
    Delete {
        /// The instance, by name or id.
        instance: String,
        /// The key.
        key: String,
    },
    /// Print everything, one JSON object a line.
    Export {
        /// The instance, by name or id.
        instance: String,
    },
    /// Write what `export` printed, from standard input.
    Import {
        /// The instance, by name or id.
        instance: String,
    },
}

fn parse_binding(text: &str) -> Result<(String, String), String> {
    let (name, instance) = text.split_once('=').ok_or("expected NAME=INSTANCE, such as geo=my-geo")?;
    Ok((name.to_owned(), instance.to_owned()))
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key. It is shown this once.
    Create {
        /// Whose it is, by name or id [default: your own tenant].
        #[arg(long)]
        tenant: Option<String>,
        /// What it is for.
        #[arg(long, default_value = "")]
        name: String,
        /// What it allows; may be given several times [default: everything of the tenant].
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
    },
    /// List keys, without their texts.
    List {
        /// Whose, by name or id [default: your own tenant].
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Revoke a key: the next request with it is refused.
    Revoke {
        /// Its id.
        id: String,
        /// Whose it is, by name or id [default: your own tenant].
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// What to do with tenants.
#[derive(Debug, Subcommand)]
pub enum TenantsCommand {
    /// Make a tenant.
    Create {
        /// Its name.
        name: String,
    },
    /// List tenants.
    List,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print all settings with the values that `raas up` would use.
    Show {
        /// The settings file.
        #[arg(long, value_name = "FILE", env = "RAAS_CONFIG")]
        config: Option<PathBuf>,
    },
}

/// One `ALIAS=VERSION[:WEIGHT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasTarget {
    /// The alias.
    pub alias: String,
    /// The version it points at.
    pub version: u32,
    /// That version's share of the calls, relative to the others'.
    pub weight: u32,
}

impl AliasTarget {
    /// Reads one.
    ///
    /// # Errors
    /// It is something else; the message says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected ALIAS=VERSION or ALIAS=VERSION:WEIGHT, such as live=3 or live=2:10".to_owned();
        let (alias, target) = text.split_once('=').filter(|(alias, _)| !alias.is_empty()).ok_or_else(expected)?;
        let (version, weight) = match target.split_once(':') {
            Some((version, weight)) => (version, weight.parse().map_err(|_| expected())?),
            None => (target, 1),
        };
        Ok(Self { alias: alias.to_owned(), version: version.parse().map_err(|_| expected())?, weight })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn alias_targets_are_parsed() {
        let target = |alias: &str, version, weight| AliasTarget { alias: alias.into(), version, weight };
        assert_eq!(AliasTarget::parse("live=3").unwrap(), target("live", 3, 1));
        assert_eq!(AliasTarget::parse("live=2:10").unwrap(), target("live", 2, 10));
        for refused in ["live", "=3", "live=", "live=x", "live=1:", "live=1:x", "live=1:2:3", "live=-1"] {
            assert!(AliasTarget::parse(refused).is_err(), "{refused}");
        }
    }

    fn parse(line: &str) -> Result<Arguments, clap::error::ErrorKind> {
        Arguments::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn json_may_stand_before_and_after_the_command() {
        for line in ["raas --json functions", "raas functions --json", "raas keys list --json", "raas --json keys list"]
        {
            assert!(parse(line).unwrap().json, "{line}");
        }
    }

    #[test]
    fn an_event_comes_from_one_place() {
        for line in
            ["raas invoke f", "raas invoke f -", "raas invoke f -d -5", "raas invoke f -f -", "raas invoke f --data {}"]
        {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "raas invoke f - -d 1",
            "raas invoke f -d 1 -f x",
            "raas invoke f x",
            "raas invoke f --version 1 --alias a",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn several_targets_make_a_split() {
        let command = parse("raas alias f live=1:90 live=2:10").unwrap().command;
        assert!(matches!(command, Command::Alias { targets, .. } if targets.len() == 2));
        assert!(parse("raas alias f live=1 --delete old").is_err());
    }
}

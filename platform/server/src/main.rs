//! The `raas` binary. Becomes the spawner when it is started as one, before anything else happens.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "spawner") {
        raas_sandbox::spawner_main(&std::env::args().skip(1).collect::<Vec<_>>());
    }
    raas_server::cli::run()
}

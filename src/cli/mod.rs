//! The commands: arguments in, data on standard output, talk on standard error, an exit code.
//!
//! One file per command; this one holds their list and the one match. Must not know: how anything
//! is computed.

mod axon;
mod calibrate;
mod check;
mod completions;
mod dataset;
mod evaluate;
mod experiment;
mod export;
mod failure;
mod offline;
mod outputs;
mod predict;
mod scenes;
mod select;
mod serve;
mod session;
mod simulate_validator;
#[cfg(test)]
mod tests;
mod train;
mod wallet;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::app::{Exit, Parts};
use crate::config::Setting;
use failure::Failure;
use session::Session;

/// Does a dashcam image show roadwork? A cascade of models, served or run offline.
#[derive(Debug, Parser)]
#[command(name = "roadcrew", version, term_width = 100, after_help = AFTER)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// Where options that are the same everywhere stand in the help.
const COMMON: &str = "Options of every command";

const AFTER: &str = "\
Exit codes: 0 done, 1 something failed while running, 2 wrong arguments, 70 a bug in roadcrew,
75 start me again, 78 wrong configuration.";

/// Options of every command.
#[derive(Args, Debug)]
struct Common {
    /// Read settings from this TOML file; may be repeated, the later file wins
    #[arg(long, global = true, help_heading = COMMON, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Change one setting, such as http.port=8091; may be repeated, and wins over every file
    #[arg(
        long,
        global = true,
        help_heading = COMMON,
        value_name = "KEY=VALUE"
    )]
    set: Vec<Setting>,
    /// Log at this level, or by these directives, such as info,actix=debug
    #[arg(long, global = true, help_heading = COMMON, value_name = "FILTER")]
    log: Option<String>,
    /// Log more: once for one level, twice for two
    #[arg(short, long, global = true, help_heading = COMMON, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Predict(predict::Predict),
    Check(check::Check),
    Scenes(scenes::Scenes),
    Dataset(dataset::Dataset),
    Select(select::Select),
    Train(train::Train),
    Evaluate(evaluate::Evaluate),
    Experiment(experiment::Experiment),
    SimulateValidator(simulate_validator::SimulateValidator),
    Calibrate(calibrate::Calibrate),
    Export(export::Export),
    Wallet(wallet::Wallet),
    Axon(axon::Axon),
    Completions(completions::Completions),
}

/// Runs the program with this process's arguments; a researcher's own `main` calls it with parts of
/// its own.
pub fn run(parts: Parts) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let exit = run_with(std::env::args_os(), parts, &mut out);
    ExitCode::from(exit.code())
}

/// Runs the program with the given arguments, the program's name first. Data goes to `out`.
pub fn run_with(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    parts: Parts,
    out: &mut dyn Write,
) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, out),
    };
    let session = Session { parts, common: cli.common, out };
    let done = match cli.command {
        Command::Serve(command) => command.run(session),
        Command::Predict(command) => command.run(session),
        Command::Check(command) => command.run(session),
        Command::Scenes(command) => command.run(session),
        Command::Dataset(command) => command.run(session),
        Command::Select(command) => command.run(session),
        Command::Train(command) => command.run(session),
        Command::Evaluate(command) => command.run(session),
        Command::Experiment(command) => command.run(session),
        Command::SimulateValidator(command) => command.run(session),
        Command::Calibrate(command) => command.run(session),
        Command::Export(command) => command.run(session),
        Command::Wallet(command) => command.run(session),
        Command::Axon(command) => command.run(session),
        Command::Completions(command) => command.run(session),
    };
    done.unwrap_or_else(|failure| failure.report())
}

/// Help and version are data; anything else that clap stops at is a wrong argument.
fn refuse(error: &clap::Error, out: &mut dyn Write) -> Exit {
    if error.use_stderr() {
        // If standard error is closed, there is nobody to tell.
        let _ = error.print();
        return Exit::Usage;
    }
    match write!(out, "{}", error.render()).map_err(Failure::from) {
        Ok(()) => Exit::Ok,
        Err(failure) => failure.report(),
    }
}

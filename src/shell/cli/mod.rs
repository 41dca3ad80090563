//! The command line. Each command says in its `--help` how it is used; every error is one line on
//! standard error that says what to do.

mod account;
mod check;
mod serve;
mod store;
#[cfg(test)]
mod tests;
mod trace;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use super::bench::{self, BenchOptions, Scenario};
use super::config::{Config, DATA_DEFAULT, default_text};
use super::demo::{self, DemoOptions};
use super::log::LogForm;

/// Converged IP Messaging server for people with many devices.
#[derive(Parser, Debug)]
#[command(name = "cpmd", version, after_help = "Example: cpmd            (same as cpmd dev)")]
struct Cli {
    /// The log on standard error: text or json; the environment's CPMD_LOG=debug says how much
    #[arg(long, global = true, value_enum, default_value_t, hide_possible_values = true)]
    log: LogForm,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Try it: two domains and three accounts on this machine, no configuration
    #[command(after_help = "Example: cpmd dev --data /tmp/try --listen-port 5080")]
    Dev(Dev),
    /// Run the server; prints `ready` when it is
    #[command(after_help = "Example: cpmd serve --config /etc/cpmd/cpmd.toml")]
    Serve {
        /// The configuration file
        #[arg(long)]
        config: PathBuf,
    },
    /// Find mistakes and say what to type; the exit code is their number
    #[command(after_help = "Example: cpmd check --config /etc/cpmd/cpmd.toml")]
    Check {
        /// The configuration file; without it, what `cpmd dev` runs with is checked
        #[arg(long)]
        config: Option<PathBuf>,
        /// One JSON object instead of lines
        #[arg(long)]
        json: bool,
    },
    /// The configuration
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Example: cpmd config default > cpmd.toml"
    )]
    Config(ConfigCommand),
    /// Accounts of the running server
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Example: cpmd account add sip:dave@a.example --password river-4821"
    )]
    Account(account::AccountCommand),
    /// The data directory
    #[command(
        subcommand,
        arg_required_else_help = false,
        after_help = "Example: cpmd store check --data cpmd-data"
    )]
    Store(store::StoreCommand),
    /// Load generator: starts a server, measures, and counts whether all is there
    #[command(after_help = "Example: cpmd bench --seconds 5 register-refresh message-3")]
    Bench {
        /// What to measure; nothing: everything
        #[arg(value_parser = scenario)]
        scenarios: Vec<Scenario>,
        /// Operations per second of the open loop [default: half of what the full loop reached]
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// How long each loop is measured
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
        /// Accounts that take part [default: 10,000; for idle-bindings 100,000]
        #[arg(long)]
        users: Option<usize>,
        /// One JSON object per line instead of tables
        #[arg(long)]
        json: bool,
    },
    /// Play the use case
    #[command(after_help = "Example: cpmd demo --slow")]
    Demo {
        /// One JSON object per step
        #[arg(long)]
        json: bool,
        /// With pauses, to watch it
        #[arg(long)]
        slow: bool,
    },
    /// Watch the messages that pass, as a ladder; bodies and secrets stay hidden
    #[command(after_help = "Example: cpmd trace --account sip:alice@a.example")]
    Trace(trace::TraceArgs),
    /// The reference user agent (not in this version)
    #[command(hide = true, disable_help_flag = true)]
    Client {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<OsString>,
    },
}

#[derive(Args, Debug, Default)]
struct Dev {
    /// Directory of the store
    #[arg(long, default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// Port of SIP; 0: any free one
    #[arg(long)]
    listen_port: Option<u16>,
}

#[derive(Subcommand, Debug)]
enum ConfigCommand {
    /// Print the whole default configuration with comments
    #[command(after_help = "Example: cpmd config default > cpmd.toml")]
    Default,
}

/// Which server a command speaks to.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct Where {
    /// Data directory of the server [default: cpmd-data]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Configuration file of the server
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Runs the command of this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let dev = || Dev { data: DATA_DEFAULT.into(), listen_port: None };
    match cli.command.unwrap_or_else(|| Command::Dev(dev())) {
        Command::Dev(Dev { data, listen_port }) => serve::dev(data, listen_port, cli.log),
        Command::Serve { config } => serve::serve(&config, cli.log),
        Command::Check { config, json } => check::check(config.as_deref(), json),
        Command::Config(ConfigCommand::Default) => say(default_text()),
        Command::Account(command) => finish(account::run(command)),
        Command::Store(command) => store::run(command),
        Command::Bench { scenarios, rate, seconds, users, json } => {
            let rate = rate.map(f64::from);
            bench::run(&BenchOptions { scenarios, rate, seconds, users, json })
        }
        Command::Demo { json, slow } => demo::run(DemoOptions { json, slow }),
        Command::Trace(args) => trace::run(args),
        Command::Client { .. } => not_yet("cpmd client"),
    }
}

/// A scenario by its name.
fn scenario(name: &str) -> Result<Scenario, String> {
    Scenario::named(name)
        .ok_or_else(|| format!("write one of {}", Scenario::ALL.map(Scenario::name).join(", ")))
}

impl Where {
    /// The data directory that is meant.
    fn data(&self) -> Result<PathBuf, String> {
        match (&self.data, &self.config) {
            (Some(data), _) => Ok(data.clone()),
            (None, Some(file)) => data_of(file),
            (None, None) => Ok(PathBuf::from(DATA_DEFAULT)),
        }
    }
}

/// The data directory that a configuration file names, whatever else is wrong in it.
fn data_of(file: &Path) -> Result<PathBuf, String> {
    Config::load(file)?.data.ok_or_else(|| {
        format!("{}: `data` cannot be read: run `cpmd check --config FILE`", file.display())
    })
}

/// What clap says about wrong arguments, in one line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    let what = incomplete(error).unwrap_or_else(|| one_line(&error.to_string()));
    complain(what);
    ExitCode::from(2)
}

/// A command of commands without one: those of this version are named.
fn incomplete(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::MissingSubcommand {
        return None;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let all = command();
    let mut meant = &all;
    for word in typed.split(' ').skip(1) {
        meant = meant.find_subcommand(word)?;
    }
    let shown = meant.get_subcommands().filter(|sub| !sub.is_hide_set());
    let names: Vec<&str> = shown.map(clap::Command::get_name).collect();
    Some(format!("{typed}: add one of {} ({typed} --help shows more)", names.join(", ")))
}

fn one_line(usage: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let lines = usage.lines().map(str::trim).filter(|line| !line.is_empty());
    for line in lines.filter(|line| !line.starts_with("For more information")) {
        match line.strip_prefix("Usage: ") {
            Some(usage) => {
                parts.push("usage:");
                parts.push(usage);
                break;
            }
            None => parts.push(line),
        }
    }
    let line = parts.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line} (cpmd --help shows all commands)")
}

/// Names of the plan that this version does not have.
fn not_yet(what: &str) -> ExitCode {
    complain(format!("{what} is not in this version"));
    ExitCode::from(2)
}

fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

/// One line on standard error. Where even that is closed, the exit code has to do.
fn complain(what: impl std::fmt::Display) {
    writeln!(std::io::stderr(), "cpmd: {what}").ok();
}

/// Writes to standard output; fails where nobody reads.
fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A runtime for one conversation with the server.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}: look at the limits of this process"))
}

/// The whole command line, for tests and completion.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

//! The log: events of `tracing` on standard error, for people or as one JSON object per line.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The environment variable with the levels: `warn`, or `info,cpmd=debug`.
pub const LEVELS: &str = "CPMD_LOG";

/// How the log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum LogForm {
    /// For people.
    #[default]
    Text,
    /// For machines: one object per line.
    Json,
}

/// Starts the log of this process. `level` holds where [`LEVELS`] is not set. The error says what
/// to do: the variable cannot be read, or a log runs already.
pub fn start(form: LogForm, level: LevelFilter) -> Result<(), String> {
    let levels = std::env::var(LEVELS).unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .parse(&levels)
        .map_err(|e| format!("{LEVELS}=\"{levels}\": {e}: write a level like `info` or `debug`"))?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    match form {
        LogForm::Text => log.with_target(false).try_init(),
        LogForm::Json => log.json().flatten_event(true).try_init(),
    }
    .map_err(|error| format!("the log cannot be started: {error}"))
}

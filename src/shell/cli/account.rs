//! `cpmd account`: through the operator interface of the running server.

use std::convert::Infallible;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};

use super::{Where, runtime, say};
use crate::base::pii::Pii;
use crate::shell::operator::{AccountLine, Client, OperatorReply, OperatorRequest};

/// A password file or a line of standard input is read up to this many octets.
const PASSWORD_OCTETS_MAX: u64 = 4096;

#[derive(Subcommand, Debug)]
pub(super) enum AccountCommand {
    /// Make an account
    #[command(after_help = "Example: cpmd account add sip:dave@a.example --password river-4821")]
    Add(Named),
    /// Show all accounts
    #[command(after_help = "Example: cpmd account list --json")]
    List {
        #[command(flatten)]
        place: Where,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Give an account another password
    #[command(after_help = "Example: cpmd account passwd sip:dave@a.example < password.txt")]
    Passwd(Named),
    /// Remove an account
    #[command(after_help = "Example: cpmd account remove sip:dave@a.example")]
    Remove {
        #[command(flatten)]
        place: Where,
        /// The account: sip:user@domain
        uri: String,
    },
}

#[derive(Args, Debug)]
pub(super) struct Named {
    #[command(flatten)]
    place: Where,
    /// The account: sip:user@domain
    uri: String,
    #[command(flatten)]
    password: Given,
}

/// Without either, the password is asked for, or read from standard input.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct Given {
    /// The password; other users of this machine may see it while the command runs
    #[arg(long, value_parser = |text: &str| Ok::<_, Infallible>(Pii(text.to_owned())))]
    password: Option<Pii<String>>,
    /// A file whose first line is the password
    #[arg(long)]
    password_file: Option<PathBuf>,
}

pub(super) fn run(command: AccountCommand) -> Result<(), String> {
    match command {
        AccountCommand::Add(Named { place, uri, password }) => {
            let password = password.read(&uri)?;
            done(&place, OperatorRequest::AccountAdd { uri, password })
        }
        AccountCommand::Passwd(Named { place, uri, password }) => {
            let password = password.read(&uri)?;
            done(&place, OperatorRequest::AccountPasswd { uri, password })
        }
        AccountCommand::Remove { place, uri } => {
            done(&place, OperatorRequest::AccountRemove { uri })
        }
        AccountCommand::List { place, json } => {
            let reply = ask(&place, &OperatorRequest::AccountList)?;
            let OperatorReply::Accounts { accounts } = reply else { return Err(odd()) };
            let text = if json {
                format!("{}\n", serde_json::json!({ "accounts": accounts }))
            } else {
                table(&accounts)
            };
            say(&text);
            Ok(())
        }
    }
}

fn done(place: &Where, request: OperatorRequest) -> Result<(), String> {
    match ask(place, &request)? {
        OperatorReply::Done => Ok(()),
        _ => Err(odd()),
    }
}

/// Asks the server; a refusal becomes an error.
fn ask(place: &Where, request: &OperatorRequest) -> Result<OperatorReply, String> {
    let client = Client::new(&place.data()?);
    match runtime()?.block_on(client.ask(request))? {
        OperatorReply::Refused(refusal) => Err(format!("{}: {}", refusal.why, refusal.fix)),
        reply => Ok(reply),
    }
}

fn odd() -> String {
    "the server answered something else: use the cpmd of the server's version".to_owned()
}

fn table(accounts: &[AccountLine]) -> String {
    let wide = accounts.iter().map(|account| account.uri.chars().count()).max().unwrap_or(0).max(7);
    let mut text = format!("{:wide$}  devices  registered  from\n", "account");
    for account in accounts {
        let from = if account.provisioned { "configuration" } else { "cpmd account" };
        text.push_str(&format!(
            "{:wide$}  {:>7}  {:>10}  {from}\n",
            account.uri, account.devices, account.bindings
        ));
    }
    text
}

impl Given {
    /// The password: as given, from the file, or from standard input.
    fn read(self, uri: &str) -> Result<Pii<String>, String> {
        let password = match (self.password, self.password_file) {
            (Some(password), _) => password.0,
            (None, Some(file)) => {
                let mut text = String::new();
                std::fs::File::open(&file)
                    .and_then(|file| file.take(PASSWORD_OCTETS_MAX).read_to_string(&mut text))
                    .map_err(|e| format!("{}: {e}: name a readable file", file.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            (None, None) => from_input(uri)?,
        };
        if password.is_empty() {
            return Err("the password is empty: choose one".to_owned());
        }
        Ok(Pii(password))
    }
}

fn from_input(uri: &str) -> Result<String, String> {
    let input = std::io::stdin();
    let terminal = input.is_terminal();
    if terminal {
        write!(std::io::stderr(), "Password for {uri}: ").ok();
    }
    let quiet = terminal && echo(false);
    let mut line = String::new();
    let read = input.lock().take(PASSWORD_OCTETS_MAX).read_line(&mut line);
    if quiet {
        echo(true);
        writeln!(std::io::stderr()).ok();
    }
    read.map_err(|error| format!("no password: {error}: use --password-file"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Switches the terminal's echo; false where that is not possible, and the password shows.
fn echo(on: bool) -> bool {
    Command::new("stty")
        .arg(if on { "echo" } else { "-echo" })
        .stdin(Stdio::inherit())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

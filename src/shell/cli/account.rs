//! `cpmd account`: through the operator interface of the running server.

use std::convert::Infallible;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};

use super::{Where, runtime, say};
use crate::base::limits::PASSWORD_OCTETS_MAX;
use crate::base::pii::Pii;
use crate::shell::operator::{AccountLine, Client, OperatorReply, OperatorRequest};

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
            (None, Some(file)) => std::fs::File::open(&file)
                .and_then(|file| first_line(BufReader::new(file)))
                .map_err(|e| format!("{}: {e}: name a readable file", file.display()))?,
            (None, None) => from_input(uri)?,
        };
        if password.is_empty() {
            return Err("the password is empty: choose one".to_owned());
        }
        if password.len() > PASSWORD_OCTETS_MAX {
            return Err(format!(
                "the password is longer than {PASSWORD_OCTETS_MAX} octets: choose a shorter one"
            ));
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
    let read = first_line(input.lock());
    if quiet {
        echo(true);
        writeln!(std::io::stderr()).ok();
    }
    read.map_err(|error| format!("no password: {error}: use --password-file"))
}

/// A line without its end. Of one that is too long, as much as shows that it is.
fn first_line(from: impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(PASSWORD_OCTETS_MAX as u64 + 2).read_until(b'\n', &mut line)?;
    let end = line.iter().rposition(|octet| !b"\r\n".contains(octet)).map_or(0, |at| at + 1);
    line.truncate(end);
    if line.len() > PASSWORD_OCTETS_MAX {
        // It may be cut within a character.
        return Ok(String::from_utf8_lossy(&line).into_owned());
    }
    let text = String::from_utf8(line);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the password is not UTF-8"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn given(password: Option<&str>, file: Option<PathBuf>) -> Result<String, String> {
        let password = password.map(|text| Pii(text.to_owned()));
        Given { password, password_file: file }.read("sip:a@b").map(|password| password.0)
    }

    #[test]
    fn a_password_is_one_line_and_one_that_is_too_long_is_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = |text: &[u8]| {
            let path = dir.path().join("password");
            std::fs::write(&path, text).unwrap();
            given(None, Some(path))
        };
        let most = "ä".repeat(PASSWORD_OCTETS_MAX / 2);
        for text in ["river-4821", "river-4821\n", "river-4821\r\nand more\n"] {
            assert_eq!(file(text.as_bytes()), Ok("river-4821".to_owned()));
        }
        assert_eq!(file(format!("{most}\r\n").as_bytes()), Ok(most.clone()));
        assert_eq!(given(Some(&most), None), Ok(most.clone()));
        let long = format!("{most}x");
        let refused = "the password is longer than 1024 octets: choose a shorter one".to_owned();
        for refusal in
            [file(long.as_bytes()), file(long.repeat(9).as_bytes()), given(Some(&long), None)]
        {
            assert_eq!(refusal, Err(refused.clone()));
        }
        let odd = file(b"\xff\xfe\n").unwrap_err();
        assert!(odd.contains("is not UTF-8") && !odd.contains('\n'), "{odd}");
        assert!(file(b"\n").unwrap_err().contains("is empty"));
    }
}

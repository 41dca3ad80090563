//! `cpmd trace`: the live ladder.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Where, finish, not_yet, runtime};
use crate::base::limits;
use crate::shell::operator::{Client, OperatorReply, OperatorRequest};
use crate::shell::trace::{Ladder, Line};

#[derive(Args, Debug)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    place: Where,
    /// Only messages from, to or by this account
    #[arg(long)]
    account: Option<String>,
    /// Only messages with this Call-ID
    #[arg(long)]
    call: Option<String>,
    /// One JSON object per message instead of the ladder
    #[arg(long)]
    json: bool,
    /// Show what is remembered and stop
    #[arg(long)]
    once: bool,
    #[arg(long, hide = true)]
    pcap: Option<PathBuf>,
}

pub(super) fn run(args: TraceArgs) -> ExitCode {
    if args.pcap.is_some() {
        return not_yet("cpmd trace --pcap");
    }
    finish(place(&args))
}

fn place(args: &TraceArgs) -> Result<(), String> {
    let client = Client::new(&args.place.data()?);
    runtime()?.block_on(watch(&client, args))
}

/// Shows messages until the reader goes away, the server stops, or, with `--once`, none is left.
async fn watch(client: &Client, args: &TraceArgs) -> Result<(), String> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut ladder = Ladder::new(colour);
    let (mut cursor, mut shown) = (0, 0);
    loop {
        let look = OperatorRequest::TraceSince {
            cursor,
            account: args.account.clone(),
            call: args.call.clone(),
            max: limits::TRACE_LOOK_MAX,
        };
        let (lines, next) = match client.ask(&look).await? {
            OperatorReply::Trace { lines, next } => (lines, next),
            OperatorReply::Refused(refusal) => {
                return Err(format!("{}: {}", refusal.why, refusal.fix));
            }
            _ => return Err("the server answered something else: use its version".to_owned()),
        };
        if lines.is_empty() && args.once {
            return Ok(());
        }
        if !print(&lines, args.json, &mut ladder) {
            return Ok(());
        }
        cursor = next;
        shown += lines.len();
        // More than was remembered when it began: the rest passes now.
        if args.once && shown >= limits::TRACE_RING_MAX {
            return Ok(());
        }
    }
}

/// False where nobody reads any more.
fn print(lines: &[Line], json: bool, ladder: &mut Ladder) -> bool {
    let mut out = std::io::stdout().lock();
    for line in lines {
        let text = if json {
            serde_json::to_string(line).map(|json| json + "\n").unwrap_or_default()
        } else {
            ladder.draw(line)
        };
        if out.write_all(text.as_bytes()).is_err() {
            return false;
        }
    }
    out.flush().is_ok()
}

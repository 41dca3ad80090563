//! `cpmd serve` and `cpmd dev`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use super::{complain, finish, say};
use crate::shell::config::{Config, ConfigAccount, DATA_DEFAULT, Protocol};
use crate::shell::log::{self, LogForm};
use crate::shell::run::{self, Listening};

pub(super) fn serve(file: &Path, form: LogForm) -> ExitCode {
    let reading = match Config::load(file) {
        Ok(reading) => reading,
        Err(error) => return finish(Err(error)),
    };
    for warning in &reading.warnings {
        complain(format_args!("warning: {}: {warning}", file.display()));
    }
    for mistake in &reading.mistakes {
        complain(format_args!("{}: {mistake}", file.display()));
    }
    let Some(config) = reading.config else { return ExitCode::FAILURE };
    finish(log::start(form, LevelFilter::INFO).and_then(|()| {
        run::serve(config, |_: &Listening| {
            say("ready\n");
        })
    }))
}

pub(super) fn dev(data: PathBuf, port: Option<u16>, form: LogForm) -> ExitCode {
    let config = Config::dev(data);
    let config = match port {
        Some(port) => config.with_port(port),
        None => config,
    };
    let shown = config.clone();
    finish(log::start(form, LevelFilter::WARN).and_then(|()| {
        run::serve(config, |listening: &Listening| {
            say(&banner(&shown, listening));
        })
    }))
}

/// How to point a softphone at a server that listens here.
pub(super) fn banner(config: &Config, listening: &Listening) -> String {
    let wide = config.accounts.iter().map(|account| account.uri.len()).max().unwrap_or(0);
    let account = |account: &ConfigAccount| {
        format!("  {:wide$}   password {}", account.uri, account.password.0)
    };
    let names: Vec<&str> = config.domains.iter().map(|domain| domain.name.as_str()).collect();
    let heard: Vec<String> =
        listening.sip.iter().map(|(protocol, address)| format!("{protocol}:{address}")).collect();
    let mut rows = vec![
        format!(
            "cpmd {} · data {} (on disk before any answer) · this machine only",
            env!("CARGO_PKG_VERSION"),
            config.data.display()
        ),
        String::new(),
    ];
    rows.extend(config.accounts.iter().map(account));
    rows.push(format!("\n  domains   {}", names.join(", ")));
    rows.push(format!("  listens   {}", heard.join(" ")));
    // Any account will do as an example; phones prefer UDP.
    let udp = listening.sip.iter().find(|(protocol, _)| *protocol == Protocol::Udp);
    if let (Some(account), Some((protocol, proxy))) =
        (config.accounts.first(), udp.or(listening.sip.first()))
    {
        rows.extend([
            format!("  proxy     sip:{proxy} (outbound proxy of every phone)\n"),
            "  baresip   one line in ~/.baresip/accounts:".to_owned(),
            format!("            {}", baresip(account, *protocol, *proxy)),
            format!("  linphone  account {}, SIP server", account.uri),
            format!("            <sip:{proxy};transport={protocol}>, outbound proxy on\n"),
        ]);
    }
    let data = match config.data.to_str() {
        Some(DATA_DEFAULT) => String::new(),
        _ => format!(" --data {}", config.data.display()),
    };
    rows.extend([
        format!("  Try       cpmd trace{data}      every message, as it passes"),
        "            cpmd demo       the use case, step by step".to_owned(),
        "            Ctrl-C          stops; what was accepted is kept\n".to_owned(),
    ]);
    rows.join("\n")
}

fn baresip(account: &ConfigAccount, protocol: Protocol, proxy: SocketAddr) -> String {
    let rest = account.uri.strip_prefix("sip:").unwrap_or(&account.uri);
    let user = rest.split('@').next().unwrap_or(rest);
    format!(
        "<sip:{rest}>;auth_user={user};auth_pass={};\
         outbound=\"sip:{proxy};transport={protocol}\";regint=600",
        account.password.0
    )
}

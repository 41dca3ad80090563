//! The scenarios: each with a server of its own, set up, loaded, asked, stopped and counted.

use std::time::Duration;

use super::audit::{self, Check};
use super::figures::{float, ratio};
use super::load::{Load, Outcome, Pace, Work};
use super::machine::Memory;
use super::report::{Bindings, Idle, Row};
use super::server::{PASSWORD, Place, Server, aor, name};
use crate::shell::client::{Device, Pool};
use crate::shell::operator::Written;
use crate::ua::{Agent, AgentConfig, Answers, Kind, Receipts};

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scenario {
    /// REGISTER of a device that was switched off: 401, then 200 with the binding on disk.
    RegisterChallenged,
    /// REGISTER again with a nonce that is known, within the lease on disk.
    RegisterRefresh,
    /// MESSAGE to a user with one device.
    Message1,
    /// MESSAGE to a user with three devices.
    Message3,
    /// Memory of bindings that nothing happens to.
    IdleBindings,
}

impl Scenario {
    /// All, in the order of the standard set.
    pub const ALL: [Scenario; 5] = [
        Scenario::RegisterChallenged,
        Scenario::RegisterRefresh,
        Scenario::Message1,
        Scenario::Message3,
        Scenario::IdleBindings,
    ];

    /// As it is named on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scenario::RegisterChallenged => "register-challenged",
            Scenario::RegisterRefresh => "register-refresh",
            Scenario::Message1 => "message-1",
            Scenario::Message3 => "message-3",
            Scenario::IdleBindings => "idle-bindings",
        }
    }

    /// The scenario with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Accounts where nothing else is said.
    #[must_use]
    pub fn users(self) -> usize {
        if self == Scenario::IdleBindings { 100_000 } else { 10_000 }
    }
}

/// What holds for all scenarios of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Terms {
    /// Accounts; each scenario's own number where it is `None`.
    pub(super) users: Option<usize>,
    /// How long each loop is measured.
    pub(super) time: Duration,
    /// Operations per second of the open loop; half of the saturation where it is `None`.
    pub(super) rate: Option<f64>,
    /// Whether server and generator have a core each.
    pub(super) pinned: bool,
}

/// Operations under way at once in the closed loop: what the figures of others were taken with.
const OUTSTANDING: usize = 32;
/// The same in the full loop: so many that the server always has something to do. With fewer it
/// waits for the disk in between, and going to sleep and waking up cost a fifth more.
const FULL: usize = 128;
/// The same while a scenario is set up.
const SETTING_UP: usize = 64;
/// How long what was accepted may take to reach every device.
const DRAIN: Duration = Duration::from_secs(20);
/// Timer J (RFC 3261 §17.2.2) and some more: then no transaction is left.
const FORGOTTEN: Duration = Duration::from_secs(45);
const SEED: u64 = 20_260_101;

/// Devices, in a pool, of a scenario with load.
struct Cast {
    pool: Pool,
    devices: Vec<Device>,
    /// Those that begin operations.
    callers: Vec<Device>,
    work: Work,
}

/// Closed, full and open loop, and what must be there afterwards.
pub(super) async fn load(scenario: Scenario, terms: &Terms) -> Result<Vec<Row>, String> {
    let users = terms.users.unwrap_or(scenario.users()).max(2);
    let server = Place::new(users, terms.pinned)?.start().await?;
    let mut cast = cast(scenario, users, &server)?;
    let first = set_up(&mut cast, &server).await?;
    let (mut rows, mut done, mut failed) = (Vec::new(), 0, first.failed);
    let mut saturation = 0.0;
    for name in ["closed", "full", "open"] {
        let pace = match name {
            "closed" => Pace::Closed(OUTSTANDING),
            "full" => Pace::Closed(FULL),
            _ => Pace::Open(terms.rate.unwrap_or(saturation / 2.0)),
        };
        let before = server.status().await?.written;
        let run = Load::new(&mut cast.pool, server.process(), &cast.work, &cast.callers);
        let outcome = run.run(pace, terms.time, SEED).await;
        let after = server.settled(DRAIN, |status| status.waiting == 0).await?.written;
        (done, failed) = (done + outcome.done, failed + outcome.failed);
        let row = Row::new(scenario, name, pace, outcome, &since(after, before));
        saturation = row.rate;
        rows.push(row);
    }
    let checks = audit(server, &cast, first.done, (done, failed)).await?;
    for row in &mut rows {
        row.judge(&checks);
    }
    Ok(rows)
}

/// Registers a device for each user and looks at the memory of the server.
pub(super) async fn idle(terms: &Terms) -> Result<Idle, String> {
    let scenario = Scenario::IdleBindings;
    let users = terms.users.unwrap_or(scenario.users()).max(2);
    let server = Place::new(users, terms.pinned)?.start().await?;
    let mut cast = cast(scenario, users, &server)?;
    let (first_start, accounts) = (server.started_in, server.memory());
    let devices = cast.devices.clone();
    let (first, second) = devices.split_at(users / 2);
    let (mut registered, mut memory) = (0, [accounts; 2]);
    for (half, after) in [first, second].into_iter().zip(&mut memory) {
        registered += register(&mut cast, &server, half).await?.done;
        server.settled(FORGOTTEN, |status| status.transactions == 0).await?;
        *after = server.memory();
    }
    let [half, live] = memory;
    let status = server.status().await?;
    let mut checks = vec![
        Check::exact("bindings", status.bindings, users as u64),
        Check::exact("registered", registered, users as u64),
    ];
    let place = server.stop().await?;
    let found = audit::count(&place.data())?;
    checks.push(Check::exact("bindings on disk", found.registered, users as u64));
    let server = place.start().await?;
    let status = server.status().await?;
    checks.push(Check::exact("bindings after a restart", status.bindings, users as u64));
    let (again, restarted_in) = (server.memory(), server.started_in);
    server.stop().await?;
    let each = |with: Memory, without: Memory, count: usize| {
        let each =
            |with: u64, without| ratio(float(with.saturating_sub(without)), float(count as u64));
        Bindings { rss_bytes: each(with.rss, without.rss), pss_bytes: each(with.pss, without.pss) }
    };
    Ok(Idle {
        scenario: scenario.name(),
        bindings: users,
        account_bytes: ratio(float(accounts.pss), float(users as u64)),
        further: each(live, half, second.len()),
        live: each(live, accounts, users),
        restarted: each(again, accounts, users),
        start_seconds: first_start.as_secs_f64(),
        restart_seconds: restarted_in.as_secs_f64(),
        checks: checks.iter().map(Check::text).collect(),
        ok: checks.iter().all(Check::holds) && found.damage.is_none(),
    })
}

/// Makes the devices. Those of one user are on different sockets.
fn cast(scenario: Scenario, users: usize, server: &Server) -> Result<Cast, String> {
    let three = scenario == Scenario::Message3;
    let mut pool = Pool::new();
    let mut ports = Vec::new();
    for _ in 0..if three { 3 } else { 1 } {
        let port = pool.udp(server.udp).map_err(|e| format!("cannot open a socket: {e}"))?;
        ports.push(port);
    }
    let messages = matches!(scenario, Scenario::Message1 | Scenario::Message3);
    let senders = if messages { users / 2 } else { users };
    let (mut devices, mut callers, mut to) = (Vec::new(), Vec::new(), Vec::new());
    for user in 0..users {
        let sender = user < senders;
        for (number, port) in ports.iter().enumerate().take(if sender { 1 } else { ports.len() }) {
            let device = pool.add(*port, agent(&pool, *port, user, number)?);
            devices.push(device);
            if sender {
                callers.push(device);
            }
        }
        if !sender {
            to.push(aor(user));
        }
    }
    let work = match scenario {
        Scenario::RegisterChallenged | Scenario::IdleBindings => Work::Challenged,
        Scenario::RegisterRefresh => Work::Refresh,
        Scenario::Message1 => Work::Message { to, devices: 1 },
        Scenario::Message3 => Work::Message { to, devices: 3 },
    };
    Ok(Cast { pool, devices, callers, work })
}

/// A plain phone with an instance: what the figures of others were taken with.
fn agent(pool: &Pool, port: usize, user: usize, number: usize) -> Result<Agent, String> {
    let (flow, contact) = pool.way(port);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| format!("no random number: {e}: try again"))?;
    let config = AgentConfig {
        aor: aor(user),
        user: name(user),
        password: PASSWORD.to_owned(),
        device: String::new(),
        instance: Some(format!("urn:uuid:00000000-0000-4000-8{number:03x}-{user:012x}")),
        kind: Kind::Plain,
        flow,
        contact,
        expires: 7200,
        accepts: vec!["*/*".to_owned()],
        receipts: Receipts::None,
        answers: Answers::Ok200,
    };
    Ok(Agent::new(config, seed))
}

/// Registers every device once.
async fn set_up(cast: &mut Cast, server: &Server) -> Result<Outcome, String> {
    let devices = cast.devices.clone();
    register(cast, server, &devices).await
}

async fn register(cast: &mut Cast, server: &Server, devices: &[Device]) -> Result<Outcome, String> {
    let work = Work::Challenged;
    let run = Load::new(&mut cast.pool, server.process(), &work, devices);
    let outcome = run.run(Pace::Once(SETTING_UP), Duration::from_secs(600), SEED).await;
    if outcome.failed > 0 {
        return Err(format!("{} of {} devices cannot register", outcome.failed, devices.len()));
    }
    Ok(outcome)
}

/// Asks the server, stops it, and counts its store.
async fn audit(
    server: Server,
    cast: &Cast,
    registered: u64,
    (done, failed): (u64, u64),
) -> Result<Vec<Check>, String> {
    let status = server.status().await?;
    let place = server.stop().await?;
    let found = audit::count(&place.data())?;
    let range = |what, found, done| Check { what, found, expected: (done, done + failed) };
    let mut checks = vec![
        Check::exact("bindings", status.bindings, cast.devices.len() as u64),
        Check::exact("waiting", status.waiting, 0),
        Check::exact("damage", u64::from(found.damage.is_some()), 0),
    ];
    match &cast.work {
        Work::Challenged => {
            checks.push(range("registrations on disk", found.bindings, registered + done));
        }
        Work::Refresh => {
            checks.push(Check::exact("registrations on disk", found.bindings, registered));
        }
        Work::Message { devices, .. } => {
            let devices = u64::from(*devices);
            let counts = cast.devices.iter().map(|d| cast.pool.agent(*d).counts());
            let (shown, again) = counts.fold((0, 0), |(s, r), c| (s + c.received, r + c.repeated));
            checks.extend([
                range("messages in sentboxes", found.sent, done),
                Check::exact("messages in mailboxes", found.received, found.sent),
                Check::exact("deliveries on disk", found.delivered, found.sent * devices),
                Check::exact("messages at devices", shown, found.delivered),
                Check::exact("shown twice", again, 0),
            ]);
        }
    }
    Ok(checks)
}

fn since(after: Written, before: Written) -> Written {
    Written {
        groups: after.groups.saturating_sub(before.groups),
        batches: after.batches.saturating_sub(before.batches),
        records: after.records.saturating_sub(before.records),
        syncs: after.syncs.saturating_sub(before.syncs),
    }
}

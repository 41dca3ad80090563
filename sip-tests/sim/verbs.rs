//! The verbs of the stories: what people do, what goes wrong, what is seen.

use std::time::Duration;

use bytes::Bytes;
use cpmd::base::now::Now;
use cpmd::node::{Input, Question, Reply, Status};
use cpmd::stack::transport::Protocol;
use cpmd::syntax::cpim::Wanted;
use cpmd::syntax::imdn::Disposition;
use cpmd::syntax::sip::{Message, Name, Response};
use cpmd::ua::digest::Challenge;
use cpmd::ua::{Agent, AgentConfig, AgentEvent, Answers, Kind, MessageRef, Received};

use super::device::{self, Ask, Dev};
use super::net::Way;
use super::{World, ladder};

/// Seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Minutes.
pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// Milliseconds.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl World {
    // --- time ---------------------------------------------------------------------------------

    /// Time passes.
    pub fn after(&mut self, d: Duration) {
        let until = self.later(d);
        while self.step(until) {}
        self.time = until;
    }

    /// Until nothing is due within half a moment: all is said and stored, only timers are left.
    pub fn settle(&mut self) {
        let deadline = self.later(mins(5));
        while self.next().is_some_and(|at| at <= self.later(ms(200))) {
            assert!(self.time < deadline, "it never settles");
            self.step(u64::MAX);
        }
    }

    /// Until something is so.
    pub fn until(&mut self, what: &str, mut so: impl FnMut(&World) -> bool) {
        let deadline = self.later(mins(60));
        while !so(self) {
            assert!(self.step(deadline), "{what}: that never came");
        }
    }

    /// The clock on the wall is set; what runs goes on as it did.
    pub fn step_clock(&mut self, seconds: i64) {
        self.unix = self.unix.saturating_add_signed(seconds * 1_000_000);
    }

    // --- who is there -------------------------------------------------------------------------

    /// A CPM client.
    pub fn cpm(&mut self, name: &str) -> Dev {
        self.add(name, false, |_| {})
    }

    /// A CPM client over TCP.
    pub fn cpm_tcp(&mut self, name: &str) -> Dev {
        self.add(name, false, |c| c.flow = device::server(Protocol::Tcp))
    }

    /// A softphone of the baresip kind: no instance, no CPM, takes text.
    pub fn phone(&mut self, name: &str) -> Dev {
        self.add(name, false, |c| {
            c.kind = Kind::Plain;
            c.instance = None;
            c.accepts = vec!["text/plain".into()];
        })
    }

    /// A device that is as the story wants it.
    pub fn device(&mut self, name: &str, change: impl FnOnce(&mut AgentConfig)) -> Dev {
        self.add(name, false, change)
    }

    /// A peer that says what it is told.
    pub fn raw(&mut self, name: &str) -> Dev {
        self.add(name, true, |_| {})
    }

    /// The same over TCP.
    pub fn raw_tcp(&mut self, name: &str) -> Dev {
        self.add(name, true, |c| c.flow = device::server(Protocol::Tcp))
    }

    // --- what they do -------------------------------------------------------------------------

    /// The agent of a device does something.
    pub fn does<T>(&mut self, dev: Dev, act: impl FnOnce(&mut Agent, Now) -> T) -> T {
        let now = self.now();
        let agent = self.devices[dev.0].agent.as_mut().expect("a raw peer only says things");
        let done = act(agent, now);
        self.drain_device(dev);
        done
    }

    /// Registers, and waits until that is done.
    pub fn registers(&mut self, dev: Dev) {
        self.does(dev, |a, now| a.register(now));
        self.settle();
    }

    /// All register.
    pub fn all_register(&mut self) {
        for i in 0..self.devices.len() {
            if self.devices[i].agent.is_some() {
                self.registers(Dev(i));
            }
        }
    }

    /// Sends a text, and waits until nothing moves.
    pub fn sends(&mut self, dev: Dev, to: &str, text: &str) -> MessageRef {
        let sent = self.starts_sending(dev, to, text);
        self.settle();
        sent
    }

    /// Sends a text.
    pub fn starts_sending(&mut self, dev: Dev, to: &str, text: &str) -> MessageRef {
        self.does(dev, |a, now| a.send_text(now, &device::aor(to), text))
    }

    /// Sends a text as CPIM, asking for these receipts.
    pub fn sends_cpim(&mut self, dev: Dev, to: &str, text: &str, wanted: Wanted) -> MessageRef {
        let sent = self.does(dev, |a, now| a.send_cpim(now, &device::aor(to), text, wanted));
        self.settle();
        sent
    }

    /// The battery is taken out.
    pub fn off(&mut self, dev: Dev) {
        self.devices[dev.0].is_on = false;
    }

    /// Switched on again: registers anew.
    pub fn on(&mut self, dev: Dev) {
        self.switched_on(dev);
        self.settle();
    }

    /// The same without waiting.
    pub fn switched_on(&mut self, dev: Dev) {
        self.resets(dev);
        self.devices[dev.0].is_on = true;
        self.devices[dev.0].connection = None;
        self.model.switched(dev);
        self.does(dev, |a, _| a.restart());
        self.does(dev, |a, now| a.register(now));
    }

    /// What the device answers from now on.
    pub fn answers(&mut self, dev: Dev, answers: Answers) {
        self.does(dev, |a, _| a.set_answers(answers));
    }

    /// Octets, whatever they are.
    pub fn says(&mut self, dev: Dev, octets: impl AsRef<[u8]>) {
        self.device_sends(dev, Bytes::copy_from_slice(octets.as_ref()));
        self.settle();
    }

    /// Sends the request once and gives the final answer, if there is one.
    pub fn asks_once(&mut self, dev: Dev, ask: &Ask) -> Option<Response> {
        self.asks_with(dev, ask, None)
    }

    /// Sends the request, answers the challenge, and gives the final answer.
    pub fn asks(&mut self, dev: Dev, ask: &Ask) -> Response {
        let first = self.asks_once(dev, ask).expect("an answer");
        if first.status != 401 {
            return first;
        }
        let mut digest = self.digest(dev, &first);
        let again = ask.clone().cseq(ask.cseq + 1);
        self.asks_with(dev, &again, Some(&mut digest)).expect("an answer")
    }

    /// The same without waiting for the final answer.
    pub fn asks_later(&mut self, dev: Dev, ask: &Ask) {
        let first = self.asks_once(dev, ask).expect("an answer");
        let mut digest = self.digest(dev, &first);
        let again = ask.clone().cseq(ask.cseq + 1);
        let branch = format!("z9hG4bKlater{}", dev.0);
        let octets = again.write(&self.devices[dev.0], &branch, Some(&mut digest));
        self.device_sends(dev, octets);
    }

    /// The status of the last answer that came.
    pub fn last_status(&self, dev: Dev) -> Option<u16> {
        let mut answers = self.devices[dev.0].heard.iter().rev();
        answers.find_map(|(_, m)| match m {
            Message::Response(r) => Some(r.status),
            Message::Request(_) => None,
        })
    }

    /// Credentials of the device for the challenge in an answer.
    pub fn digest(&self, dev: Dev, challenged: &Response) -> cpmd::ua::digest::Digest {
        let challenge = challenged.headers.get(Name::WwwAuthenticate).and_then(Challenge::read);
        let challenge = challenge.expect("a challenge that we can answer");
        let user = device_user(&self.devices[dev.0].aor).to_owned();
        Ask::credentials(&user, &self.devices[dev.0].password, &challenge)
    }

    fn asks_with(
        &mut self,
        dev: Dev,
        ask: &Ask,
        digest: Option<&mut cpmd::ua::digest::Digest>,
    ) -> Option<Response> {
        let branch = format!("z9hG4bKraw{}", self.dice.between(0, u64::MAX - 1));
        let octets = ask.write(&self.devices[dev.0], &branch, digest);
        self.device_sends(dev, octets);
        let until = self.later(secs(33));
        loop {
            let found = self.devices[dev.0].heard.iter().find_map(|(_, m)| match m {
                Message::Response(r) if r.status >= 200 => {
                    let via = r.via().ok()?;
                    (via.branch() == Some(branch.as_str())).then(|| r.clone())
                }
                _ => None,
            });
            if found.is_some() || !self.step(until) {
                self.settle();
                return found;
            }
        }
    }

    // --- what goes wrong ----------------------------------------------------------------------

    /// Killed, and started again at once.
    pub fn crashes_and_restarts(&mut self) {
        self.crash(0);
        self.start();
    }

    /// Nothing passes between this device and the server.
    pub fn cut(&mut self, dev: Dev) {
        self.devices[dev.0].wire.is_cut = true;
        self.resets(dev);
    }

    /// Everything passes again.
    pub fn mend(&mut self, dev: Dev) {
        self.devices[dev.0].wire.is_cut = false;
    }

    /// Datagrams wait.
    pub fn hold(&mut self, dev: Dev) {
        self.devices[dev.0].wire.is_held = true;
    }

    /// Datagrams go on.
    pub fn release(&mut self, dev: Dev) {
        for (way, octets) in self.devices[dev.0].wire.release() {
            self.pass(dev, way, octets, 10_000);
        }
    }

    /// The next messages to (or from) the device whose first line holds `what` are lost.
    pub fn loses(&mut self, dev: Dev, way: Way, what: &str, count: u32) {
        self.devices[dev.0].wire.loses(way, what, count);
    }

    /// All connections of the device break.
    pub fn resets(&mut self, dev: Dev) {
        let of = self.connections.iter().filter(|(_, c)| c.dev == dev);
        let numbers: Vec<u64> = of.map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.break_connection(number, true));
    }

    // --- what is seen -------------------------------------------------------------------------

    /// The texts that the device has shown, in order, each as often as it was shown.
    pub fn texts(&self, dev: Dev) -> Vec<String> {
        self.received(dev).into_iter().map(|r| r.text.unwrap_or_default()).collect()
    }

    /// What the device has shown, in order.
    pub fn received(&self, dev: Dev) -> Vec<Received> {
        let events = self.devices[dev.0].events.iter();
        let received = events.filter_map(|(_, e)| match e {
            AgentEvent::Received(r) => Some(r.clone()),
            _ => None,
        });
        received.collect()
    }

    /// Copies of what other devices of the account sent.
    pub fn copies(&self, dev: Dev) -> Vec<Received> {
        let events = self.devices[dev.0].events.iter();
        let copies = events.filter_map(|(_, e)| match e {
            AgentEvent::Copy(r) => Some(r.clone()),
            _ => None,
        });
        copies.collect()
    }

    /// The receipts that came for a message.
    pub fn receipts(&self, dev: Dev, sent: &MessageRef) -> Vec<Disposition> {
        let events = self.devices[dev.0].events.iter();
        let receipts = events.filter_map(|(_, e)| match e {
            AgentEvent::Receipt { message_id, disposition } if **message_id == *sent.message_id => {
                Some(*disposition)
            }
            _ => None,
        });
        receipts.collect()
    }

    /// How the sending of a message ended: its final status, or nothing yet.
    pub fn status(&self, dev: Dev, sent: &MessageRef) -> Option<u16> {
        let events = self.devices[dev.0].events.iter();
        let mut statuses = events.filter_map(|(_, e)| match e {
            AgentEvent::Sent { message, status } if message == sent => Some(*status),
            AgentEvent::SendFailed { message, .. } if message == sent => Some(0),
            _ => None,
        });
        statuses.next()
    }

    /// Whether the device believes that it is registered.
    pub fn is_registered(&self, dev: Dev) -> bool {
        self.devices[dev.0].agent.as_ref().is_some_and(Agent::is_registered)
    }

    /// The status with which its registration failed last.
    pub fn register_failure(&self, dev: Dev) -> Option<u16> {
        let events = self.devices[dev.0].events.iter().rev();
        let mut failures = events.filter_map(|(_, e)| match e {
            AgentEvent::RegisterFailed { status } => Some(*status),
            _ => None,
        });
        failures.next()
    }

    /// The contacts in the last answer to a REGISTER of the device.
    pub fn bindings(&self, dev: Dev) -> Vec<cpmd::ua::Binding> {
        let events = self.devices[dev.0].events.iter().rev();
        let mut lists = events.filter_map(|(_, e)| match e {
            AgentEvent::Registered { bindings, .. } => Some(bindings.clone()),
            _ => None,
        });
        lists.next().unwrap_or_default()
    }

    /// The MESSAGE requests that reached the device, retransmissions included.
    pub fn requests(&self, dev: Dev) -> Vec<(u64, cpmd::syntax::sip::Request)> {
        let heard = self.devices[dev.0].heard.iter();
        let requests = heard.filter_map(|(at, m)| match m {
            Message::Request(r) => Some((*at, r.clone())),
            Message::Response(_) => None,
        });
        requests.collect()
    }

    /// What the operator hears.
    pub fn operator(&mut self, question: Question) -> Reply {
        self.serial += 1;
        let id = self.serial;
        self.handle(Input::Operator { id, question });
        self.until("the operator's answer", |w| w.replies.iter().any(|(i, _)| *i == id));
        let found = self.replies.iter().find(|(i, _)| *i == id);
        found.map(|(_, reply)| reply.clone()).expect("it is there")
    }

    /// How full the node is.
    pub fn counts(&mut self) -> Status {
        match self.operator(Question::Status) {
            Reply::Status(status) => status,
            other => panic!("not a status: {other:?}"),
        }
    }

    /// When nobody does anything, only bindings, expiries and the hourly sweep are waited for.
    pub fn is_idle(&mut self) {
        assert!(self.disk.is_quiet(), "the disk is busy");
        let status = self.counts();
        assert_eq!(status.transactions, 0, "transactions are open");
        let hour = 3_600_000_000;
        let next = self.node().next_deadline().expect("the sweep at least");
        let users = &self.node().tables().users;
        let bindings = users.iter().filter_map(|u| u.location.next_expiry());
        let expiries = users.iter().filter_map(|u| u.mailbox.next_expiry());
        let known = bindings.chain(expiries).any(|at| at == next)
            || (next.0 - self.made).is_multiple_of(hour);
        assert!(known, "the node waits for something at {next:?}");
    }

    /// The last rows of one party, for the eye.
    pub fn tail(&self, name: &str, count: usize) -> String {
        let of = self.rows.iter().filter(|r| r.from == name || r.to == name);
        let rows: Vec<String> =
            of.map(|r| format!("{:>13} {} -> {}: {}", r.at, r.from, r.to, r.label)).collect();
        rows[rows.len().saturating_sub(count)..].join("\n")
    }

    /// Compares what passed since the row `since` with fixtures/flows/`name`.ladder.
    pub fn expect_ladder(&self, name: &str, since: usize, lanes: &[&str]) {
        let drawn = ladder::draw(lanes, self.rows.get(since..).unwrap_or_default());
        let path = format!("{}/fixtures/flows/{name}.ladder", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_LADDERS").is_some() {
            std::fs::write(&path, &drawn).expect("the fixtures may be written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(golden, drawn, "{path}: UPDATE_LADDERS=1 writes it anew");
    }
}

fn device_user(aor: &str) -> &str {
    aor.trim_start_matches("sip:").split('@').next().unwrap_or_default()
}

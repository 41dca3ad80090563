//! The steps of the use case that this version can play. Each does something with the devices and
//! says what was seen, or what was not.

use std::pin::Pin;
use std::time::Duration;

use super::stage::{
    ALICE, ALICE_LAPTOP, ALICE_PDA, ALICE_PHONE, BOB, BOB_LAPTOP, BOB_PHONE, Stage,
};
use crate::shell::client::Device;
use crate::syntax::cpim::Wanted;
use crate::syntax::imdn::Disposition;
use crate::ua::{Agent, AgentEvent, Received};

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    pub(super) what: &'static str,
    pub(super) play: for<'a> fn(&'a mut Stage) -> Played<'a>,
}

type Played<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + 'a>>;

pub(super) const ALL: [Step; 6] = [
    Step {
        name: "R1",
        text: "before 1",
        what: "Alice's three devices and Bob's two register",
        play: |stage| Box::pin(register(stage)),
    },
    Step {
        name: "M1",
        text: "1-2",
        what: "Bob writes to Alice from his phone, and she answers from a PDA that only knows text",
        play: |stage| Box::pin(write(stage)),
    },
    Step {
        name: "M3",
        text: "4",
        what: "Bob's system hands it to Alice's system, in the other domain",
        play: |stage| Box::pin(forward(stage)),
    },
    Step {
        name: "M4",
        text: "5",
        what: "Bob's laptop shows what his phone has sent",
        play: |stage| Box::pin(copy(stage)),
    },
    Step {
        name: "M6",
        text: "8",
        what: "each of Alice's devices gets it whole, in a form that it takes",
        play: |stage| Box::pin(whole(stage)),
    },
    Step {
        name: "M7",
        text: "9",
        what: "Alice's PDA is off while Bob writes; it gets the message when it comes back, once",
        play: |stage| Box::pin(deferred(stage)),
    },
];

/// How long nothing more may come before it is believed.
const QUIET: Duration = Duration::from_millis(700);

const HOLIDAY: &str = "Back from the holidays: the pictures will follow";
const REPLY: &str = "Welcome home, Bob";
const LATER: &str = "And the second part, while your PDA is off";

async fn register(stage: &mut Stage) -> Result<String, String> {
    for device in [ALICE_PHONE, ALICE_LAPTOP, ALICE_PDA, BOB_PHONE, BOB_LAPTOP] {
        stage.pool.with(device, Agent::register);
        stage
            .until("a registration", |seen| {
                seen.iter().any(|(d, e)| *d == device && matches!(e, AgentEvent::Registered { .. }))
            })
            .await?;
    }
    let mut shown = Vec::new();
    for (device, expected) in [(ALICE_PHONE, 3), (BOB_PHONE, 2)] {
        let before = stage.seen.len();
        stage.pool.with(device, Agent::fetch);
        stage.until("a list of bindings", |seen| listed(seen, before, device).is_some()).await?;
        let count = listed(&stage.seen, before, device).unwrap_or(0);
        if count != expected {
            return Err(format!("{count} bindings in place of {expected}"));
        }
        shown.push(count);
    }
    Ok(format!("passwords checked, {} and {} addresses on disk", shown[0], shown[1]))
}

async fn write(stage: &mut Stage) -> Result<String, String> {
    let wanted = Wanted { positive_delivery: true, ..Wanted::default() };
    let sent = stage.pool.with(BOB_PHONE, |a, now| a.send_cpim(now, ALICE, HOLIDAY, wanted));
    let status = answer(stage, BOB_PHONE, &sent.message_id).await?;
    let reply = stage.pool.with(ALICE_PDA, |agent, now| agent.send_text(now, BOB, REPLY));
    let second = answer(stage, ALICE_PDA, &reply.message_id).await?;
    if (status, second) != (202, 202) {
        return Err(format!("answered with {status} and {second} in place of 202"));
    }
    stage
        .until("Alice's answer on both of Bob's devices", |seen| {
            [BOB_PHONE, BOB_LAPTOP].iter().all(|d| got(seen, *d, REPLY) == 1)
        })
        .await?;
    Ok("both 202 Accepted, so both are on disk; the answer is on Bob's phone and laptop".to_owned())
}

async fn forward(stage: &mut Stage) -> Result<String, String> {
    stage.until("Bob's message on Alice's phone", |s| got(s, ALICE_PHONE, HOLIDAY) == 1).await?;
    let from = received(&stage.seen, ALICE_PHONE, HOLIDAY).map(|m| m.from.clone());
    match from.as_deref() {
        Some(BOB) => Ok(format!("on Alice's phone, from {BOB}")),
        other => Err(format!("it came from {}", other.unwrap_or("nobody"))),
    }
}

async fn copy(stage: &mut Stage) -> Result<String, String> {
    let copies = |seen: &[(Device, AgentEvent)]| -> Vec<Option<String>> {
        let of = |e: &AgentEvent| match e {
            AgentEvent::Copy(m) if m.text.as_deref() == Some(HOLIDAY) => Some(m.message_id.clone()),
            _ => None,
        };
        seen.iter().filter(|(d, _)| *d == BOB_LAPTOP).filter_map(|(_, e)| of(e)).collect()
    };
    stage.until("a copy on Bob's laptop", |seen| !copies(seen).is_empty()).await?;
    let original = received(&stage.seen, ALICE_PHONE, HOLIDAY).and_then(|m| m.message_id.clone());
    let copies = copies(&stage.seen);
    match (original, copies.as_slice()) {
        (Some(id), [Some(copied)]) if id == *copied => {
            Ok(format!("one copy, with the same Message-ID {id}"))
        }
        (original, copies) => Err(format!("copies {copies:?} of {original:?}")),
    }
}

async fn whole(stage: &mut Stage) -> Result<String, String> {
    let all = [ALICE_PHONE, ALICE_LAPTOP, ALICE_PDA];
    stage
        .until("the message on all three of Alice's devices", |seen| {
            all.iter().all(|device| got(seen, *device, HOLIDAY) >= 1)
        })
        .await?;
    for device in all {
        let count = got(&stage.seen, device, HOLIDAY);
        if count != 1 {
            return Err(format!("{count} times on device {device}"));
        }
    }
    let form = |device| {
        let message = received(&stage.seen, device, HOLIDAY);
        let form = message.map(|m| m.content_type.split(';').next().unwrap_or_default().to_owned());
        form.unwrap_or_default()
    };
    let forms = all.map(form);
    if forms != ["message/cpim", "message/cpim", "text/plain"] {
        return Err(format!("in the forms {}", forms.join(", ")));
    }
    Ok("phone and laptop as CPIM, the PDA as plain text, every word".to_owned())
}

async fn deferred(stage: &mut Stage) -> Result<String, String> {
    stage.switch_off(ALICE_PDA);
    let wanted = Wanted { positive_delivery: true, ..Wanted::default() };
    let sent = stage.pool.with(BOB_PHONE, |a, now| a.send_cpim(now, ALICE, LATER, wanted));
    let status = answer(stage, BOB_PHONE, &sent.message_id).await?;
    if status != 202 {
        return Err(format!("answered with {status} in place of 202"));
    }
    stage
        .until("the message on Alice's phone and laptop", |seen| {
            [ALICE_PHONE, ALICE_LAPTOP].iter().all(|device| got(seen, *device, LATER) == 1)
        })
        .await?;
    stage.watch(QUIET).await;
    if got(&stage.seen, ALICE_PDA, LATER) != 0 {
        return Err("the PDA got it while it was off".to_owned());
    }
    stage.switch_on(ALICE_PDA)?;
    stage.until("the message on the PDA", |seen| got(seen, ALICE_PDA, LATER) >= 1).await?;
    stage.watch(QUIET).await;
    for device in [ALICE_PHONE, ALICE_LAPTOP, ALICE_PDA] {
        let count = got(&stage.seen, device, LATER);
        if count != 1 {
            return Err(format!("{count} times on device {device}"));
        }
    }
    let receipts = |device| {
        let told = |e: &AgentEvent| match e {
            AgentEvent::Receipt { message_id, disposition } => {
                *message_id == *sent.message_id && *disposition == Disposition::Delivered
            }
            _ => false,
        };
        stage.seen.iter().filter(|(d, e)| *d == device && told(e)).count()
    };
    let told = [BOB_PHONE, BOB_LAPTOP].map(receipts);
    if told != [1, 1] {
        return Err(format!("delivery receipts at Bob's phone and laptop: {told:?}"));
    }
    Ok("kept, delivered once, and Bob got one receipt for it".to_owned())
}

/// Waits for the answer to a message.
async fn answer(stage: &mut Stage, device: Device, id: &str) -> Result<u16, String> {
    let find = |seen: &[(Device, AgentEvent)]| {
        seen.iter().find_map(|(d, e)| match e {
            AgentEvent::Sent { message, status } if *d == device && *message.message_id == *id => {
                Some(*status)
            }
            _ => None,
        })
    };
    stage.until("an answer to the message", |seen| find(seen).is_some()).await?;
    Ok(find(&stage.seen).unwrap_or(0))
}

/// How often a device has shown this text.
fn got(seen: &[(Device, AgentEvent)], device: Device, text: &str) -> usize {
    let is =
        |e: &AgentEvent| matches!(e, AgentEvent::Received(m) if m.text.as_deref() == Some(text));
    seen.iter().filter(|(d, e)| *d == device && is(e)).count()
}

fn received<'a>(
    seen: &'a [(Device, AgentEvent)],
    device: Device,
    text: &str,
) -> Option<&'a Received> {
    seen.iter().find_map(|(d, e)| match e {
        AgentEvent::Received(m) if *d == device && m.text.as_deref() == Some(text) => Some(m),
        _ => None,
    })
}

/// How many bindings the first list after `from` shows.
fn listed(seen: &[(Device, AgentEvent)], from: usize, device: Device) -> Option<usize> {
    seen.iter().skip(from).find_map(|(d, e)| match e {
        AgentEvent::Registered { bindings, .. } if *d == device => Some(bindings.len()),
        _ => None,
    })
}

//! What is printed: a table for people, one object per line for machines.

use serde::Serialize;

use super::audit::Check;
use super::figures::{float, ratio};
use super::load::{Outcome, Pace};
use super::scenario::Scenario;
use crate::shell::operator::Written;

/// The figures of one loop.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) scenario: &'static str,
    /// `closed` (32 at once), `full` (128 at once: saturation) or `open`.
    pub(super) pace: &'static str,
    /// Offered per second; in an open loop.
    pub(super) offered: Option<f64>,
    /// Done per second.
    pub(super) rate: f64,
    /// In all, warming up included.
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Until the final answer.
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    /// Until the last device had it.
    pub(super) delivered_p50_ms: Option<f64>,
    pub(super) delivered_p99_ms: Option<f64>,
    /// CPU time of all threads of the server.
    pub(super) server_us: f64,
    pub(super) server_percent: f64,
    pub(super) generator_us: f64,
    /// CPU time of everything else, of one core.
    pub(super) other_percent: f64,
    pub(super) batches: f64,
    pub(super) records: f64,
    pub(super) syncs: f64,
    /// Datagrams that found no room, of the whole machine.
    pub(super) dropped: u64,
    /// What was counted afterwards.
    pub(super) checks: Vec<String>,
    pub(super) ok: bool,
}

/// The figures of bindings at rest.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(super) struct Idle {
    pub(super) scenario: &'static str,
    pub(super) bindings: usize,
    /// The whole server with accounts and no bindings, per account.
    pub(super) account_bytes: f64,
    /// After all have registered and every transaction is forgotten: what the second half of them
    /// has added. What the server sets up once, whatever their number, is not in it.
    pub(super) further: Bindings,
    /// All of them, above the server with its accounts alone.
    pub(super) live: Bindings,
    /// After a restart, from the journal.
    pub(super) restarted: Bindings,
    pub(super) start_seconds: f64,
    pub(super) restart_seconds: f64,
    pub(super) checks: Vec<String>,
    pub(super) ok: bool,
}

/// Memory for each binding, above that of the server with its accounts alone.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(super) struct Bindings {
    pub(super) rss_bytes: f64,
    pub(super) pss_bytes: f64,
}

/// Above this the figures are not to be trusted.
const OTHER_PERCENT_MAX: f64 = 30.0;

impl Row {
    pub(super) fn new(
        scenario: Scenario,
        name: &'static str,
        pace: Pace,
        outcome: Outcome,
        written: &Written,
    ) -> Row {
        let seconds = outcome.measured.as_secs_f64();
        let counted = float(outcome.counted);
        let micros = |nanos: u64| ratio(float(nanos) / 1000.0, counted);
        let percent = |nanos: u64| ratio(float(nanos) / 1e7, seconds);
        let each = |count: u64| ratio(float(count), float(outcome.done));
        let has_deliveries = outcome.delivered.len() > 0;
        let (done, failed, cpu) = (outcome.done, outcome.failed, outcome.cpu);
        let [p50, p99, max] = outcome.answered.percentiles([500, 990, 1000]);
        let delivered = outcome.delivered.percentiles([500, 990]);
        Row {
            scenario: scenario.name(),
            pace: name,
            offered: match pace {
                Pace::Open(rate) => Some(rate),
                Pace::Closed(_) | Pace::Once(_) => None,
            },
            rate: ratio(counted, seconds),
            done,
            failed,
            p50_ms: p50,
            p99_ms: p99,
            max_ms: max,
            delivered_p50_ms: has_deliveries.then_some(delivered[0]),
            delivered_p99_ms: has_deliveries.then_some(delivered[1]),
            server_us: micros(cpu.server),
            server_percent: percent(cpu.server),
            generator_us: micros(cpu.generator),
            other_percent: percent(cpu.other()),
            batches: each(written.batches),
            records: each(written.records),
            syncs: each(written.syncs),
            dropped: cpu.dropped,
            checks: Vec::new(),
            ok: false,
        }
    }

    /// Takes over what was counted after the run.
    pub(super) fn judge(&mut self, checks: &[Check]) {
        self.checks = checks.iter().map(Check::text).collect();
        self.ok = self.failed == 0 && self.done > 0 && checks.iter().all(Check::holds);
    }
}

/// A table of several loops, with what is to be said about them below.
pub(super) fn table(rows: &[Row]) -> String {
    let head = [
        "scenario",
        "loop",
        "rate/s",
        "p50 ms",
        "p99 ms",
        "max ms",
        "all devices p99",
        "server us/op",
        "of a core",
        "batches/op",
        "records/op",
        "syncs/op",
        "other CPU",
        "result",
    ];
    let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    for row in rows {
        let delivered =
            row.delivered_p99_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}"));
        lines.push(vec![
            row.scenario.to_owned(),
            row.pace.to_owned(),
            format!("{:.0}", row.rate),
            format!("{:.2}", row.p50_ms),
            format!("{:.2}", row.p99_ms),
            format!("{:.1}", row.max_ms),
            delivered,
            format!("{:.1}", row.server_us),
            format!("{:.0} %", row.server_percent),
            format!("{:.2}", row.batches),
            format!("{:.2}", row.records),
            format!("{:.3}", row.syncs),
            format!("{:.0} %", row.other_percent),
            if row.ok { "ok" } else { "FAILED" }.to_owned(),
        ]);
    }
    let mut text = aligned(&lines);
    for row in rows {
        text.push_str(&remarks(row));
    }
    text
}

/// What a reader must know of one loop.
fn remarks(row: &Row) -> String {
    let mut text = String::new();
    let mut say =
        |what: String| text.push_str(&format!("  {} {}: {what}\n", row.scenario, row.pace));
    if row.failed > 0 {
        say(format!("{} operations failed", row.failed));
    }
    if row.dropped > 0 {
        say(format!("{} datagrams found no room in a socket", row.dropped));
    }
    if row.other_percent > OTHER_PERCENT_MAX {
        say(format!(
            "other processes used {:.0} % of a core: do not trust these figures",
            row.other_percent
        ));
    }
    if row.pace == "closed" {
        say(row.checks.join(", "));
    }
    text
}

/// The same for bindings.
pub(super) fn idle_table(idle: &Idle) -> String {
    let bytes = |b: Bindings| vec![format!("{:.0}", b.rss_bytes), format!("{:.0}", b.pss_bytes)];
    let row = |name: &str, b: Bindings, seconds: f64| {
        let mut row = vec![name.to_owned()];
        row.extend(bytes(b));
        row.push(format!("{seconds:.1}"));
        row
    };
    let head = [idle.scenario, "RSS bytes", "PSS bytes", "start s"].map(str::to_owned).to_vec();
    let mut text = aligned(&[
        head,
        row("each of the second half", idle.further, idle.start_seconds),
        row("all, with what is set up once", idle.live, idle.start_seconds),
        row("all, after a restart", idle.restarted, idle.restart_seconds),
    ]);
    text.push_str(&format!(
        "  per binding, of {}; the server itself takes {:.0} bytes per account\n  {}: {}\n",
        idle.bindings,
        idle.account_bytes,
        if idle.ok { "ok" } else { "FAILED" },
        idle.checks.join(", ")
    ));
    text
}

/// Columns as wide as they must be, the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| {
        lines.iter().filter_map(|l| l.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, wide))| {
            if at == 0 { format!("{cell:<wide$}") } else { format!("{cell:>wide$}") }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::bench::figures::Latencies;
    use crate::shell::bench::machine::Cpu;
    use std::time::Duration;

    fn outcome() -> Outcome {
        let mut answered = Latencies::default();
        (1..=100).for_each(|ms| answered.add(Duration::from_millis(ms)));
        Outcome {
            done: 200,
            measured: Duration::from_secs(2),
            counted: 100,
            answered,
            cpu: Cpu {
                server: 3_000_000,
                generator: 1_000_000,
                machine: 1_004_000_000,
                dropped: 1,
            },
            ..Outcome::default()
        }
    }

    #[test]
    fn a_row_reckons_per_operation() {
        let written = Written { groups: 10, batches: 200, records: 400, syncs: 10 };
        let mut row = Row::new(Scenario::Message1, "open", Pace::Open(50.0), outcome(), &written);
        assert_eq!((row.rate, row.p50_ms, row.p99_ms, row.max_ms), (50.0, 50.0, 99.0, 100.0));
        assert_eq!((row.server_us, row.generator_us), (30.0, 10.0));
        assert_eq!((row.batches, row.records, row.syncs), (1.0, 2.0, 0.05));
        assert_eq!((row.other_percent, row.delivered_p99_ms), (50.0, None));
        assert!(!row.ok);
        row.judge(&[Check::exact("messages", 200, 200)]);
        assert!(row.ok);
        row.judge(&[Check::exact("messages", 199, 200)]);
        assert!(!row.ok);
        let text = table(&[row]);
        assert!(text.contains("message-1  open") && text.contains("FAILED"), "{text}");
        assert!(text.contains("do not trust"), "{text}");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let cell = |text: &str| text.to_owned();
        let lines =
            [vec![cell("a"), cell("12"), cell("x")], vec![cell("bcd"), cell("3"), cell("yz")]];
        assert_eq!(aligned(&lines), "a    12   x\nbcd   3  yz\n");
    }

    #[test]
    fn machines_get_one_object() {
        let idle = Idle { scenario: "idle-bindings", bindings: 5, ..Idle::default() };
        let text = serde_json::to_string(&idle).unwrap();
        assert!(text.starts_with("{\"scenario\":\"idle-bindings\",\"bindings\":5,"), "{text}");
        assert!(idle_table(&idle).contains("FAILED"));
    }
}

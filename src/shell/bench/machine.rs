//! What the system knows of processes: their CPU time and memory, and where they may run.

use std::process::{Command, Stdio};

/// CPU time of the server, of this process and of the whole machine up to now, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cpu {
    pub(super) server: u64,
    pub(super) generator: u64,
    /// Of every process, from counters of a hundredth of a second.
    pub(super) machine: u64,
    /// Datagrams that found no room in a socket, of every process.
    pub(super) dropped: u64,
}

/// Memory of a process, in octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Memory {
    /// Resident.
    pub(super) rss: u64,
    /// The same with shared pages divided among those that share them.
    pub(super) pss: u64,
}

impl Cpu {
    /// Reads the counters.
    pub(super) fn now(server: u32) -> Cpu {
        Cpu {
            server: of_process(server),
            generator: of_process(std::process::id()),
            machine: busy(&read("/proc/stat")),
            dropped: dropped(&read("/proc/net/snmp")),
        }
    }

    /// What was used since `earlier`.
    pub(super) fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            server: self.server.saturating_sub(earlier.server),
            generator: self.generator.saturating_sub(earlier.generator),
            machine: self.machine.saturating_sub(earlier.machine),
            dropped: self.dropped.saturating_sub(earlier.dropped),
        }
    }

    /// What neither server nor generator used, in nanoseconds.
    pub(super) fn other(self) -> u64 {
        self.machine.saturating_sub(self.server + self.generator)
    }
}

/// Memory of a process; zero when it is gone.
pub(super) fn memory(process: u32) -> Memory {
    let text = read(&format!("/proc/{process}/smaps_rollup"));
    let octets = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        let kilo = line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
        kilo.unwrap_or(0) * 1024
    };
    Memory { rss: octets("Rss:"), pss: octets("Pss:") }
}

/// Whether there are two cores and `taskset`, so that server and generator get one each.
pub(super) fn can_pin() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut asked = Command::new("taskset");
    asked.arg("-V").stdout(Stdio::null()).stderr(Stdio::null());
    cores >= 2 && command_works(&mut asked)
}

/// Keeps this process on core 1.
pub(super) fn pin_generator() -> bool {
    let process = std::process::id().to_string();
    let mut command = Command::new("taskset");
    command.args(["-a", "-p", "-c", "1", &process]).stdout(Stdio::null()).stderr(Stdio::null());
    command_works(&mut command)
}

/// Runs a program with a shell's `kill`; sends SIGTERM.
pub(super) fn terminate(process: u32) -> bool {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("kill -TERM {process}"));
    command_works(&mut command)
}

fn command_works(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

/// Of all threads that live; in nanoseconds.
fn of_process(process: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{process}/task")) else { return 0 };
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(of_task).sum()
}

/// User, nice, system, irq and softirq time of the first line of `/proc/stat`; in nanoseconds.
fn busy(stat: &str) -> u64 {
    const TICK: u64 = 10_000_000;
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum::<u64>() * TICK
}

/// `RcvbufErrors` and `SndbufErrors` of UDP.
fn dropped(snmp: &str) -> u64 {
    let mut udp = snmp.lines().filter_map(|l| l.strip_prefix("Udp: "));
    let (Some(names), Some(values)) = (udp.next(), udp.next()) else { return 0 };
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs
        .filter(|(name, _)| matches!(*name, "RcvbufErrors" | "SndbufErrors"))
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_the_system() {
        assert_eq!(busy("cpu  1 2 3 400 500 6 7 8 9 10\ncpu0 1"), 19 * 10_000_000);
        let snmp = "Udp: InDatagrams RcvbufErrors SndbufErrors\nUdp: 100 4 3\n";
        assert_eq!((dropped(snmp), dropped("")), (7, 0));
        let used = Cpu { server: 5, generator: 6, machine: 20, dropped: 0 };
        assert_eq!(used.other(), 9);
    }

    #[test]
    fn this_process_uses_some() {
        let own = std::process::id();
        assert!(of_process(own) > 0 && memory(own).rss > 0 && memory(own).pss > 0);
        assert_eq!(memory(u32::MAX), Memory::default());
    }
}

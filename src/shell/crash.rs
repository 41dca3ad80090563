//! The door for the kill test: places in the program where it can be told to die.
//!
//! `CPMD_CRASH_AT=stored:3` aborts the process (no destructors, no flushing, as with kill -9) when
//! it passes the point `stored` for the third time. Unset, a point costs one branch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

struct Armed {
    name: String,
    nth: u64,
    hits: AtomicU64,
}

/// Aborts the process if `CPMD_CRASH_AT` names this point and this is its hit number `nth`,
/// counted from 1.
pub fn point(name: &'static str) {
    if let Some(armed) = ARMED.get_or_init(from_environment) {
        armed.hit(name);
    }
}

impl Armed {
    fn parse(value: &str) -> Option<Armed> {
        let (name, nth) = value.rsplit_once(':')?;
        let nth = nth.parse().ok().filter(|n| *n > 0)?;
        Some(Armed { name: name.to_owned(), nth, hits: AtomicU64::new(0) })
    }

    fn hit(&self, name: &str) {
        if name == self.name && self.hits.fetch_add(1, Ordering::Relaxed) + 1 == self.nth {
            std::process::abort();
        }
    }
}

fn from_environment() -> Option<Armed> {
    let value = std::env::var("CPMD_CRASH_AT").ok()?;
    let armed = Armed::parse(&value);
    if armed.is_none() {
        tracing::error!(value, "CPMD_CRASH_AT is not of the form name:nth and is ignored");
    }
    armed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_of_the_variable() {
        let armed = Armed::parse("blob-renamed:12").unwrap();
        assert_eq!((armed.name.as_str(), armed.nth), ("blob-renamed", 12));
        for bad in ["", "stored", "stored:", "stored:0", "stored:x"] {
            assert!(Armed::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn unarmed_points_let_everything_pass() {
        for pass in 1..=3 {
            println!("pass {pass}");
            point("other");
            point("here");
        }
    }

    /// The test above, which dies when it is armed.
    const VICTIM: &str = "shell::crash::tests::unarmed_points_let_everything_pass";

    #[test]
    fn dies_at_the_second_hit_and_only_when_told() {
        let run = |at: Option<&str>| {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", VICTIM, "--nocapture"]);
            match at {
                Some(at) => child.env("CPMD_CRASH_AT", at),
                None => child.env_remove("CPMD_CRASH_AT"),
            };
            let out = child.output().unwrap();
            (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
        };
        let (lived, said) = run(None);
        assert!(lived && said.contains("pass 3"), "{said}");
        let (lived, said) = run(Some("here:2"));
        assert!(!lived && said.contains("pass 2") && !said.contains("pass 3"), "{said}");
    }
}

//! `cpmd demo`: plays the use case over real sockets, against a server in this process, and checks
//! each step.
#![expect(clippy::disallowed_methods, reason = "each step says how long it took")]

mod stage;
mod steps;

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::stage::Stage;

/// How the demo is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DemoOptions {
    /// One JSON object per step.
    pub json: bool,
    /// With pauses, to watch it.
    pub slow: bool,
}

/// What is said of one step as it finishes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Line {
    /// Its name in the plan: `M4`.
    step: &'static str,
    /// The step numbers of the use case.
    text: &'static str,
    /// What happens.
    what: &'static str,
    /// Whether all that should be seen was seen.
    ok: bool,
    /// How long it took.
    ms: u64,
}

/// Before each step of `--slow`.
const PAUSE: Duration = Duration::from_secs(2);

/// Plays every step; success only if all are.
#[must_use]
pub fn run(options: DemoOptions) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let played = match runtime {
        Ok(runtime) => runtime.block_on(play(options)),
        Err(error) => Err(format!("cannot start: {error}: look at the limits of this process")),
    };
    match played {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Where even that is closed, the exit code has to do.
            writeln!(std::io::stderr(), "cpmd: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

/// Plays and shows all steps; whether all were as they should be.
async fn play(options: DemoOptions) -> Result<bool, String> {
    let mut stage = Stage::open()?;
    if !options.json {
        show(&stage.introduction())?;
    }
    let mut all = true;
    for step in steps::ALL {
        if options.slow {
            stage.watch(PAUSE).await;
        }
        let began = Instant::now();
        let seen = (step.play)(&mut stage).await;
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (name, text, what) = (step.name, step.text, step.what);
        let line = Line { step: name, text, what, ok: seen.is_ok(), ms };
        all &= line.ok;
        let shown = if options.json { json(&line)? } else { human(&line, &seen) };
        show(&shown)?;
    }
    stage.close()?;
    if !options.json {
        let verdict = if all { "All of it happened, and was seen." } else { "Not all was seen." };
        show(&format!("\n{verdict}\n"))?;
    }
    Ok(all)
}

fn json(line: &Line) -> Result<String, String> {
    let text = serde_json::to_string(line).map_err(|e| format!("cannot write JSON: {e}"))?;
    Ok(text + "\n")
}

fn human(line: &Line, seen: &Result<String, String>) -> String {
    let (mark, seen) = match seen {
        Ok(seen) => ("ok", seen),
        Err(missing) => ("FAILED", missing),
    };
    format!("{} {mark} {:>5} ms  {}: {seen}\n", line.step, line.ms, line.what)
}

fn show(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output: {error}: nobody reads it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_machines_and_for_people() {
        let line = Line { step: "M4", text: "5", what: "a copy", ok: true, ms: 12 };
        assert_eq!(
            json(&line).unwrap(),
            "{\"step\":\"M4\",\"text\":\"5\",\"what\":\"a copy\",\"ok\":true,\"ms\":12}\n"
        );
        let shown = human(&line, &Ok("seen".to_owned()));
        assert_eq!(shown, "M4 ok    12 ms  a copy: seen\n");
        assert!(human(&line, &Err("nothing".to_owned())).contains("FAILED"));
    }

    #[test]
    fn the_whole_use_case_of_this_version() {
        let names: Vec<&str> = steps::ALL.iter().map(|s| s.name).collect();
        assert_eq!(names, ["R1", "M1", "M3", "M4", "M6", "M7"]);
    }
}

//! `cpmd bench`: the load generator. It starts a server of its own, offers load, takes the time,
//! and counts afterwards whether all that was promised is really there (docs/PERFORMANCE.md).

mod audit;
mod figures;
mod load;
mod machine;
mod report;
mod scenario;
mod server;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use self::scenario::Terms;
use self::server::Place;

pub use self::scenario::Scenario;

/// What load to make.
#[derive(Clone, PartialEq, Debug)]
pub struct BenchOptions {
    /// What to measure, in this order; nothing: everything.
    pub scenarios: Vec<Scenario>,
    /// Operations per second in the open loop; half of what was reached where it is `None`.
    pub rate: Option<f64>,
    /// Seconds that each loop is measured.
    pub seconds: u32,
    /// Accounts that take part; each scenario's own number where it is `None`.
    pub users: Option<usize>,
    /// One JSON object per line in place of tables.
    pub json: bool,
}

/// Makes the load and prints the figures; success only if all that was promised was found.
#[must_use]
pub fn run(options: &BenchOptions) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let measured = match runtime {
        Ok(runtime) => runtime.block_on(measure(options)),
        Err(error) => Err(format!("cannot start: {error}: look at the limits of this process")),
    };
    match measured {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &BenchOptions) -> Result<bool, String> {
    let pinned = machine::can_pin() && machine::pin_generator();
    let place = Place::new(0, pinned)?;
    let cores = if pinned {
        "server on core 0, generator on core 1"
    } else {
        "server and generator not pinned: it takes two cores and `taskset`"
    };
    if !options.json {
        show(&format!("{cores}; data on {}\n", place.file_system()))?;
    } else if !pinned {
        complain(cores);
    }
    drop(place);
    let terms = Terms {
        users: options.users,
        time: Duration::from_secs(u64::from(options.seconds.max(1))),
        rate: options.rate,
        pinned,
    };
    let scenarios = if options.scenarios.is_empty() {
        Scenario::ALL.to_vec()
    } else {
        options.scenarios.clone()
    };
    let mut all = true;
    for scenario in scenarios {
        let text = if scenario == Scenario::IdleBindings {
            let idle = scenario::idle(&terms).await?;
            all &= idle.ok;
            if options.json { json(&idle)? } else { format!("\n{}", report::idle_table(&idle)) }
        } else {
            let rows = scenario::load(scenario, &terms).await?;
            all &= rows.iter().all(|row| row.ok);
            if options.json {
                rows.iter().map(json).collect::<Result<String, String>>()?
            } else {
                format!("\n{}", report::table(&rows))
            }
        };
        show(&text)?;
    }
    Ok(all)
}

fn json(figures: &impl serde::Serialize) -> Result<String, String> {
    let text = serde_json::to_string(figures).map_err(|e| format!("cannot write JSON: {e}"))?;
    Ok(text + "\n")
}

fn show(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("standard output: {error}: nobody reads it"))
}

/// One line on standard error. Where even that is closed, the exit code has to do.
fn complain(what: &str) {
    writeln!(std::io::stderr(), "cpmd: {what}").ok();
}

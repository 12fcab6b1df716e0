//! How Postgres runs the service's statements when there are a million sessions: by an index, and with the same effort
//! as when there are few. See docs/performance.md.
//!
//! `cargo test --test plans`
#![allow(clippy::disallowed_methods, reason = "no part of the service: it lives in real time")]

mod cases;
mod plan;
mod world;

use std::{collections::BTreeSet, process::ExitCode, time::Instant};

use clap::Parser;
use plan::{Mode, Outcome};
use world::World;

/// As many of the costliest are shown.
const SHOWN: usize = 12;

#[derive(Parser)]
struct Args {
    /// Keeps the database, and takes that of an earlier run.
    #[arg(long)]
    keep: bool,
    /// Only statements whose name contains this; shows their plans.
    #[arg(long)]
    only: Option<String>,
    /// Changes the database before: `--sql 'drop index …'` shows what the test is worth.
    #[arg(long)]
    sql: Option<String>,
    /// Left by the test runner.
    #[arg(long, hide = true)]
    nocapture: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.expect("threads can be started").block_on(run(&args)) {
        Ok(problems) if problems.is_empty() => {
            println!("OK");
            ExitCode::SUCCESS
        }
        Ok(problems) => {
            for problem in &problems {
                println!("PROBLEM {problem}");
            }
            println!("{} problems", problems.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("FAILED {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<Vec<String>> {
    let statements = plan::statements()?;
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let known: BTreeSet<_> =
        cases::all().map(|case| case.name).chain(cases::EXCEPTIONS.iter().map(|(name, _)| *name)).collect();
    let mut problems: Vec<_> = statements
        .keys()
        .filter(|name| !known.contains(name.as_str()))
        .map(|name| format!("{name}: tests/plans/cases has no values for it, and no reason why not"))
        .collect();
    let mut world = World::start(args.keep).await?;
    if let Some(sql) = &args.sql {
        world.change(sql.clone()).await?;
    }
    let begun = Instant::now();
    let sizes = plan::sizes(&mut world.connection).await?;
    let mut costs: Vec<(Outcome, &str, Mode)> = Vec::new();
    for case in cases::all().filter(|case| wanted(case.name)) {
        let Some(statement) = statements.get(case.name) else {
            problems.push(format!("{}: there is no such statement in .sqlx", case.name));
            continue;
        };
        let modes: &[Mode] = if case.is_list { &[Mode::Custom] } else { &[Mode::Custom, Mode::Generic] };
        for &mode in modes {
            match plan::run(&mut world.connection, &sizes, case, statement, mode).await {
                Ok(outcome) => {
                    let what = outcome.problems.join("; ");
                    if !what.is_empty() {
                        problems.push(format!(
                            "{} ({}), {mode:?} plan: {what}\n{}",
                            case.name, case.values, outcome.plan
                        ));
                    } else if args.only.is_some() {
                        println!("{} ({}), {mode:?}: {}", case.name, case.values, outcome.plan);
                    }
                    costs.push((outcome, case.name, mode));
                }
                Err(error) => problems.push(format!("{} ({}): {error}", case.name, case.values)),
            }
        }
    }
    println!("{} plans in {:.1} s; the most is read by", costs.len(), begun.elapsed().as_secs_f64());
    show(costs);
    world.stop(args.keep).await?;
    Ok(problems)
}

/// Each statement once, with its costliest run.
fn show(mut costs: Vec<(Outcome, &str, Mode)>) {
    costs.sort_by_key(|(outcome, ..)| std::cmp::Reverse(outcome.buffers));
    let mut shown = BTreeSet::new();
    for (outcome, name, mode) in costs {
        if shown.len() < SHOWN && shown.insert(name) {
            let Outcome { rows, buffers, time_ms, .. } = outcome;
            println!("{buffers:>8} buffers {rows:>8} rows {time_ms:>8.1} ms  {name}, {mode:?} plan");
        }
    }
}

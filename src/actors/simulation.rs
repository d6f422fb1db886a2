//! Days of traffic in the engine's pure parts, each drawn from a seed: crashes, hangs, slow and failing
//! loads, poison, clients that leave, reloads, dying actors. Every promise is checked after every
//! event; a broken one is reported with its seed and the shortest day that breaks it.
//!
//! `ROADCREW_SEEDS=N` plays more days than usual, `ROADCREW_SEED=N` one day, with its trace.

mod crew;
mod job;
mod script;
mod world;

use rayon::prelude::*;

use script::Script;
use world::{Sabotage, World};

/// How many days are played as a rule.
const DAYS: u64 = 2_000;

/// Seeds that once broke a promise.
const REGRESSIONS: &str = include_str!("simulation/regressions.txt");

fn play(script: &Script, sabotage: Sabotage) -> Result<u64, String> {
    World::new(script, sabotage, false).play()
}

/// Which promise was broken, whoever was concerned.
fn kind(broken: &str) -> String {
    broken.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// The shortest day, made by leaving out what happens, that still breaks the same promise.
fn shorten(mut script: Script, sabotage: Sabotage) -> Script {
    let Err(broken) = play(&script, sabotage) else { return script };
    let mut chunk = script.inputs.len().div_ceil(2);
    while chunk > 0 {
        let mut from = 0;
        while from < script.inputs.len() {
            let mut shorter = script.clone();
            shorter.inputs.drain(from..(from + chunk).min(shorter.inputs.len()));
            if play(&shorter, sabotage).is_err_and(|other| kind(&other) == kind(&broken)) {
                script = shorter;
            } else {
                from += chunk;
            }
        }
        chunk /= 2;
    }
    script
}

/// What went wrong, and the shortest way there.
fn report(seed: u64, sabotage: Sabotage) -> String {
    let script = shorten(Script::of(seed), sabotage);
    let mut world = World::new(&script, sabotage, true);
    let broken = world.play().err().unwrap_or_default();
    format!("seed {seed}: {broken}\n{}", world.trace().join("\n"))
}

#[test]
fn every_promise_holds_on_every_day() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("ROADCREW_SEED") {
        let script = Script::of(seed);
        let mut world = World::new(&script, Sabotage::None, true);
        let played = world.play();
        panic!("{}\n{played:?}", world.trace().join("\n"));
    }
    let regressions =
        REGRESSIONS.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let seeds: Vec<u64> = regressions.chain(0..number("ROADCREW_SEEDS").unwrap_or(DAYS)).collect();
    let play = |seed: &u64| play(&Script::of(*seed), Sabotage::None).map_err(|_| *seed);
    match seeds.par_iter().map(play).collect::<Result<Vec<_>, _>>() {
        Ok(events) => {
            let total: u64 = events.iter().sum();
            assert!(total > 500 * seeds.len() as u64, "{total} events are no {} days", seeds.len());
        }
        Err(seed) => panic!("{}", report(seed, Sabotage::None)),
    }
}

#[test]
fn the_simulation_notices_what_is_wrong_and_shortens_it() {
    for (sabotage, says) in [
        (Sabotage::LoseFallen, "wait for an answer"),
        (Sabotage::KeepDead, "is computed for nobody"),
    ] {
        let seed = (0..100).find(|seed| play(&Script::of(*seed), sabotage).is_err()).unwrap();
        let report = report(seed, sabotage);
        assert!(report.contains(says), "{sabotage:?}: {report}");
        let lines = report.lines().count();
        assert!(lines < 60, "{sabotage:?}: the shortest day takes {lines} lines: {report}");
    }
}

//! What is printed and written.

use std::fmt::Write as _;
use std::path::Path;

use roadcrew::lab::plot::{Kind, Plot, Series};

use super::arena::POLICIES;
use super::arena::curve::CURVES;
use super::arena::traffic::Arrivals;
use super::grid::Point;

/// Ours come first.
const OURS: usize = 3;
const IMMEDIATE: usize = 1;

/// Two tables: what is left of the best by each policy, and ours by curve.
pub(crate) fn tables(points: &[Point]) -> String {
    format!("{}\n{}\n{}", policies(points), curves(points), example(points))
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    values.clone().sum::<f64>() / values.count().max(1) as f64
}

fn policies(points: &[Point]) -> String {
    let mut text = format!(
        "Goodput, in that of the best policy at the same point; {} points.\n\n\
         | policy | within 5 % of the best | mean | worst |\n|---|---|---|---|\n",
        points.len()
    );
    for (index, name) in POLICIES.iter().enumerate() {
        let ratios = || points.iter().map(|p| p.ratio(index, 0..POLICIES.len()));
        let near = ratios().filter(|ratio| *ratio >= 0.95).count();
        let (mean, worst) = (mean(ratios()), least(ratios()));
        let share = 100.0 * near as f64 / points.len() as f64;
        let _ = writeln!(text, "| {name} | {share:.0} % | {mean:.3} | {worst:.3} |");
    }
    text
}

fn curves(points: &[Point]) -> String {
    let mut text = "Ours (`adaptive`), by curve: the least over all loads, arrivals and deadlines.\n\n\
         | curve | max | in the best of all | in the best peer | in the optimum | mean in the optimum | \
         p99 in that of no waiting, at 5 % load |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for limit in [8, 32] {
        for curve in &CURVES {
            let here = || {
                let of =
                    |p: &&Point| p.traffic.curve.name == curve.name && p.traffic.limit == limit;
                points.iter().filter(of)
            };
            if here().next().is_none() {
                continue;
            }
            let best = least(here().map(|p| p.ratio(0, 0..POLICIES.len())));
            let peer = least(here().map(|p| p.ratio(0, OURS..POLICIES.len())));
            let bound = |p: &Point| Some(p.outcomes[0].share_in_time() / p.optimum?);
            let (worst, mean) = (least(here().filter_map(bound)), mean(here().filter_map(bound)));
            let quiet = here().filter(|p| p.traffic.load < 0.1);
            let p99 =
                |p: &Point| p.outcomes[0].quantile(0.99) / p.outcomes[IMMEDIATE].quantile(0.99);
            let slower = quiet.map(p99).fold(0.0, f64::max);
            let _ = writeln!(
                text,
                "| {} | {limit} | {best:.3} | {peer:.2} | {worst:.3} | {mean:.3} | {slower:.3} |",
                curve.name
            );
        }
    }
    text
}

/// One curve in full.
fn example(points: &[Point]) -> String {
    let mut text = format!(
        "Share of all jobs answered in time, in per cent (p99 of the answered, ms): `balanced`, at most 8, Poisson.\n\n\
         | deadlines | load | optimum | {} |\n|---|---|---|{}\n",
        POLICIES.join(" | "),
        "---|".repeat(POLICIES.len())
    );
    let of = |p: &&Point| {
        p.traffic.curve.name == "balanced"
            && p.traffic.limit == 8
            && p.traffic.arrivals == Arrivals::Poisson
            && ["tight", "loose"].contains(&p.deadlines)
    };
    for point in points.iter().filter(of) {
        let optimum = 100.0 * point.optimum.unwrap_or_default();
        let _ = write!(
            text,
            "| {} | {:.0} % | {optimum:.1} |",
            point.deadlines,
            100.0 * point.traffic.load
        );
        for outcome in &point.outcomes {
            let share = 100.0 * outcome.share_in_time();
            let _ = write!(text, " {share:.1} ({:.1}) |", outcome.quantile(0.99));
        }
        text.push('\n');
    }
    text
}

/// Writes every figure as CSV, and plots.
pub(crate) fn write(points: &[Point], folder: &Path) -> anyhow::Result<()> {
    fs_err::create_dir_all(folder)?;
    fs_err::write(folder.join("batching.csv"), csv(points))?;
    for curve in ["latency-bound", "balanced", "compute-bound", "resnet50 v100"] {
        let file = |what: &str| folder.join(format!("{}-{what}.svg", curve.replace(' ', "-")));
        goodput(points, curve, Arrivals::Poisson, "tight").write(&file("tight"))?;
        goodput(points, curve, Arrivals::Bursty, "medium").write(&file("bursts"))?;
        p99(points, curve).write(&file("p99"))?;
    }
    Ok(())
}

fn csv(points: &[Point]) -> String {
    let mut text =
        "curve,max_batch,arrivals,deadlines,load,policy,goodput_per_s,in_time,late,refused,\
                    p50_ms,p99_ms,mean_batch\n"
            .to_owned();
    for point in points {
        let t = &point.traffic;
        let head =
            format!("{},{},{:?},{},{}", t.curve.name, t.limit, t.arrivals, point.deadlines, t.load);
        if let Some(optimum) = point.optimum {
            let _ = writeln!(text, "{head},optimum,,{optimum:.4},,,,,");
        }
        for (name, o) in POLICIES.iter().zip(&point.outcomes) {
            let _ = writeln!(
                text,
                "{head},{name},{:.1},{:.4},{:.4},{:.4},{:.2},{:.2},{:.2}",
                o.goodput(),
                o.share_in_time(),
                o.share_late(),
                1.0 - o.share_in_time() - o.share_late(),
                o.quantile(0.5),
                o.quantile(0.99),
                o.mean_batch()
            );
        }
    }
    text
}

/// Policies that are drawn: ours, and one of each kind.
const DRAWN: [&str; 6] = ["triton 0", "triton 5", "mosec 10", "bentoml", "tei", "adaptive"];

fn series(points: &[&Point], of: impl Fn(&Point, usize) -> f64) -> Vec<Series> {
    let drawn = DRAWN.iter().filter_map(|name| {
        let index = POLICIES.iter().position(|policy| policy == name)?;
        let points = points.iter().map(|p| (100.0 * p.traffic.load, of(p, index))).collect();
        Some(Series { name: (*name).to_owned(), kind: Kind::Line, points })
    });
    drawn.collect()
}

fn goodput(points: &[Point], curve: &str, arrivals: Arrivals, deadlines: &str) -> Plot {
    let of = |p: &&Point| {
        let t = &p.traffic;
        (t.curve.name, t.limit, t.arrivals, p.deadlines) == (curve, 8, arrivals, deadlines)
    };
    let points: Vec<&Point> = points.iter().filter(of).collect();
    let mut series = series(&points, |p, index| 100.0 * p.outcomes[index].share_in_time());
    let optimum = |p: &&Point| Some((100.0 * p.traffic.load, 100.0 * p.optimum?));
    let points = points.iter().filter_map(optimum).collect();
    series.push(Series { name: "offline optimum".into(), kind: Kind::Dots, points });
    Plot {
        title: format!("{curve}, at most 8, {arrivals:?}, {deadlines} deadlines"),
        x: "load, % of full batches".into(),
        y: "answered in time, % of all".into(),
        series,
    }
}

fn p99(points: &[Point], curve: &str) -> Plot {
    let of = |p: &&Point| {
        let t = &p.traffic;
        let place = (t.curve.name, t.limit, t.arrivals, p.deadlines);
        place == (curve, 8, Arrivals::Poisson, "loose") && t.load < 0.9
    };
    let points: Vec<&Point> = points.iter().filter(of).collect();
    Plot {
        title: format!("{curve}, at most 8, Poisson, loose deadlines"),
        x: "load, % of full batches".into(),
        y: "p99, ms".into(),
        series: series(&points, |p, index| p.outcomes[index].quantile(0.99)),
    }
}

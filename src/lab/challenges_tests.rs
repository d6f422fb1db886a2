use super::*;

const PLAN: Plan = Plan { challenges: 500, runs: 200, seed: 1 };

/// A hundred images of each label, `wrong` of which are answered wrongly.
fn pool(wrong: usize) -> Pool {
    let one = |index: usize| {
        let label = index.is_multiple_of(2);
        let said = label == (index / 2 >= wrong);
        (label, Some(if said { 0.9 } else { 0.1 }))
    };
    Pool::new((0..200).map(one)).unwrap()
}

fn curve(wrong: usize, faults: Faults) -> Curve {
    simulate(&pool(wrong), &faults, &PLAN).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_curve() {
    let with =
        |seed| simulate(&pool(5), &Faults::default(), &Plan { seed, runs: 5, ..PLAN }).unwrap();
    assert_eq!(with(3), with(3));
    assert_ne!(with(3), with(4));
}

#[test]
fn a_perfect_miner_comes_to_one() {
    let found = curve(0, Faults::default());
    assert!((found.steady() - 1.0).abs() < 1e-3, "{}", found.steady());
    // 0.95 to the power of 59 is below a twentieth; the first rewards are small.
    assert!((59..70).contains(&found.reaches(0.95).unwrap()), "{:?}", found.reaches(0.95));
    assert!(found.low.iter().zip(&found.high).all(|(low, high)| low <= high));
}

#[test]
fn the_steady_score_is_what_the_accuracy_is_worth() {
    // The mean cube of 0.925, with the variance of the windows: see the validator's own test.
    let found = curve(5, Faults::default());
    let [short, long] = [10.0, 100.0].map(|n| 0.95 * 0.05 / n);
    let expected = f64::powi(0.925, 3) + 3.0 * 0.925 * 0.25 * (short + 8.0 * long);
    assert!((found.steady() - expected).abs() < 0.01 + 3.0 * found.error(), "{}", found.steady());
}

#[test]
fn misses_cost_their_share() {
    let base = curve(0, Faults::default());
    let (cost, error) = curve(0, Faults { miss: 0.05, ..Faults::default() }).costs(&base);
    assert!((cost - 0.05).abs() < 4.0 * error + 0.001, "{cost} {error}");
}

#[test]
fn what_is_no_number_costs_most() {
    let base = curve(10, Faults::default());
    let cost = |faults: Faults| curve(10, faults).costs(&base).0;
    let miss = cost(Faults { miss: 0.02, ..Faults::default() });
    let prior = cost(Faults { prior: 0.02, ..Faults::default() });
    let nan = cost(Faults { nan: 0.02, ..Faults::default() });
    let odd = cost(Faults { out_of_range: 0.02, ..Faults::default() });
    assert!(0.0 < miss && miss < nan && prior < nan, "{miss} {prior} {nan}");
    // Both empty their windows, save in the very first, where all labels may be 1.
    assert!((nan - odd).abs() < 1e-6, "{nan} {odd}");
}

#[test]
fn accuracy_can_be_added_and_taken() {
    let base = curve(10, Faults::default());
    let cost = |accuracy: f64| curve(10, Faults { accuracy, ..Faults::default() }).costs(&base).0;
    let slope = 3.0 * 0.85_f64.powi(2) * 1.5;
    assert!((cost(0.01) + 0.01 * slope).abs() < 0.01, "{}", cost(0.01));
    assert!((cost(-0.01) - 0.01 * slope).abs() < 0.01, "{}", cost(-0.01));
    // All that are wrong become right, and no more.
    let perfect = curve(10, Faults { accuracy: 0.5, ..Faults::default() });
    assert!((perfect.steady() - 1.0).abs() < 1e-3);
}

#[test]
fn an_outage_is_a_dip_that_fills() {
    let base = curve(0, Faults::default());
    let (deepest, recovers) = curve(0, Faults { outage: 3, ..Faults::default() }).dip(&base);
    // Three rewards of a twentieth each, decaying.
    assert!((deepest - (1.0 - 0.95_f64.powi(3))).abs() < 1e-3, "{deepest}");
    assert!(recovers.is_some_and(|n| (45..60).contains(&n)), "{recovers:?}");
    assert_eq!(base.dip(&base), (0.0, Some(0)));
    // Longer than what is simulated.
    let (_, recovers) = curve(0, Faults { outage: 400, ..Faults::default() }).dip(&base);
    assert_eq!(recovers, None);
}

#[test]
fn images_without_an_answer_are_misses() {
    let answers = [(true, Some(0.9)), (false, Some(0.1)), (true, None), (false, None)];
    let pool = Pool::new(answers).unwrap();
    assert_eq!(pool.accuracy(), 1.0);
    let found = simulate(&pool, &Faults::default(), &PLAN).unwrap();
    assert!((found.steady() - 0.5).abs() < 0.02, "{}", found.steady());
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    let one_class = Pool::new([(true, Some(0.9))]).unwrap_err().to_string();
    assert!(one_class.contains("without roadwork"), "{one_class}");
    let refused = |faults: Faults, plan: Plan| simulate(&pool(1), &faults, &plan).is_err();
    let none = Faults::default();
    assert!(refused(Faults { miss: 1.1, ..none }, PLAN));
    assert!(refused(Faults { nan: f64::NAN, ..none }, PLAN));
    assert!(refused(Faults { miss: 0.6, prior: 0.6, ..none }, PLAN));
    assert!(refused(none, Plan { challenges: SETTLED, ..PLAN }));
    assert!(refused(none, Plan { runs: 0, ..PLAN }));
    assert!(refused(none, Plan { runs: 100_000, ..PLAN }));
}

#[test]
fn a_failure_that_there_is_no_room_for_is_left_out() {
    let full = Faults { miss: 0.97, ..Faults::default() };
    let left: Vec<_> = usual(full, 3).into_iter().map(|(what, _)| what).collect();
    assert_eq!(left.len(), 8, "{left:?}");
    assert!(!left.iter().any(|what| what.starts_with("5 %")), "{left:?}");
}

#[test]
fn every_usual_failure_has_a_cost() {
    let plan = Plan { runs: 100, ..PLAN };
    let (pool, faults) = (pool(5), Faults::default());
    let base = simulate(&pool, &faults, &plan).unwrap();
    let found = costs(&pool, &base, usual(faults, 3), &plan, &|_| ()).unwrap();
    assert_eq!(found.len(), 10);
    for cost in &found {
        assert_eq!(cost.cost < 0.0, cost.what.ends_with("more"), "{cost:?}");
        assert_eq!(cost.recovers.is_some(), cost.what == "an outage");
    }
}

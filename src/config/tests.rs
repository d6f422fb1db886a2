use std::path::{Path, PathBuf};

use proptest::prelude::*;
use toml::Value;

use super::shape::{Fit, Shape};
use super::*;

/// What the backend of that name has, each of which the manual documents.
const ONNX: &str = "model graph head input output layout size resample rescale_factor mean std \
                    activation class prefix_tokens threads share_weights arena providers gpu";

fn names() -> Names {
    let own = |names: &str| names.split_whitespace().map(str::to_owned).collect();
    let keys = [("classifier", "model runtime"), ("onnx", ONNX), ("tta", "backend flip scales")];
    Names {
        backends: own("classifier onnx scripted tta"),
        backend_keys: keys.map(|(name, keys)| (name.to_owned(), own(keys))).into(),
        wrappers: own("tta"),
        policies: own("cascade committee"),
        rules: own("adaptive immediate window"),
    }
}

fn sets(sets: &[&str]) -> Sources {
    let sets = sets.iter().map(|text| text.parse().unwrap()).collect();
    Sources { sets, ..Sources::default() }
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_misspelt_key_of_a_backend_is_found_without_loading_it() {
    let problems = resolve(&sets(&["stages.screen.classifier.modle=x"]), &names()).unwrap_err();
    let text = problems.to_string();
    assert!(text.contains("stages.screen.classifier.modle"), "{text}");
    assert!(text.contains("stages.screen.classifier.model"), "{text}");
}

#[test]
fn a_wrapped_backend_is_checked_like_any_other() {
    let told = |sets: &[&str]| {
        let own = [&["stages.screen.backend=tta"], sets].concat();
        wrong(&own).join("\n")
    };
    let inner = "stages.screen.tta.backend=classifier";
    with(&["stages.screen.backend=tta", inner, "stages.screen.tta.classifier.model=x"]);
    let text = told(&[inner, "stages.screen.tta.classifier.modle=x"]);
    assert!(text.contains("stages.screen.tta.classifier.model?"), "{text}");
    let text = told(&[inner, "stages.screen.tta.scals=[1]"]);
    assert!(text.contains("stages.screen.tta.scales?"), "{text}");
    let text = told(&["stages.screen.tta.backend=clasifier"]);
    assert!(text.contains("did you mean \"classifier\"?"), "{text}");
    assert!(told(&["stages.screen.tta.backend=tta"]).contains("known are classifier, onnx"));
    assert!(told(&[]).contains("stages.screen.tta.backend"));
}

#[test]
fn a_calibration_is_checked() {
    let set = |setting: &str| wrong(&[&format!("stages.screen.calibration.{setting}")]).join("\n");
    for (setting, about) in [
        ("scale=0", "above 0"),
        ("scale=nan", "above 0"),
        ("shift=inf", "finite"),
        ("center=1", "below 1"),
        ("method=isotonic", "two or more pairs"),
        ("points=[[0.1, 0.5], [0.2, 0.4]]", "pair 2 does not follow pair 1"),
        ("method=plat", "isotonic"),
        ("points=[1]", "calibration.points"),
        ("senter=0.4", "stages.screen.calibration.center?"),
    ] {
        let text = set(setting);
        assert!(text.contains("stages.screen.calibration") && text.contains(about), "{text}");
    }
    let config =
        with(&["stages.screen.calibration.scale=2", "stages.screen.calibration.method=platt"]);
    assert_eq!(config.stages["screen"].calibration.scale, 2.0);
}

/// The configuration that these arguments give.
fn with(texts: &[&str]) -> Config {
    resolve(&sets(texts), &names()).unwrap_or_else(|problems| panic!("{problems}")).config
}

/// What is wrong with these arguments.
fn wrong(texts: &[&str]) -> Vec<String> {
    let Err(problems) = resolve(&sets(texts), &names()) else { panic!("{texts:?} is accepted") };
    problems.0.iter().map(Problem::to_string).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

#[test]
fn every_shipped_file_is_accepted() {
    let files = fs_err::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    // `scripted.toml` is a script, which the backend of that name reads.
    let is_ours = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "toml") && !path.ends_with("scripted.toml")
    };
    let files: Vec<_> = files.filter(is_ours).collect();
    assert!(files.len() >= 2);
    for path in files {
        let sources = Sources { files: vec![path.clone()], ..Sources::default() };
        let resolved = resolve(&sources, &names())
            .unwrap_or_else(|problems| panic!("{}: {problems}", path.display()));
        assert_eq!(resolved.warnings, [], "{}", path.display());
    }
}

#[test]
fn the_manual_documents_every_key_and_no_other() {
    let shape = Shape::of_config(&Names::default());
    let entries = manual::entries();
    let of_stage = |stage: &str| {
        let of_it = move |key: &&Key| key.stage().is_none_or(|(name, _)| name == stage);
        shape.keys(stage).iter().filter(of_it).cloned().collect::<Vec<_>>()
    };
    for key in of_stage(manual::DOCUMENTED_STAGE) {
        let comment = entries.get(&key).unwrap_or_else(|| panic!("{key} is not in default.toml"));
        assert!(comment.len() > 10, "{key} has no comment");
    }
    for name in ONNX.split_whitespace() {
        let key = Key::from(["stages", manual::DOCUMENTED_STAGE, "onnx", name]);
        let below = |entry: &&Key| entry.is_within(&key);
        assert!(entries.keys().any(|entry| below(&entry)), "{key} is not in default.toml");
    }
    let registered = Shape::of_config(&names());
    for key in entries.keys() {
        assert!(matches!(registered.fit(key), Fit::Value | Fit::Free), "{key} is no setting");
    }
}

#[test]
fn the_documented_defaults_are_those_of_the_code() {
    let config = with(&[]);
    assert_eq!(config.image, ImageLimits::default());
    assert_eq!(config.clip, ClipLimits::default());
    assert_eq!(config.wallet, WalletSpec::default());
    for stage in config.stages.values() {
        let spec = StageSpec { backend: "classifier".into(), ..StageSpec::default() };
        assert_eq!(stage.spec, spec);
        assert_eq!(stage.rule.when, crate::cascade::Condition::default());
        assert_eq!(stage.calibration, crate::calibration::CalibrationSpec::default());
    }
    let body = config.image.max_bytes.div_ceil(3) * 4;
    assert!(config.http.max_body_bytes as u64 > body, "an image in base64 must fit");
}

#[test]
fn the_resolved_default() {
    let resolved = resolve(&Sources::default(), &names()).unwrap();
    let lines: Vec<_> = resolved.tree.iter().map(|(k, l)| format!("{k} = {}", l.value)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn later_layers_win_and_say_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs_err::write(&path, text).unwrap();
        path
    };
    let first =
        file("a.toml", "[http]\nport = 1\nworkers = 1\n[stages.screen]\nexit_below = 0.1\n");
    let second = file("b.toml", "axon.port = 2\nhttp.drain_s = 2\nhttp.keep_alive_s = 2\n");
    let sources = Sources {
        files: vec![first.clone(), second.clone()],
        env: env(&[
            ("MINER_PORT", "3"),
            ("CASCADE_THRESHOLD_LOW", "0.2"),
            ("ROADCREW__HTTP__DRAIN_S", "4"),
            ("ROADCREW__HTTP__KEEP_ALIVE_S", "4"),
        ]),
        ..sets(&["http.keep_alive_s=5"])
    };
    let resolved = resolve(&sources, &names()).unwrap();
    let at = |key: &str| {
        let leaf = resolved.tree.get(&key.parse().unwrap()).unwrap();
        (leaf.value.to_string(), leaf.origin.clone())
    };
    let env = |name: &str| Origin::Env(name.into());
    assert_eq!(at("http.workers"), ("1".into(), Origin::File { path: first, line: 3 }));
    assert_eq!(at("axon.port"), ("3".into(), env("MINER_PORT")));
    assert_eq!(at("http.drain_s"), ("4".into(), env("ROADCREW__HTTP__DRAIN_S")));
    assert_eq!(at("http.keep_alive_s"), ("5".into(), Origin::Set));
    assert_eq!(at("stages.screen.exit_below"), ("0.2".into(), env("CASCADE_THRESHOLD_LOW")));
    assert_eq!(at("http.max_connections").1, Origin::Default);
    let only = Sources { files: vec![second.clone()], ..Sources::default() };
    let resolved = resolve(&only, &names()).unwrap();
    let port = resolved.tree.get(&"axon.port".parse().unwrap()).unwrap();
    assert_eq!(port.origin, Origin::File { path: second, line: 1 });
}

#[test]
fn a_stage_that_is_switched_off_is_left_out_of_the_cascade() {
    let off = resolve(&sets(&["stages.confirm.enabled=false"]), &names()).unwrap();
    assert_eq!(off.config.cascade.order, ["screen"]);
    let none = ["stages.screen.enabled=false", "stages.confirm.enabled=false"];
    let problems = resolve(&sets(&none), &names()).unwrap_err();
    assert!(problems.to_string().contains("at least one stage that is enabled"), "{problems}");
}

#[test]
fn switches_of_the_environment_are_for_stages_that_are_there() {
    let ask = |value: &str, more: &[&str]| {
        let env = env(&[("USE_THINKING_MODE", value)]);
        resolve(&Sources { env, ..sets(more) }, &names()).unwrap()
    };
    let without = ask("true", &[]);
    let said = without.warnings[0].to_string();
    assert!(said.contains("USE_THINKING_MODE") && said.contains("no stage called"), "{said}");
    assert_eq!(ask("false", &[]).warnings, []);
    let stage = [
        "stages.thinking.backend=classifier",
        "stages.thinking.enabled=false",
        "stages.confirm.exit_below=0.4",
        "cascade.order=[\"screen\", \"confirm\", \"thinking\"]",
    ];
    assert!(ask("1", &stage[..1]).config.stages["thinking"].enabled);
    let order = |value| ask(value, &[&stage[..1], &stage[2..]].concat()).config.cascade.order;
    assert_eq!(order("yes"), ["screen", "confirm", "thinking"]);
    assert_eq!(order("off"), ["screen", "confirm"]);
    assert_eq!(ask("true", &stage).config.cascade.order.len(), 2, "a --set wins");
}

#[test]
fn the_three_miners_are_sound_and_the_careful_one_is_unsure_of_more() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(name);
        let sources = Sources { files: vec![path], ..Sources::default() };
        let resolved = resolve(&sources, &names()).unwrap();
        assert_eq!(resolved.warnings, [], "{name}");
        resolved.config
    };
    let miners = ["speed.toml", "accuracy.toml", "video.toml"].map(read);
    let ports: Vec<_> = miners.iter().map(|miner| miner.axon.port).collect();
    assert_eq!(ports, [8091, 8092, 8093]);
    let unsure = miners.map(|miner| {
        let rule = &miner.stages["screen"].rule;
        rule.exit_above - rule.exit_below
    });
    assert!(unsure[1] > unsure[0] + 0.05, "{unsure:?}");
}

#[test]
fn thresholds_of_the_environment_go_to_the_first_stage_of_the_final_order() {
    let sources = Sources {
        env: env(&[("CASCADE_THRESHOLD_HIGH", "0.8")]),
        ..sets(&["cascade.order=[\"confirm\"]", "stages.confirm.exit_below=0.2"])
    };
    let config = resolve(&sources, &names()).unwrap().config;
    assert_eq!(config.stages["confirm"].rule.exit_above, 0.8);
    assert_eq!(config.stages["screen"].rule.exit_above, 0.85);
}

#[test]
fn a_stage_of_ones_own_gets_the_defaults() {
    let config = with(&[
        "cascade.order=[\"mine\"]",
        "stages.mine.backend=scripted",
        "stages.mine.when.input=image",
        "stages.mine.scripted={ answer = 0.5, answers.deadbeef00 = nan }",
    ]);
    let mine = &config.stages["mine"];
    assert_eq!(mine.spec, StageSpec { backend: "scripted".into(), ..StageSpec::default() });
    assert_eq!((mine.rule.exit_below, mine.rule.exit_above), (0.15, 0.85));
    assert_eq!(mine.settings().keys().collect::<Vec<_>>(), ["answer", "answers"]);
}

#[test]
fn one_line_changes_a_stages_backend() {
    let mut names = names();
    names.backends.push("mine".into());
    let config = resolve(&sets(&["stages.screen.backend=mine"]), &names).unwrap().config;
    assert_eq!(config.stages["screen"].spec.backend, "mine");
    assert!(config.stages["screen"].settings().is_empty());
}

#[test]
fn ten_problems_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    let text = r#"
        [http]
        prot = 1
        port = 70000
        max_body_bytes = 1_000_000_000
        [engine]
        max_lends = 0
        [cascade]
        order = ["screen", "confrm", "screen"]
        exhausted = "lats"
        [stages.screen]
        exit_below = 0.9
        batching.max_batch = "8"
        [stages.screen.clasifier]
        model = "x"
        [stages.confirm]
        backend = "clasifier"
        exit_above = nan
    "#;
    fs_err::write(&path, text).unwrap();
    let sources = Sources {
        files: vec![path],
        env: env(&[("ROADCREW__ENGINE__MAX_INFLIGHT", "1")]),
        ..sets(&["cascade.policy=comittee", "max_body_bytes=1"])
    };
    let problems = resolve(&sources, &names()).unwrap_err().to_string();
    let place = dir.path().display().to_string() + "/";
    insta::assert_snapshot!(problems.replace(&place, ""));
}

#[test]
fn ranges_are_checked_with_their_bounds() {
    for accepted in [
        "http.port=0",
        "http.keep_alive_s=0",
        "engine.max_lends=10",
        "stages.screen.exit_below=0",
        "stages.screen.exit_above=1",
        "stages.screen.restart.max_restarts=0",
        "stages.confirm.exit_below=0.3",
        "image.max_bytes=1",
        "log.filter=\"warn,roadcrew=debug\"",
        "wallet={ name = \"a b\", hotkey = \"1\" }",
    ] {
        with(&[accepted]);
    }
    for refused in [
        "http.host=a b",
        "http.port=-1",
        "http.port=65536",
        "http.max_body_bytes=0",
        "axon.prior=nan",
        "axon.default_timeout_ms=13000",
        "axon.synapses=[]",
        "axon.synapses=[\"a/b\"]",
        "axon.hotkeys=[\"5x\"]",
        "axon.body_budget_bytes=1",
        "callers.allow=[\"5x\"]",
        "callers.deny=[\"*\"]",
        "callers.min_stake=-1.0",
        "callers.priority_stake=inf",
        "callers.max_concurrent=0",
        "metagraph.refresh_s=1",
        "metagraph.endpoint=http://x",
        "http.body_budget_bytes=1",
        "http.max_deadline_ms=7999",
        "http.deadline_margin_ms=8000",
        "http.drain_s=100000000000000",
        "engine.max_in_flight=0",
        "engine.max_lends=11",
        "engine.max_lends=256",
        "clip.max_frames=0",
        "cascade.order=[]",
        "cascade.order=screen",
        "stages.screen.instances=0",
        "stages.screen.hang_ms=0",
        "stages.screen.hang_ms=1.5",
        "stages.screen.batching.max_batch=0",
        "stages.screen.exit_below=-0.01",
        "stages.screen.exit_above=1.01",
        "stages.screen.exit_below=nan",
        "stages.screen.when.score_at_least=inf",
        "stages.screen.when={ score_at_least = 0.6, score_at_most = 0.5 }",
        "stages.screen.when.input=picture",
        "stages.screen.restart.backoff_max_ms=19",
        "stages.screen.batching.rule=window ",
        "stages.supervisor.backend=scripted",
        "stages.\"a b\".backend=scripted",
        "log.filter=inof",
        "wallet.name=alone",
        "wallet.hotkey=1",
        "wallet={ name = \"../other\", hotkey = \"a\" }",
    ] {
        let found = wrong(&[refused]);
        assert_eq!(found.len(), 1, "{refused}: {found:#?}");
        assert!(found[0].contains("hint: "), "{refused}: {found:#?}");
    }
}

#[test]
fn exits_may_be_equal_only_where_nothing_follows() {
    let equal = |stage: &str| format!("stages.{stage}={{ exit_below = 0.4, exit_above = 0.4 }}");
    with(&[&equal("confirm")]);
    assert!(wrong(&[&equal("screen")])[0].contains("\"confirm\" is never asked"));
    with(&[&equal("screen"), "cascade.order=[\"screen\"]"]);
    with(&[&equal("screen"), "cascade.policy=committee"]);
    with(&[&equal("screen"), "stages.screen.when.input=clip", "stages.confirm.when.input=image"]);
    let crossed = wrong(&["stages.confirm.exit_below=0.6"]);
    assert!(crossed[0].contains("exit_below = 0.6") && crossed[0].contains("exit_above = 0.5"));
}

#[test]
fn a_stage_that_does_not_run_is_a_warning_unless_it_is_ours() {
    let warnings = |texts: &[&str]| resolve(&sets(texts), &names()).unwrap().warnings;
    assert_eq!(warnings(&["cascade.order=[\"screen\"]"]), []);
    let odd = warnings(&["stages.spare.backend=scripted"]);
    assert!(odd[0].to_string().starts_with("stages.spare: this stage is not in cascade.order"));
    let odd = warnings(&["http.max_body_bytes=1000"]);
    assert!(odd[0].to_string().starts_with("http.max_body_bytes = 1000 (--set): is less than"));
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (wrong_key, meant) in [
        ("htpp.port=1", "http.port"),
        ("http.prot=1", "http.port"),
        ("engine.max_deadline_ms=1", "http.max_deadline_ms"),
        ("stages.screen.exitbelow=1", "stages.screen.exit_below"),
        ("stages.screen.bathcing.max_batch=1", "stages.screen.batching.max_batch"),
        ("stages.x.max_batch=1", "stages.x.batching.max_batch"),
        ("stages.screen.scriptde.answer=1", "stages.screen.scripted"),
    ] {
        let found = wrong(&[wrong_key]);
        assert!(found[0].contains(&format!("did you mean {meant}?")), "{wrong_key}: {found:#?}");
    }
    let found = wrong(&["http.port.number=1"]);
    assert!(found[0].contains("a value has no keys below it"), "{found:#?}");
    let found = wrong(&["http=1"]);
    assert!(found[0].contains("a table of settings, not a value"), "{found:#?}");
}

#[test]
fn broken_sources_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.toml");
    fs_err::write(&broken, "[http]\nport = = 1\n").unwrap();
    let missing = dir.path().join("missing.toml");
    let sources = Sources { files: vec![broken, missing], ..Sources::default() };
    let problems = resolve(&sources, &names()).unwrap_err().0;
    let text: Vec<_> = problems.iter().map(|p| p.message.clone()).collect();
    assert!(text[0].contains("broken.toml:2:8: "), "{text:?}");
    assert!(text[1].contains("missing.toml"), "{text:?}");
}

fn tables() -> impl Strategy<Value = toml::Table> {
    let name = || prop::sample::select(vec!["a", "b", "c", "http", "port", "stages", "é é", ""]);
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        any::<bool>().prop_map(Value::Boolean),
        Just(Value::Array(vec![1.into()])),
    ];
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop::collection::btree_map(name().prop_map(str::to_owned), inner, 0..4)
            .prop_map(|map| Value::Table(map.into_iter().collect()))
    });
    prop::collection::btree_map(name().prop_map(str::to_owned), value, 0..4)
        .prop_map(|map| map.into_iter().collect())
}

proptest! {
    /// Whatever is merged: the last value of a key stands unless something was put in its place,
    /// and no key lies within another.
    #[test]
    fn later_wins(layers in prop::collection::vec(tables(), 1..5)) {
        let mut tree = Tree::default();
        for layer in &layers {
            for (key, value) in tree::flatten(layer.clone()) {
                tree.put(key, Leaf { value, origin: Origin::Default });
            }
        }
        for (key, value) in tree::flatten(layers.last().unwrap().clone()) {
            let is_empty_table = value.is_table();
            let stands = tree.get(&key).map(|leaf| &leaf.value) == Some(&value);
            prop_assert!(stands || is_empty_table, "{key}");
        }
        let keys: Vec<_> = tree.iter().map(|(key, _)| key).collect();
        for (one, other) in keys.iter().zip(keys.iter().skip(1)) {
            prop_assert!(!other.is_within(one), "{one} {other}");
        }
        prop_assert_eq!(tree::flatten(tree.table()).len(), keys.len());
    }

    /// Whatever stands in the sources, resolving ends in settings or in problems with hints.
    #[test]
    fn resolving_never_panics(table in tables(), name in "[A-Z_]{0,12}", text in ".{0,20}") {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("any.toml");
        fs_err::write(&path, table.to_string()).unwrap();
        let env = vec![(format!("ROADCREW__{name}"), text.clone()), ("MINER_PORT".into(), text)];
        let sources = Sources { files: vec![path], env, ..Sources::default() };
        if let Err(problems) = resolve(&sources, &names()) {
            prop_assert!(!problems.0.is_empty());
        }
    }
}

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Tensor;

use super::*;
use crate::lab::scenes;

const CONFIG: &str = r#"{
  "model_type": "dinov3_convnext", "hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1],
  "hidden_act": "gelu", "layer_norm_eps": 1e-6, "layer_scale_init_value": 0.1, "num_channels": 3
}"#;
const PREPROCESSOR: &str = r#"{"size": {"height": 48, "width": 80}}"#;

/// Interrupts a run after so many steps.
struct Interrupter(AtomicUsize);

impl Watcher for Interrupter {
    fn features(&self, _: u64, _: u64) {}
    fn step(&self, _: usize, _: usize, _: usize, _: f64) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            panic!("interrupted");
        }
    }
    fn epoch(&self, _: &Epoch) {}
}

fn patient() -> Interrupter {
    Interrupter(AtomicUsize::new(usize::MAX))
}

fn recipe(scope: Scope) -> Recipe {
    Recipe {
        scope,
        pooling: Features::ClsMeanMax,
        hidden: 16,
        epochs: 3,
        batch: 8,
        learning_rate: 3e-3,
        weight_decay: 0.05,
        patience: 10,
        seeds: vec![7],
        ..Recipe::load(None).unwrap()
    }
}

fn spec(dir: &Path, out: &str, scope: Scope) -> TrainSpec {
    TrainSpec {
        data: vec![dir.join("data")],
        validation: Vec::new(),
        model: dir.join("model"),
        out: dir.join(out),
        recipe: recipe(scope),
        cache: dir.join("cache"),
        limits: ImageLimits::default(),
        resume: false,
    }
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    scenes::write_dataset(&dir.path().join("data"), &scenes::DatasetSpec::new(60, 5, 0), &|_| {})
        .unwrap();
    fs_err::create_dir_all(dir.path().join("model")).unwrap();
    fs_err::write(dir.path().join("model/config.json"), CONFIG).unwrap();
    fs_err::write(dir.path().join("model/preprocessor_config.json"), PREPROCESSOR).unwrap();
    dir
}

fn without_times(trained: Trained) -> History {
    let mut history = trained.history;
    for epoch in &mut history.epochs {
        epoch.seconds = 0.0;
    }
    history
}

/// Everything that may be switched on at once: what is random in it must survive an interruption.
fn everything(dir: &Path, out: &str) -> TrainSpec {
    let mut spec = spec(dir, out, Scope::All);
    let recipe = &mut spec.recipe;
    recipe.ema = 0.9;
    recipe.label_smoothing = 0.1;
    recipe.class_weights = ClassWeights::Balanced;
    recipe.augment.views.levels = [1.0; 4];
    recipe.curriculum = Some(Curriculum::default());
    recipe.mix.hard = Some(0.3);
    recipe.hard_negatives = Some(0.4);
    recipe.epoch_images = 40;
    recipe.seeds = vec![7, 8];
    recipe.scores = dir.join("scores.jsonl");
    recipe.distillation =
        Some(Distillation { teacher: dir.join("scores.jsonl"), temperature: 4.0, alpha: 0.7 });
    spec
}

fn write_scores(dir: &Path) {
    let line = |(index, example): (usize, Example)| {
        let p = if example.roadwork { 0.9 } else { 0.1 } + (index % 7) as f32 * 0.01;
        serde_json::json!({"id": example.picture.id, "probability": p}).to_string()
    };
    let examples = dataset::load(&dir.join("data")).unwrap();
    let lines: Vec<String> = examples.into_iter().enumerate().map(line).collect();
    fs_err::write(dir.join("scores.jsonl"), lines.join("\n")).unwrap();
}

#[test]
fn a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does() {
    let dir = folder();
    write_scores(dir.path());
    let whole = train(&everything(dir.path(), "whole"), &patient()).unwrap();
    assert_eq!(whole.history.epochs.len(), 3);

    let mut parts = everything(dir.path(), "parts");
    // Two seeds of three epochs of five steps: in the second epoch of the second seed.
    let in_second_epoch = Interrupter(AtomicUsize::new(23));
    let interrupted =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| train(&parts, &in_second_epoch)));
    assert!(interrupted.is_err());
    assert!(train(&parts, &patient()).is_err(), "a run must not be overwritten unasked");
    parts.resume = true;
    let resumed = without_times(train(&parts, &patient()).unwrap());

    assert_eq!(resumed, without_times(whole));
    for file in network::FILES {
        let read = |out: &str| fs_err::read(dir.path().join(out).join(file)).unwrap();
        assert_eq!(read("whole"), read("parts"), "{file}");
    }
}

#[test]
fn a_head_is_resumed_bit_for_bit_too_and_by_nobody_else() {
    let dir = folder();
    train(&spec(dir.path(), "model2", Scope::All), &patient()).unwrap();
    let head = |out: &str| {
        let mut head = spec(dir.path(), out, Scope::Head);
        head.model = dir.path().join("model2");
        head.validation = vec![dir.path().join("other")];
        head.recipe.variants = 3;
        head.recipe.curriculum = Some(Curriculum::default());
        head
    };
    let other = scenes::DatasetSpec::new(20, 6, 0);
    scenes::write_dataset(&dir.path().join("other"), &other, &|_| {}).unwrap();
    let whole = train(&head("whole"), &patient()).unwrap();
    let mut parts = head("parts");
    let interrupter = Interrupter(AtomicUsize::new(9));
    let run = std::panic::AssertUnwindSafe(|| train(&parts, &interrupter));
    assert!(std::panic::catch_unwind(run).is_err());
    parts.resume = true;
    assert_eq!(without_times(train(&parts, &patient()).unwrap()), without_times(whole));

    let mut others = head("parts");
    others.resume = true;
    others.recipe.dropout = 0.3;
    let error = format!("{:#}", train(&others, &patient()).unwrap_err());
    assert!(error.contains("recipe.dropout"), "{error}");
    let labels = dir.path().join("data/labels.jsonl");
    let text = fs_err::read_to_string(&labels).unwrap();
    let fewer: Vec<&str> = text.lines().skip(1).collect();
    fs_err::write(&labels, fewer.join("\n")).unwrap();
    let error = format!("{:#}", train(&parts, &patient()).unwrap_err());
    assert!(error.contains("have changed since"), "{error}");
}

#[test]
fn what_is_there_is_not_overwritten() {
    let dir = folder();
    let first = spec(dir.path(), "first", Scope::All);
    train(&first, &patient()).unwrap();
    let message = |spec: &TrainSpec| format!("{:#}", check(spec).unwrap_err());
    assert!(message(&first).contains("holds a run already"));
    let mut onto_itself = first.clone();
    onto_itself.model = onto_itself.out.clone();
    assert!(message(&onto_itself).contains("is the model to start from"));
    let mut nothing = spec(dir.path(), "nowhere", Scope::All);
    nothing.resume = true;
    assert!(message(&nothing).contains("holds no run to resume"));
    fs_err::remove_file(first.out.join(checkpoint::NAME)).unwrap();
    assert!(message(&first).contains("holds a model already"));
}

#[test]
fn what_is_judged_by_is_never_learnt_from() {
    let dir = folder();
    let mut spec = spec(dir.path(), "x", Scope::All);
    spec.validation = spec.data.clone();
    let error = format!("{:#}", train(&spec, &patient()).unwrap_err());
    assert!(error.contains("both learnt from and judged by"), "{error}");
    spec.validation.clear();
    let (train, held) = material::parts(&spec).unwrap();
    assert_eq!((train.len(), held.len()), (54, 6));
    let ids = |set: &[Example]| set.iter().map(|e| e.picture.id.clone()).collect::<Vec<_>>();
    assert!(ids(&held).iter().all(|id| !ids(&train).contains(id)));
    assert!(held.iter().any(|e| e.roadwork) && held.iter().any(|e| !e.roadwork));
}

#[test]
fn hard_negatives_have_their_share_and_positives_stay() {
    let dir = folder();
    write_scores(dir.path());
    let mut recipe = recipe(Scope::All);
    recipe.hard_negatives = Some(0.5);
    recipe.scores = dir.path().join("scores.jsonl");
    let examples = dataset::load(&dir.path().join("data")).unwrap();
    // One negative that the model had wrong.
    let wrong = examples.iter().position(|example| !example.roadwork).unwrap();
    let line = |example: &Example| {
        let wrongly = example.picture.id == examples[wrong].picture.id;
        let p = if example.roadwork || wrongly { 0.9 } else { 0.1 };
        serde_json::json!({"id": example.picture.id, "probability": p}).to_string()
    };
    let lines: Vec<String> = examples.iter().map(line).collect();
    fs_err::write(&recipe.scores, lines.join("\n")).unwrap();
    let set = Set::new(examples, &recipe).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let order = set.order(&recipe, 0, &mut rng);
    let count = |is: &dyn Fn(usize) -> bool| order.iter().filter(|index| is(**index)).count();
    let negatives = count(&|index| !set.examples[index].roadwork);
    let all_negatives = set.examples.iter().filter(|example| !example.roadwork).count();
    assert_eq!((order.len(), negatives), (60, all_negatives));
    assert_eq!(count(&|index| index == wrong), (negatives as f64 * 0.5).round() as usize);
}

#[test]
fn the_loss_falls_and_a_head_can_be_trained_on_the_result() {
    let dir = folder();
    let mut all = spec(dir.path(), "all", Scope::All);
    all.recipe.epochs = 6;
    all.recipe.dropout = 0.0;
    let history = train(&all, &patient()).unwrap().history;
    let (first, last) = (history.epochs[0].train_loss, history.epochs[5].train_loss);
    assert!(last < first, "{first} -> {last}");

    let mut head = spec(dir.path(), "head", Scope::Head);
    head.model = dir.path().join("all");
    head.recipe.variants = 2;
    train(&head, &patient()).unwrap();
    let weights = |out: &str| fs_err::read(dir.path().join(out).join("model.safetensors")).unwrap();
    assert_eq!(weights("all"), weights("head"), "the backbone is frozen");
}

#[test]
fn a_kept_head_answers_as_it_did_and_so_does_the_backbone() {
    let dir = folder();
    train(&spec(dir.path(), "first", Scope::All), &patient()).unwrap();
    let kept = Recipe { head: HeadStart::Keep, hidden: 99, ..recipe(Scope::All) };
    let pixels = Tensor::ones((2, 3, 48, 80), candle_core::DType::F32, &candle_core::Device::Cpu);
    let pixels = pixels.unwrap();
    let logits = |model: &Path, seed| {
        let network = Network::new(model, &kept, seed).unwrap();
        (network.logits(&pixels, None).unwrap().to_vec1::<f32>().unwrap(), network)
    };
    let (before, network) = logits(&dir.path().join("first"), 3);
    let again = dir.path().join("again");
    fs_err::create_dir_all(&again).unwrap();
    network.export(&again).unwrap();
    assert_eq!(logits(&again, 4).0, before, "the weights were in f16 already");
}

#[test]
fn of_several_seeds_the_best_is_kept() {
    let dir = folder();
    let mut spec = spec(dir.path(), "seeds", Scope::All);
    spec.recipe.seeds = vec![1, 2];
    spec.recipe.epochs = 2;
    let trained = train(&spec, &patient()).unwrap();
    let best = trained.mcc_by_seed.iter().map(|(_, mcc)| *mcc).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(trained.history.best_epoch().unwrap().mcc, best);
    let read = |path: &Path| fs_err::read(path.join("head.safetensors")).unwrap();
    let of_seed = spec.out.join(format!("seed-{}", trained.seed));
    assert_eq!(read(&spec.out), read(&of_seed));
}

#[test]
fn every_parameter_gets_a_gradient() {
    let dir = folder();
    let recipe = recipe(Scope::All);
    let network = Network::new(&dir.path().join("model"), &recipe, 7).unwrap();
    let set = Set::new(dataset::load(&dir.path().join("data")).unwrap(), &recipe).unwrap();
    let batches = Batches::new(&network, &set, &recipe, Variation::Free, None);
    let batch = batches.load(&[0, 1, 2, 3, 4, 5, 6, 7], 1).unwrap();
    let logits = network.logits(&batch.inputs, None).unwrap();
    let gradients = loss::loss(&logits, &batch.targets).unwrap().backward().unwrap();
    for (name, var) in network.trained() {
        let gradient = gradients.get(&var).unwrap_or_else(|| panic!("{name} has no gradient"));
        let size: f32 = gradient.abs().unwrap().sum_all().unwrap().to_scalar().unwrap();
        assert!(size > 0.0, "{name}: the gradient is zero");
    }
}

#[test]
fn what_cannot_be_trained_is_refused_with_a_reason() {
    let dir = folder();
    let message = |spec: &TrainSpec| format!("{:#}", train(spec, &patient()).unwrap_err());
    let head = spec(dir.path(), "x", Scope::Head);
    assert!(message(&head).contains("has no weights"), "{}", message(&head));

    let one_class = dir.path().join("one/roadwork");
    fs_err::create_dir_all(&one_class).unwrap();
    let scene = dataset::load(&dir.path().join("data")).unwrap()[0].picture.bytes().unwrap();
    (0..12).for_each(|i| fs_err::write(one_class.join(format!("{i}.jpg")), &scene).unwrap());
    let mut one = spec(dir.path(), "y", Scope::All);
    one.data = vec![dir.path().join("one")];
    assert!(message(&one).contains("not_roadwork"), "{}", message(&one));
    assert!(!one.out.exists(), "nothing is begun");

    write_scores(dir.path());
    let scores = fs_err::read_to_string(dir.path().join("scores.jsonl")).unwrap();
    let fewer: Vec<&str> = scores.lines().skip(1).collect();
    fs_err::write(dir.path().join("scores.jsonl"), fewer.join("\n")).unwrap();
    let taught = everything(dir.path(), "z");
    assert!(message(&taught).contains("has no probability for"), "{}", message(&taught));
}

fn golden() -> serde_json::Value {
    let text = include_str!("../../../tests/fixtures/lab/training.json");
    serde_json::from_str(text).unwrap()
}

fn floats(value: &serde_json::Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{found:?} {expected:?}");
    }
}

#[test]
fn steps_are_those_of_torchs_adamw() {
    let golden = &golden()["adamw"];
    let device = candle_core::Device::Cpu;
    let var = candle_core::Var::from_vec(floats(&golden["begin"]), (2, 3), &device).unwrap();
    let decay = golden["decay"].as_f64().unwrap();
    let mut optimizer = AdamW::new(vec![("w".into(), var.clone())], decay, 0.0).unwrap();
    let steps = golden["gradients"].as_array().unwrap();
    for (step, gradient) in steps.iter().enumerate() {
        // A loss whose gradient is the given one.
        let gradient = Tensor::from_vec(floats(gradient), (2, 3), &device).unwrap();
        let loss = var.as_tensor().mul(&gradient).unwrap().sum_all().unwrap();
        let rate = golden["rate"].as_f64().unwrap() / (step + 1) as f64;
        optimizer.step(&loss.backward().unwrap(), rate).unwrap();
        let values = var.flatten_all().unwrap().to_vec1().unwrap();
        close(&values, &floats(&golden["values"][step]), 1e-6);
    }
}

#[test]
fn the_average_follows_the_values_and_gives_way_to_them() {
    let device = candle_core::Device::Cpu;
    let var = candle_core::Var::from_vec(vec![0.0_f32], 1, &device).unwrap();
    let mut optimizer = AdamW::new(vec![("w".into(), var.clone())], 0.0, 0.5).unwrap();
    let keeps_nothing = |optimizer: &AdamW| {
        optimizer.slots.iter().all(|slot| slot.average.as_ref().is_some_and(|a| !a.track_op()))
    };
    assert!(keeps_nothing(&optimizer));
    let mut expected = 0.0;
    for step in 1..=4 {
        let loss = var.as_tensor().sum_all().unwrap();
        optimizer.step(&loss.backward().unwrap(), 0.1).unwrap();
        let value = var.to_vec1::<f32>().unwrap()[0];
        let decay = 0.5_f32.min((1.0 + step as f32) / (10.0 + step as f32));
        expected = expected * decay + value * (1.0 - decay);
        let averaged = optimizer.averaged(|| var.to_vec1::<f32>().unwrap()[0]).unwrap();
        assert!((averaged - expected).abs() < 1e-6, "{averaged} {expected}");
        assert_eq!(var.to_vec1::<f32>().unwrap()[0], value, "the values come back");
        assert!(keeps_nothing(&optimizer), "an average must not hold on to those before it");
    }
}

#[test]
fn the_schedule_is_torchs() {
    let golden = &golden()["cosine"];
    let total = golden["total"].as_u64().unwrap() as usize;
    let warm_up = golden["warm_up"].as_f64().unwrap();
    let rates: Vec<f32> = (0..total).map(|step| cosine(step, total, warm_up) as f32).collect();
    close(&rates, &floats(&golden["rates"]), 1e-6);
}

#[test]
fn losses_and_gradients_are_torchs_and_do_not_overflow() {
    let golden = &golden()["distillation"];
    let device = candle_core::Device::Cpu;
    let tensor = |key: &str| Tensor::new(floats(&golden[key]), &device).unwrap();
    let number = |key: &str| golden[key].as_f64().unwrap();
    let settings = Distillation {
        teacher: PathBuf::from("t"),
        temperature: number("temperature"),
        alpha: number("alpha"),
    };
    let soft: Vec<f32> =
        floats(&golden["teacher"]).into_iter().map(|p| settings.soften(p)).collect();
    let soft = Tensor::new(soft, &device).unwrap();
    let logits = candle_core::Var::from_tensor(&tensor("logits")).unwrap();
    let targets = |teacher| loss::Targets {
        labels: tensor("labels"),
        weights: tensor("labels").ones_like().unwrap(),
        teacher,
    };
    let teacher = Some((soft, settings.temperature, settings.alpha));
    for (teacher, value, slope) in [(teacher, "loss", "gradient"), (None, "bce", "bce_gradient")] {
        let loss = loss::loss(logits.as_tensor(), &targets(teacher)).unwrap();
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&logits).unwrap().to_vec1().unwrap();
        close(&[loss.to_scalar().unwrap()], &[number(value) as f32], 1e-5);
        close(&gradient, &floats(&golden[slope]), 1e-5);
    }
    let sharp = Distillation { temperature: 0.5, ..settings };
    assert!([0.0, 1.0].map(|p| sharp.soften(p)).iter().all(|p| *p > 0.0 && *p < 1.0));
    let far = Tensor::new(&[500.0_f32, -500.0], &device).unwrap();
    let labels = Tensor::new(&[1.0_f32, 1.0], &device).unwrap();
    let losses = loss::bce_with_logits(&far, &labels).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(losses, [0.0, 500.0]);
}

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

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

fn spec(dir: &Path, out: &str, scope: Scope) -> TrainSpec {
    TrainSpec {
        data: dir.join("data"),
        validation: None,
        model: dir.join("model"),
        out: dir.join(out),
        scope,
        pooling: Pooling::ClsMeanMax,
        hidden: 16,
        dropout: 0.2,
        epochs: 3,
        batch: 8,
        learning_rate: 3e-3,
        weight_decay: 0.05,
        patience: 10,
        seed: 7,
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

fn without_times(mut history: History) -> History {
    for epoch in &mut history.epochs {
        epoch.seconds = 0.0;
    }
    history
}

#[test]
fn a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does() {
    let dir = folder();
    let whole = train(&spec(dir.path(), "whole", Scope::All), &patient()).unwrap();
    assert_eq!(whole.epochs.len(), 3);

    let mut parts = spec(dir.path(), "parts", Scope::All);
    let in_second_epoch = Interrupter(AtomicUsize::new(9));
    let interrupted =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| train(&parts, &in_second_epoch)));
    assert!(interrupted.is_err());
    assert!(train(&parts, &patient()).is_err(), "a run must not be overwritten unasked");
    parts.resume = true;
    let resumed = train(&parts, &patient()).unwrap();

    let mut expected = without_times(whole);
    let resumed = without_times(resumed);
    expected.epochs.truncate(resumed.epochs.len());
    assert_eq!(resumed, expected);
    for file in ["model.safetensors", "head.safetensors", "config.json"] {
        let read = |out: &str| fs_err::read(dir.path().join(out).join(file)).unwrap();
        assert_eq!(read("whole"), read("parts"), "{file}");
    }
}

#[test]
fn the_loss_falls_and_a_head_can_be_trained_on_the_result() {
    let dir = folder();
    let mut all = spec(dir.path(), "all", Scope::All);
    all.epochs = 6;
    all.dropout = 0.0;
    let history = train(&all, &patient()).unwrap();
    let (first, last) = (history.epochs[0].train_loss, history.epochs[5].train_loss);
    assert!(last < first, "{first} -> {last}");

    let mut head = spec(dir.path(), "head", Scope::Head);
    head.model = dir.path().join("all");
    train(&head, &patient()).unwrap();
    let weights = |out: &str| fs_err::read(dir.path().join(out).join("model.safetensors")).unwrap();
    assert_eq!(weights("all"), weights("head"), "the backbone is frozen");
}

#[test]
fn every_parameter_gets_a_gradient() {
    let dir = folder();
    let network = Network::new(&spec(dir.path(), "x", Scope::All)).unwrap();
    let examples = dataset::load(&dir.path().join("data")).unwrap();
    let batches = Batches::prepare(&network, &examples[..8], &ImageLimits::default()).unwrap();
    let batch = batches.load(&network, &[0, 1, 2, 3, 4, 5, 6, 7], None).unwrap();
    let logits = network.logits(&batch.inputs, None).unwrap();
    let gradients = bce_with_logits(&logits, &batch.labels).unwrap().backward().unwrap();
    for (name, var) in network.trained() {
        let gradient = gradients.get(&var).unwrap_or_else(|| panic!("{name} has no gradient"));
        let size: f32 = gradient.abs().unwrap().sum_all().unwrap().to_scalar().unwrap();
        assert!(size > 0.0, "{name}: the gradient is zero");
    }
}

#[test]
fn the_loss_is_the_textbook_one_and_does_not_overflow() {
    let device = candle_core::Device::Cpu;
    let loss = |logit: f32, label: f32| {
        let logits = Tensor::new(&[logit], &device).unwrap();
        let labels = Tensor::new(&[label], &device).unwrap();
        bce_with_logits(&logits, &labels).unwrap().to_scalar::<f32>().unwrap()
    };
    assert!((loss(0.0, 1.0) - 2.0_f32.ln()).abs() < 1e-6);
    assert!((loss(2.0, 0.0) - (1.0 + 2.0_f32.exp()).ln()).abs() < 1e-5);
    assert_eq!(loss(500.0, 1.0), 0.0);
    assert_eq!(loss(500.0, 0.0), 500.0);
}

#[test]
fn a_backbone_without_weights_cannot_be_frozen() {
    let dir = folder();
    let error = Network::new(&spec(dir.path(), "x", Scope::Head)).err().unwrap().to_string();
    assert!(error.contains("has no weights"), "{error}");
}

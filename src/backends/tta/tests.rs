use parking_lot::Mutex;

use super::*;

type Log = Arc<Mutex<Vec<usize>>>;

/// Answers by the number of the call's inputs that came before, and notes each batch's size.
struct Told {
    answers: Vec<Prediction>,
    next: usize,
    too_big_above: usize,
    batches: Log,
}

impl Backend for Told {
    fn infer(&mut self, inputs: &[Input]) -> Result<Vec<Prediction>, BackendError> {
        self.batches.lock().push(inputs.len());
        if inputs.len() > self.too_big_above {
            return Err(BackendError::new(Fault::TooBig, anyhow::anyhow!("too big")));
        }
        let from = self.next;
        self.next += inputs.len();
        Ok((from..self.next).map(|i| self.answers[i % self.answers.len()].clone()).collect())
    }

    fn version(&self) -> String {
        "inner".into()
    }
}

fn registry(answers: Vec<Prediction>, too_big_above: usize) -> (Registry, Log) {
    let (mut registry, batches) = (Registry::default(), Log::default());
    let log = batches.clone();
    registry.add("told", move |_| {
        let (answers, batches) = (answers.clone(), log.clone());
        Ok(Box::new(Told { answers, next: 0, too_big_above, batches }))
    });
    (registry, batches)
}

fn context(settings: &str, max_batch: usize) -> BackendContext {
    BackendContext {
        stage: "s".into(),
        max_batch,
        settings: settings.parse().unwrap(),
        ..BackendContext::default()
    }
}

fn grey(level: u8) -> Input {
    Input::Image(Arc::new(Image::from_rgb(4, 4, vec![level; 48]).unwrap()))
}

fn score(p: f32, evidence: &str) -> Prediction {
    let probability = Probability::new(p).unwrap();
    Prediction::Score { probability, evidence: Some(evidence.into()) }
}

fn silent() -> Prediction {
    Prediction::Abstention { reason: "dark".into() }
}

#[test]
fn the_mean_of_logits_by_hand() {
    // Odds 4, 1/4, 9 and 9: their geometric mean is 3.
    let said = [score(0.8, "first"), score(0.2, "second"), score(0.9, ""), score(0.9, "")];
    let (registry, batches) = registry(said.to_vec(), 99);
    let mut tta = registry.get(NAME).unwrap()(&context("backend = \"told\"", 8)).unwrap();
    let merged = tta.infer(&[grey(1)]).unwrap();
    let [Prediction::Score { probability, evidence }] = &merged[..] else { panic!("{merged:?}") };
    assert!((probability.get() - 0.75).abs() < 1e-6, "{probability:?}");
    assert_eq!(evidence.as_deref(), Some("first"));
    assert_eq!(*batches.lock(), [4], "one call for all variants");
}

#[test]
fn one_variant_is_the_inner_backend() {
    let inner = "answer = \"mean\"\n";
    let plain = Registry::default().get("scripted").unwrap();
    let mut plain = plain(&context(inner, 8)).unwrap();
    let settings =
        format!("backend = \"scripted\"\nflip = false\nscales = []\n[scripted]\n{inner}");
    let mut tta = Registry::default().get(NAME).unwrap()(&context(&settings, 8)).unwrap();
    let inputs: Vec<Input> = (0..=255).map(grey).collect();
    assert_eq!(tta.infer(&inputs).unwrap(), plain.infer(&inputs).unwrap());
}

#[test]
fn abstaining_variants_are_left_out() {
    let said = [silent(), score(0.8, "second"), silent(), score(0.5, "")];
    let (some, _) = registry(said.to_vec(), 99);
    let mut tta = some.get(NAME).unwrap()(&context("backend = \"told\"", 8)).unwrap();
    let merged = tta.infer(&[grey(1)]).unwrap();
    let [Prediction::Score { probability, evidence }] = &merged[..] else { panic!("{merged:?}") };
    // Odds 4 and 1.
    assert!((probability.get() - 2.0 / 3.0).abs() < 1e-6);
    assert_eq!(evidence.as_deref(), Some("second"));
    let (none, _) = registry(vec![silent()], 99);
    let mut tta = none.get(NAME).unwrap()(&context("backend = \"told\"", 8)).unwrap();
    assert_eq!(tta.infer(&[grey(1)]).unwrap(), [silent()]);
}

#[test]
fn batches_are_no_larger_than_the_stages_and_halved_where_too_big() {
    let (registry, batches) = registry(vec![score(0.5, "")], 3);
    let mut tta = registry.get(NAME).unwrap()(&context("backend = \"told\"", 8)).unwrap();
    assert_eq!(tta.infer(&[grey(1), grey(2), grey(3)]).unwrap().len(), 3);
    // Twelve variants: eight and four, both too big.
    assert_eq!(*batches.lock(), [8, 4, 2, 2, 4, 2, 2, 4, 2, 2]);
}

#[test]
fn every_frame_of_a_clip_is_varied() {
    let frame = Arc::new(Image::from_rgb(2, 1, vec![0, 0, 0, 255, 255, 255]).unwrap());
    let frames = vec![frame; 3];
    let clip = Clip::new(frames, 2.0, &ClipLimits::default()).unwrap();
    let Input::Clip(mirrored) = varied(&Input::Clip(Arc::new(clip)), Variant::Mirrored).unwrap()
    else {
        panic!("no clip")
    };
    assert_eq!(mirrored.fps(), 2.0);
    assert_eq!(mirrored.frames().len(), 3);
    assert!(mirrored.frames().iter().all(|f| f.pixels() == [255, 255, 255, 0, 0, 0]));
}

#[test]
fn the_version_covers_the_settings_and_the_inner_backend() {
    let (registry, _) = registry(vec![silent()], 9);
    let version =
        |settings: &str| registry.get(NAME).unwrap()(&context(settings, 8)).unwrap().version();
    let usual = version("backend = \"told\"");
    assert!(usual.contains("inner"));
    assert_ne!(usual, version("backend = \"told\"\nscales = [0.9]"));
    assert_ne!(usual, version("backend = \"told\"\nflip = false"));
}

#[test]
fn wrong_settings_are_named() {
    let error = |settings: &str| {
        let built = Registry::default().get(NAME).unwrap()(&context(settings, 8));
        built.err().map(|error| format!("{error:#}")).unwrap_or_default()
    };
    assert!(error("flip = true").contains("backend"));
    assert!(error("backend = \"tta\"").contains("another backend"));
    assert!(error("backend = \"nobody\"").contains("known are classifier, onnx, scripted"));
    assert!(error("backend = \"scripted\"\nscales = [0.1]").contains("0.25 to 4"));
    assert!(error("backend = \"scripted\"\nscales = [nan]").contains("0.25 to 4"));
    assert!(error("backend = \"scripted\"\nflop = true").contains("flop"));
    assert!(error("backend = \"scripted\"\n[scripted]\nanser = 1").contains("anser"));
}

//! ONNX Runtime itself, against candle and against graphs made by hand. Without the library these
//! tests skip, and say so.

mod refused;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::backends::{Backend, BackendContext, Fault, Input, Registry};
use crate::calibration::sigmoid;
use crate::image::Image;
use crate::models::ModelFiles;
use crate::onnx::graph::proto::{Attribute, FLOAT, FLOAT16, INT64, Node, Tensor as Constant};
use crate::onnx::graph::{self, Dtype};
use crate::onnx::testing::{self, floats, integers, models, node, port};
use crate::onnx::{Library, LibrarySpec};
use crate::prediction::Prediction;
use crate::video::{Clip, ClipLimits};

/// Pictures that differ, of several sizes.
fn pictures(count: u32) -> Vec<Input> {
    let picture = |seed: u32| {
        let (width, height) = (40 + 13 * seed, 90 - 7 * seed);
        let mut state = seed + 1;
        let pixels = (0..width * height * 3).map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 26) + i / width % 192) as u8
        });
        Input::Image(Arc::new(Image::from_rgb(width, height, pixels.collect()).unwrap()))
    };
    (0..count).map(picture).collect()
}

/// A picture of one brightness.
fn grey(value: u8) -> Input {
    Input::Image(Arc::new(Image::from_rgb(8, 8, vec![value; 192]).unwrap()))
}

fn context(library: &Library, settings: &str) -> BackendContext {
    BackendContext {
        stage: "s".into(),
        max_batch: 4,
        instances: 1,
        onnx: testing::spec(library),
        settings: settings.parse().unwrap(),
    }
}

fn build(name: &str, context: &BackendContext) -> anyhow::Result<Box<dyn Backend>> {
    let mut backend = Registry::default().get(name).unwrap()(context)?;
    backend.warm_up().map_err(anyhow::Error::from)?;
    Ok(backend)
}

/// What `roadcrew export` writes.
fn exported(model: &str, path: &Path) {
    let files = ModelFiles::named(model).unwrap();
    let source = graph::Source::load(&files).unwrap();
    let metadata = source.metadata(Dtype::F32, source.calibration()).unwrap();
    let model = source.model(Dtype::F32, source.calibration(), &metadata).unwrap();
    model.write(&mut fs_err::File::create(path).unwrap()).unwrap();
}

fn scores(said: &[Prediction]) -> Vec<f32> {
    said.iter().map(|prediction| prediction.probability().unwrap().get()).collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{what}: {found} against {expected}");
    }
}

/// Pictures and a clip.
fn inputs() -> Vec<Input> {
    let mut inputs = pictures(5);
    let frame = |seed: u8| Image::from_rgb(20, 10, vec![seed; 600]).map(Arc::new).unwrap();
    let clip = Clip::new(vec![frame(20), frame(250)], 1.0, &ClipLimits { max_frames: 2 }).unwrap();
    inputs.push(Input::Clip(Arc::new(clip)));
    inputs
}

fn on_candle(library: &Library, model: &str) -> Vec<f32> {
    let settings = format!("model = \"{model}\"\nruntime = \"candle\"");
    let mut candle = build("classifier", &context(library, &settings)).unwrap();
    assert!(candle.version().ends_with(" candle"));
    scores(&candle.infer(&inputs()).unwrap())
}

#[test]
fn a_checkpoint_says_the_same_on_either_runtime() {
    let Some(library) = testing::library() else { return };
    for model in models() {
        let expected = on_candle(&library, &model);
        for runtime in ["onnx", "auto"] {
            for instances in [1, 3] {
                let settings = format!("model = \"{model}\"\nruntime = \"{runtime}\"");
                let context = BackendContext { instances, ..context(&library, &settings) };
                let mut onnx = build("classifier", &context).unwrap();
                assert!(onnx.version().contains(" onnxruntime "), "{}", onnx.version());
                let found = scores(&onnx.infer(&inputs()).unwrap());
                assert_close(&found, &expected, &format!("{model} {runtime} {instances}"));
            }
        }
    }
}

#[test]
fn an_exported_classifier_says_what_candle_says() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onnx");
    for model in models() {
        let expected = on_candle(&library, &model);
        exported(&model, &path);
        // Nothing but the file: all else stands in its metadata.
        for output in ["", "output = \"probability\""] {
            for share in ["", "share_weights = \"packed\"", "share_weights = \"plain\""] {
                let settings = format!("model = \"{}\"\n{output}\n{share}", path.display());
                let mut onnx = build("onnx", &context(&library, &settings)).unwrap();
                let found = scores(&onnx.infer(&inputs()).unwrap());
                assert_close(&found, &expected, &format!("{model} {output} {share}"));
            }
        }
    }
}

#[test]
fn an_exported_encoder_under_the_models_head_says_what_candle_says() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encoder.onnx");
    // The embedded models are not in a folder that a head can be taken from.
    for model in &models()[2..] {
        let expected = on_candle(&library, model);
        let files = ModelFiles::named(model).unwrap();
        let encoder = graph::Source::load(&files).unwrap().encoder_model(Dtype::F32).unwrap();
        encoder.model.write(&mut fs_err::File::create(&path).unwrap()).unwrap();
        let path = path.display();
        let settings = format!("model = \"{path}\"\ngraph = \"encoder\"\nhead = \"{model}\"");
        let mut onnx = build("onnx", &context(&library, &settings)).unwrap();
        let found = scores(&onnx.infer(&inputs()).unwrap());
        assert_close(&found, &expected, model);
    }
}

/// A graph by hand that takes `x` `[n, 3, 8, 8]`, unless `input` says otherwise.
struct Sketch {
    input: (i32, &'static str),
    nodes: Vec<Node>,
    constants: Vec<Constant>,
    outputs: Vec<(&'static str, i32, &'static str)>,
}

impl Sketch {
    /// From the mean brightness `m` `[n]`, 0 to 1, on.
    fn of_mean(nodes: Vec<Node>, constants: Vec<Constant>) -> Self {
        let all = vec![Attribute::ints("axes", &[1, 2, 3]), Attribute::int("keepdims", 0)];
        let mut from_mean = vec![node("ReduceMean", &["x"], "m", all)];
        from_mean.extend(nodes);
        let outputs = vec![("y", FLOAT, "n")];
        Self { input: (FLOAT, "n,3,8,8"), nodes: from_mean, constants, outputs }
    }

    /// The file, and settings that name it.
    fn write(self, dir: &Path) -> (PathBuf, String) {
        let path = dir.join("sketch.onnx");
        let inputs = vec![port("x", self.input.0, self.input.1)];
        let outputs = self.outputs.into_iter().map(|(name, kind, dims)| port(name, kind, dims));
        let bytes = testing::model(self.nodes, self.constants, inputs, outputs.collect());
        fs_err::write(&path, bytes).unwrap();
        let settings = format!(
            "model = \"{}\"\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]",
            path.display()
        );
        (path, settings)
    }
}

/// `y = m`.
fn plain() -> Sketch {
    Sketch::of_mean(vec![node("Identity", &["m"], "y", Vec::new())], Vec::new())
}

#[test]
fn what_cannot_be_computed_of_one_picture_is_its_abstention_and_no_others() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let nodes =
        vec![node("Sub", &["m", "half"], "d", Vec::new()), node("Sqrt", &["d"], "y", Vec::new())];
    let half = floats("half", &[], &[0.5]);
    let (_, settings) = Sketch::of_mean(nodes, vec![half]).write(dir.path());
    let mut onnx = build("onnx", &context(&library, &settings)).unwrap();
    let said = onnx.infer(&[grey(255), grey(0), grey(255)]).unwrap();
    assert_close(&scores(&[said[0].clone(), said[2].clone()]), &[sigmoid(0.5f32.sqrt()); 2], "y");
    let Prediction::Abstention { reason } = &said[1] else { panic!("{said:?}") };
    assert!(reason.contains("NaN"), "{reason}");
}

#[test]
fn a_picture_that_the_graph_chokes_on_breaks_its_batch_and_nothing_after() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    // White is 2 on the scale of whole numbers, and the table has two entries.
    let to_whole = vec![Attribute::int("to", i64::from(INT64))];
    let nodes = vec![
        node("Mul", &["m", "two"], "d", Vec::new()),
        node("Cast", &["d"], "i", to_whole),
        node("Gather", &["table", "i"], "y", Vec::new()),
    ];
    let constants = vec![floats("two", &[], &[2.0]), floats("table", &[2], &[-1.0, 1.0])];
    let (_, settings) = Sketch::of_mean(nodes, constants).write(dir.path());
    let mut onnx = build("onnx", &context(&library, &settings)).unwrap();
    let error = onnx.infer(&[grey(0), grey(255)]).unwrap_err();
    assert_eq!(error.fault, Fault::Broken);
    assert!(error.to_string().contains("ONNX Runtime: "), "{error}");
    assert!(onnx.infer(&[grey(255)]).is_err());
    let said = onnx.infer(&[grey(0), grey(200)]).unwrap();
    assert_close(&scores(&said), &[sigmoid(-1.0), sigmoid(1.0)], "after poison");
}

#[test]
fn a_batch_that_memory_does_not_hold_is_too_big_and_a_smaller_one_is_not() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Four terabytes for each picture after the first.
    let first = vec![Attribute::int("start", 0), Attribute::int("end", 1)];
    let over = vec![Attribute::int("keepdims", 0)];
    let nodes = vec![
        node("Shape", &["x"], "n", first),
        node("Sub", &["n", "one"], "more", Vec::new()),
        node("Mul", &["more", "much"], "length", Vec::new()),
        node("Expand", &["zero", "length"], "waste", Vec::new()),
        node("ReduceSum", &["waste"], "sum", over),
        node("Add", &["m", "sum"], "y", Vec::new()),
    ];
    let constants = vec![
        integers("one", &[1], &[1]),
        integers("much", &[1], &[1 << 40]),
        floats("zero", &[1], &[0.0]),
    ];
    let (_, settings) = Sketch::of_mean(nodes, constants).write(dir.path());
    let context = context(&library, &settings);
    let mut onnx = Registry::default().get("onnx").unwrap()(&context).unwrap();
    let error = onnx.infer(&[grey(0), grey(0)]).unwrap_err();
    assert_eq!(error.fault, Fault::TooBig, "{error}");
    assert_close(&scores(&onnx.infer(&[grey(0)]).unwrap()), &[0.5], "alone");
}

#[test]
fn channels_may_come_last_and_classes_be_many() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    // The means of the three channels are the logits of three classes.
    let over = vec![Attribute::ints("axes", &[1, 2]), Attribute::int("keepdims", 0)];
    let sketch = Sketch {
        input: (FLOAT, "n,8,8,3"),
        nodes: vec![node("ReduceMean", &["x"], "y", over)],
        constants: Vec::new(),
        outputs: vec![("y", FLOAT, "n,3")],
    };
    let (_, settings) = sketch.write(dir.path());
    let pixels = [255, 51, 0].repeat(64);
    let input = Input::Image(Arc::new(Image::from_rgb(8, 8, pixels).unwrap()));
    for (more, expected) in [
        ("activation = \"softmax\"\nclass = 0", 1.0f32.exp() / (1.0f32.exp() + 0.2f32.exp() + 1.0)),
        ("activation = \"softmax\"\nclass = 2", 1.0 / (1.0f32.exp() + 0.2f32.exp() + 1.0)),
        ("activation = \"sigmoid\"\nclass = 1", sigmoid(0.2)),
        ("activation = \"none\"\nclass = 1", 0.2),
    ] {
        let settings = format!("{settings}\nlayout = \"nhwc\"\n{more}");
        let mut onnx = build("onnx", &context(&library, &settings)).unwrap();
        assert_close(
            &scores(&onnx.infer(std::slice::from_ref(&input)).unwrap()),
            &[expected],
            more,
        );
    }
}

#[test]
fn a_graph_for_one_picture_at_a_time_gets_one_at_a_time() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sketch = Sketch { input: (FLOAT, "1,3,8,8"), outputs: vec![("y", FLOAT, "1")], ..plain() };
    let (_, settings) = sketch.write(dir.path());
    let settings = format!("{settings}\nactivation = \"none\"");
    let mut onnx = build("onnx", &context(&library, &settings)).unwrap();
    let said = onnx.infer(&[grey(255), grey(51), grey(0)]).unwrap();
    assert_close(&scores(&said), &[1.0, 0.2, 0.0], "one by one");
}

/// An encoder of 2 by 2 patches whose features are the means of their channels; five tokens precede
/// them: CLS, the mean of the patches, and four that must not be looked at.
fn community() -> Sketch {
    let sides = |name: &str| Attribute::ints(name, &[4, 4]);
    // Each channel by itself.
    let filter: Vec<f32> =
        (0..9).flat_map(|i| [if i % 4 == 0 { 1.0 / 16.0 } else { 0.0 }; 16]).collect();
    let mean = vec![Attribute::ints("axes", &[1]), Attribute::int("keepdims", 1)];
    let along = || vec![Attribute::int("axis", 1)];
    let nodes = vec![
        node("Conv", &["x", "filter"], "map", vec![sides("kernel_shape"), sides("strides")]),
        node("Reshape", &["map", "flat"], "rows", Vec::new()),
        node("Transpose", &["rows"], "patches", vec![Attribute::ints("perm", &[0, 2, 1])]),
        node("ReduceMean", &["patches"], "cls", mean),
        node("Add", &["patches", "far"], "registers", Vec::new()),
        node("Concat", &["cls", "registers", "patches"], "last_hidden_state", along()),
        node("Squeeze", &["cls", "axis"], "pooler_output", Vec::new()),
    ];
    let constants = vec![
        floats("filter", &[3, 3, 4, 4], &filter),
        integers("flat", &[3], &[0, 3, 4]),
        integers("axis", &[1], &[1]),
        floats("far", &[], &[1000.0]),
    ];
    let outputs = vec![
        ("last_hidden_state", FLOAT, "batch_size,sequence_length,3"),
        ("pooler_output", FLOAT, "batch_size,3"),
    ];
    Sketch { input: (FLOAT, "batch_size,3,height,width"), nodes, constants, outputs }
}

/// A head that adds up so many values and 100, so that its GELU is the identity, and takes 100 away.
fn head(folder: &Path, inputs: usize) {
    let tensor =
        |values: &[f32], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let tensors = std::collections::HashMap::from([
        ("fc1.weight", tensor(&vec![1.0; inputs], &[1, inputs])),
        ("fc1.bias", tensor(&[100.0], &[1])),
        ("fc2.weight", tensor(&[1.0], &[1, 1])),
        ("fc2.bias", tensor(&[-100.0], &[1])),
    ]);
    candle_core::safetensors::save(&tensors, folder.join("head.safetensors")).unwrap();
}

#[test]
fn a_community_encoder_is_read_by_its_names() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (_, settings) = community().write(dir.path());
    let settings = format!(
        "{settings}\ngraph = \"encoder\"\nhead = \"{}\"\nsize = [8, 8]",
        dir.path().display()
    );
    // The top half white: patches of 1, 1, 0, 0 in every channel.
    let pixels = [vec![255; 96], vec![0; 96]].concat();
    let input = Input::Image(Arc::new(Image::from_rgb(8, 8, pixels).unwrap()));
    let ask = |settings: &str| {
        build("onnx", &context(&library, settings))
            .map(|mut onnx| scores(&onnx.infer(&[input.clone(), grey(0)]).unwrap()))
            .map_err(|error| format!("{error:#}"))
    };
    // CLS; CLS and mean; CLS, mean and maximum: 1.5, 3 and 6 from three channels.
    for (inputs, expected) in [(3, 1.5), (6, 3.0), (9, 6.0)] {
        head(dir.path(), inputs);
        let what = format!("a head over {inputs}");
        assert_close(&ask(&settings).unwrap(), &[sigmoid(expected), 0.5], &what);
    }
    let pooled = format!("{settings}\noutput = \"pooler_output\"");
    assert!(ask(&pooled).unwrap_err().contains("the head looks at the patches"));
    let beyond = format!("{settings}\nprefix_tokens = 9");
    assert!(ask(&beyond).unwrap_err().contains("prefix_tokens = 9, and there are 9 tokens"));
    head(dir.path(), 4);
    assert!(ask(&settings).unwrap_err().contains("the encoder's hidden size is 3"));
    head(dir.path(), 3);
    assert_close(&ask(&pooled).unwrap(), &[sigmoid(1.5), 0.5], "pooled");
    let calibration = r#"{"scale": 2.0, "shift": 0.5}"#;
    fs_err::write(dir.path().join("calibration.json"), calibration).unwrap();
    assert_close(&ask(&settings).unwrap(), &[sigmoid(3.5), sigmoid(0.5)], "calibrated");
}

#[test]
fn the_version_follows_every_file() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (path, settings) = plain().write(dir.path());
    let version = || build("onnx", &context(&library, &settings)).unwrap().version();
    let first = version();
    assert!(first.ends_with(&format!("onnxruntime {}", library.version())), "{first}");
    assert_eq!(version(), first);
    let mut seen = vec![first];
    fs_err::write(dir.path().join("calibration.json"), r#"{"scale": 2.0, "shift": 0.0}"#).unwrap();
    seen.push(version());
    fs_err::write(dir.path().join("sketch.onnx_data"), "weights").unwrap();
    seen.push(version());
    fs_err::write(dir.path().join("another.onnx_data"), "of another").unwrap();
    assert_eq!(version(), seen[2]);
    let nodes = vec![node("Neg", &["m"], "y", Vec::new())];
    assert_eq!(Sketch::of_mean(nodes, Vec::new()).write(dir.path()).0, path);
    seen.push(version());
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[test]
fn without_the_library_candle_computes_and_what_needs_it_says_so() {
    let name = "without_the_library_candle_computes_and_what_needs_it_says_so";
    testing::alone(module_path!(), name, without_the_library);
}

fn without_the_library() {
    let dir = tempfile::tempdir().unwrap();
    let fake = dir.path().join("libonnxruntime.so");
    fs_err::write(&fake, "no library").unwrap();
    let (_, sketch) = plain().write(dir.path());
    let context = |settings: &str| BackendContext {
        max_batch: 2,
        instances: 1,
        onnx: LibrarySpec { library: fake.clone() },
        settings: settings.parse().unwrap(),
        ..BackendContext::default()
    };
    for (backend, settings) in
        [("onnx", &*sketch), ("classifier", "model = \"embedded:screen\"\nruntime = \"onnx\"")]
    {
        let error = format!("{:#}", build(backend, &context(settings)).err().unwrap());
        for part in ["unavailable: ", "cannot be loaded", "do `bash scripts/setup-onnxruntime.sh`"]
        {
            assert!(error.contains(part), "{error}");
        }
    }
    let mut auto = build("classifier", &context("model = \"embedded:screen\"")).unwrap();
    assert!(auto.version().ends_with(" candle"), "{}", auto.version());
    assert_eq!(auto.infer(&[grey(9)]).unwrap().len(), 1);
}

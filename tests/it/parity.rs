//! Our networks against transformers' numbers.
//!
//! Every folder `dinov3*` in `tests/fixtures/models`, or in `$ROADCREW_FIXTURES` instead if that is
//! set, is a checkpoint in the hub's layout with `golden.safetensors`. Every tensor in there must
//! be known here and must agree; `tools/make_fixtures.py` and `tools/make_convnext_fixture.py`
//! write them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use candle_core::{Device, IndexOp, Tensor};
use roadcrew::image::{Image, ImageLimits};
use roadcrew::models::encoder::Tap;
use roadcrew::models::{Checkpoint, Encoder, Features, Head, ModelFiles, Preprocessor};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    family: String,
    images: Vec<String>,
    tolerance: f32,
    tensors: BTreeMap<String, Vec<usize>>,
}

fn fixtures() -> Vec<PathBuf> {
    let root = std::env::var_os("ROADCREW_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models"),
        PathBuf::from,
    );
    let entries = fs_err::read_dir(&root).unwrap();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("dinov3"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no folder dinov3* in {}", root.display());
    found
}

/// Runs `check` on every fixture; what it returns are failures, all of which are shown.
fn for_each_fixture(check: impl Fn(&Fixture) -> Vec<String>) {
    let failures: Vec<String> = fixtures()
        .into_iter()
        .flat_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let failures = check(&Fixture::open(path));
            failures.into_iter().map(move |failure| format!("{name}: {failure}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} differences\n{}", failures.len(), failures.join("\n"));
}

struct Fixture {
    path: PathBuf,
    files: ModelFiles,
    golden: Golden,
    tensors: Checkpoint,
}

impl Fixture {
    fn open(path: PathBuf) -> Self {
        let files = ModelFiles::folder(&path).unwrap();
        let golden: Golden = files.json("golden.json").unwrap();
        let tensors = files.checkpoint("golden").unwrap();
        Self { path, files, golden, tensors }
    }

    fn image(&self, name: &str) -> Image {
        let bytes = fs_err::read(self.path.join(name)).unwrap();
        Image::decode(&bytes, &ImageLimits::default()).unwrap()
    }

    fn expected(&self, name: &str) -> Tensor {
        self.tensors.tensor(name, None, &Device::Cpu).unwrap()
    }

    /// The inputs, from the pictures by our own preprocessing.
    fn pixels(&self) -> Tensor {
        let images: Vec<Image> = self.golden.images.iter().map(|name| self.image(name)).collect();
        let images: Vec<&Image> = images.iter().collect();
        Preprocessor::load(&self.files).unwrap().tensor(&images).unwrap()
    }

    /// The top left of the first picture, normalised but not resized, as large as the golden.
    fn native_pixels(&self) -> Tensor {
        let Some(&[1, 3, height, width]) = self.tensors.shape("native.pixel_values") else {
            panic!("{}: no native.pixel_values", self.path.display());
        };
        let image = self.image(&self.golden.images[0]);
        let row = image.width() as usize * 3;
        let rows = image.pixels().chunks_exact(row).take(height);
        let cropped = rows.flat_map(|row| row[..width * 3].to_vec()).collect();
        let cropped = Image::from_rgb(width as u32, height as u32, cropped).unwrap();
        let mut config: serde_json::Value = self.files.json("preprocessor_config.json").unwrap();
        config["do_resize"] = false.into();
        let preprocessor = Preprocessor::from_json(&config.to_string()).unwrap();
        preprocessor.tensor(&[&cropped]).unwrap()
    }

    /// Says where `found` differs most from the golden tensor, if by more than the tolerance.
    fn compare(&self, name: &str, found: &Tensor) -> Option<String> {
        let expected = self.expected(name);
        if found.dims() != expected.dims() {
            return Some(format!("{name}: shape {:?}, not {:?}", found.dims(), expected.dims()));
        }
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (found, expected) = (values(found), values(&expected));
        let distance = |i: usize| {
            let d = (found[i] - expected[i]).abs();
            if d.is_nan() { f32::INFINITY } else { d }
        };
        let worst = (0..found.len()).max_by(|&a, &b| distance(a).total_cmp(&distance(b)))?;
        (distance(worst) > self.golden.tolerance).then(|| {
            let mut rest = worst;
            let mut index: Vec<usize> = Vec::new();
            for side in self.tensors.shape(name).unwrap().iter().rev() {
                index.insert(0, rest % side);
                rest /= side;
            }
            format!(
                "{name}{index:?}: {} against {} (off by {:e}, allowed {:e})",
                found[worst],
                expected[worst],
                distance(worst),
                self.golden.tolerance
            )
        })
    }
}

/// Everything that a fixture may hold, computed by us.
fn compute(fixture: &Fixture) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    let encoder = Encoder::load(&fixture.files).unwrap();
    let pixels = fixture.pixels();
    all.insert("pixel_values".to_owned(), pixels.clone());
    let mut listener = |name: &str, tensor: &Tensor| {
        let before = all.insert(name.to_owned(), tensor.copy().unwrap());
        assert!(before.is_none(), "{name} was shown twice");
    };
    let features = encoder.forward_tapped(&pixels, Tap::on(&mut listener)).unwrap();

    let native = fixture.native_pixels();
    let mut listener = |name: &str, tensor: &Tensor| {
        if name == "last_hidden_state" {
            all.insert(format!("native.{name}"), tensor.copy().unwrap());
        }
    };
    encoder.forward_tapped(&native, Tap::on(&mut listener)).unwrap();
    all.insert("native.pixel_values".to_owned(), native);

    let head = Head::load(&fixture.files, encoder.hidden_size()).unwrap();
    let logit = head.forward(&features).unwrap().unsqueeze(1).unwrap();
    all.insert("head.features".to_owned(), head.pooling().pool(&features).unwrap());
    all.insert("head.score".to_owned(), candle_nn::ops::sigmoid(&logit).unwrap());
    all.insert("head.logit".to_owned(), logit);
    all
}

/// Every intermediate and final tensor, from the pictures on.
#[test]
fn parity_every_tensor() {
    for_each_fixture(|fixture| {
        let computed = compute(fixture);
        let names: BTreeSet<&str> = fixture.tensors.names().into_iter().collect();
        let listed: BTreeSet<&str> = fixture.golden.tensors.keys().map(String::as_str).collect();
        assert_eq!(names, listed, "golden.json and golden.safetensors disagree");
        assert!(names.len() > 10, "{}: a golden without tensors", fixture.path.display());
        names
            .into_iter()
            .filter_map(|name| match computed.get(name) {
                Some(found) => fixture.compare(name, found),
                None => Some(format!("{name}: a golden tensor that this test does not know")),
            })
            .collect()
    });
}

fn last_hidden_state(fixture: &Fixture, features: &Features) -> Vec<String> {
    let expected = fixture.expected("last_hidden_state");
    let patches = features.patches.dim(1).unwrap();
    let prefix = expected.dim(1).unwrap() - patches;
    // Registers are not part of the features: take them from the golden.
    let registers = expected.i((.., 1..prefix)).unwrap();
    let cls = features.cls.unsqueeze(1).unwrap();
    let all = Tensor::cat(&[&cls, &registers, &features.patches], 1).unwrap();
    let found = [
        fixture.compare("last_hidden_state", &all),
        fixture.compare("pooler_output", &features.cls),
    ];
    found.into_iter().flatten().collect()
}

/// The same final numbers by the fused steps that serve.
#[test]
fn parity_without_a_tap() {
    for_each_fixture(|fixture| {
        let encoder = Encoder::load(&fixture.files).unwrap();
        let features = encoder.forward(&fixture.pixels()).unwrap();
        let head = Head::load(&fixture.files, encoder.hidden_size()).unwrap();
        let logit = head.forward(&features).unwrap().unsqueeze(1).unwrap();
        let mut failures = last_hidden_state(fixture, &features);
        failures.extend(fixture.compare("head.logit", &logit));
        failures
    });
}

/// What an image gets does not depend on the others in its batch.
#[test]
fn parity_one_by_one() {
    for_each_fixture(|fixture| {
        let encoder = Encoder::load(&fixture.files).unwrap();
        let pixels = fixture.pixels();
        let each = |i| encoder.forward(&pixels.narrow(0, i, 1).unwrap()).unwrap();
        let features: Vec<Features> = (0..pixels.dim(0).unwrap()).map(each).collect();
        let cat = |part: fn(&Features) -> &Tensor| {
            Tensor::cat(&features.iter().map(part).collect::<Vec<_>>(), 0).unwrap()
        };
        let (cls, patches) = (cat(|f| &f.cls), cat(|f| &f.patches));
        last_hidden_state(fixture, &Features { cls, patches })
    });
}

/// The JPEG beside the pictures, against what Pillow decoded.
///
/// Two correct decoders round each of Y, Cb and Cr their own way, so a byte is off by 2 at most,
/// save for the rare one where two roundings meet in blue (Y + 1.772 Cb).
#[test]
fn parity_jpeg_within_two_steps() {
    for_each_fixture(|fixture| {
        let (found, expected) =
            (fixture.image("input_0.jpg"), fixture.image("input_0.jpg.decoded.png"));
        let size = |image: &Image| (image.width(), image.height());
        assert_eq!(size(&found), size(&expected), "{}", fixture.path.display());
        let distances: Vec<u8> =
            found.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b)).collect();
        let rare = distances.iter().filter(|d| **d > 2).count();
        let (at, worst) = distances.iter().enumerate().max_by_key(|(_, d)| **d).unwrap();
        let fine = *worst <= 3 && rare * 1000 <= distances.len();
        let failure = format!("input_0.jpg: byte {at} is off by {worst}; {rare} are off by over 2");
        if fine { vec![] } else { vec![failure] }
    });
}

/// A checkpoint in two shards gives what the whole one gives, and a wrong index is an error.
#[test]
fn parity_sharded() {
    let path = fixtures().remove(0);
    let whole = Encoder::load(&ModelFiles::folder(&path).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs_err::read(path.join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let mut map = BTreeMap::new();
    for (name, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        let views = part.iter().map(|(name, view)| (name.as_str(), view));
        safetensors::serialize_to_file(views, None, &folder.path().join(name)).unwrap();
        map.extend(part.iter().map(|(tensor, _)| (tensor.as_str(), name)));
    }
    let index = folder.path().join("model.safetensors.index.json");
    let write = |map: &BTreeMap<&str, &str>| {
        let text = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        fs_err::write(&index, text.to_string()).unwrap();
    };
    write(&map);
    fs_err::copy(path.join("config.json"), folder.path().join("config.json")).unwrap();
    let files = ModelFiles::folder(folder.path()).unwrap();
    let sharded = Encoder::load(&files).unwrap();

    let pixels = Fixture::open(path).pixels();
    let run = |encoder: &Encoder| -> Vec<Vec<f32>> {
        encoder.forward(&pixels).unwrap().cls.to_vec2().unwrap()
    };
    assert_eq!(run(&sharded), run(&whole));

    let (some, _) = first[0].clone();
    map.insert(&some, "b.safetensors");
    write(&map);
    let error = Encoder::load(&files).unwrap_err().to_string();
    assert!(error.contains(&format!("`{some}` is not in b.safetensors")), "{error}");
    map.insert(&some, "../b.safetensors");
    write(&map);
    let error = Encoder::load(&files).unwrap_err().to_string();
    assert!(error.contains("is not the name of a file beside it"), "{error}");
    map.insert(&some, "c.safetensors");
    write(&map);
    let error = Encoder::load(&files).unwrap_err().to_string();
    assert!(error.contains("has no c.safetensors"), "{error}");
}

/// The fixtures cover what they claim to cover.
#[test]
fn parity_covers_every_family() {
    if std::env::var_os("ROADCREW_FIXTURES").is_some() {
        return;
    }
    let families: BTreeSet<String> =
        fixtures().into_iter().map(|path| Fixture::open(path).golden.family).collect();
    assert_eq!(families.into_iter().collect::<Vec<_>>(), ["dinov3_convnext", "dinov3_vit"]);
}

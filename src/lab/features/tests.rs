use std::cell::RefCell;
use std::path::PathBuf;

use super::*;
use crate::lab::dataset::{load, load_pictures};
use crate::lab::scenes::{DatasetSpec, write_dataset};

/// A few scenes, and a cache.
struct Room {
    dir: tempfile::TempDir,
    pictures: Vec<Picture>,
}

impl Room {
    fn new(count: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scenes = dir.path().join("scenes");
        write_dataset(&scenes, &DatasetSpec::new(count, 1, 1), &|_| {}).unwrap();
        let pictures = load(&scenes).unwrap().into_iter().map(|e| e.picture).collect();
        Self { dir, pictures }
    }

    fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    /// The features of these pictures, and how many were in the cache.
    fn compute(&self, pictures: &[&Picture]) -> (Features, u64) {
        let (cache, first) = (self.cache(), RefCell::new(None));
        let progress = |done| {
            first.borrow_mut().get_or_insert(done);
        };
        let features = compute(&spec(&cache), pictures, &progress).unwrap();
        (features, first.into_inner().unwrap())
    }

    fn all(&self) -> Vec<&Picture> {
        self.pictures.iter().collect()
    }

    /// The files of the cache.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for model in fs_err::read_dir(self.cache()).unwrap() {
            let entries = fs_err::read_dir(model.unwrap().path()).unwrap();
            files.extend(entries.map(|entry| entry.unwrap().path()));
        }
        files.sort();
        files
    }
}

fn spec(cache: &Path) -> FeatureSpec<'_> {
    FeatureSpec { model: "embedded:screen", pooling: None, cache, limits: ImageLimits::default() }
}

#[test]
fn rows_are_computed_once_and_are_what_the_encoder_says() {
    let room = Room::new(20);
    let (features, known) = room.compute(&room.all());
    assert_eq!((features.len(), known), (20, 0));
    assert_eq!(features.values.len(), 20 * features.width);
    let (again, known) = room.compute(&room.all());
    assert_eq!((again == features, known), (true, 20));
    let files = ModelFiles::named("embedded:screen").unwrap();
    let (preprocessor, encoder) =
        (Preprocessor::load(&files).unwrap(), Encoder::load(&files).unwrap());
    let image = room.pictures[7].decode(&ImageLimits::default()).unwrap();
    let alone = encoder.forward(&preprocessor.tensor(&[&image]).unwrap()).unwrap();
    let pooling = Head::load(&files, encoder.hidden_size()).unwrap().pooling();
    let alone = pooling.pool(&alone).unwrap().to_vec2::<f32>().unwrap().remove(0);
    assert_eq!(features.row(7), alone, "a row does not depend on its batch");
    assert_eq!(features.pick(&[7, 0]).row(1), features.row(0));
    assert_eq!(features.digests[7], sha256(&room.pictures[7].bytes().unwrap()));
}

#[test]
fn a_cache_cut_anywhere_gives_the_same_rows() {
    let room = Room::new(12);
    let (whole, _) = room.compute(&room.all());
    let [file] = &room.files()[..] else { panic!("one process, one file") };
    let bytes = fs_err::read(file).unwrap();
    let record = (bytes.len() - 16) / 12;
    for cut in [0, 5, 16, 17, 16 + record - 1, 16 + record, 16 + 5 * record + 40, bytes.len() - 1] {
        fs_err::remove_dir_all(room.cache().join(file.parent().unwrap())).unwrap();
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, &bytes[..cut]).unwrap();
        let (rows, known) = room.compute(&room.all());
        assert!(rows == whole, "cut at {cut}");
        assert_eq!(known, (cut.saturating_sub(16) / record) as u64, "cut at {cut}");
        let (_, known) = room.compute(&room.all());
        assert_eq!((known, room.files().len()), (12, 2), "what was torn is written anew");
    }
}

#[test]
fn a_rotten_record_is_computed_again() {
    let room = Room::new(4);
    let (whole, _) = room.compute(&room.all());
    let [file] = &room.files()[..] else { panic!("one process, one file") };
    let mut bytes = fs_err::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(file, bytes).unwrap();
    let (rows, known) = room.compute(&room.all());
    assert!((rows, known) == (whole, 3));
}

#[test]
fn what_differs_only_in_name_is_one_row() {
    let room = Room::new(2);
    let copy = Picture { id: "copy".into(), ..room.pictures[0].clone() };
    let (features, _) = room.compute(&[&room.pictures[0], &copy, &room.pictures[1]]);
    assert_eq!(features.row(0), features.row(1));
    assert_ne!(features.row(0), features.row(2));
    let (_, known) = room.compute(&[&copy]);
    assert_eq!(known, 1);
}

#[test]
fn a_known_hash_saves_the_reading() {
    let room = Room::new(1);
    let (features, _) = room.compute(&room.all());
    let gone = Picture {
        sha256: Some(features.digests[0].clone()),
        ..Picture::file("gone".into(), "nowhere.jpg".into())
    };
    assert!(room.compute(&[&gone]).0 == features);
}

#[test]
fn another_pooling_is_another_row_and_a_broken_image_is_named() {
    let room = Room::new(1);
    let (cache, pictures) = (room.cache(), room.all());
    let wide = FeatureSpec { pooling: Some(Pooling::ClsMeanMax), ..spec(&cache) };
    let narrow = FeatureSpec { pooling: Some(Pooling::Cls), ..spec(&cache) };
    let wide = compute(&wide, &pictures, &|_| {}).unwrap();
    let narrow = compute(&narrow, &pictures, &|_| {}).unwrap();
    assert_eq!(wide.width, 3 * narrow.width);
    assert_eq!(wide.row(0)[..narrow.width], *narrow.row(0));
    fs_err::write(room.dir.path().join("scenes/broken.jpg"), b"no").unwrap();
    fs_err::remove_file(room.dir.path().join("scenes/labels.jsonl")).unwrap();
    let all = load_pictures(&room.dir.path().join("scenes")).unwrap();
    let all: Vec<&Picture> = all.iter().collect();
    let error = format!("{:#}", compute(&spec(&cache), &all, &|_| {}).unwrap_err());
    assert!(error.contains("broken.jpg"), "{error}");
    let nameless = FeatureSpec { model: "embedded:nothing", ..spec(&cache) };
    let error = format!("{:#}", compute(&nameless, &[], &|_| {}).unwrap_err());
    assert!(error.contains("screen, confirm"), "{error}");
}

#[test]
fn a_feature_that_is_no_number_names_its_image() {
    let room = Room::new(1);
    let model = room.dir.path().join("model");
    fs_err::create_dir_all(&model).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/default/screen");
    for name in ["config.json", "preprocessor_config.json", "head.safetensors"] {
        fs_err::copy(source.join(name), model.join(name)).unwrap();
    }
    let mut weights = fs_err::read(source.join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    weights[header..].chunks_exact_mut(2).for_each(|f16| f16.copy_from_slice(&[0, 0x7e]));
    fs_err::write(model.join("model.safetensors"), weights).unwrap();
    let cache = room.cache();
    let spec = FeatureSpec { model: model.to_str().unwrap(), ..spec(&cache) };
    let error = format!("{:#}", compute(&spec, &room.all(), &|_| {}).unwrap_err());
    assert!(error.contains("images/000000.jpg are not finite"), "{error}");
}

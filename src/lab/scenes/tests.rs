//! What the training of the models relies on: scenes are a function of their key, their labels
//! are true and balanced, and colour alone does not give the class away.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// Digests of scene 7 of each training series. A change here means that the data sets can no
/// longer be reproduced and the models have to be trained anew.
const GOLDEN: [u64; 4] = [
    6_995_859_533_554_336_935,
    5_371_639_992_928_089_239,
    6_103_429_256_701_687_266,
    8_889_264_201_404_766_486,
];

/// FNV-1a, 64 bits.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn read_all(folder: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        fs_err::read_dir(folder.join("images")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.push(folder.join("labels.jsonl"));
    files.iter().map(|file| fs_err::read(file).unwrap()).collect()
}

#[test]
fn datasets_do_not_depend_on_the_number_of_threads() {
    let home = tempfile::tempdir().unwrap();
    let spec = DatasetSpec::new(24, 11, 2);
    let mut written = Vec::new();
    for threads in [1, 3] {
        let out = home.path().join(threads.to_string());
        let told = std::sync::atomic::AtomicU64::new(0);
        let summary = in_pool(threads, || {
            write_dataset(&out, &spec, &|done| {
                told.store(done, std::sync::atomic::Ordering::Relaxed);
            })
        });
        assert_eq!(told.into_inner(), 24);
        written.push((summary.unwrap(), read_all(&out)));
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0].1.len(), 25);
}

#[test]
fn labels_are_lines_of_json_in_order() {
    let home = tempfile::tempdir().unwrap();
    write_dataset(home.path(), &DatasetSpec::new(6, 3, 1), &|_| {}).unwrap();
    let text = fs_err::read_to_string(home.path().join("labels.jsonl")).unwrap();
    for (index, line) in text.lines().enumerate() {
        let label: SceneLabel = serde_json::from_str(line).unwrap();
        assert_eq!(label, render(&SceneSpec::new(3, 1), index as u64).label);
        assert_eq!(label.file, format!("images/{index:06}.jpg"));
        let image = image::open(home.path().join(&label.file)).unwrap();
        assert_eq!((image.width(), image.height()), (label.width, label.height));
    }
    assert_eq!(text.lines().count(), 6);
}

#[test]
fn a_folder_that_holds_a_data_set_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let spec = DatasetSpec::new(1, 0, 0);
    write_dataset(home.path(), &spec, &|_| {}).unwrap();
    let error = write_dataset(home.path(), &spec, &|_| {}).unwrap_err();
    assert!(error.to_string().contains("already holds a data set"), "{error}");
}

#[test]
fn impossible_data_sets_are_refused_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let usual = DatasetSpec::new(1, 0, 0);
    let mut refused = vec![
        DatasetSpec { scenes: SceneSpec::new(0, 4), ..usual.clone() },
        DatasetSpec { scenes: SceneSpec { width: 31, ..usual.scenes }, ..usual.clone() },
        DatasetSpec { scenes: SceneSpec { height: 0, ..usual.scenes }, ..usual.clone() },
    ];
    for quality in [0..=50, 50..=101, std::ops::RangeInclusive::new(80, 60)] {
        refused.push(DatasetSpec { quality, ..usual.clone() });
    }
    for spec in refused {
        assert!(write_dataset(home.path(), &spec, &|_| {}).is_err(), "{spec:?}");
    }
    assert_eq!(fs_err::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn scenes_are_the_ones_the_embedded_models_were_trained_on() {
    let sums: Vec<u64> = [(1000, 0), (1001, 1), (1002, 2), (1003, 3)]
        .into_iter()
        .map(|(seed, level)| digest(&render(&SceneSpec::new(seed, level), 7).image))
        .collect();
    assert_eq!(sums, GOLDEN);
}

#[test]
fn seed_index_and_level_each_make_another_scene() {
    let base = render(&SceneSpec::new(5, 1), 0);
    assert_eq!(base.image, render(&SceneSpec::new(5, 1), 0).image);
    assert_ne!(base.image, render(&SceneSpec::new(6, 1), 0).image);
    assert_ne!(base.image, render(&SceneSpec::new(5, 1), 1).image);
    assert_ne!(base.image, render(&SceneSpec::new(5, 2), 0).image);
}

#[test]
fn classes_are_balanced_and_every_hard_negative_has_its_share() {
    for level in 0..4 {
        for seed in [1, 1001] {
            let spec = SceneSpec::new(seed, level);
            let plans: Vec<Plan> = (0..4000).map(|index| plan(&spec, index)).collect();
            let negatives = plans.iter().filter(|plan| !plan.roadwork).count();
            assert!((1880..=2120).contains(&negatives), "{negatives} of 4000 at level {level}");
            let mut kinds = BTreeMap::new();
            for kind in plans.iter().filter_map(|plan| plan.hard_negative) {
                *kinds.entry(kind).or_insert(0) += 1;
            }
            for kind in HardNegative::ALL {
                let share = f64::from(kinds[&kind]) / negatives as f64;
                assert!(share >= 0.08, "{kind:?} is {share} of the negatives at level {level}");
            }
            assert!(plans.iter().all(|plan| !plan.roadwork || plan.hard_negative.is_none()));
        }
    }
}

#[test]
fn labels_tell_the_truth() {
    for level in 0..4 {
        let spec = SceneSpec::new(40, level);
        for index in 0..80 {
            let SceneLabel { label, hard_negative, objects, .. } = render(&spec, index).label;
            let active = objects.iter().filter(|object| object.roadwork).count();
            assert_eq!(active > 0, label == 1, "scene {index} of level {level}");
            if let Some(kind) = hard_negative {
                let shown = objects.iter().any(|object| object.class == kind.class());
                assert!(shown, "scene {index} of level {level} lacks its {kind:?}");
            }
            for object in objects {
                let [x0, y0, x1, y1] = object.bounds;
                assert!(x0 + 2 <= x1 && x1 <= spec.width, "{object:?}");
                assert!(y0 + 2 <= y1 && y1 <= spec.height, "{object:?}");
            }
        }
    }
}

#[test]
fn every_size_can_be_rendered() {
    for (width, height) in [(32, 32), (64, 64), (224, 224), (640, 360)] {
        let spec = SceneSpec { width, height, ..SceneSpec::new(9, 1) };
        for index in 0..3 {
            let scene = render(&spec, index);
            assert_eq!(scene.image.dimensions(), (width, height));
            assert_eq!((scene.label.width, scene.label.height), (width, height));
        }
    }
}

#[test]
fn colour_alone_does_not_tell_the_class() {
    // A quarter of the usual area: the means over cells and hues stay what they are.
    let spec = SceneSpec { width: 160, height: 90, ..SceneSpec::new(77, 1) };
    let accuracy = probe::linear_accuracy(&spec, 1500, 700);
    assert!(accuracy < 0.70, "a linear classifier on colours reaches {accuracy}");
}

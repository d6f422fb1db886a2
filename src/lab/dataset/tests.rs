use super::*;
use crate::image::ImageLimits;

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, text).unwrap();
    path
}

fn refused(path: &Path) -> String {
    format!("{:#}", load(path).unwrap_err())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lab/parquet").join(name)
}

fn grey(picture: &Picture) -> u8 {
    picture.decode(&ImageLimits::default()).unwrap().pixels()[0]
}

fn labels(examples: &[Example]) -> Vec<bool> {
    examples.iter().map(|e| e.roadwork).collect()
}

#[test]
fn folders_are_labels_however_deep() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "roadwork/b.jpg",
        "roadwork/a/z.PNG",
        "not_roadwork/c",
        "not_roadwork/.hidden.jpg",
        "not_roadwork/notes.txt",
        "elsewhere/d.jpg",
    ] {
        write(dir.path(), name, b"");
    }
    let examples = load(dir.path()).unwrap();
    let ids: Vec<_> = examples.iter().map(|e| e.picture.id.as_str()).collect();
    assert_eq!(ids, ["roadwork/a/z.PNG", "roadwork/b.jpg", "not_roadwork/c"]);
    assert_eq!(labels(&examples), [true, true, false]);
    let all = load_pictures(dir.path()).unwrap();
    assert_eq!(all.len(), 4, "{all:?}");
}

#[cfg(unix)]
#[test]
fn a_circle_of_folders_ends() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "roadwork/a.jpg", b"");
    std::os::unix::fs::symlink(dir.path(), dir.path().join("roadwork/again")).unwrap();
    assert!(refused(dir.path()).contains("circle"));
}

#[test]
fn an_empty_folder_says_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(dir.path());
    assert!(error.contains("labels.jsonl") && error.contains("not_roadwork/"), "{error}");
    assert!(load_pictures(dir.path()).is_err());
    assert!(refused(&dir.path().join("nowhere")).contains("there is no"));
    assert!(refused(&write(dir.path(), "x.csv", "")).contains("neither"));
}

#[test]
fn a_manifest_knows_more_than_labels() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "pictures/a.jpg", b"one");
    write(dir.path(), "pictures/b.jpg", b"two");
    let manifest = write(
        dir.path(),
        "deep/manifest.jsonl",
        r#"{"image": "../pictures/a.jpg", "label": "not_roadwork", "group": 7, "origin": "real",
            "transform_level": 3, "difficulty": 0.25, "split": "test", "mood": "calm"}

           {"file": "../pictures/b.jpg", "label": true, "id": "second"}"#
            .replace("\n            ", " "),
    );
    for path in [manifest.as_path(), &dir.path().join("deep")] {
        let examples = load(path).unwrap();
        assert_eq!(labels(&examples), [false, true]);
        let [first, second] = [&examples[0].picture, &examples[1].picture];
        assert_eq!(first.id, "../pictures/a.jpg");
        assert_eq!(first.group.as_deref(), Some("7"));
        assert_eq!(first.origin.as_deref(), Some("real"));
        assert_eq!((first.transform_level, first.difficulty), (Some(3), Some(0.25)));
        assert_eq!(first.split.as_deref(), Some("test"));
        assert_eq!(second.id, "second");
        assert_eq!(second.bytes().unwrap(), b"two");
    }
}

#[test]
fn what_is_wrong_in_a_manifest_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jpg", b"");
    for (line, part) in [
        (r#"{"image": "a.jpg"}"#, "no label"),
        (r#"{"image": "a.jpg", "lable": 1}"#, "did you mean `label`"),
        (r#"{"image": "a.jpg", "label": 2}"#, "label 2 is none"),
        (r#"{"image": "a.jpg", "label": "yes"}"#, "expected 1, 0, true"),
        (r#"{"label": 1}"#, "no key `image`"),
        (r#"{"image": "b.jpg", "label": 1}"#, "there is no image file"),
        (r#"{"image": "a.jpg", "label": 1, "sha256": "12"}"#, "64 hexadecimal"),
        (r#"{"image": "a.jpg", "label": 1, "transform_level": 4}"#, "not one of 0 to 3"),
        (r#"{"image": "a.jpg", "label": 1, "group": []}"#, "`group`"),
        (r#"[1]"#, "JSON object"),
        (r#"{"image""#, "EOF"),
        (r#"{"file": 1}"#, "invalid type"),
        (r#"{"image": "x.parquet#0", "label": 1}"#, "x.parquet"),
    ] {
        let text = format!("{}\n\n{line}\n", r#"{"image": "a.jpg", "label": 1, "id": "ok"}"#);
        let error = refused(&write(dir.path(), "bad.jsonl", text));
        assert!(error.contains("line 3") && error.contains(part), "{line}: {error}");
    }
}

#[test]
fn two_images_of_one_name_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jpg", b"");
    let twice = "{\"image\": \"a.jpg\", \"label\": 1}\n".repeat(2);
    let error = refused(&write(dir.path(), "twice.jsonl", twice));
    assert!(error.contains("line 2") && error.contains("line 1"), "{error}");
}

#[test]
fn two_manifests_in_a_folder_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    for name in MANIFESTS {
        write(dir.path(), name, "");
    }
    assert!(refused(dir.path()).contains("name the one"));
}

#[test]
fn an_image_that_has_changed_is_not_what_the_manifest_says() {
    let dir = tempfile::tempdir().unwrap();
    let image = write(dir.path(), "a.jpg", b"one");
    let line = format!(r#"{{"image":"a.jpg","label":1,"sha256":"{}"}}"#, sha256(b"one"));
    write(dir.path(), "manifest.jsonl", line);
    let examples = load(dir.path()).unwrap();
    assert_eq!(examples[0].picture.bytes().unwrap(), b"one");
    fs_err::write(image, b"two").unwrap();
    let error = examples[0].picture.bytes().unwrap_err().to_string();
    assert!(error.contains("a.jpg has changed"), "{error}");
}

#[test]
fn parquet_in_every_form() {
    let odd: Vec<bool> = (0..10).map(|n| n % 2 == 1).collect();
    for name in ["classes", "turned.parquet", "described.parquet", "plain.parquet"] {
        let examples = load(&fixture(name)).unwrap();
        assert_eq!(labels(&examples), odd, "{name}");
        for (number, example) in (0_u8..).zip(&examples) {
            assert_eq!(grey(&example.picture), 10 * number, "{name}");
        }
        // At random, and from several threads: each read has a place of its own.
        use rayon::prelude::*;
        (0..200_usize).into_par_iter().for_each(|turn| {
            let number = turn * 7 % 10;
            assert_eq!(usize::from(grey(&examples[number].picture)), 10 * number, "{name}");
        });
        assert_eq!(load_pictures(&fixture(name)).unwrap().len(), 10);
    }
}

#[test]
fn parquet_knows_more_than_labels() {
    let examples = load(&fixture("classes")).unwrap();
    assert_eq!(examples[3].picture.id, "data/train-00000-of-00001.parquet#3");
    assert_eq!(examples[3].picture.split.as_deref(), Some("train"));
    let examples = load(&fixture("plain.parquet")).unwrap();
    let picture = &examples[7].picture;
    assert_eq!(picture.group.as_deref(), Some("3"));
    assert_eq!(picture.origin.as_deref(), Some("synthetic"));
    assert_eq!((picture.transform_level, picture.difficulty), (Some(3), Some(0.7)));
    assert_eq!(picture.id, "plain.parquet#7");
}

#[test]
fn parquet_without_bytes_or_without_sense() {
    let examples = load(&fixture("no_bytes.parquet")).unwrap();
    assert_eq!(grey(&examples[0].picture), 0);
    let error = format!("{:#}", examples[1].picture.bytes().unwrap_err());
    assert!(error.contains("row 1") && error.contains("no bytes"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&write(dir.path(), "a.parquet", b"PAR1 is not enough"));
    assert!(error.contains("a.parquet"), "{error}");
    let whole = fs_err::read(fixture("plain.parquet")).unwrap();
    let mut torn = whole.clone();
    torn.drain(200..400);
    let path = write(dir.path(), "b.parquet", &torn);
    let error = load(&path).and_then(|all| all[5].picture.bytes()).unwrap_err();
    assert!(format!("{error:#}").contains("b.parquet"), "{error:#}");
}

#[test]
fn a_manifest_that_is_written_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let scene = r#"{"file":"images/0.jpg","label":1,"level":2,"width":8,"height":6,
        "hard_negative":null,"weather":"fog","objects":[]}"#;
    write(dir.path(), "scenes/labels.jsonl", scene.replace('\n', " "));
    write(dir.path(), "scenes/images/0.jpg", b"one");
    let mut examples = load(&dir.path().join("scenes")).unwrap();
    assert_eq!(examples[0].picture.origin.as_deref(), Some("synthetic"));
    examples[0].picture.sha256 = Some(sha256(b"one"));
    examples.extend(load(&fixture("plain.parquet")).unwrap());
    let out = dir.path().join("out");
    fs_err::create_dir_all(&out).unwrap();
    manifest::write(&out.join("train.jsonl"), &examples).unwrap();
    let again = load(&out.join("train.jsonl")).unwrap();
    assert_eq!(labels(&again), labels(&examples));
    for (old, new) in examples.iter().zip(&again) {
        assert_eq!(old.picture.bytes().unwrap(), new.picture.bytes().unwrap());
        let known = |p: &Picture| {
            let Picture { id, group, origin, sha256, scene, .. } = p.clone();
            (id, group, origin, sha256, scene, p.transform_level, p.difficulty)
        };
        assert_eq!(known(&old.picture), known(&new.picture));
    }
    let text = fs_err::read_to_string(out.join("train.jsonl")).unwrap();
    assert!(text.contains("\"image\":\"../scenes/images/0.jpg\""), "{text}");
}

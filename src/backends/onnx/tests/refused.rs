//! Graphs, settings and files that do not fit together.

use super::*;

#[test]
fn a_graph_that_is_not_as_the_settings_say_is_told_with_what_it_has() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let refuse = |sketch: Sketch, more: &str, part: &str| {
        let (path, settings) = sketch.write(dir.path());
        let settings = format!("{settings}\n{more}");
        let error = build("onnx", &context(&library, &settings)).err().unwrap();
        let error = format!("{error:#}");
        let path = path.display().to_string();
        assert!(error.contains(&path) && error.contains(part), "{more}: {error}");
    };
    let cast = |to: i32| {
        let to = vec![Attribute::int("to", i64::from(to))];
        Sketch {
            outputs: vec![("y", FLOAT16, "n")],
            ..Sketch::of_mean(vec![node("Cast", &["m"], "y", to)], Vec::new())
        }
    };
    refuse(
        plain(),
        "input = \"pixels\"",
        "no input `pixels`; it has the input `x` f32 [n, 3, 8, 8]",
    );
    refuse(plain(), "output = \"logits\"", "no output `logits`; it has the output `y` f32 [n]");
    refuse(plain(), "size = [16, 16]", "size is [16, 16], and the graph wants 8 by 8");
    refuse(plain(), "layout = \"nhwc\"", "has 8 where layout = \"nhwc\"");
    refuse(plain(), "activation = \"softmax\"", "softmax wants one value per class");
    refuse(cast(FLOAT16), "", "the output `y` f16 [n] is no tensor of f32");
    let open = Sketch { input: (FLOAT, "n,3,h,w"), ..plain() };
    refuse(open, "", "set size = [height, width]");
    let maps = Sketch {
        outputs: vec![("y", FLOAT, "n,3,8,8")],
        nodes: vec![node("Identity", &["x"], "y", Vec::new())],
        ..plain()
    };
    refuse(maps, "", "has 4 dimensions; an answer has [batch] or [batch, classes]");
    let unknown = vec![node("Frobnicate", &["m"], "y", Vec::new())];
    refuse(Sketch::of_mean(unknown, Vec::new()), "", "Frobnicate");
    refuse(plain(), "graph = \"encoder\"\nhead = \"/nowhere\"", "/nowhere does not exist");
}

#[test]
fn settings_that_contradict_themselves_are_refused_before_anything_is_read() {
    for (more, part) in [
        ("std = [1.0, 0.0, 1.0]", "onnx.std must be above zero"),
        ("size = [0, 8]", "sides of 1 to"),
        ("head = \"x\"", "left out for \"classifier\""),
        ("graph = \"encoder\"", "onnx.head names the folder"),
        ("providers = []", "must name at least one"),
        ("gpu.profile = [8, 1, 32]", "gpu.profile is the smallest"),
        ("gpu.fp = 1", "unknown field"),
        ("activation = \"tanh\"", "unknown variant"),
        ("typo = 1", "unknown field"),
    ] {
        let settings = format!("model = \"x.onnx\"\n{more}").parse().unwrap();
        let context = BackendContext { settings, max_batch: 1, ..BackendContext::default() };
        let error = Registry::default().get("onnx").unwrap()(&context).err().unwrap();
        assert!(format!("{error:#}").contains(part), "{more}: {error:#}");
    }
}

#[test]
fn the_keys_that_are_declared_are_the_settings() {
    let settings = "model = \"x\"\ntypo = 1".parse().unwrap();
    let context = BackendContext { settings, ..BackendContext::default() };
    let error = Registry::default().get("onnx").unwrap()(&context).err().unwrap().to_string();
    let (_, expected) = error.split_once("expected one of ").unwrap();
    let fields: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    assert_eq!(fields, crate::backends::onnx::KEYS);
}

#[test]
fn a_graph_that_does_not_say_how_it_wants_its_pictures_must_be_told() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = plain().write(dir.path());
    let settings = format!("model = \"{}\"", path.display());
    let error = build("onnx", &context(&library, &settings)).err().unwrap();
    assert!(format!("{error:#}").contains("set mean = [red, green, blue]"), "{error:#}");
}

#[test]
fn torn_and_foreign_files_are_errors_that_name_the_file() {
    let Some(library) = testing::library() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (path, settings) = plain().write(dir.path());
    let whole = fs_err::read(&path).unwrap();
    let named = path.display().to_string();
    let torn: Vec<Vec<u8>> = (0..whole.len()).step_by(7).map(|end| whole[..end].to_vec()).collect();
    let foreign = [b"\x89PNG\r\n".to_vec(), vec![0xff; 300], vec![0; 300]];
    for bytes in torn.into_iter().chain(foreign) {
        fs_err::write(&path, &bytes).unwrap();
        for share in ["none", "packed", "plain"] {
            let settings = format!("{settings}\nshare_weights = \"{share}\"");
            let error = build("onnx", &context(&library, &settings)).err();
            let error = error.unwrap_or_else(|| panic!("{} bytes are enough", bytes.len()));
            assert!(format!("{error:#}").contains(&named), "{error:#}");
        }
    }
    fs_err::remove_file(&path).unwrap();
    let error = build("onnx", &context(&library, &settings)).err().unwrap();
    assert!(format!("{error:#}").contains("no such file"), "{error:#}");
}

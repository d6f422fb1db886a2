//! Labelled images on disk: a folder with `labels.jsonl`, as `roadcrew scenes` writes it, or two
//! folders of images, `roadwork/` and `not_roadwork/`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::scenes::SceneLabel;

/// One labelled image.
#[derive(Clone, Debug)]
pub struct Example {
    /// Where the image is.
    pub path: PathBuf,
    /// Whether it shows roadwork.
    pub roadwork: bool,
    /// What else is known of it, if it is a scene.
    pub scene: Option<SceneLabel>,
}

impl Example {
    /// The slice this example belongs to in a report: the kind of hard negative, or the class.
    pub fn slice(&self) -> &'static str {
        let hard = self.scene.as_ref().and_then(|scene| scene.hard_negative);
        match (self.roadwork, hard) {
            (true, _) => "roadwork",
            (false, Some(kind)) => kind.class(),
            (false, None) => "plain_negative",
        }
    }
}

/// Reads the labels below `dir`, in a fixed order.
///
/// # Errors
/// If there are none, or a line cannot be read: the message names file and line.
pub fn load(dir: &Path) -> anyhow::Result<Vec<Example>> {
    let labels = dir.join("labels.jsonl");
    let examples = if labels.is_file() { from_jsonl(dir, &labels)? } else { from_folders(dir)? };
    anyhow::ensure!(
        !examples.is_empty(),
        "{} holds no labelled images: expected labels.jsonl (see `roadcrew scenes`), or images in \
         roadwork/ and not_roadwork/",
        dir.display()
    );
    Ok(examples)
}

fn from_jsonl(dir: &Path, labels: &Path) -> anyhow::Result<Vec<Example>> {
    let text = fs_err::read_to_string(labels)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let scene: SceneLabel = serde_json::from_str(line)
                .with_context(|| format!("{}, line {}", labels.display(), index + 1))?;
            let path = dir.join(&scene.file);
            Ok(Example { path, roadwork: scene.label == 1, scene: Some(scene) })
        })
        .collect()
}

fn from_folders(dir: &Path) -> anyhow::Result<Vec<Example>> {
    let mut examples = Vec::new();
    for (name, roadwork) in [("roadwork", true), ("not_roadwork", false)] {
        let folder = dir.join(name);
        if !folder.is_dir() {
            continue;
        }
        let mut files: Vec<PathBuf> = fs_err::read_dir(&folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|path| path.is_file());
        files.sort();
        examples.extend(files.into_iter().map(|path| Example { path, roadwork, scene: None }));
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_labels() {
        let dir = tempfile::tempdir().unwrap();
        for (folder, name) in [("roadwork", "b.jpg"), ("roadwork", "a.jpg"), ("not_roadwork", "c")]
        {
            fs_err::create_dir_all(dir.path().join(folder)).unwrap();
            fs_err::write(dir.path().join(folder).join(name), b"").unwrap();
        }
        let examples = load(dir.path()).unwrap();
        let labels: Vec<_> = examples.iter().map(|e| e.roadwork).collect();
        assert_eq!(labels, [true, true, false]);
        assert!(examples[0].path.ends_with("roadwork/a.jpg"));
    }

    #[test]
    fn an_empty_folder_says_what_was_expected() {
        let dir = tempfile::tempdir().unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("labels.jsonl") && error.contains("not_roadwork/"), "{error}");
    }

    #[test]
    fn a_broken_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs_err::write(dir.path().join("labels.jsonl"), "\n{\"file\": 1}\n").unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}

//! Labelled images, wherever they come from: a folder with `labels.jsonl`, as `roadcrew scenes`
//! writes it, or two folders of images, `roadwork/` and `not_roadwork/`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::scenes::SceneLabel;
use crate::image::{Image, ImageLimits};

/// Where an image's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(PathBuf),
}

/// One image, and what is known of it besides its label.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its name within the data set, unique there: a path below the folder.
    pub id: String,
    /// Where its bytes are.
    pub source: Source,
    /// Images of one group (one drive, one place) belong on the same side of every split.
    pub group: Option<String>,
    /// Where it comes from, such as `real` or `synthetic`.
    pub origin: Option<String>,
    /// What else is known of it, if it is a scene.
    pub scene: Option<SceneLabel>,
}

impl Picture {
    /// A file of which nothing is known.
    pub fn file(id: String, path: PathBuf) -> Self {
        Self { id, source: Source::File(path), group: None, origin: None, scene: None }
    }

    /// The bytes of the image file.
    ///
    /// # Errors
    /// If they cannot be read; the message names the image.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        match &self.source {
            Source::File(path) => Ok(fs_err::read(path)?),
        }
    }

    /// The picture.
    ///
    /// # Errors
    /// If it cannot be read or decoded; the message names the image.
    pub fn decode(&self, limits: &ImageLimits) -> anyhow::Result<Image> {
        let image = Image::decode(&self.bytes()?, limits);
        image.with_context(|| format!("image {}", self.id))
    }
}

/// One labelled image.
#[derive(Clone, Debug)]
pub struct Example {
    /// The image.
    pub picture: Picture,
    /// Whether it shows roadwork.
    pub roadwork: bool,
}

impl Example {
    /// The slice this example belongs to in a report: the kind of hard negative, or the class.
    pub fn slice(&self) -> &'static str {
        let hard = self.picture.scene.as_ref().and_then(|scene| scene.hard_negative);
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
            let picture = Picture::file(scene.file.clone(), dir.join(&scene.file));
            let roadwork = scene.label == 1;
            Ok(Example { picture: Picture { scene: Some(scene), ..picture }, roadwork })
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
        examples.extend(files.into_iter().map(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let id = format!("{name}/{file}");
            Example { picture: Picture::file(id, path), roadwork }
        }));
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
        assert_eq!(examples[0].picture.id, "roadwork/a.jpg");
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

//! By what a report divides the images: what is known of each before anybody looks at it.

use anyhow::{Context as _, Result};
use rayon::prelude::*;

use super::dataset::Example;
use crate::image::{Image, ImageLimits};

/// Kinds of knowledge and what is known, such as `("scene level", "2")`.
pub type Facets = Vec<(&'static str, String)>;

/// Classes of size by the number of pixels, whatever the shape.
const SIZES: [(u64, &str); 4] = [
    (224 * 224, "1: up to 224 x 224"),
    (512 * 512, "2: up to 512 x 512"),
    (1024 * 1024, "3: up to 1024 x 1024"),
    (u64::MAX, "4: larger"),
];

/// What is known of each example, in their order. Sizes are read from the images' headers where
/// nothing else gives them.
///
/// # Errors
/// If an image cannot be read, or is none: the message names it.
pub fn facets(examples: &[Example], limits: &ImageLimits) -> Result<Vec<Facets>> {
    examples.par_iter().map(|example| of(example, limits)).collect()
}

fn of(example: &Example, limits: &ImageLimits) -> Result<Facets> {
    let picture = &example.picture;
    let label = if example.roadwork { "roadwork" } else { "none" };
    let mut known = vec![("label", label.to_owned())];
    known.extend(picture.origin.clone().map(|origin| ("origin", origin)));
    let level = picture.transform_level;
    known.extend(level.map(|level| ("transform level", level.to_string())));
    let pixels = match &picture.scene {
        Some(scene) => u64::from(scene.width) * u64::from(scene.height),
        None => {
            let bytes = Image::decoded_bytes(&picture.bytes()?, limits);
            bytes.with_context(|| format!("image {}", picture.id))? as u64 / 3
        }
    };
    known.push(("size", size_class(pixels).to_owned()));
    if let Some(scene) = &picture.scene {
        known.push(("scene level", scene.level.to_string()));
        known.push(("weather", format!("{:?}", scene.weather).to_lowercase()));
        known.extend(scene.hard_negative.map(|kind| ("hard negative", kind.class().to_owned())));
    }
    Ok(known)
}

fn size_class(pixels: u64) -> &'static str {
    SIZES.iter().find(|(most, _)| pixels <= *most).map_or("4: larger", |(_, class)| class)
}

#[cfg(test)]
mod tests {
    use super::super::dataset::Picture;
    use super::*;

    #[test]
    fn sizes_have_classes_by_their_pixels() {
        assert_eq!(size_class(224 * 224), SIZES[0].1);
        assert_eq!(size_class(640 * 360), SIZES[1].1);
        assert_eq!(size_class(512 * 512 + 1), SIZES[2].1);
        assert_eq!(size_class(1920 * 1080), SIZES[3].1);
    }

    #[test]
    fn headers_give_the_size_where_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        image::GrayImage::new(600, 500).save(&path).unwrap();
        let mut picture = Picture::file("a.png".into(), path.clone());
        picture.origin = Some("real".into());
        picture.transform_level = Some(2);
        let example = Example { picture, roadwork: true };
        let limits = ImageLimits::default();
        let found = facets(std::slice::from_ref(&example), &limits).unwrap().remove(0);
        let expected = [
            ("label", "roadwork"),
            ("origin", "real"),
            ("transform level", "2"),
            ("size", SIZES[2].1),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name, value.to_owned())));
        fs_err::write(&path, b"no image").unwrap();
        assert!(facets(&[example], &limits).unwrap_err().to_string().contains("a.png"));
    }
}

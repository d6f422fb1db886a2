//! From a body to what the engine is asked about: raw bytes, a form, or a JSON document.
//!
//! Decoding costs CPU, so everything here runs on a thread of the blocking pool, never on an
//! arbiter.
//!
//! Must not know: deadlines, the engine, or how the bytes got here.

use std::ops::Range;
use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;

use super::form::Parts;
use super::params::Wishes;
use super::reply::Failure;
use super::server::Limits;
use super::wire::{PredictDocument, Text};
use crate::backends::Input;
use crate::image::{Image, ImageError, ImageFile};
use crate::video::{Clip, ClipError};

/// The frame rate of a clip that names none: what a validator samples at.
const DEFAULT_FPS: f64 = 1.0;

/// How the body is to be read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The bytes of an image.
    Raw,
    /// `multipart/form-data`, with the value of the header, which names its boundary.
    Form(String),
    /// A JSON document.
    Document,
}

impl Kind {
    /// By the request's `Content-Type`. What curl sends with `--data-binary` unless told otherwise
    /// counts as raw: nobody sends an image as form pairs.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Failure> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Raw) };
        let value = String::from_utf8_lossy(value.as_bytes());
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "" | "application/octet-stream" | "application/x-www-form-urlencoded" => Ok(Self::Raw),
            "application/json" => Ok(Self::Document),
            "multipart/form-data" => Ok(Self::Form(value.into_owned())),
            image if image.starts_with("image/") => Ok(Self::Raw),
            other => {
                let say = format!("bodies of type {other:?} are not read");
                Err(Failure::UnsupportedMediaType(say))
            }
        }
    }

    /// Decodes the body.
    pub(crate) fn decode(
        self,
        bytes: Vec<u8>,
        decoder: Decoder<'_>,
    ) -> Result<(Input, Wishes), Failure> {
        match self {
            Self::Raw => Ok((decoder.own(bytes.into())?, Wishes::default())),
            Self::Form(content_type) => form(&content_type, &bytes, decoder),
            Self::Document => document(bytes, decoder),
        }
    }
}

/// Decodes images within the limits, and only while there is room for their pixels.
#[derive(Clone, Copy)]
pub(crate) struct Decoder<'a> {
    pub(crate) limits: &'a Limits,
    /// Asked for so many bytes before they are allocated; refuses if there is no room.
    pub(crate) room: &'a dyn Fn(usize) -> Result<(), Failure>,
}

impl Decoder<'_> {
    fn image(&self, bytes: &[u8]) -> Result<Result<Arc<Image>, ImageError>, Failure> {
        let needed = match Image::decoded_bytes(bytes, &self.limits.image) {
            Ok(needed) => needed,
            Err(error) => return Ok(Err(error)),
        };
        (self.room)(needed)?;
        Ok(Image::decode(bytes, &self.limits.image).map(Arc::new))
    }

    /// One picture; decoded, unless nobody looks at its pixels.
    pub(crate) fn picture(&self, bytes: &[u8]) -> Result<Input, Failure> {
        if self.limits.as_files {
            return self.own(Bytes::copy_from_slice(bytes));
        }
        Ok(Input::Image(self.image(bytes)??))
    }

    /// As [`picture`](Self::picture), of bytes that may be kept.
    fn own(&self, bytes: Bytes) -> Result<Input, Failure> {
        if self.limits.as_files {
            return Ok(Input::File(Arc::new(ImageFile::new(bytes, &self.limits.image)?)));
        }
        self.picture(&bytes)
    }
}

/// The frames of a clip, decoded one at a time and never more than a clip may have.
struct Frames<'a> {
    decoder: Decoder<'a>,
    frames: Vec<Arc<Image>>,
}

impl Frames<'_> {
    fn add(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (frame, limit) = (self.frames.len(), self.decoder.limits.clip.max_frames);
        if frame >= limit {
            return Err(ClipError::TooManyFrames { found: frame + 1, limit }.into());
        }
        let image = self.decoder.image(bytes)?.map_err(|error| Failure::Frame { frame, error })?;
        self.frames.push(image);
        Ok(())
    }

    fn into_clip(self, fps: Option<f64>) -> Result<Input, Failure> {
        let clip = Clip::new(self.frames, fps.unwrap_or(DEFAULT_FPS), &self.decoder.limits.clip)?;
        Ok(Input::Clip(Arc::new(clip)))
    }
}

fn document(mut bytes: Vec<u8>, decoder: Decoder<'_>) -> Result<(Input, Wishes), Failure> {
    let Some((place, rest)) = lift(&bytes) else {
        let said = parsed(&bytes)?;
        let wishes = wishes_of(&said)?;
        let input = match (&said.image, &said.frames) {
            (Some(image), None) if said.fps.is_none() => decoder.own(from_base64(image)?.into())?,
            (None, Some(texts)) => clip(texts, said.fps, decoder)?,
            _ => return Err(Failure::BadBody(EITHER.into())),
        };
        return Ok((input, wishes));
    };
    let said = parsed(&rest)?;
    let wishes = wishes_of(&said)?;
    if said.frames.is_some() || said.fps.is_some() {
        return Err(Failure::BadBody(EITHER.into()));
    }
    let start = place.start + data_url(&bytes[place.clone()]);
    let length = match base64_simd::forgiving_decode_inplace(&mut bytes[start..place.end]) {
        Ok(image) => image.len(),
        Err(_) => return Err(Failure::BadBody(NOT_BASE64.into())),
    };
    let image = Bytes::from(bytes).slice(start..start + length);
    Ok((decoder.own(image)?, wishes))
}

const EITHER: &str = "the JSON document must have either `image`, or `frames` and perhaps `fps`";
const NOT_BASE64: &str = "the base64 is wrong; send the bytes of a JPEG, PNG or WebP in base64";

fn parsed(document: &[u8]) -> Result<PredictDocument<'_>, Failure> {
    serde_json::from_slice(document)
        .map_err(|error| Failure::BadBody(format!("the JSON document is wrong: {error}")))
}

fn wishes_of(said: &PredictDocument<'_>) -> Result<Wishes, Failure> {
    let deadline = said.deadline_ms.map(|ms| ms.to_string());
    Wishes::parse(deadline.as_deref(), said.priority.as_deref())
}

fn clip(texts: &[Text<'_>], fps: Option<f64>, decoder: Decoder<'_>) -> Result<Input, Failure> {
    let (found, limit) = (texts.len(), decoder.limits.clip.max_frames);
    if found > limit {
        return Err(ClipError::TooManyFrames { found, limit }.into());
    }
    let mut frames = Frames { decoder, frames: Vec::with_capacity(found) };
    for text in texts {
        frames.add(&from_base64(text)?)?;
    }
    frames.into_clip(fps)
}

/// Where the text of the image is in a document that begins with it, and the document with an empty one
/// instead: the parser need not look at every byte of what base64 will look at again. `None` if there is
/// an escape in it, or anything unusual; then the parser does it all.
fn lift(document: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    let mut text = document;
    for token in [&b"{"[..], b"\"image\"", b":", b"\""] {
        text = text.trim_ascii_start().strip_prefix(token)?;
    }
    let length = memchr::memchr2(b'"', b'\\', text).filter(|end| text[*end] == b'"')?;
    let start = document.len() - text.len();
    Some((start..start + length, [br#"{"image":""#, &text[length..]].concat()))
}

/// The length of a `data:` prefix.
pub(crate) fn data_url(text: &[u8]) -> usize {
    const LONGEST: usize = 128;
    if !text.starts_with(b"data:") {
        return 0;
    }
    text.iter().take(LONGEST).position(|byte| *byte == b',').map_or(0, |comma| comma + 1)
}

/// The bytes of a base64 text, with or without padding or a `data:` prefix.
fn from_base64(Text(text): &Text<'_>) -> Result<Vec<u8>, Failure> {
    let text = text.as_bytes();
    base64_simd::forgiving_decode_to_vec(&text[data_url(text)..])
        .map_err(|_| Failure::BadBody(NOT_BASE64.into()))
}

/// What a form has said so far.
struct Form<'a> {
    image: Option<Input>,
    frames: Frames<'a>,
    fps: Option<f64>,
    wishes: Wishes,
}

impl Form<'_> {
    fn take(&mut self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let text = || String::from_utf8_lossy(bytes);
        match name {
            "image" | "file" if self.image.is_some() => {
                let say = "the form has more than one image; send the frames of a clip as `frame`";
                return Err(Failure::BadBody(say.into()));
            }
            "image" | "file" => {
                self.image = Some(self.frames.decoder.picture(bytes)?);
            }
            "frame" => self.frames.add(bytes)?,
            "fps" => {
                let fps = text().trim().parse();
                self.fps = Some(fps.map_err(|_| ClipError::FrameRate(f64::NAN))?);
            }
            "deadline_ms" => self.wishes = self.wishes.or(Wishes::parse(Some(&text()), None)?),
            "priority" => self.wishes = self.wishes.or(Wishes::parse(None, Some(&text()))?),
            other => {
                let say = format!(
                    "the form has a field {other:?}; known are image, file, frame, fps, \
                     deadline_ms, priority"
                );
                return Err(Failure::BadBody(say));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(Input, Wishes), Failure> {
        match self.image {
            Some(image) if self.frames.frames.is_empty() && self.fps.is_none() => {
                Ok((image, self.wishes))
            }
            None if !self.frames.frames.is_empty() => {
                Ok((self.frames.into_clip(self.fps)?, self.wishes))
            }
            _ => {
                let say = "the form must have either one `image`, or `frame` parts and perhaps \
                           `fps`";
                Err(Failure::BadBody(say.into()))
            }
        }
    }
}

fn form(content_type: &str, body: &[u8], decoder: Decoder<'_>) -> Result<(Input, Wishes), Failure> {
    let wrong = |what| Failure::BadBody(format!("the form is wrong: {what}"));
    let frames = Frames { decoder, frames: Vec::new() };
    let mut form = Form { image: None, frames, fps: None, wishes: Wishes::default() };
    for part in Parts::new(content_type, body).map_err(wrong)? {
        let part = part.map_err(wrong)?;
        form.take(&part.name, part.bytes)?;
    }
    form.finish()
}

#[cfg(test)]
#[path = "input_tests.rs"]
mod tests;

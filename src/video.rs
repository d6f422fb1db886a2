//! A clip: a few frames and when they were taken.
//!
//! Must not know: how a video file is decoded, or which model looks at the frames.

use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use crate::image::Image;

/// How long a clip may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClipLimits {
    /// Most frames in one clip.
    pub max_frames: usize,
}

impl Default for ClipLimits {
    fn default() -> Self {
        Self { max_frames: 64 }
    }
}

/// Why frames did not become a [`Clip`].
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ClipError {
    /// No frame at all.
    #[error("the clip has no frames")]
    Empty,
    /// More frames than `video.max_frames`.
    #[error("the clip has {found} frames, more than the {limit} that `video.max_frames` allows")]
    TooManyFrames {
        /// Frames in the clip.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame rate is not a positive number.
    #[error("the clip's frame rate is {0}; it must be a positive number of frames per second")]
    FrameRate(f64),
}

/// Frames in order of time, evenly spaced. At least one; cloning shares the pixels.
#[derive(Clone, Debug)]
pub struct Clip {
    frames: Vec<Arc<Image>>,
    fps: f64,
}

impl Clip {
    /// Takes frames at `fps` frames per second.
    pub fn new(frames: Vec<Arc<Image>>, fps: f64, limits: &ClipLimits) -> Result<Self, ClipError> {
        if frames.is_empty() {
            return Err(ClipError::Empty);
        }
        if frames.len() > limits.max_frames {
            return Err(ClipError::TooManyFrames { found: frames.len(), limit: limits.max_frames });
        }
        if !(fps.is_finite() && fps > 0.0) {
            return Err(ClipError::FrameRate(fps));
        }
        Ok(Self { frames, fps })
    }

    /// The frames, at least one.
    pub fn frames(&self) -> &[Arc<Image>] {
        &self.frames
    }

    /// Frames per second, above zero.
    pub fn fps(&self) -> f64 {
        self.fps
    }

    /// When frame `index` was taken, in seconds after the first.
    pub fn timestamp_s(&self, index: usize) -> f64 {
        index as f64 / self.fps
    }

    /// How long the clip lasts, in seconds.
    pub fn duration_s(&self) -> f64 {
        self.timestamp_s(self.frames.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_has_frames_a_rate_and_a_limit() {
        let frame = Arc::new(Image::from_rgb(1, 1, vec![0; 3]).unwrap());
        let limits = ClipLimits { max_frames: 2 };
        let clip = |n: usize, fps| Clip::new(vec![frame.clone(); n], fps, &limits);
        assert_eq!(clip(0, 1.0).unwrap_err(), ClipError::Empty);
        assert_eq!(
            clip(3, 1.0).unwrap_err().to_string(),
            "the clip has 3 frames, more than the 2 that `video.max_frames` allows"
        );
        for fps in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(clip(1, fps), Err(ClipError::FrameRate(_))));
        }
        let clip = clip(2, 4.0).unwrap();
        assert_eq!((clip.timestamp_s(1), clip.duration_s()), (0.25, 0.5));
    }
}

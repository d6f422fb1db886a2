//! The parsers behind `POST /v1/predict`, for the targets in `fuzz/`. Not part of the program.

use std::cell::Cell;
use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::input::{Decoder, Kind};
use super::params::Wishes;
use super::reply::Failure;
use super::server::Limits;
use crate::backends::Input;
use crate::image::ImageLimits;
use crate::video::ClipLimits;

/// Small, so that what got past them would show.
const LIMITS: Limits = Limits {
    image: ImageLimits { max_bytes: 16 << 10, max_pixels: 10_000, max_dimension: 200 },
    clip: ClipLimits { max_frames: 4 },
    as_files: false,
};

/// Bytes of pixels that one request may ask for.
const ROOM: usize = 100_000;

/// Reads a request as the handler does. Four lines say what its head says: the query, the content
/// type, the deadline and the priority; what follows is the body.
///
/// # Panics
/// If what was read is beyond a limit, or a failure is not the client's.
pub fn request(bytes: &[u8]) {
    let mut lines = bytes.splitn(5, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (query, kind, deadline, priority, body) = (line(), line(), line(), line(), line());
    let mut headers = HeaderMap::new();
    let deadline_name = HeaderName::from_static("x-deadline-ms");
    let priority_name = HeaderName::from_static("x-priority");
    for (name, value) in
        [(CONTENT_TYPE, kind), (deadline_name, deadline), (priority_name, priority)]
    {
        match HeaderValue::from_bytes(value) {
            Ok(value) if !value.is_empty() => headers.insert(name, value),
            _ => continue,
        };
    }
    match read(&String::from_utf8_lossy(query), &headers, body) {
        Ok((input, wishes)) => {
            let frames = input.frames();
            assert!((1..=LIMITS.clip.max_frames).contains(&frames.len()));
            let pixels: usize = frames.iter().map(|frame| frame.pixels().len()).sum();
            assert!(pixels <= ROOM, "{pixels} bytes of pixels");
            assert!(wishes.deadline.is_none_or(|deadline| deadline > Duration::ZERO));
        }
        Err(failure) => {
            let status = failure.reply("id").status();
            assert!(status.is_client_error(), "{status}: {failure}");
        }
    }
}

fn read(query: &str, headers: &HeaderMap, body: &[u8]) -> Result<(Input, Wishes), Failure> {
    let head = Wishes::of_query(query)?.or(Wishes::of_headers(headers)?);
    let kind = Kind::of(headers)?;
    let left = Cell::new(ROOM);
    let room = |bytes| {
        left.set(left.get().checked_sub(bytes).ok_or(Failure::BudgetSpent { key: "room" })?);
        Ok(())
    };
    let (input, said) = kind.decode(body.to_vec(), Decoder { limits: &LIMITS, room: &room })?;
    Ok((input, head.or(said)))
}

//! Reads the parts of a `multipart/form-data` body that is there as a whole. Pure.
//!
//! Not `actix-multipart`: it reads from a stream, and waits for ever on a body that ends in the
//! middle of a boundary. Here the bytes are in memory, a part borrows them, and what is cut short is
//! an error.

/// One part of a form.
#[derive(Debug, PartialEq)]
pub(crate) struct Part<'a> {
    pub(crate) name: String,
    pub(crate) bytes: &'a [u8],
}

/// What is wrong with a form, for people.
pub(crate) type Wrong = &'static str;

/// The parts of a form, in order.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    /// What follows the last boundary that was read.
    rest: &'a [u8],
    delimiter: Vec<u8>,
    over: bool,
}

impl<'a> Parts<'a> {
    /// Finds the first boundary.
    pub(crate) fn new(content_type: &str, body: &'a [u8]) -> Result<Self, Wrong> {
        let boundary = parameter(content_type, "boundary").filter(|text| !text.is_empty());
        let boundary = boundary.ok_or("its Content-Type names no boundary")?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first boundary may stand at the very beginning.
        let rest = match body.strip_prefix(&delimiter[2..]) {
            Some(rest) => rest,
            None => split(body, &delimiter).ok_or("the boundary is not in the body")?.1,
        };
        Ok(Self { rest, delimiter, over: false })
    }

    fn read(&mut self) -> Result<Option<Part<'a>>, Wrong> {
        if self.rest.starts_with(b"--") {
            return Ok(None);
        }
        let padding = self.rest.iter().take_while(|byte| b" \t".contains(byte)).count();
        let line = &self.rest[padding..];
        if !line.starts_with(b"\r\n") {
            return Err("a boundary is not on a line of its own");
        }
        // The line break before the first header also begins the blank line if there is no header.
        let (head, content) = split(line, b"\r\n\r\n").ok_or("a part has no blank line")?;
        let (bytes, rest) = split(content, &self.delimiter).ok_or("its last part is cut short")?;
        self.rest = rest;
        Ok(Some(Part { name: name(head)?, bytes }))
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Result<Part<'a>, Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let part = self.read().transpose();
        self.over = !matches!(part, Some(Ok(_)));
        part
    }
}

/// What stands before and after the first occurrence of `needle`, which is not empty.
fn split<'a>(haystack: &'a [u8], needle: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut from = 0;
    loop {
        from += haystack[from..].iter().position(|byte| *byte == needle[0])?;
        if let Some(rest) = haystack[from..].strip_prefix(needle) {
            return Some((&haystack[..from], rest));
        }
        from += 1;
    }
}

/// The name of a part, from its headers.
fn name(head: &[u8]) -> Result<String, Wrong> {
    let head = String::from_utf8_lossy(head);
    let headers = head.lines().filter_map(|line| line.split_once(':'));
    let disposition =
        headers.into_iter().find(|(key, _)| key.trim().eq_ignore_ascii_case("content-disposition"));
    let name = disposition.and_then(|(_, value)| parameter(value, "name"));
    name.ok_or("a part has no name in its Content-Disposition")
}

/// The parameter of a header value such as `form-data; name="image"; filename="a;b.jpg"`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let (_, mut rest) = value.split_once(';')?;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (plain, next) = after.split_once(';').unwrap_or((after, ""));
                (plain.trim().to_owned(), next)
            }
        };
        if key.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next.trim_start().trim_start_matches(';');
    }
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut plain = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((plain, &text[at + 1..])),
            '\\' => plain.push(chars.next()?.1),
            _ => plain.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TYPE: &str = "multipart/form-data; charset=utf-8; boundary=\"b\"";

    fn read(body: &str) -> Result<Vec<(String, String)>, Wrong> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let parts = Parts::new(TYPE, body.as_bytes())?;
        parts.map(|part| part.map(|part| (part.name, text(part.bytes)))).collect()
    }

    #[test]
    fn parts_keep_their_bytes_to_the_last() {
        let body = "preamble\r\n--b\r\nContent-Type: image/png\r\n\
                    content-disposition: form-data; filename=\"a;name=x\\\".jpg\"; name=\"image\"\r\n\
                    \r\n\r\nbytes\r\n--c\r\n\r\n--b  \r\n\
                    Content-Disposition: form-data; name=fps\r\n\r\n\r\n--b--\r\nepilogue";
        let parts = read(body).unwrap();
        assert_eq!(parts[0], ("image".into(), "\r\nbytes\r\n--c\r\n".into()));
        assert_eq!(parts[1], ("fps".into(), String::new()));
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn a_form_without_parts_is_empty() {
        assert_eq!(read("--b--"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_cut_short_or_nameless_is_an_error() {
        let whole = "--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nx\r\n--b--";
        assert!(read(whole).is_ok());
        for end in 0..whole.len() - 1 {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        assert!(read("--b\r\n\r\nx\r\n--b--").is_err());
        assert!(Parts::new("multipart/form-data", b"--b--").is_err());
        assert!(Parts::new("multipart/form-data; boundary=", b"----").is_err());
    }

    proptest! {
        /// Whatever the bytes, reading ends, and every part lies within them.
        #[test]
        fn never_panics(body in "(--b|\r|\n|-|;|=|\"|\\\\|name|content-disposition:|x){0,40}") {
            let read: usize = Parts::new(TYPE, body.as_bytes())
                .map_or(0, |parts| parts.filter_map(Result::ok).map(|part| part.bytes.len()).sum());
            prop_assert!(read <= body.len());
        }
    }
}

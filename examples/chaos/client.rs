//! One client: sends a request over a socket, and stays for the reply or leaves.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use roadcrew::clock;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::pictures::Picture;
use super::schedule::{Leaving, Planned};

/// A reply that has not come so long after its deadline will not come.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// A kept connection is not used again after so long: the server may be about to close it.
const FRESH: Duration = Duration::from_secs(5);

/// How long a connection that the server closes is watched for a second reply.
const WATCH: Duration = Duration::from_secs(1);

/// A reply.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The id in its head.
    pub(crate) id: String,
    pub(crate) body: Value,
    /// When its last byte was read.
    pub(crate) at: Instant,
    /// Whether the server says that it closes the connection.
    pub(crate) closes: bool,
    /// Whether more followed.
    pub(crate) twice: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum End {
    Replied(Reply),
    Left,
    /// The client stayed in vain.
    Nothing(String),
}

/// What a client tells of its request.
#[derive(Debug)]
pub(crate) struct Told {
    /// When its last byte was sent.
    pub(crate) whole: Option<Instant>,
    pub(crate) end: End,
}

/// Connections that are kept for later requests.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Vec<(TcpStream, Instant)>,
    /// Connections on which something came that nobody had asked for.
    pub(crate) unasked: u64,
}

impl Pool {
    /// A connection that is still good.
    fn take(&mut self) -> Option<TcpStream> {
        while let Some((stream, since)) = self.idle.pop() {
            let said = stream.try_read(&mut [0; 64]);
            self.unasked += u64::from(matches!(said, Ok(1..)));
            let quiet = matches!(said, Err(ref e) if e.kind() == io::ErrorKind::WouldBlock);
            if quiet && since.elapsed() < FRESH {
                return Some(stream);
            }
        }
        None
    }

    /// Connections that wait for a request.
    pub(crate) fn len(&self) -> usize {
        self.idle.len()
    }

    fn put(&mut self, stream: TcpStream) {
        self.idle.push((stream, clock::now()));
    }

    /// Closes every connection, after a last look at each.
    pub(crate) fn clear(&mut self) {
        while self.take().is_some() {}
    }
}

/// Plays one request.
pub(crate) async fn play(
    address: SocketAddr,
    planned: &Planned,
    picture: &Picture,
    pool: &std::cell::RefCell<Pool>,
) -> Told {
    let mut whole = None;
    let kept = if planned.keep { pool.borrow_mut().take() } else { None };
    let before = if kept.is_some() { ", on a connection used before" } else { "" };
    let stream = match kept {
        Some(stream) => Ok(stream),
        None => TcpStream::connect(address).await,
    };
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return Told { whole, end: End::Nothing(format!("not connected: {error}")) },
    };
    // A server that refuses a request unread may close before the last byte: its reply says so.
    let written = send(&mut stream, planned, picture, &mut whole).await;
    let patience = planned.leave.map_or(planned.deadline + GRACE, |leave| leave.after);
    let mut reply = match timeout(patience, receive(&mut stream)).await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            let sent = written.err().map(|error| format!(", sending: {error}")).unwrap_or_default();
            return Told { whole, end: End::Nothing(format!("{error}{sent}{before}")) };
        }
        Err(_) => match planned.leave {
            Some(leave) => {
                go(stream, leave.how).await;
                return Told { whole, end: End::Left };
            }
            None => return Told { whole, end: End::Nothing("the time is over".into()) },
        },
    };
    // Half a body would make nonsense of the next request.
    if planned.keep && whole.is_some() && !reply.closes {
        pool.borrow_mut().put(stream);
    } else {
        let more = timeout(WATCH, stream.read(&mut [0; 64])).await;
        reply.twice |= matches!(more, Ok(Ok(1..)));
    }
    Told { whole, end: End::Replied(reply) }
}

/// Sends as much as was planned, and notes when that was all.
async fn send(
    stream: &mut TcpStream,
    planned: &Planned,
    picture: &Picture,
    whole: &mut Option<Instant>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let connection = if planned.keep { "keep-alive" } else { "close" };
    let mut bytes = format!(
        "POST /v1/predict HTTP/1.1\r\nhost: chaos\r\nconnection: {connection}\r\n\
         content-type: {}\r\ncontent-length: {}\r\nx-request-id: {}\r\n\
         x-deadline-ms: {}\r\nx-priority: {}\r\n\r\n",
        picture.media,
        picture.file.len(),
        planned.id,
        planned.deadline.as_secs_f64() * 1e3,
        planned.priority,
    )
    .into_bytes();
    let half = bytes.len() + picture.file.len() / 2;
    bytes.extend_from_slice(&picture.file);
    let (first, second) = bytes.split_at(half);
    if planned.leave.is_some_and(|leave| !leave.whole) {
        return stream.write_all(first).await;
    }
    if let Some(pause) = planned.pause {
        stream.write_all(first).await?;
        sleep(pause).await;
        stream.write_all(second).await?;
    } else {
        stream.write_all(&bytes).await?;
    }
    *whole = Some(clock::now());
    Ok(())
}

/// Reads a reply whole.
async fn receive(stream: &mut TcpStream) -> io::Result<Reply> {
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            let say = format!("closed after {} bytes", bytes.len());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, say));
        }
        if let Some(reply) = parse(&bytes) {
            return Ok(reply);
        }
    }
}

/// The reply in these bytes, if it is all there.
fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let header = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let length: usize = header("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
    let body = bytes.get(end..end + length)?;
    Some(Reply {
        status: head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0),
        id: header("x-request-id:").unwrap_or_default().to_owned(),
        body: serde_json::from_slice(body).unwrap_or_default(),
        at: clock::now(),
        closes: header("connection:") == Some("close"),
        twice: bytes.len() > end + length,
    })
}

/// Leaves.
async fn go(mut stream: TcpStream, how: Leaving) {
    // Whoever leaves does not care how it goes.
    let _ = match how {
        Leaving::Fin => stream.shutdown().await,
        Leaving::Rst => stream.set_zero_linger(),
    };
}

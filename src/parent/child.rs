//! Starts a child that inherits the sockets.
//!
//! Must not know: when.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

use super::bond::{PARENT, RESTARTS};
use crate::app::NOTIFY_SOCKET;
use crate::http::{Sockets, listen_fds};

/// Below are standard input, output and error.
const FIRST: RawFd = 3;

/// What every child is started with.
#[derive(Debug)]
pub struct Nest {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Open in every child as well.
    sockets: Vec<OwnedFd>,
    names: Vec<&'static str>,
}

impl Nest {
    /// Children run this program with these arguments and inherit these sockets.
    ///
    /// # Errors
    /// If the process may open no more files.
    pub fn new(program: PathBuf, arguments: Vec<OsString>, sockets: Sockets) -> io::Result<Self> {
        let (names, sockets): (Vec<_>, Vec<_>) = sockets.named().into_iter().unzip();
        Ok(Self { program, arguments, sockets: in_a_row(&sockets)?, names })
    }

    /// Starts a child after `restarts` others, which says at the socket `notify` when it is ready.
    ///
    /// The child is in a process group of its own: Ctrl-C in a terminal goes to the parent alone,
    /// which passes it on.
    pub(super) fn spawn(&self, restarts: u64, notify: &str) -> io::Result<Child> {
        let first = self.sockets.first().map_or(FIRST, |socket| socket.as_raw_fd());
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env(listen_fds::COUNT, self.sockets.len().to_string())
            .env(listen_fds::NAMES, self.names.join(":"))
            .env(listen_fds::FIRST, first.to_string())
            // It is not known before there is a child, and then it is too late to tell.
            .env_remove(listen_fds::PID)
            .env(NOTIFY_SOCKET, notify)
            .env(PARENT, std::process::id().to_string())
            .env(RESTARTS, restarts.to_string())
            .process_group(0);
        command.spawn()
    }
}

/// The same sockets under numbers that follow each other, as `LISTEN_FDS` wants them, and open in
/// children. The ones given are closed by who owns them.
fn in_a_row(sockets: &[TcpListener]) -> io::Result<Vec<OwnedFd>> {
    let mut first = FIRST;
    loop {
        let mut row: Vec<OwnedFd> = Vec::new();
        for (socket, wanted) in sockets.iter().zip(first..) {
            // The lowest number that is free, from the wanted one on.
            let fd = fcntl_dupfd_cloexec(socket, wanted)?;
            let number = fd.as_raw_fd();
            row.push(fd);
            if number != wanted {
                first = number;
                break;
            }
        }
        if row.len() == sockets.len() && row.last().is_none_or(|fd| ends_at(fd, first, row.len())) {
            for fd in &row {
                fcntl_setfd(fd, FdFlags::empty())?;
            }
            return Ok(row);
        }
    }
}

/// Whether a row of so many that begins at `first` ends with this one.
fn ends_at(last: &OwnedFd, first: RawFd, length: usize) -> bool {
    usize::try_from(last.as_raw_fd() - first).is_ok_and(|steps| steps + 1 == length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_get_numbers_that_follow_each_other() {
        let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = [socket(), socket()];
        let row = in_a_row(&sockets).unwrap();
        let [first, second] = [&row[0], &row[1]].map(|fd| fd.as_raw_fd());
        assert_eq!(second, first + 1);
        assert!(first >= FIRST);
        assert!(in_a_row(&[]).unwrap().is_empty());
    }
}

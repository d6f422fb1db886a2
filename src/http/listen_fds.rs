//! Sockets that are inherited, as systemd passes them on: `LISTEN_FDS` says how many there are,
//! `LISTEN_FDNAMES` which is which, and `LISTEN_PID` for whom they are.
//!
//! Must not know: what is answered there, or who passes sockets on.

use listenfd::ListenFd;
use rustix::net::sockopt;
use thiserror::Error;

use super::log::Port;
use super::sockets::Sockets;

/// The ports in the order in which sockets without names are taken for theirs.
const PORTS: [Port; 2] = [Port::Private, Port::Axon];

/// How many sockets there are; systemd's.
pub(crate) const COUNT: &str = "LISTEN_FDS";

/// Their names, separated by colons; systemd's.
pub(crate) const NAMES: &str = "LISTEN_FDNAMES";

/// For whom they are; systemd's. Without it they are for whoever finds them.
pub(crate) const PID: &str = "LISTEN_PID";

/// The number of the first of them; 3 without it, which is all that systemd knows.
pub(crate) const FIRST: &str = "LISTEN_FDS_FIRST_FD";

/// Why inherited sockets cannot be used.
#[derive(Debug, Error)]
pub enum SocketsError {
    /// The variable is no number.
    #[error("LISTEN_FDS is {0:?}; it must be the number of sockets that are passed on")]
    NoNumber(String),
    /// There are more sockets than ports.
    #[error(
        "{0} sockets were passed on (LISTEN_FDS), and there are two ports; pass one named http, one \
         named axon, or both"
    )]
    TooMany(usize),
    /// Names and sockets do not match.
    #[error(
        "{sockets} sockets were passed on (LISTEN_FDS) with {names} names (LISTEN_FDNAMES); each needs \
         one, such as LISTEN_FDNAMES=http:axon"
    )]
    Unmatched {
        /// How many sockets there are.
        sockets: usize,
        /// How many names.
        names: usize,
    },
    /// A socket has a name that no port has.
    #[error(
        "a socket named {0:?} was passed on (LISTEN_FDNAMES); the names are http and axon: set \
         FileDescriptorName= in its systemd unit"
    )]
    UnknownName(String),
    /// Two sockets have the same name.
    #[error("two sockets named {0} were passed on (LISTEN_FDNAMES); each port takes one")]
    Twice(&'static str),
    /// It is no socket, or of another kind.
    #[error(
        "what was passed on as the socket {name} cannot be listened on: {why}; it must be a TCP socket \
         that listens (ListenStream=ADDRESS:PORT and Accept=no in its systemd unit)"
    )]
    Unfit {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Sockets {
    /// Takes the sockets that whoever started this process has passed on, if any; a second call
    /// finds none. To be called before there are other threads: it changes the environment.
    ///
    /// # Errors
    /// If there are too many, or they have the wrong names, or cannot be listened on.
    pub fn inherited() -> Result<Self, SocketsError> {
        let variable =
            |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        if let Some(text) = variable(COUNT).filter(|text| text.parse::<u16>().is_err()) {
            return Err(SocketsError::NoNumber(text));
        }
        let mut found = ListenFd::from_env();
        let ports = ports(found.len(), variable(NAMES).as_deref())?;
        let mut sockets = Self::default();
        for (at, port) in ports.into_iter().enumerate() {
            let unfit = |why| SocketsError::Unfit { name: port.section(), why };
            let socket = found.take_tcp_listener(at).map_err(|error| unfit(error.to_string()))?;
            let socket = socket.ok_or_else(|| unfit("it is gone".into()))?;
            match sockopt::socket_acceptconn(&socket) {
                Ok(true) => {}
                Ok(false) => return Err(unfit("it does not listen".into())),
                Err(error) => return Err(unfit(error.to_string())),
            }
            *sockets.of(port) = Some(socket);
        }
        Ok(sockets)
    }
}

/// Which port each of `count` sockets is for, in order.
fn ports(count: usize, names: Option<&str>) -> Result<Vec<Port>, SocketsError> {
    if count > PORTS.len() {
        return Err(SocketsError::TooMany(count));
    }
    let Some(names) = names.filter(|names| count > 0 && !names.is_empty()) else {
        return Ok(PORTS.into_iter().take(count).collect());
    };
    let mut ports: Vec<Port> = Vec::new();
    for name in names.split(':') {
        let port = PORTS.into_iter().find(|port| port.section() == name);
        let port = port.ok_or_else(|| SocketsError::UnknownName(name.to_owned()))?;
        if ports.contains(&port) {
            return Err(SocketsError::Twice(port.section()));
        }
        ports.push(port);
    }
    if ports.len() != count {
        return Err(SocketsError::Unmatched { sockets: count, names: ports.len() });
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(count: usize, names: Option<&str>) -> String {
        match ports(count, names) {
            Ok(ports) => ports.iter().map(|port| port.section()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sockets_are_told_apart_by_name_and_without_names_by_order() {
        assert_eq!(told(0, None), "");
        assert_eq!(told(0, Some("left:behind")), "", "names without sockets mean nothing");
        assert_eq!(told(1, None), "http");
        assert_eq!(told(2, Some("")), "http axon");
        assert_eq!(told(1, Some("axon")), "axon");
        assert_eq!(told(2, Some("axon:http")), "axon http");
    }

    #[test]
    fn what_does_not_fit_is_said_with_what_would() {
        let said = |count, names, part: &str| {
            let text = told(count, names);
            assert!(text.contains(part), "{text}");
        };
        said(3, None, "3 sockets were passed on");
        said(1, Some("http:axon"), "1 sockets were passed on (LISTEN_FDS) with 2 names");
        said(2, Some("http"), "LISTEN_FDNAMES=http:axon");
        said(1, Some("roadcrew.socket"), "set FileDescriptorName=");
        said(2, Some("http:http"), "two sockets named http");
    }
}

//! Listening sockets: what a port is opened on.
//!
//! Who holds a port's socket while the server is started again loses no connection: those that come
//! meanwhile wait in its backlog.
//!
//! Must not know: what is answered there, or how sockets are passed on.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};

use anyhow::{Context as _, anyhow};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::HttpSpec;
use super::axon::AxonSpec;
use super::log::Port;

/// How many connections may wait to be accepted; the system may allow fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 1024;

/// Sockets that listen for the ports. A port without one binds its own.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The private port's, named `http`.
    pub http: Option<TcpListener>,
    /// The public port's, named `axon`.
    pub axon: Option<TcpListener>,
}

impl Sockets {
    /// These, and where there is none, one bound as these settings say; without settings of the
    /// public port it stays as it is.
    ///
    /// # Errors
    /// If an address does not exist or is taken, with what to do about it.
    pub fn complete(self, http: &HttpSpec, axon: Option<&AxonSpec>) -> anyhow::Result<Self> {
        let private = Place { port: Port::Private, host: &http.host, number: http.port };
        let http = self.http.map_or_else(|| private.listen(), Ok)?;
        let axon = match (self.axon, axon) {
            (None, Some(AxonSpec { host, port, .. })) => {
                Some(Place { port: Port::Axon, host, number: *port }.listen()?)
            }
            (inherited, _) => inherited,
        };
        Ok(Self { http: Some(http), axon })
    }

    pub(super) fn of(&mut self, port: Port) -> &mut Option<TcpListener> {
        match port {
            Port::Private => &mut self.http,
            Port::Axon => &mut self.axon,
        }
    }

    /// The sockets with their names.
    pub(crate) fn named(self) -> Vec<(&'static str, TcpListener)> {
        let http = self.http.map(|socket| (Port::Private.section(), socket));
        let axon = self.axon.map(|socket| (Port::Axon.section(), socket));
        http.into_iter().chain(axon).collect()
    }
}

/// Where a port wants to listen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) port: Port,
    pub(super) host: &'a str,
    /// TCP port; 0 picks a free one.
    pub(super) number: u16,
}

impl Place<'_> {
    /// Listens there.
    ///
    /// # Errors
    /// If the address does not exist or is taken, with what to do about it.
    pub(super) fn listen(&self) -> anyhow::Result<TcpListener> {
        let wanted = self.resolve()?;
        bind(wanted).map_err(|error| self.cannot_listen(wanted, &error))
    }

    /// The one address to listen on: `localhost` names two, and two ports would be one too many.
    fn resolve(&self) -> anyhow::Result<SocketAddr> {
        let (section, host) = (self.port.section(), self.host);
        let advice =
            || format!("`{section}.host` is {host:?}; set it to an address of this machine");
        let found: Vec<_> = (host, self.number).to_socket_addrs().with_context(advice)?.collect();
        let v4_first = found.iter().find(|address| address.is_ipv4());
        v4_first.or(found.first()).copied().with_context(advice)
    }

    fn cannot_listen(&self, wanted: SocketAddr, error: &io::Error) -> anyhow::Error {
        let section = self.port.section();
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another process has this port; stop it, or choose another with \
                 --set {section}.port=PORT (0 picks a free one)"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "this port needs privileges; choose one above 1023 with --set {section}.port=PORT"
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "this machine has no such address; set {section}.host to one it has, such as \
                 127.0.0.1"
            ),
            _ => format!("choose another address with {section}.host and {section}.port"),
        };
        anyhow!("cannot listen on {wanted}: {error}; {advice}")
    }
}

/// A socket that listens there, also if connections to who had it before still linger.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, flags) = (SocketType::STREAM, SocketFlags::CLOEXEC);
    let socket = rustix::net::socket_with(family, kind, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_says_what_to_do() {
        let place = Place { port: Port::Axon, host: "127.0.0.1", number: 8091 };
        let wanted = place.resolve().unwrap();
        let error = place.cannot_listen(wanted, &io::ErrorKind::AddrInUse.into()).to_string();
        assert!(error.contains("127.0.0.1:8091") && error.contains("--set axon.port"), "{error}");
    }

    #[test]
    fn a_bound_socket_listens_and_its_port_is_taken() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may do without the newer protocol.
            let Ok(socket) = bind(host.parse().unwrap()) else { continue };
            let address = socket.local_addr().unwrap();
            assert!(std::net::TcpStream::connect(address).is_ok());
            assert_eq!(bind(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        assert!(bind("127.0.0.1:0".parse().unwrap()).is_ok());
    }
}

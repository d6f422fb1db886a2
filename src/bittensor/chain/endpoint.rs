//! Where validators find an axon: what `serve_axon` tells the chain.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use subxt::ext::scale_decode::DecodeAsType;

use super::error::{ChainError, Fault};

/// What the reference SDK sends as the protocol; it has nothing to do with the address family.
const PROTOCOL: u8 = 4;
/// The version of the SDK whose protocol we speak, in the SDK's way of writing it: 9.12.2.
const VERSION: u32 = 9_012_002;

/// Where validators find an axon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    ip: IpAddr,
    port: u16,
}

/// What the chain has of an axon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(super) struct AxonInfo {
    pub(super) block: u64,
    pub(super) version: u32,
    pub(super) ip: u128,
    pub(super) port: u16,
    pub(super) ip_type: u8,
    pub(super) protocol: u8,
    pub(super) placeholder1: u8,
    pub(super) placeholder2: u8,
}

impl Endpoint {
    /// Takes an address and a port.
    ///
    /// # Errors
    /// What the chain refuses, and all zeros, which would take the axon off the subnet: that is
    /// [`Endpoint::nowhere`].
    pub fn new(ip: IpAddr, port: u16) -> Result<Self, ChainError> {
        // An IPv4 address in IPv6's clothes is still one.
        let ip = ip.to_canonical();
        let is_all_ones = match ip {
            IpAddr::V4(ip) => ip == Ipv4Addr::BROADCAST,
            IpAddr::V6(ip) => ip.to_bits() == u128::MAX,
        };
        let why = if port == 0 {
            "port 0 is none".to_owned()
        } else if ip.is_unspecified() {
            format!("{ip} would take the axon off the subnet")
        } else if ip.is_loopback() {
            format!("{ip} is this machine itself, which nobody else can reach")
        } else if is_all_ones {
            format!("{ip} is nobody's address")
        } else {
            return Ok(Self { ip, port });
        };
        Err(ChainError::new(Fault::Endpoint, why))
    }

    /// Takes the axon off the subnet: validators no longer call it.
    pub fn nowhere() -> Self {
        Self { ip: Ipv4Addr::UNSPECIFIED.into(), port: 1 }
    }

    /// Why validators on the public internet cannot reach it, if so. The chain does not mind.
    pub fn is_out_of_reach(&self) -> Option<&'static str> {
        match self.ip {
            IpAddr::V4(ip) if ip.is_unspecified() => None,
            IpAddr::V4(ip) if ip.is_private() => Some("it is an address of a private network"),
            IpAddr::V4(ip) if ip.is_link_local() => Some("it is a link-local address"),
            IpAddr::V4(ip) if ip.is_documentation() => Some("it is an address for documentation"),
            IpAddr::V4(ip) if ip.is_multicast() => Some("it is a multicast address"),
            IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64 => {
                Some("it is an address behind a provider's NAT")
            }
            IpAddr::V6(ip) if ip.is_unique_local() => Some("it is an address of a private network"),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("it is a link-local address"),
            IpAddr::V6(ip) if ip.is_multicast() => Some("it is a multicast address"),
            _ => None,
        }
    }

    /// The arguments of `serve_axon` after the netuid, by name, in order.
    pub(super) fn arguments(&self) -> [(&'static str, u128); 7] {
        let info = self.info(0);
        [
            ("version", info.version.into()),
            ("ip", info.ip),
            ("port", info.port.into()),
            ("ip_type", info.ip_type.into()),
            ("protocol", info.protocol.into()),
            ("placeholder1", info.placeholder1.into()),
            ("placeholder2", info.placeholder2.into()),
        ]
    }

    /// What the chain will have of it from a block on.
    pub(super) fn info(&self, block: u64) -> AxonInfo {
        let (ip, ip_type) = match self.ip {
            IpAddr::V4(ip) => (ip.to_bits().into(), 4),
            IpAddr::V6(ip) => (ip.to_bits(), 6),
        };
        AxonInfo {
            block,
            version: VERSION,
            ip,
            port: self.port,
            ip_type,
            protocol: PROTOCOL,
            placeholder1: 0,
            placeholder2: 0,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::net::SocketAddr::new(self.ip, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(ip: &str, port: u16) -> Result<Endpoint, ChainError> {
        Endpoint::new(ip.parse().unwrap(), port)
    }

    #[test]
    fn what_the_chain_refuses_is_refused_here() {
        for ip in ["127.0.0.1", "127.8.0.1", "0.0.0.0", "255.255.255.255", "::1", "::"] {
            assert_eq!(endpoint(ip, 8091).unwrap_err().fault, Fault::Endpoint, "{ip}");
        }
        let ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        for ip in [ones, "::ffff:127.0.0.1", "::ffff:0.0.0.0"] {
            assert_eq!(endpoint(ip, 8091).unwrap_err().fault, Fault::Endpoint, "{ip}");
        }
        assert_eq!(endpoint("203.0.113.9", 0).unwrap_err().fault, Fault::Endpoint);
    }

    #[test]
    fn an_address_is_one_big_number() {
        let four = endpoint("1.2.3.4", 8091).unwrap().info(7);
        assert_eq!((four.ip, four.ip_type, four.port), (0x0102_0304, 4, 8091));
        assert_eq!((four.protocol, four.version, four.block), (4, 9_012_002, 7));
        let six = endpoint("2001:db8::1", 1).unwrap().info(0);
        assert_eq!((six.ip, six.ip_type), (0x2001_0db8_u128 << 96 | 1, 6));
        let mapped = endpoint("::ffff:1.2.3.4", 8091).unwrap();
        assert_eq!(mapped, endpoint("1.2.3.4", 8091).unwrap());
        assert_eq!(Endpoint::nowhere().info(0).ip, 0);
    }

    #[test]
    fn what_validators_cannot_reach_is_known() {
        for ip in ["10.1.2.3", "192.168.0.2", "169.254.0.1", "100.64.1.1", "fd00::1", "fe80::1"] {
            assert!(endpoint(ip, 1).unwrap().is_out_of_reach().is_some(), "{ip}");
        }
        for ip in ["8.8.8.8", "100.128.1.1", "2001:4860:4860::8888"] {
            assert_eq!(endpoint(ip, 1).unwrap().is_out_of_reach(), None, "{ip}");
        }
        assert_eq!(Endpoint::nowhere().is_out_of_reach(), None);
    }
}

//! What can go wrong between us and a chain, each with what to do about it.

use std::time::Duration;

use super::limits::{MAX_LAG, MAX_NEURONS};

/// Why the chain could not be read, or did not take a call. The text ends with what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {}", .fault.next())]
pub struct ChainError {
    /// Which kind of thing went wrong.
    pub fault: Fault,
    what: String,
}

/// The kinds of things that go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The node's address is not one.
    Address,
    /// No connection came about.
    Unreachable,
    /// There was a connection, and it broke.
    Broken,
    /// Not done when the time was up.
    Slow,
    /// The node answered with an error.
    Refused,
    /// The reply is not what the runtime's own description of itself says.
    Reply,
    /// The node's newest block is old.
    Behind,
    /// There is no such subnet, or nobody is registered there.
    NoSubnet,
    /// More neurons than a subnet has.
    TooMany,
    /// The chain would not take this endpoint.
    Endpoint,
    /// The hotkey is not registered on the subnet.
    NotRegistered,
    /// The endpoint was changed only just now.
    TooSoon,
    /// The chain did not take the call, for a reason of its own.
    Rejected(Rejection),
    /// The call was submitted, and whether it took effect is not known.
    Unsure,
    /// The runtime has changed in a way that this version does not know.
    Runtime,
}

/// Why the chain did not take a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The nonce was used already: two calls at once.
    Stale,
    /// The signature was not accepted.
    BadProof,
    /// The account cannot pay.
    Payment,
    /// Anything else.
    Other,
}

impl Fault {
    /// What to do about it.
    pub fn next(self) -> &'static str {
        match self {
            Self::Address => {
                "write wss://HOST:PORT, or ws://HOST:PORT for a node on this machine or network"
            }
            Self::Unreachable => {
                "check the node's address, and that this machine may open connections to it"
            }
            Self::Broken => "try again; if it stays so, use another node",
            Self::Slow => "try again, give it more time, or use another node",
            Self::Refused => "use another node, one that serves the usual JSON-RPC methods",
            Self::Reply => {
                "use another node; if they all answer so, roadcrew is too old for the chain"
            }
            Self::Behind => {
                "check this machine's clock; if it is right, the node is stuck: use another one"
            }
            Self::NoSubnet => "check the netuid, and that the node belongs to the right network",
            Self::TooMany => "check that the node belongs to the right network",
            Self::Endpoint => "name the address and port at which validators reach this machine",
            Self::NotRegistered => {
                "register it first (`btcli subnet register`), or check the wallet, the netuid and the \
                 network"
            }
            Self::TooSoon => "wait that long and run it again",
            Self::Rejected(Rejection::Stale) => {
                "another call of this hotkey came in between: run it again"
            }
            Self::Rejected(Rejection::BadProof) => {
                "the runtime expects something else to be signed: roadcrew is too old for the chain"
            }
            Self::Rejected(Rejection::Payment) => {
                "the chain does not know this account, or it cannot pay: check that the hotkey is \
                 registered on this network"
            }
            Self::Rejected(Rejection::Other) => {
                "look the reason up in the chain's documentation; with --dry-run you see the call"
            }
            Self::Unsure => "run it again with --dry-run: it says whether the chain has it now",
            Self::Runtime => "use a newer roadcrew, or another node if this one may be lying",
        }
    }
}

impl ChainError {
    /// What happened, without what to do next.
    pub fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn new(fault: Fault, what: impl Into<String>) -> Self {
        Self { fault, what: what.into() }
    }

    pub(super) fn slow(node: &str, within: Duration) -> Self {
        let what = format!("{node} was not done after {} s", within.as_secs_f64());
        Self::new(Fault::Slow, what)
    }

    pub(super) fn behind(node: &str, lag: Duration) -> Self {
        let minutes = |time: Duration| time.as_secs() / 60;
        let what = format!(
            "the newest finalized block of {node} is {} minutes old, more than {}",
            minutes(lag),
            minutes(MAX_LAG)
        );
        Self::new(Fault::Behind, what)
    }

    pub(super) fn too_many() -> Self {
        Self::new(Fault::TooMany, format!("the subnet has more than {MAX_NEURONS} neurons"))
    }

    pub(super) fn no_subnet(netuid: u16) -> Self {
        Self::new(Fault::NoSubnet, format!("nobody is registered on subnet {netuid}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_ends_with_what_to_do() {
        let error = ChainError::slow("wss://node:443", Duration::from_secs(20));
        assert_eq!(
            error.to_string(),
            "wss://node:443 was not done after 20 s; try again, give it more time, or use another \
             node"
        );
    }
}

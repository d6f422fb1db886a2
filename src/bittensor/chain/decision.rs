//! Whether to submit `serve_axon` at all; pure.

use std::time::Duration;

use super::endpoint::{AxonInfo, Endpoint};

/// How often the chain makes a block.
const BLOCK_TIME: Duration = Duration::from_secs(12);

/// What to do about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The chain does not have it: submit it.
    Submit,
    /// The chain has exactly this: there is nothing to do.
    Unchanged,
    /// The chain takes no change yet.
    Wait {
        /// For so many blocks.
        blocks: u64,
    },
    /// The hotkey is not registered on the subnet, so the chain would refuse.
    NotRegistered,
}

impl Decision {
    /// How long to wait, about.
    pub fn wait(self) -> Duration {
        match self {
            Self::Wait { blocks } => {
                BLOCK_TIME.saturating_mul(u32::try_from(blocks).unwrap_or(u32::MAX))
            }
            _ => Duration::ZERO,
        }
    }
}

/// What the chain says of a hotkey on the subnet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// The newest finalized block.
    pub(super) block: u64,
    /// Whether the hotkey is registered.
    pub(super) is_registered: bool,
    /// What it has of the axon.
    pub(super) axon: Option<AxonInfo>,
    /// So many blocks must lie between two changes.
    pub(super) rate_limit: u64,
}

/// Decides as the chain would.
pub(super) fn decide(wanted: &Endpoint, standing: &Standing) -> Decision {
    let Standing { block, is_registered, axon, rate_limit } = *standing;
    if !is_registered {
        return Decision::NotRegistered;
    }
    let Some(axon) = axon else { return Decision::Submit };
    if axon == wanted.info(axon.block) {
        return Decision::Unchanged;
    }
    let blocks = rate_limit.saturating_sub(block.saturating_sub(axon.block));
    if axon.block == 0 || blocks == 0 { Decision::Submit } else { Decision::Wait { blocks } }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(ip: &str) -> Endpoint {
        Endpoint::new(ip.parse().unwrap(), 8091).unwrap()
    }

    fn standing(axon: Option<AxonInfo>) -> Standing {
        Standing { block: 1000, is_registered: true, axon, rate_limit: 50 }
    }

    #[test]
    fn a_new_axon_is_submitted_if_its_hotkey_is_registered() {
        let wanted = endpoint("1.2.3.4");
        assert_eq!(decide(&wanted, &standing(None)), Decision::Submit);
        let stranger = Standing { is_registered: false, ..standing(Some(wanted.info(1))) };
        assert_eq!(decide(&wanted, &stranger), Decision::NotRegistered);
    }

    #[test]
    fn what_the_chain_has_already_is_not_submitted_again() {
        let wanted = endpoint("1.2.3.4");
        for block in [0, 1, 999, 1000] {
            let has = standing(Some(wanted.info(block)));
            assert_eq!(decide(&wanted, &has), Decision::Unchanged, "since {block}");
        }
        let changes: [fn(&mut AxonInfo); 7] = [
            |axon| axon.version += 1,
            |axon| axon.ip += 1,
            |axon| axon.port += 1,
            |axon| axon.ip_type = 6,
            |axon| axon.protocol = 0,
            |axon| axon.placeholder1 = 1,
            |axon| axon.placeholder2 = 1,
        ];
        for (place, change) in changes.iter().enumerate() {
            let mut axon = wanted.info(1);
            change(&mut axon);
            assert_eq!(decide(&wanted, &standing(Some(axon))), Decision::Submit, "field {place}");
        }
    }

    #[test]
    fn a_change_waits_until_the_chain_takes_it() {
        let (old, wanted) = (endpoint("1.2.3.4"), endpoint("1.2.3.5"));
        let after = |blocks: u64| decide(&wanted, &standing(Some(old.info(1000 - blocks))));
        assert_eq!(after(0), Decision::Wait { blocks: 50 });
        assert_eq!(after(49), Decision::Wait { blocks: 1 });
        assert_eq!(after(50), Decision::Submit);
        assert_eq!(after(0).wait(), Duration::from_secs(600));
        // A block that the finalized chain has not reached yet.
        let newer = Standing { block: 998, ..standing(Some(old.info(1000))) };
        assert_eq!(decide(&wanted, &newer), Decision::Wait { blocks: 50 });
        // An axon of before the chain kept count, and a subnet without a limit.
        assert_eq!(decide(&wanted, &standing(Some(old.info(0)))), Decision::Submit);
        let free = Standing { rate_limit: 0, ..standing(Some(old.info(1000))) };
        assert_eq!(decide(&wanted, &free), Decision::Submit);
    }
}

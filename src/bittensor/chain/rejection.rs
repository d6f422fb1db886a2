//! What the chain says against a call, as one of our faults. Pure.

use super::error::{ChainError, Fault, Rejection};

/// The codes by which the transaction pool tells why it refuses, as far as they concern an axon.
const CODES: [(u8, &str); 6] = [
    (3, "SubnetNotExists"),
    (4, "HotKeyAccountNotExists"),
    (10, "HotKeyNotRegisteredInNetwork"),
    (11, "InvalidIpAddress"),
    (12, "ServingRateLimitExceeded"),
    (13, "InvalidPort"),
];

/// The pool would not have the transaction.
pub(super) fn of_the_pool(text: &str) -> ChainError {
    let lower = text.to_ascii_lowercase();
    let code = lower.split("custom error: ").nth(1).and_then(|rest| {
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
    });
    if let Some((_, name)) = CODES.iter().find(|(known, _)| Some(*known) == code) {
        return error(fault(name), &format!("{name} ({text})"));
    }
    let signs = [
        ("outdated", Rejection::Stale),
        ("priority is too low", Rejection::Stale),
        ("bad signature", Rejection::BadProof),
        ("inability to pay", Rejection::Payment),
    ];
    let known = signs.iter().find(|(sign, _)| lower.contains(sign));
    error(Fault::Rejected(known.map_or(Rejection::Other, |(_, rejection)| *rejection)), text)
}

/// The call is in a block, and failed there. `name` is the error's, with its pallet's in front.
pub(super) fn of_the_call(name: &str) -> ChainError {
    error(fault(name.rsplit(':').next().unwrap_or(name)), name)
}

fn error(fault: Fault, why: &str) -> ChainError {
    ChainError::new(fault, format!("the chain did not take the call: {why}"))
}

fn fault(name: &str) -> Fault {
    match name {
        "HotKeyNotRegisteredInNetwork"
        | "HotKeyNotRegisteredInSubNet"
        | "HotKeyAccountNotExists"
        | "NotRegistered" => Fault::NotRegistered,
        "InvalidIpType" | "InvalidIpAddress" | "InvalidPort" => Fault::Endpoint,
        "ServingRateLimitExceeded" => Fault::TooSoon,
        "SubnetNotExists" | "MechanismDoesNotExist" => Fault::NoSubnet,
        _ => Fault::Rejected(Rejection::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chains_own_errors_become_advice() {
        let cases = [
            ("SubtensorModule::HotKeyNotRegisteredInNetwork", Fault::NotRegistered),
            ("SubtensorModule::InvalidIpAddress", Fault::Endpoint),
            ("SubtensorModule::InvalidPort", Fault::Endpoint),
            ("SubtensorModule::ServingRateLimitExceeded", Fault::TooSoon),
            ("SubtensorModule::SubnetNotExists", Fault::NoSubnet),
            ("System::CallFiltered", Fault::Rejected(Rejection::Other)),
        ];
        for (name, fault) in cases {
            let error = of_the_call(name);
            assert_eq!(error.fault, fault, "{name}");
            assert!(error.what().contains(name), "{error}");
        }
    }

    #[test]
    fn what_the_pool_says_becomes_advice() {
        let cases = [
            ("Invalid Transaction: Custom error: 10", Fault::NotRegistered),
            ("Invalid Transaction: Custom error: 11", Fault::Endpoint),
            ("Invalid Transaction: Custom error: 12", Fault::TooSoon),
            ("Invalid transaction with custom error: 13 (1010)", Fault::Endpoint),
            ("Invalid Transaction: Custom error: 3", Fault::NoSubnet),
            ("Invalid Transaction: Custom error: 1", Fault::Rejected(Rejection::Other)),
            ("Invalid Transaction: Transaction is outdated", Fault::Rejected(Rejection::Stale)),
            ("Priority is too low: (1 vs 1)", Fault::Rejected(Rejection::Stale)),
            ("Transaction has a bad signature", Fault::Rejected(Rejection::BadProof)),
            (
                "Inability to pay some fees (e.g. account balance too low)",
                Fault::Rejected(Rejection::Payment),
            ),
            ("Custom error: 300", Fault::Rejected(Rejection::Other)),
            ("", Fault::Rejected(Rejection::Other)),
        ];
        for (text, fault) in cases {
            assert_eq!(of_the_pool(text).fault, fault, "{text}");
        }
    }
}

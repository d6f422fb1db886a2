//! Why a request is not believed.
//!
//! The messages go to callers that nobody knows yet: they never repeat the signature or what was
//! signed. The labels are few, and made for metrics.

/// A part of a signed request that is read from its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The caller's address.
    Hotkey,
    /// The name of the caller's dendrite.
    Uuid,
    /// When the request was signed.
    Nonce,
    /// The signature.
    Signature,
    /// The hash of the fields that the class signs.
    BodyHash,
    /// The version of the protocol, in `btauth/1`.
    Version,
    /// The scheme of the signature, in `btauth/1`.
    Crypto,
    /// Whom the request is for, in `btauth/1`.
    Receiver,
}

impl Field {
    fn expected(self) -> &'static str {
        match self {
            Self::Hotkey => "the caller's hotkey, as an SS58 address",
            Self::Uuid => "the dendrite's uuid, of at most 128 visible characters",
            Self::Nonce => "the nonce, as the decimal nanoseconds since 1970",
            Self::Signature => "the signature, as 0x and 128 hexadecimal digits",
            Self::BodyHash => "computed_body_hash, as 64 lower-case hexadecimal digits",
            Self::Version => "the protocol's version, 1",
            Self::Crypto => "the scheme of the signature, sr25519",
            Self::Receiver => "the receiver's hotkey",
        }
    }
}

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// A header is not there.
    #[error("a header is missing: send {}", .0.expected())]
    Missing(Field),
    /// A header does not say what it should.
    #[error("a header cannot be read: send {}", .0.expected())]
    Malformed(Field),
    /// Signed with another scheme than sr25519.
    #[error("the signature is not of the scheme sr25519: sign with an sr25519 hotkey")]
    Scheme,
    /// Signed for somebody else.
    #[error("the request is for another hotkey: send it to the one that it was signed for")]
    Receiver,
    /// Signed too long ago.
    #[error(
        "the nonce is {age_ms} ms old and may be {limit_ms} ms old: sign anew, and set the clock"
    )]
    Stale {
        /// How old the nonce is by our clock.
        age_ms: u64,
        /// How old it might have been.
        limit_ms: u64,
    },
    /// Signed too far in the future.
    #[error("the nonce is {ahead_ms} ms in the future: set the clock")]
    Future {
        /// How far ahead of our clock it is.
        ahead_ms: u64,
    },
    /// From before what the memory of nonces reaches back to, after a restart for instance.
    #[error("the nonce is from before the nonces that are remembered: sign anew")]
    Unremembered,
    /// Accepted before.
    #[error("this nonce was accepted before: sign every request anew")]
    Replayed,
    /// Not signed by whom it says.
    #[error("the signature is not the hotkey's over this request: sign for this miner's hotkey")]
    Signature,
    /// Signed with another body hash than the body has.
    #[error("computed_body_hash is not the hash of the body's fields: hash what is sent")]
    BodyHash,
    /// The memory of nonces has no room.
    #[error("too many requests were accepted in the last minute: send fewer")]
    Full,
    /// The memory of nonces has no more room for this caller.
    #[error("too many requests of this hotkey were accepted in the last minute: send fewer")]
    CallerFull,
}

impl Unverified {
    /// A short name, for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Missing(field) => match field {
                Field::Hotkey => "missing_hotkey",
                Field::Uuid => "missing_uuid",
                Field::Nonce => "missing_nonce",
                Field::Signature => "missing_signature",
                Field::BodyHash => "missing_body_hash",
                Field::Version => "missing_version",
                Field::Crypto => "missing_crypto",
                Field::Receiver => "missing_receiver",
            },
            Self::Malformed(field) => match field {
                Field::Hotkey => "malformed_hotkey",
                Field::Uuid => "malformed_uuid",
                Field::Nonce => "malformed_nonce",
                Field::Signature => "malformed_signature",
                Field::BodyHash => "malformed_body_hash",
                Field::Version => "malformed_version",
                Field::Crypto => "malformed_crypto",
                Field::Receiver => "malformed_receiver",
            },
            Self::Scheme => "scheme",
            Self::Receiver => "receiver",
            Self::Stale { .. } => "stale",
            Self::Future { .. } => "future",
            Self::Unremembered => "unremembered",
            Self::Replayed => "replayed",
            Self::Signature => "signature",
            Self::BodyHash => "body_hash",
            Self::Full => "full",
            Self::CallerFull => "caller_full",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_label_and_a_way_out() {
        use Field::{BodyHash, Crypto, Hotkey, Nonce, Receiver, Signature, Uuid, Version};
        let fields = [Hotkey, Uuid, Nonce, Signature, BodyHash, Version, Crypto, Receiver];
        let mut all = vec![
            Unverified::Scheme,
            Unverified::Receiver,
            Unverified::Stale { age_ms: 60_070, limit_ms: 13_000 },
            Unverified::Future { ahead_ms: 3_600_000 },
            Unverified::Unremembered,
            Unverified::Replayed,
            Unverified::Signature,
            Unverified::BodyHash,
            Unverified::Full,
            Unverified::CallerFull,
        ];
        all.extend(fields.map(Unverified::Missing));
        all.extend(fields.map(Unverified::Malformed));
        let labels: BTreeSet<_> = all.iter().map(Unverified::as_str).collect();
        assert_eq!(labels.len(), all.len());
        for reason in all {
            let label = reason.as_str();
            assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{label}");
            let (_, advice) =
                reason.to_string().split_once(": ").map(|(a, b)| (a.len(), b.to_owned())).unwrap();
            let begins =
                ["send", "sign", "set", "hash"].iter().any(|verb| advice.starts_with(verb));
            assert!(begins, "{reason}");
        }
    }
}

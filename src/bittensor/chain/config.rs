//! The chain's dialect of Substrate: how accounts and signatures are written, and what a
//! transaction carries besides its call.
//!
//! Which extensions a transaction has, and in which order, is the runtime's own description; here is
//! how each is filled. Those that carry nothing need no entry, and one that carries something and
//! has none stops the call before anything is signed.

use subxt::config::substrate::{DynamicHasher256, SubstrateHeader};
use subxt::config::transaction_extensions::{
    ChargeTransactionPayment, CheckGenesis, CheckMetadataHash, CheckMortality, CheckNonce,
    CheckSpecVersion, CheckTxVersion,
};
use subxt::config::{ClientState, Config, HashFor, Hasher, SubstrateConfig, TransactionExtension};
use subxt::error::TransactionExtensionError;
use subxt::ext::codec::{Compact, Encode as _};
use subxt::ext::frame_decode::extrinsics as frame;
use subxt::ext::scale_decode::DecodeAsType;
use subxt::metadata::ArcMetadata;
use subxt::tx::Signer;
use subxt::utils::{AccountId32, MultiAddress, MultiSignature};

use crate::bittensor::Keypair;

/// What subxt must know of the chain. It keeps the runtime's metadata between connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Subtensor(SubstrateConfig);

impl Subtensor {
    /// One whose genesis, versions and metadata are known, for work without a node.
    pub(super) fn offline(config: SubstrateConfig) -> Self {
        Self(config)
    }
}

impl Config for Subtensor {
    type AccountId = AccountId32;
    type Address = MultiAddress<AccountId32, ()>;
    type Signature = MultiSignature;
    type Hasher = DynamicHasher256;
    type Header = SubstrateHeader<<DynamicHasher256 as Hasher>::Hash>;
    type TransactionExtensions = (
        CheckSpecVersion,
        CheckTxVersion,
        CheckGenesis<Self>,
        CheckMortality<Self>,
        CheckNonce,
        ChargeTransactionPayment,
        ChargeTransactionPaymentWrapper,
        CheckMetadataHash,
    );
    type AssetId = u32;

    fn genesis_hash(&self) -> Option<HashFor<Self>> {
        self.0.genesis_hash()
    }

    fn spec_and_transaction_version_for_block_number(&self, block: u64) -> Option<(u32, u32)> {
        self.0.spec_and_transaction_version_for_block_number(block)
    }

    fn metadata_for_spec_version(&self, spec_version: u32) -> Option<ArcMetadata> {
        self.0.metadata_for_spec_version(spec_version)
    }

    fn set_metadata_for_spec_version(&self, spec_version: u32, metadata: ArcMetadata) {
        self.0.set_metadata_for_spec_version(spec_version, metadata);
    }
}

/// The chain's wrapper around the usual payment extension, under the name that it bears in the
/// code. Runtimes describe it under the usual name or under this one; both carry a compact tip, and
/// ours is nothing.
pub(super) struct ChargeTransactionPaymentWrapper;

/// The tip, as the wrapper has it.
#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "subxt::ext::scale_decode")]
pub(super) struct Tip {
    #[expect(dead_code, reason = "subxt asks for a type that the extension decodes to")]
    inner: u128,
}

impl TransactionExtension<Subtensor> for ChargeTransactionPaymentWrapper {
    type Decoded = Tip;
    type Params = ();

    fn new(_: &ClientState<Subtensor>, (): ()) -> Result<Self, TransactionExtensionError> {
        Ok(Self)
    }
}

impl<Types: subxt::ext::scale_type_resolver::TypeResolver> frame::TransactionExtension<Types>
    for ChargeTransactionPaymentWrapper
{
    const NAME: &str = "ChargeTransactionPaymentWrapper";

    fn encode_value_to(
        &self,
        _: Types::TypeId,
        _: &Types,
        out: &mut Vec<u8>,
    ) -> Result<(), frame::TransactionExtensionError> {
        Compact(0u128).encode_to(out);
        Ok(())
    }

    fn encode_implicit_to(
        &self,
        _: Types::TypeId,
        _: &Types,
        _: &mut Vec<u8>,
    ) -> Result<(), frame::TransactionExtensionError> {
        Ok(())
    }
}

/// A hotkey that signs transactions.
pub(super) struct HotkeySigner<'a>(pub(super) &'a Keypair);

impl Signer<Subtensor> for HotkeySigner<'_> {
    fn account_id(&self) -> AccountId32 {
        AccountId32(*self.0.hotkey().bytes())
    }

    fn sign(&self, payload: &[u8]) -> MultiSignature {
        MultiSignature::Sr25519(self.0.sign(payload))
    }
}

//! The chain at one block, seen through one connection.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use subxt::OnlineClientAtBlock;
use subxt::ext::frame_decode::storage::{IntoDecodableValues, IntoEncodableValues};
use subxt::ext::scale_decode::DecodeAsType;
use subxt::storage::DynamicAddress;

use super::config::Subtensor;
use super::error::{ChainError, Fault};
use super::line::{Trouble, Troubles};
use super::shape;

/// The pallet that holds the subnets.
pub(super) const PALLET: &str = "SubtensorModule";

/// The chain at one block, seen through one connection.
pub(super) struct View {
    pub(super) at: OnlineClientAtBlock<Subtensor>,
    node: Arc<str>,
    troubles: Troubles,
}

impl View {
    pub(super) fn new(
        at: OnlineClientAtBlock<Subtensor>,
        node: Arc<str>,
        troubles: Troubles,
    ) -> Self {
        Self { at, node, troubles }
    }

    /// The node's name, for messages.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// What stands behind an error that came up on this connection.
    pub(super) fn explain(&self, error: &dyn Display) -> ChainError {
        explain(&self.node, &self.troubles, error)
    }

    /// The trouble behind the last error.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.troubles.take()
    }

    /// What lies in storage under a key, or its default. Nothing if there is neither.
    pub(super) async fn stored<Key, Value>(
        &self,
        pallet: &str,
        entry: &str,
        key: Key,
    ) -> Result<Option<Value>, ChainError>
    where
        Key: IntoEncodableValues + IntoDecodableValues,
        Value: DecodeAsType,
    {
        let address = self.address::<Key, Value>(pallet, entry)?;
        let value = self.at.storage().try_fetch(address, key).await;
        let value = value.map_err(|error| self.explain(&error))?;
        value.map(|value| value.decode()).transpose().map_err(|error| self.explain(&error))
    }

    /// Where something lies in storage, once its types are known to be safe to decode.
    pub(super) fn address<Key, Value>(
        &self,
        pallet: &str,
        entry: &str,
    ) -> Result<DynamicAddress<Key, Value>, ChainError>
    where
        Key: IntoEncodableValues + IntoDecodableValues,
        Value: DecodeAsType,
    {
        let metadata = self.at.metadata_ref();
        let storage = metadata.pallet_by_name(pallet).and_then(|found| found.storage());
        let Some(found) = storage.and_then(|storage| storage.entry_by_name(entry)) else {
            return Err(self.explain(&format!("its runtime stores no {pallet}.{entry}")));
        };
        let mut types = found.keys().map(|key| key.key_id).chain([found.value_ty()]);
        if !types.all(|id| shape::is_tame(metadata.types(), id)) {
            return Err(self.explain(&format!("the types of {pallet}.{entry} are out of bounds")));
        }
        Ok(subxt::storage::dynamic(pallet, entry))
    }

    /// When the block was made.
    pub(super) async fn time(&self) -> Result<SystemTime, ChainError> {
        let millis: Option<u64> = self.stored("Timestamp", "Now", ()).await?;
        let millis = millis.ok_or_else(|| self.explain(&"it does not know the time"))?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
    }
}

/// What stands behind an error: trouble on the connection if there was any, and else what the error
/// says of the reply.
pub(super) fn explain(node: &str, troubles: &Troubles, error: &dyn Display) -> ChainError {
    match troubles.take() {
        Some(Trouble::Broken(why)) => {
            ChainError::new(Fault::Broken, format!("the connection to {node} broke: {why}"))
        }
        Some(Trouble::Refused(code, why)) => {
            ChainError::new(Fault::Refused, format!("{node} refused: {why} ({code})"))
        }
        None => ChainError::new(Fault::Reply, format!("{node} was not understood: {error}")),
    }
}

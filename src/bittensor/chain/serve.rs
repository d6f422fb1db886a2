//! Tells the chain where an axon is: reads what it has, and submits `serve_axon` if that differs.

use std::time::Duration;

use subxt::error::{DispatchError, TransactionEventsError};
use subxt::tx::{DefaultParams, TransactionStatus};
use subxt::utils::AccountId32;

use super::call::{self, Call, Payload};
use super::config::HotkeySigner;
use super::decision::{Decision, Standing, decide};
use super::endpoint::{AxonInfo, Endpoint};
use super::error::{ChainError, Fault};
use super::line::Trouble;
use super::node::Node;
use super::rejection;
use super::view::{PALLET, View};
use crate::bittensor::{Hotkey, Keypair};

/// What would be submitted, and whether it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The call.
    pub call: Call,
    /// Whether it is submitted.
    pub decision: Decision,
    /// The block at which this was decided.
    pub block: u64,
    /// The version of the runtime at that block.
    pub spec_version: u32,
}

/// Where a submitted call ended up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The hash of the block, as hex.
    pub block: String,
    /// The hash of the extrinsic, as hex.
    pub extrinsic: String,
}

impl Node {
    /// Says what [`Node::serve_axon`] would do. No private key is needed, and nothing is submitted.
    ///
    /// # Errors
    /// Whatever is wrong with the node or its runtime, or that it took longer than `within`.
    pub async fn plan(
        &self,
        netuid: u16,
        hotkey: Hotkey,
        wanted: &Endpoint,
        within: Duration,
    ) -> Result<Plan, ChainError> {
        self.within(within, async {
            let view = self.view(within).await?;
            plan(&view, netuid, hotkey, wanted).await
        })
        .await
    }

    /// Tells the chain where the hotkey's axon is, and waits until that stands in a block. If the
    /// chain has it already, nothing is submitted and there is no inclusion.
    ///
    /// # Errors
    /// As [`Node::plan`]; that the hotkey is not registered or the chain takes no change yet, in
    /// which case nothing was submitted; and what the chain says against it. Signing and waiting
    /// have `within` each.
    pub async fn serve_axon(
        &self,
        netuid: u16,
        keys: &Keypair,
        wanted: &Endpoint,
        within: Duration,
    ) -> Result<(Plan, Option<Inclusion>), ChainError> {
        let payload = call::payload(netuid, wanted);
        let sign = async {
            let view = self.view(within).await?;
            let plan = plan(&view, netuid, keys.hotkey(), wanted).await?;
            let signed = match plan.decision {
                Decision::Submit => Some(sign(&view, keys, &payload).await?),
                Decision::Unchanged => None,
                Decision::NotRegistered => return Err(not_registered(netuid, keys.hotkey())),
                Decision::Wait { .. } => return Err(too_soon(plan.decision)),
            };
            Ok((view, plan, signed))
        };
        let (view, plan, signed) = self.within(within, sign).await?;
        let Some(signed) = signed else { return Ok((plan, None)) };
        match tokio::time::timeout(within, submit(&view, signed)).await {
            Ok(included) => Ok((plan, Some(included?))),
            Err(_) => Err(unsure(&format!("not seen in a block for {} s", within.as_secs_f64()))),
        }
    }
}

type Signed = subxt::tx::SubmittableTransaction<
    super::config::Subtensor,
    subxt::client::OnlineClientAtBlockImpl<super::config::Subtensor>,
>;

async fn plan(
    view: &View,
    netuid: u16,
    hotkey: Hotkey,
    wanted: &Endpoint,
) -> Result<Plan, ChainError> {
    let call = Call::encode(&view.at.tx(), &call::payload(netuid, wanted))?;
    let account = AccountId32(*hotkey.bytes());
    let uid: Option<u16> = view.stored(PALLET, "Uids", (netuid, account)).await?;
    let axon: Option<AxonInfo> = view.stored(PALLET, "Axons", (netuid, account)).await?;
    let rate_limit: Option<u64> = view.stored(PALLET, "ServingRateLimit", (netuid,)).await?;
    let standing = Standing {
        block: view.at.block_number(),
        is_registered: uid.is_some(),
        axon,
        rate_limit: rate_limit.unwrap_or_default(),
    };
    let decision = decide(wanted, &standing);
    Ok(Plan { call, decision, block: standing.block, spec_version: view.at.spec_version() })
}

async fn sign(view: &View, keys: &Keypair, payload: &Payload) -> Result<Signed, ChainError> {
    let parameters = DefaultParams::default_params();
    let signed = view.at.tx().create_signed(payload, &HotkeySigner(keys), parameters).await;
    signed.map_err(|error| match view.explain(&error) {
        // The node did nothing wrong: we do not know how to fill what its runtime asks for.
        explained if explained.fault == Fault::Reply => {
            ChainError::new(Fault::Runtime, format!("the call could not be signed: {error}"))
        }
        explained => explained,
    })
}

async fn submit(view: &View, signed: Signed) -> Result<Inclusion, ChainError> {
    let mut progress = match signed.submit_and_watch().await {
        Ok(progress) => progress,
        Err(error) => {
            return Err(match view.trouble() {
                Some(Trouble::Refused(_, why)) => rejection::of_the_pool(&why),
                Some(Trouble::Broken(why)) => unsure(&format!("the connection broke: {why}")),
                None => unsure(&error.to_string()),
            });
        }
    };
    let extrinsic = format!("{:?}", progress.extrinsic_hash());
    while let Some(status) = progress.next().await {
        let block = match status.map_err(|error| unsure(&error.to_string()))? {
            TransactionStatus::InBestBlock(block) | TransactionStatus::InFinalizedBlock(block) => {
                block
            }
            TransactionStatus::Invalid { message } | TransactionStatus::Error { message } => {
                return Err(rejection::of_the_pool(&message));
            }
            TransactionStatus::Dropped { message } => return Err(unsure(&message)),
            _ => continue,
        };
        let inclusion = Inclusion { block: format!("{:?}", block.block_hash()), extrinsic };
        return match block.wait_for_success().await {
            Ok(_) => Ok(inclusion),
            Err(TransactionEventsError::ExtrinsicFailed(DispatchError::Module(error))) => {
                Err(rejection::of_the_call(&error.details_string()))
            }
            Err(TransactionEventsError::ExtrinsicFailed(error)) => {
                Err(rejection::of_the_call(&error.to_string()))
            }
            Err(error) => Err(unsure(&format!("it is in block {}: {error}", inclusion.block))),
        };
    }
    Err(unsure("the node stopped telling"))
}

fn not_registered(netuid: u16, hotkey: Hotkey) -> ChainError {
    let what = format!("{hotkey} is not registered on subnet {netuid}");
    ChainError::new(Fault::NotRegistered, what)
}

fn too_soon(decision: Decision) -> ChainError {
    let Decision::Wait { blocks } = decision else {
        return ChainError::new(Fault::TooSoon, "the chain takes no change yet");
    };
    let minutes = decision.wait().as_secs().div_ceil(60);
    let what = format!(
        "the endpoint was changed only just now: the chain takes the next change in {blocks} \
         blocks, about {minutes} minutes"
    );
    ChainError::new(Fault::TooSoon, what)
}

fn unsure(why: &str) -> ChainError {
    ChainError::new(Fault::Unsure, format!("the call was submitted, and then: {why}"))
}

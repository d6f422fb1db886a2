//! `roadcrew axon register-endpoint`

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::RegisterEndpoint;
use crate::app::{App, Exit};
use crate::bittensor::WalletError;
use crate::bittensor::chain::{Call, ChainError, Decision, Endpoint, Fault, Inclusion, Node, Plan};
use crate::cli::failure::Failure;
use crate::cli::session::{Session, Usually, tell};

/// The main network.
const NODE: &str = "wss://entrypoint-finney.opentensor.ai:443";

/// What came of it.
struct Report {
    call: Call,
    /// What the chain says; nothing without a node.
    plan: Option<Plan>,
    /// Where it was submitted to; nothing if it was not.
    inclusion: Option<Inclusion>,
}

/// What is asked for, with the settings where the arguments say nothing.
struct Task<'a> {
    app: &'a App,
    arguments: &'a RegisterEndpoint,
    wanted: Endpoint,
    netuid: u16,
}

impl RegisterEndpoint {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        let app = session.app(Usually::Quiet)?;
        let config = app.config();
        let wanted = match self.ip {
            Some(ip) => {
                Endpoint::new(ip, self.port.unwrap_or(config.axon.port)).map_err(failure)?
            }
            None => Endpoint::nowhere(),
        };
        if let Some(why) = wanted.is_out_of_reach() {
            tell(&format!("warning: validators on the internet cannot reach {wanted}: {why}"));
        }
        let netuid = self.netuid.unwrap_or(config.metagraph.netuid);
        let task = Task { app: &app, arguments: &self, wanted, netuid };
        let report = match &self.metadata {
            Some(file) => task.encode(file)?,
            None => actix::System::new().block_on(task.ask())?,
        };
        if self.json { report.json(session.out) } else { report.text(session.out) }?;
        session.out.flush()?;
        tell(&task.conclusion(&report));
        Ok(Exit::Ok)
    }
}

impl Task<'_> {
    /// The call as the runtime with this metadata reads it.
    fn encode(&self, file: &Path) -> Result<Report, Failure> {
        let metadata = fs_err::read(file).map_err(|error| {
            Failure::new(error, "name a file such as `subxt metadata -f bytes` writes")
        })?;
        let call = Call::offline(&metadata, self.netuid, &self.wanted).map_err(failure)?;
        Ok(Report { call, plan: None, inclusion: None })
    }

    /// Asks the node, and submits if that is wanted and needed.
    async fn ask(&self) -> Result<Report, Failure> {
        let (node, within) = (self.node()?, Duration::from_secs(self.arguments.timeout_s));
        let wallet = &self.app.config().wallet;
        let (plan, inclusion) = if self.arguments.dry_run {
            let hotkey = match self.arguments.hotkey {
                Some(hotkey) => hotkey,
                None => wallet.address()?.ok_or(WalletError::Unnamed)?,
            };
            let plan = node.plan(self.netuid, hotkey, &self.wanted, within).await;
            (plan.map_err(failure)?, None)
        } else {
            let keys = wallet.unlock(None)?;
            let served = node.serve_axon(self.netuid, &keys, &self.wanted, within).await;
            served.map_err(failure)?
        };
        Ok(Report { call: plan.call.clone(), plan: Some(plan), inclusion })
    }

    fn node(&self) -> Result<Node, Failure> {
        let set = self.app.config().metagraph.endpoint.as_str();
        let given = self.arguments.endpoint.as_deref();
        let address = given.unwrap_or(if set.is_empty() { NODE } else { set });
        let node = Node::new(address).map_err(failure)?;
        if node.is_exposed() {
            let name = node.name();
            tell(&format!("warning: what {name} says can be changed on the way: use wss://"));
        }
        Ok(node)
    }

    /// What to tell whoever ran it.
    fn conclusion(&self, report: &Report) -> String {
        let Self { wanted, netuid, .. } = self;
        let Some(plan) = &report.plan else {
            return "encoded only; without a node nothing is known of the chain".to_owned();
        };
        match (plan.decision, &report.inclusion) {
            (_, Some(Inclusion { block, .. })) => {
                format!(
                    "the chain has {wanted} for this hotkey on subnet {netuid}, in block {block}"
                )
            }
            (Decision::Unchanged, None) => {
                format!("the chain has {wanted} already; nothing to submit")
            }
            (Decision::Submit, None) => "would be submitted; nothing was".to_owned(),
            (Decision::Wait { blocks }, None) => format!(
                "would not be submitted now: the chain takes the next change in {blocks} blocks, \
                 about {} minutes",
                plan.decision.wait().as_secs().div_ceil(60)
            ),
            (Decision::NotRegistered, None) => {
                format!("would be refused: the hotkey is not registered on subnet {netuid}")
            }
        }
    }
}

impl Report {
    fn hex(&self) -> String {
        format!("0x{}", hex::encode(&self.call.bytes))
    }

    fn decision(&self) -> Option<&'static str> {
        self.plan.as_ref().map(|plan| match plan.decision {
            Decision::Submit => "submit",
            Decision::Unchanged => "unchanged",
            Decision::Wait { .. } => "wait",
            Decision::NotRegistered => "not_registered",
        })
    }

    /// Numbers are text where they may be longer than JSON's readers take.
    fn json(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let arguments = self.call.arguments.iter();
        let arguments = arguments.map(|(name, number)| (name.clone(), json!(number.to_string())));
        let wait = self.plan.as_ref().and_then(|plan| match plan.decision {
            Decision::Wait { blocks } => Some(blocks),
            _ => None,
        });
        let object = json!({
            "call": self.hex(),
            "arguments": Value::Object(arguments.collect()),
            "decision": self.decision(),
            "wait_blocks": wait,
            "block": self.plan.as_ref().map(|plan| plan.block),
            "spec_version": self.plan.as_ref().map(|plan| plan.spec_version),
            "submitted": self.inclusion.as_ref().map(|inclusion| json!({
                "block": inclusion.block,
                "extrinsic": inclusion.extrinsic,
            })),
        });
        serde_json::to_writer_pretty(&mut *out, &object)?;
        writeln!(out)?;
        Ok(())
    }

    fn text(&self, out: &mut dyn Write) -> Result<(), Failure> {
        writeln!(out, "call\t{}", self.hex())?;
        for (name, number) in &self.call.arguments {
            writeln!(out, "{name}\t{number}")?;
        }
        if let Some(plan) = &self.plan {
            writeln!(out, "at block\t{}", plan.block)?;
        }
        if let Some(decision) = self.decision() {
            writeln!(out, "decision\t{decision}")?;
        }
        if let Some(Inclusion { block, extrinsic }) = &self.inclusion {
            writeln!(out, "extrinsic\t{extrinsic}\nin block\t{block}")?;
        }
        Ok(())
    }
}

/// A problem with the chain, for the user.
fn failure(error: ChainError) -> Failure {
    let exit = match error.fault {
        Fault::Endpoint | Fault::Address => Exit::Usage,
        _ => Exit::Failure,
    };
    let (next, what) = (error.fault.next().to_owned(), error.what().to_owned());
    Failure::Error { error: anyhow::anyhow!(what), next, exit }
}

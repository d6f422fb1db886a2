//! `roadcrew axon`: what concerns the public port and the chain.

#[cfg(feature = "chain")]
mod endpoint;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::failure::Failure;
use super::session::Session;
use crate::app::Exit;
use crate::bittensor::Hotkey;

/// Tell the chain where validators find this miner
#[derive(Args, Debug)]
pub(super) struct Axon {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    RegisterEndpoint(RegisterEndpoint),
}

/// Submit `serve_axon`, signed by the hotkey, unless the chain has the endpoint already
///
/// Needs a build with `--features chain`. Reads the chain first: if it has exactly this endpoint,
/// nothing is submitted and the exit code is 0; if it takes no change yet, that is said and the exit
/// code is 1. Otherwise the call is signed and submitted, and its block is waited for.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
struct RegisterEndpoint {
    /// The address at which validators reach this machine
    #[arg(long, value_name = "ADDRESS", required_unless_present = "reset")]
    ip: Option<IpAddr>,
    /// The public port, in place of axon.port
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Take the axon off the subnet instead: validators no longer call it
    #[arg(long, conflicts_with_all = ["ip", "port"])]
    reset: bool,
    /// The node to talk to, in place of metagraph.endpoint; if that is empty, one of the main network
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// The subnet, in place of metagraph.netuid
    #[arg(long)]
    netuid: Option<u16>,
    /// Sign and submit nothing: print the call, its arguments, and whether it would be submitted
    #[arg(long)]
    dry_run: bool,
    /// For a dry run without a wallet: the hotkey's address
    #[arg(long, value_name = "ADDRESS", requires = "dry_run", value_parser = address)]
    hotkey: Option<Hotkey>,
    /// For a dry run without a node: only encode the call, by the metadata in this file
    #[arg(long, value_name = "FILE", requires = "dry_run", conflicts_with = "hotkey")]
    metadata: Option<PathBuf>,
    /// Give up after so many seconds of reading and signing, and again of waiting for the block
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout_s: u64,
    /// Print one JSON object instead
    #[arg(long)]
    json: bool,
}

fn address(text: &str) -> Result<Hotkey, String> {
    text.parse().map_err(|error: crate::bittensor::AddressError| error.to_string())
}

impl Axon {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        match self.command {
            Command::RegisterEndpoint(command) => command.run(session),
        }
    }
}

#[cfg(not(feature = "chain"))]
impl RegisterEndpoint {
    fn run(self, _: Session<'_>) -> Result<Exit, Failure> {
        let error = anyhow::anyhow!("this roadcrew was built without the chain");
        Err(Failure::new(error, "build it again with `cargo build --release --features chain`"))
    }
}

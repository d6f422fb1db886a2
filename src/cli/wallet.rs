//! `roadcrew wallet`

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use super::session::{Session, tell};
use crate::app::Exit;
use crate::bittensor::{PASSWORD_VARIABLE, WalletError, WalletKind, WalletSummary};
use crate::config::Setting;

/// Look at the hotkey this miner is known by
#[derive(Args, Debug)]
pub(super) struct Wallet {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
}

/// Print whose the hotkey is, how it is kept, and whether the key is that of the address
///
/// An encrypted hotkey is opened with the password of wallet.password_file, or else of the environment
/// variable ROADCREW_WALLET_PASSWORD; that takes 512 MiB of memory and a second or two. Without a
/// password only the public half is looked at. Nothing private is printed.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
struct Show {
    /// The wallet's name, in place of wallet.name
    #[arg(long)]
    name: Option<String>,
    /// The hotkey's name, in place of wallet.hotkey
    #[arg(long)]
    hotkey: Option<String>,
    /// The folder of the wallets, in place of wallet.path
    #[arg(long)]
    path: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Wallet {
    pub(super) fn run(self, session: Session<'_>) -> Result<Exit, Failure> {
        match self.command {
            Command::Show(command) => command.run(session),
        }
    }
}

impl Show {
    fn run(self, mut session: Session<'_>) -> Result<Exit, Failure> {
        let given = [("name", &self.name), ("hotkey", &self.hotkey), ("path", &self.path)];
        for (setting, text) in given {
            let setting = text.as_ref().map(|text| Setting::text(["wallet", setting], text));
            session.common.set.extend(setting);
        }
        let spec = session.resolve()?.config.wallet;
        let summary = spec.summary(None)?;
        for warning in &summary.warnings {
            tell(&format!("warning: {warning}"));
        }
        if let Some(why) = unchecked(&summary) {
            tell(&format!("note: {why}"));
        }
        self.print(&summary, session.out)
    }

    fn print(&self, summary: &WalletSummary, out: &mut dyn Write) -> Result<Exit, Failure> {
        let WalletSummary { file, kind, hotkey, is_checked, warnings } = summary;
        let (file, kind) = (file.display().to_string(), kind.as_str());
        let hex: String = hotkey.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let public_key = format!("0x{hex}");
        if self.json {
            let address = hotkey.to_string();
            let object = json!({
                "file": file, "kind": kind, "address": address, "public_key": public_key,
                "checked": is_checked, "warnings": warnings,
            });
            serde_json::to_writer(&mut *out, &object)?;
            writeln!(out)?;
        } else {
            let checked = if *is_checked { "yes" } else { "no" };
            writeln!(out, "file        {file}")?;
            writeln!(out, "kind        {kind}")?;
            writeln!(out, "address     {hotkey}")?;
            writeln!(out, "public key  {public_key}")?;
            writeln!(out, "checked     {checked}")?;
        }
        out.flush()?;
        Ok(Exit::Ok)
    }
}

/// Why the key could not be compared with the address, and what would help.
fn unchecked(summary: &WalletSummary) -> Option<String> {
    match summary.kind {
        _ if summary.is_checked => None,
        WalletKind::Public => Some(
            "only the public half is here, so the address was not checked, and nothing can be signed"
                .into(),
        ),
        WalletKind::Plain | WalletKind::Encrypted => Some(format!(
            "the key is encrypted and there is no password, so the address was not checked: name a \
             file in wallet.password_file, or set {PASSWORD_VARIABLE}"
        )),
    }
}

/// The settings are wrong, or what they point at.
impl From<WalletError> for Failure {
    fn from(error: WalletError) -> Self {
        let exit = if error.is_about_settings() { Exit::Config } else { Exit::Failure };
        let next = "do that, and look again with `roadcrew wallet show`".into();
        Self::Error { error: error.into(), next, exit }
    }
}

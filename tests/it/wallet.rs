//! `roadcrew wallet show` as a process: what comes from the environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bittensor/wallets")
}

fn show(env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadcrew"));
    command.args(["wallet", "show", "--json", "--path"]).arg(fixtures());
    command.env_clear().envs(env.iter().copied()).output().unwrap()
}

#[test]
fn the_environment_names_the_wallet_and_holds_its_password() {
    let expected: Value =
        serde_json::from_slice(&fs_err::read(fixtures().join("expected.json")).unwrap()).unwrap();
    let password = expected["password"].as_str().unwrap();
    let named = [("WALLET_NAME", "fixture"), ("WALLET_HOTKEY", "sealed")];
    for (secret, checked) in [(password, true), ("", false)] {
        let env = [&named[..], &[("ROADCREW_WALLET_PASSWORD", secret)]].concat();
        let output = show(&env);
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(shown["address"], expected["hotkeys"]["sealed"]["address"]);
        assert_eq!(shown["checked"], checked);
        let talk = String::from_utf8(output.stderr).unwrap();
        assert_eq!(talk.contains("ROADCREW_WALLET_PASSWORD"), !checked, "{talk}");
        assert!(!talk.contains(password), "{talk}");
    }
}

#[test]
fn what_is_wrong_is_told_on_standard_error_with_what_to_do() {
    let output = show(&[("WALLET_NAME", "fixture"), ("WALLET_HOTKEY", "vault")]);
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(talk.contains("Ansible Vault") && talk.contains("regen-hotkey"), "{talk}");
    assert!(talk.contains("  next: "), "{talk}");
    let output = show(&[("WALLET_NAME", "fixture")]);
    let talk = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(talk.contains("wallet.hotkey") && talk.contains("must not be empty"), "{talk}");
}

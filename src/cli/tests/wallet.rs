//! `roadcrew wallet show`, with files that the real wallet software wrote.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// A copy of the wallets, readable by us alone.
fn wallets() -> (tempfile::TempDir, String) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/bittensor/wallets/fixture/hotkeys");
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("fixture/hotkeys");
    fs_err::create_dir_all(&to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let copy = to.join(entry.file_name());
        fs_err::copy(entry.path(), &copy).unwrap();
        fs_err::set_permissions(&copy, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = dir.path().display().to_string();
    (dir, path)
}

fn show(path: &str, args: &[&str]) -> (Exit, String) {
    let common = ["wallet", "show", "--path", path, "--name", "fixture"];
    run(&[&common, args].concat())
}

#[test]
fn help_of_what_a_wallet_can_be_asked() {
    let mut command = Cli::command();
    command.build();
    let wallet = command.find_subcommand_mut("wallet").unwrap();
    let show = wallet.find_subcommand_mut("show").unwrap();
    insta::assert_snapshot!("help_wallet_show", show.render_long_help().to_string());
}

#[test]
fn a_plain_hotkey_is_shown_and_checked() {
    let (dir, path) = wallets();
    let (exit, out) = show(&path, &["--hotkey", "plain"]);
    let out = out.replace(&dir.path().display().to_string(), "WALLETS");
    assert_eq!(exit, Exit::Ok);
    insta::assert_snapshot!("wallet_show", out);
}

#[test]
fn an_encrypted_hotkey_shows_its_public_half_as_json() {
    let (dir, path) = wallets();
    let open = dir.path().join("fixture/hotkeys/sealed");
    fs_err::set_permissions(open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, out) = show(&path, &["--hotkey", "sealed", "--json"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, Exit::Ok);
    assert_eq!((&shown["kind"], &shown["checked"]), (&"encrypted".into(), &false.into()));
    assert_eq!(shown["address"], "5EHgWw2Af1pnoc7f1A8bfmM97W3DAYW8xr82RfhLL9oAabAe");
    let key = "0x625e25364c7b68e0a83065ccb40afed43f8fe933e669b24f3d69a57eddb3b715";
    assert_eq!(shown["public_key"], key);
    let warnings = shown["warnings"].as_array().unwrap();
    assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().contains("chmod 600"), "{out}");
}

#[test]
fn exit_codes_of_wallets() {
    let (_dir, path) = wallets();
    let silent = |exit| (exit, String::new());
    for hotkey in ["nobody", "vault", "ed25519"] {
        assert_eq!(show(&path, &["--hotkey", hotkey]), silent(Exit::Failure), "{hotkey}");
    }
    assert_eq!(show(&path, &["--hotkey", "../plain"]), silent(Exit::Config));
    assert_eq!(show(&path, &["--hotkey", ""]), silent(Exit::Config));
    assert_eq!(run(&["wallet", "show", "--path", &path]), silent(Exit::Config));
    assert_eq!(show("~nobody/x", &["--hotkey", "plain"]), silent(Exit::Config));
    assert_eq!(run(&["wallet"]), silent(Exit::Usage));
    assert_eq!(show(&path, &["--hotkey", "plain", "--password", "x"]), silent(Exit::Usage));
}

#[test]
fn the_arguments_win_over_the_settings() {
    let (_dir, path) = wallets();
    let settings = "[wallet]\nname = \"fixture\"\nhotkey = \"long\"\n";
    let room = Room::new(&format!("{settings}path = {path:?}\n"));
    let address = |args: &[&str]| {
        let (exit, out) = room.run(&[&["wallet", "show", "--json"], args].concat());
        assert_eq!(exit, Exit::Ok);
        serde_json::from_str::<Value>(&out).unwrap()["address"].as_str().unwrap().to_owned()
    };
    assert!(address(&[]).starts_with("5Dqr"));
    assert!(address(&["--hotkey", "seed"]).starts_with("5Cw6"));
    assert!(address(&["--set", "wallet.hotkey=private", "--hotkey", "seed"]).starts_with("5Cw6"));
    assert!(address(&["--set", "wallet.hotkey=private"]).starts_with("5Grw"));
}

use std::os::unix::fs::{PermissionsExt as _, symlink};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A folder of wallets as the real software wrote them, readable by us alone.
struct Room {
    dir: tempfile::TempDir,
    expected: Value,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bittensor/wallets")
}

impl Room {
    fn new() -> Self {
        let text = fs_err::read(fixtures().join("expected.json")).unwrap();
        let expected = serde_json::from_slice(&text).unwrap();
        let room = Self { dir: tempfile::tempdir().unwrap(), expected };
        fs_err::create_dir_all(room.path("")).unwrap();
        for entry in fs_err::read_dir(fixtures().join("fixture/hotkeys")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            room.put(&name, &fs_err::read(fixtures().join("fixture/hotkeys").join(&name)).unwrap());
        }
        room
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("fixture/hotkeys").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs_err::write(self.path(name), bytes).unwrap();
        chmod(&self.path(name), 0o600);
    }

    fn remove(&self, name: &str) {
        fs_err::remove_file(self.path(name)).unwrap();
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs_err::read(self.path(name)).unwrap()).unwrap()
    }

    fn spec(&self, hotkey: &str) -> WalletSpec {
        WalletSpec {
            path: self.dir.path().display().to_string(),
            name: "fixture".into(),
            hotkey: hotkey.into(),
            password_file: String::new(),
        }
    }

    /// What opening a file with these contents says.
    fn refusal(&self, bytes: &[u8]) -> WalletError {
        self.put("probe", bytes);
        self.spec("probe").unlock(None).unwrap_err()
    }

    fn address(&self, name: &str) -> Hotkey {
        self.expected["hotkeys"][name]["address"].as_str().unwrap().parse().unwrap()
    }

    fn password(&self) -> Password {
        Password::new(self.expected["password"].as_str().unwrap())
    }

    /// Demands that the key is the one that the real wallet signed with.
    fn is_of(&self, name: &str, keys: &Keypair) {
        let mut signature = [0; 64];
        let text = self.expected["hotkeys"][name]["signature"].as_str().unwrap();
        hex::decode_to_slice(text, &mut signature).unwrap();
        let message = self.expected["message"].as_str().unwrap().as_bytes();
        assert_eq!(keys.hotkey(), self.address(name));
        assert!(keys.hotkey().verifies(message, &signature), "signed by the real wallet");
        assert!(keys.hotkey().verifies(message, &keys.sign(message)));
    }
}

fn chmod(path: &Path, mode: u32) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn real_plain_files_open_to_their_keys() {
    let room = Room::new();
    for name in ["plain", "long", "seed", "private", "old"] {
        let spec = room.spec(name);
        assert_eq!(spec.address().unwrap(), Some(room.address(name)), "{name}");
        room.is_of(name, &spec.unlock(None).unwrap());
        let summary = spec.summary(None).unwrap();
        assert_eq!((summary.kind, summary.is_checked), (WalletKind::Plain, true), "{name}");
        assert_eq!((summary.file, summary.warnings), (room.path(name), vec![]), "{name}");
    }
    // Older wallets have no public file.
    room.remove("plainpub.txt");
    assert_eq!(room.spec("plain").address().unwrap(), Some(room.address("plain")));
    room.is_of("plain", &room.spec("plain").unlock(None).unwrap());
}

/// Argon2 with 512 MiB twice: the one slow test.
#[test]
fn a_real_encrypted_file_opens_with_its_password_and_no_other() {
    let room = Room::new();
    let text = format!("{}\r\n", room.expected["password"].as_str().unwrap());
    let file = room.dir.path().join("password");
    fs_err::write(&file, text).unwrap();
    chmod(&file, 0o644);
    let spec = WalletSpec { password_file: file.display().to_string(), ..room.spec("sealed") };
    let summary = spec.summary(None).unwrap();
    assert_eq!((summary.kind, summary.is_checked), (WalletKind::Encrypted, true));
    assert_eq!(summary.hotkey, room.address("sealed"));
    assert!(summary.warnings[0].contains("chmod 600") && summary.warnings.len() == 1);

    let error = spec.unlock(Some(Password::new("correct horse"))).unwrap_err();
    assert!(matches!(error, WalletError::WrongPassword { .. }), "{error}");
}

#[test]
fn an_encrypted_file_shows_its_public_half_without_a_password() {
    let room = Room::new();
    let spec = room.spec("sealed");
    assert_eq!(spec.address().unwrap(), Some(room.address("sealed")));
    let summary = spec.summary(None).unwrap();
    assert_eq!((summary.kind, summary.is_checked), (WalletKind::Encrypted, false));
    assert_eq!(summary.hotkey, room.address("sealed"));
    let demands_one = |outcome: Result<(), WalletError>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, WalletError::NoPassword { .. }), "{error}");
    };
    demands_one(spec.unlock(None).map(drop));
    room.remove("sealedpub.txt");
    demands_one(spec.unlock(None).map(drop));
    demands_one(spec.address().map(drop));
    demands_one(spec.summary(None).map(drop));
}

#[test]
fn the_phrase_is_preferred_to_the_seed_and_that_to_the_private_key() {
    let room = Room::new();
    let (long, seed, private) = (room.json("long"), room.json("seed"), room.json("private"));
    let mut all = json!({
        "secretPhrase": long["secretPhrase"],
        "secretSeed": seed["secretSeed"],
        "privateKey": private["privateKey"],
        "ss58Address": null,
        "a key of another program": [1, { "x": "\u{1F6A7}\n" }],
    });
    for (name, next) in [("long", "secretPhrase"), ("seed", "secretSeed"), ("private", "")] {
        room.put("mixed", all.to_string().as_bytes());
        room.is_of(name, &room.spec("mixed").unlock(None).unwrap());
        assert_eq!(room.spec("mixed").address().unwrap(), Some(room.address(name)));
        all[next] = Value::Null;
    }
    all["privateKey"] = Value::Null;
    assert!(matches!(room.refusal(all.to_string().as_bytes()), WalletError::Empty { .. }));
}

#[test]
fn hexadecimal_needs_no_prefix_and_public_keys_serve_as_addresses() {
    let room = Room::new();
    let seed = room.json("seed");
    let bare = seed["secretSeed"].as_str().unwrap().trim_start_matches("0x");
    for field in ["publicKey", "accountId"] {
        let file = json!({ "secretSeed": bare, field: seed["publicKey"] });
        room.put("bare", file.to_string().as_bytes());
        room.is_of("seed", &room.spec("bare").unlock(None).unwrap());
        let swapped = json!({ "secretSeed": bare, field: room.json("long")["publicKey"] });
        let error = room.refusal(swapped.to_string().as_bytes());
        assert!(matches!(error, WalletError::Mismatch { .. }), "{error}");
    }
}

/// What is wrong, and a word that its message must have.
fn broken(room: &Room) -> Vec<(Vec<u8>, &'static str)> {
    let plain = room.json("plain");
    let with = |field: &str, value: Value| {
        let mut changed = plain.clone();
        changed[field] = value;
        changed.to_string().into_bytes()
    };
    let only = |field: &str, value: &str| json!({ field: value }).to_string().into_bytes();
    let (phrase, seed) = (plain["secretPhrase"].as_str().unwrap(), plain["secretSeed"].clone());
    let seed = seed.as_str().unwrap();
    vec![
        (fs_err::read(room.path("vault")).unwrap(), "Ansible Vault"),
        (b"gAAAAABmPq0x".to_vec(), "Fernet"),
        (b"".to_vec(), "line 1"),
        (b"\xff\xfe\x00".to_vec(), "line 1"),
        (seed.as_bytes().to_vec(), "no hotkey file"),
        (format!("[\"{phrase}\"]").into_bytes(), "no hotkey file"),
        (b"{}".to_vec(), "neither an address nor a key"),
        (b"$NACL".to_vec(), "no password"),
        (fs_err::read(room.path("ed25519")).unwrap(), "ed25519"),
        (fs_err::read(room.path("plainpub.txt")).unwrap(), "no private key"),
        (with("ss58Address", room.json("long")["ss58Address"].clone()), "wrong or was swapped"),
        (with("ss58Address", phrase.into()), "`ss58Address` cannot be read"),
        (with("secretPhrase", phrase.replace("legal", seed).into()), "word 1 "),
        (with("secretPhrase", phrase.replace("yellow", "year").into()), "checksum"),
        (with("secretPhrase", json!([phrase])), "no hotkey file"),
        (with("secretPhrase", "".into()), "0 words"),
        (with("cryptoType", json!(0)), "ed25519"),
        (only("secretSeed", &seed[..64]), "`secretSeed` is not 32 bytes"),
        (only("secretSeed", &seed.replace('0', "g")), "`secretSeed` is not 32 bytes"),
        (only("secretSeed", phrase), "`secretSeed` is not 32 bytes"),
        (only("privateKey", seed), "`privateKey` is not 64 bytes"),
        (only("privateKey", &"ff".repeat(64)), "no private key of sr25519"),
        (only("publicKey", phrase), "`publicKey` is not 32 bytes"),
        (format!("{{\"secretSeed\":\"{seed}\",\"secretSeed\":\"\"}}").into(), "no hotkey file"),
        (format!("{{\"secretSeed\":\"{seed}\" \"x\"}}").into_bytes(), "column 84"),
        (format!("{{\"secretSeed\":\"\\u0030{}\"}}", &seed[1..]).into(), "no hotkey file"),
    ]
}

#[test]
fn what_is_no_key_is_refused_with_a_reason_and_advice() {
    let room = Room::new();
    for (bytes, said) in broken(&room) {
        let error = room.refusal(&bytes).to_string();
        assert!(error.contains(said), "{said}: {error}");
        assert!(error.contains(": ") && error.contains("probe"), "{error}");
    }
    let cut = &fs_err::read(room.path("sealed")).unwrap()[..40];
    room.put("probe", cut);
    let error = room.spec("probe").unlock(Some(room.password())).unwrap_err();
    assert!(matches!(error, WalletError::CutShort { .. }), "{error}");
}

#[test]
fn what_is_no_file_is_refused_with_a_reason_and_advice() {
    let room = Room::new();
    let said = |name: &str| room.spec(name).unlock(None).unwrap_err().to_string();
    assert!(said("nobody").contains("does not exist: check wallet.path"), "{}", said("nobody"));
    fs_err::create_dir(room.path("folder")).unwrap();
    assert!(said("folder").contains("is a folder or a device"), "{}", said("folder"));
    symlink("/dev/zero", room.path("endless")).unwrap();
    assert!(said("endless").contains("is a folder or a device"), "{}", said("endless"));
    symlink("loop", room.path("loop")).unwrap();
    assert!(said("loop").contains("cannot be read"), "{}", said("loop"));
    room.put("huge", &vec![b' '; FILE_MAX + 1]);
    assert!(said("huge").contains("is larger than 65536 bytes"), "{}", said("huge"));
    room.put("full", &vec![b' '; FILE_MAX]);
    assert!(said("full").contains("no hotkey file"), "{}", said("full"));
    symlink(room.path("plain"), room.path("linked")).unwrap();
    room.is_of("plain", &room.spec("linked").unlock(None).unwrap());
}

#[test]
fn what_is_wrong_with_a_password_file_is_said() {
    let room = Room::new();
    let said = |file: &str| {
        let password_file = room.path(file).display().to_string();
        let spec = WalletSpec { password_file, ..room.spec("sealed") };
        // The address is public, whatever is wrong with the password.
        assert_eq!(spec.address().unwrap(), Some(room.address("sealed")));
        spec.unlock(None).unwrap_err().to_string()
    };
    room.put("blank", b"\n\r\n");
    room.put("long_password", &[b'x'; 5000]);
    for (file, word) in
        [("none", "wallet.password_file"), ("blank", "is empty"), ("long_password", "4096")]
    {
        assert!(said(file).contains(word), "{}", said(file));
    }
    // A plain file needs no password, not even a broken one.
    let spec = WalletSpec { password_file: "/nowhere".into(), ..room.spec("plain") };
    room.is_of("plain", &spec.unlock(None).unwrap());
}

#[test]
fn a_file_that_others_can_read_is_a_warning() {
    let room = Room::new();
    for (mode, warned) in [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1), (0o777, 1)] {
        chmod(&room.path("plain"), mode);
        let summary = room.spec("plain").summary(None).unwrap();
        assert_eq!(summary.warnings.len(), warned, "{mode:o}: {:?}", summary.warnings);
        room.is_of("plain", &room.spec("plain").unlock(None).unwrap());
    }
    chmod(&room.path("sealed"), 0o644);
    let warnings = room.spec("sealed").summary(None).unwrap().warnings;
    assert!(warnings[0].contains("mode 0644"), "{warnings:?}");
}

#[test]
fn the_public_file_must_be_of_the_same_key() {
    let room = Room::new();
    fs_err::copy(room.path("longpub.txt"), room.path("plainpub.txt")).unwrap();
    let spec = room.spec("plain");
    for error in [spec.address().unwrap_err(), spec.unlock(None).unwrap_err()] {
        let told = error.to_string();
        assert!(matches!(error, WalletError::Mismatch { .. }), "{told}");
        assert!(
            told.contains("plainpub.txt says") && told.contains(&room.address("long").to_string())
        );
    }
    room.put("plainpub.txt", b"{}");
    assert!(matches!(spec.address().unwrap_err(), WalletError::Empty { .. }));
}

#[test]
fn the_public_half_alone_has_an_address_and_signs_nothing() {
    let room = Room::new();
    room.remove("plain");
    let spec = room.spec("plain");
    assert_eq!(spec.address().unwrap(), Some(room.address("plain")));
    let summary = spec.summary(None).unwrap();
    assert_eq!((summary.kind, summary.is_checked), (WalletKind::Public, false));
    assert_eq!(summary.file, room.path("plainpub.txt"));
    assert!(matches!(spec.unlock(None).unwrap_err(), WalletError::PublicOnly { .. }));
    // An address can be had even where the key is kept in a way that we do not read.
    fs_err::copy(room.path("vault"), room.path("plain")).unwrap();
    assert_eq!(spec.address().unwrap(), Some(room.address("plain")));
    assert!(matches!(spec.summary(None).unwrap_err(), WalletError::OldEncryption { .. }));
}

#[test]
fn no_name_is_no_wallet_and_half_a_name_is_an_error() {
    let room = Room::new();
    let unnamed = WalletSpec::default();
    assert_eq!(unnamed.address().unwrap(), None);
    for error in [unnamed.unlock(None).unwrap_err(), unnamed.summary(None).unwrap_err()] {
        assert!(error.to_string().contains("WALLET_NAME") && error.is_about_settings());
    }
    let half = room.spec("").address().unwrap_err();
    assert!(half.to_string().starts_with("wallet.hotkey is empty") && half.is_about_settings());
    let other_half = WalletSpec { name: String::new(), ..room.spec("plain") };
    assert!(other_half.address().unwrap_err().to_string().starts_with("wallet.name is empty"));
    for name in ["../plain", "..", "hotkeys/plain", "a\\b"] {
        let error = room.spec(name).address().unwrap_err();
        assert!(error.to_string().starts_with("wallet.hotkey is ") && error.is_about_settings());
        let error =
            WalletSpec { name: name.into(), ..room.spec("plain") }.unlock(None).unwrap_err();
        assert!(error.to_string().starts_with("wallet.name is "), "{error}");
    }
    assert!(!room.spec("nobody").address().unwrap_err().is_about_settings());
}

/// Every piece of private text in the fixtures.
fn secrets(room: &Room) -> Vec<String> {
    let mut secrets = vec![room.expected["password"].as_str().unwrap().to_owned()];
    for name in ["plain", "long", "seed", "private"] {
        for field in ["secretPhrase", "secretSeed", "privateKey"] {
            secrets.extend(room.json(name)[field].as_str().map(str::to_owned));
        }
    }
    secrets
}

/// The first run of eight characters of a secret that a text has.
fn leak(text: &str, secrets: &[String]) -> Option<String> {
    let lower = text.to_lowercase();
    let runs = secrets.iter().flat_map(|secret| secret.as_bytes().windows(8));
    runs.map(|run| String::from_utf8_lossy(run).into_owned()).find(|run| lower.contains(run))
}

#[test]
fn nothing_private_is_in_an_error_or_a_debug_text() {
    let room = Room::new();
    let secrets = secrets(&room);
    assert!(secrets.len() > 8 && leak(&secrets[1], &secrets).is_some(), "the search finds");
    let clean = |text: &str| assert_eq!(leak(text, &secrets), None, "{text}");
    for (bytes, _) in broken(&room) {
        let error = room.refusal(&bytes);
        clean(&format!("{error} {error:?}"));
    }
    let keys = room.spec("plain").unlock(None).unwrap();
    let bytes = fs_err::read(room.path("plain")).unwrap();
    let mut text = Secret::zeros(bytes.len());
    text.copy_from_slice(&bytes);
    let key = KeyFile::new(&room.path("plain"), text);
    clean(&format!("{keys:?} {key:?} {:?} {:?}", room.password(), room.password().bytes().len()));
    clean(&format!("{:?} {:?}", room.spec("plain"), room.spec("plain").summary(None).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens to a file, it is opened to the same key or refused without a word of it.
    #[test]
    fn a_damaged_file_is_refused_silently(
        at in any::<prop::sample::Index>(),
        with in prop_oneof![Just(b'"'), Just(b'\\'), Just(b'}'), any::<u8>()],
        length in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let bytes = fs_err::read(fixtures().join("fixture/hotkeys/plain")).unwrap();
        let secrets: Vec<_> = ["secretPhrase", "secretSeed", "privateKey"].map(|field| {
            let file: Value = serde_json::from_slice(&bytes).unwrap();
            file[field].as_str().unwrap().to_owned()
        }).into();
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] = with;
        damaged.truncate(if is_cut { length.index(bytes.len()) } else { bytes.len() });
        let mut text = Secret::zeros(damaged.len());
        text.copy_from_slice(&damaged);
        let key = KeyFile::new(Path::new("probe"), text);
        match key.keypair() {
            Ok(Some(keys)) => {
                let stated = key.stated().unwrap();
                prop_assert!(stated.is_none_or(|stated| stated == keys.hotkey()));
            }
            Ok(None) => {}
            Err(error) => prop_assert_eq!(leak(&format!("{error} {error:?}"), &secrets), None),
        }
    }
}

//! Ends and starts, with real files and real processes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use proptest::prelude::*;

use super::super::dendrite::{NOW, S, at};
use super::tests::{SMALL, key, label};
use super::*;

/// Where the child below finds its file.
const CHILDS_FILE: &str = "ROADCREW_TEST_NONCES";

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    (folder, path)
}

fn open(path: &Path, now: u64) -> Nonces {
    Nonces::open(path, SMALL, at(now)).unwrap()
}

/// Accepts four, and ends.
fn lived(path: &Path) {
    let nonces = open(path, NOW - S);
    for nonce in 0..4 {
        assert_eq!(label(nonces.accept(&key(1, NOW + nonce), at(NOW))), "ok");
    }
}

#[test]
fn what_was_accepted_before_a_restart_is_replayed_after_it() {
    let (_folder, path) = file();
    lived(&path);
    let nonces = open(&path, NOW + S);
    assert_eq!((nonces.held(), nonces.settles_in(at(NOW + S))), (4, Duration::ZERO));
    for nonce in 0..4 {
        assert_eq!(label(nonces.check(&key(1, NOW + nonce), at(NOW + S))), "replayed");
    }
    // Older than the start, and not seen: it was on its way while nobody was there.
    assert_eq!(label(nonces.accept(&key(2, NOW - 1), at(NOW + S))), "ok");
    // The share is remembered too.
    assert_eq!(label(nonces.accept(&key(1, NOW + 9), at(NOW + S))), "caller_full");
}

#[test]
fn a_first_start_has_nothing_to_fear_from_before_it() {
    let (_folder, path) = file();
    let nonces = open(&path, NOW);
    assert_eq!(nonces.settles_in(at(NOW)), Duration::ZERO);
    assert_eq!(label(nonces.accept(&key(1, NOW - 12 * S), at(NOW))), "ok");
    assert_eq!(label(nonces.accept(&key(1, NOW - 12 * S), at(NOW))), "replayed");
}

#[test]
fn what_has_passed_every_window_is_not_read_again() {
    let (_folder, path) = file();
    lived(&path);
    let nonces = open(&path, NOW + 61 * S);
    assert_eq!(nonces.held(), 0);
    assert_eq!(label(nonces.check(&key(1, NOW), at(NOW + 61 * S))), "unremembered");
    assert_eq!(label(nonces.accept(&key(1, NOW + 60 * S), at(NOW + 61 * S))), "ok");
}

/// The ring has gone round: of the first two nothing is left in the file but that they are below the
/// floor; and the clock is set back to when they were new.
#[test]
fn what_is_forgotten_stays_forgotten_after_a_restart() {
    let (_folder, path) = file();
    let limits = NonceLimits { capacity: 2, per_caller: 2 };
    let start = at(NOW);
    let later = Moment { mono: start.mono + Duration::from_secs(60), ..at(NOW + 60 * S) };
    let nonces = Nonces::open(&path, limits, at(NOW - 60 * S)).unwrap();
    for (nonce, now) in
        [(NOW, start), (NOW + 2 * S, start), (NOW + 60 * S, later), (NOW + 61 * S, later)]
    {
        assert_eq!(label(nonces.accept(&key(1, nonce), now)), "ok");
    }
    drop(nonces);
    let nonces = Nonces::open(&path, limits, at(NOW + 10 * S)).unwrap();
    assert_eq!(nonces.held(), 2);
    for (nonce, outcome) in [
        (NOW, "unremembered"),
        (NOW + 2 * S, "unremembered"),
        (NOW + 61 * S, "replayed"),
        (NOW + 2 * S + 1, "ok"),
    ] {
        assert_eq!(label(nonces.check(&key(1, nonce), at(NOW + 10 * S))), outcome);
    }
}

/// What a process that cannot know what was accepted before makes of old and new.
fn is_strict(nonces: &Nonces, now: u64) {
    for nonce in [NOW, now, now + 2 * S] {
        let outcome = label(nonces.check(&key(1, nonce), at(now)));
        assert!(["unremembered", "replayed"].contains(&outcome), "{nonce}: {outcome}");
    }
    let wait = nonces.settles_in(at(now));
    assert_eq!(wait, Duration::from_secs(2));
    let then = now + 2 * S + 1;
    assert_eq!(nonces.settles_in(at(then)), Duration::ZERO);
    assert_eq!(label(nonces.accept(&key(2, then), at(then))), "ok");
    assert_eq!(label(nonces.accept(&key(2, then), at(then))), "replayed");
}

#[test]
fn a_torn_file_is_made_anew_and_refuses_what_is_old() {
    for length in [0, 5, 63, 64, 100, 64 * 3, 64 * 9 - 1] {
        let (_folder, path) = file();
        lived(&path);
        fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
        is_strict(&open(&path, NOW + S), NOW + S);
        let again = open(&path, NOW + 4 * S);
        assert_eq!(label(again.check(&key(2, NOW + 3 * S + 1), at(NOW + 4 * S))), "replayed");
        assert_eq!(again.settles_in(at(NOW + 4 * S)), Duration::ZERO, "{length}");
    }
}

#[test]
fn somebody_elses_file_is_left_alone_and_what_is_old_is_refused() {
    let (_folder, path) = file();
    let text = "{\"secretSeed\": \"0x00\"}\n".repeat(50);
    fs_err::write(&path, &text).unwrap();
    is_strict(&open(&path, NOW + S), NOW + S);
    assert_eq!(fs_err::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_file_that_cannot_be_opened_is_no_reason_not_to_serve() {
    let (folder, path) = file();
    is_strict(&open(folder.path(), NOW), NOW);
    fs_err::write(&path, "").unwrap();
    is_strict(&open(&path.join("below"), NOW), NOW);
}

#[test]
fn a_file_that_cannot_be_written_any_more_is_no_reason_not_to_serve() {
    let (_folder, path) = file();
    lived(&path);
    let nonces = open(&path, NOW + S);
    let broken = NonceFile::unwritable(&path);
    nonces.inner.lock().file = Some(broken);
    assert_eq!(label(nonces.accept(&key(2, NOW + S), at(NOW + S))), "ok");
    assert_eq!(label(nonces.accept(&key(2, NOW + S), at(NOW + S))), "replayed");
    assert_eq!(label(nonces.accept(&key(2, NOW + S + 1), at(NOW + S))), "ok");
}

#[test]
fn two_processes_do_not_share_a_file() {
    let (_folder, path) = file();
    let (mut child, _lines) = spawn(&path);
    let refused = Nonces::open(&path, SMALL, at(NOW)).unwrap_err();
    assert!(refused.to_string().contains(&*path.to_string_lossy()), "{refused}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Nonces::open(&path, SMALL, at(NOW)).is_ok());
}

#[test]
fn what_was_answered_before_a_kill_is_known_after_it() {
    let (_folder, path) = file();
    let mut accepted = vec![];
    for _ in 0..3 {
        let (mut child, lines) = spawn(&path);
        accepted.extend(lines.lines().take(500).map(|line| line.unwrap().parse::<u64>().unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(accepted.len(), 1500);
    let now = Moment::now();
    let nonces = Nonces::open(&path, NonceLimits::default(), now).unwrap();
    for nonce in accepted {
        assert_eq!(label(nonces.check(&key(1, nonce), now)), "replayed");
    }
    let next = Moment::now();
    assert_eq!(label(nonces.accept(&key(1, next.nanos()), next)), "ok");
}

/// Another process, which holds the file, and accepts nonces and says so until it is killed.
fn spawn(path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("{}::the_child", module_path!().split_once("::").unwrap().1))
        .env(CHILDS_FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "begun" {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the child ended");
    }
    (child, lines)
}

#[test]
#[ignore = "the tests above run it, as another process"]
fn the_child() {
    let Some(path) = std::env::var_os(CHILDS_FILE) else { return };
    let nonces = Nonces::open(Path::new(&path), NonceLimits::default(), Moment::now()).unwrap();
    println!("begun");
    // Ends also when nobody kills it: with the reader, or when it has its share.
    loop {
        let now = Moment::now();
        nonces.accept(&key(1, now.nanos()), now).unwrap();
        println!("{}", now.nanos());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_accident_to_the_file_brings_anything_back(
        place: prop::sample::Index, bytes in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let (_folder, path) = file();
        lived(&path);
        let mut image = fs_err::read(&path).unwrap();
        let at_byte = place.index(image.len());
        let end = (at_byte + bytes.len()).min(image.len());
        image[at_byte..end].copy_from_slice(&bytes[..end - at_byte]);
        fs_err::write(&path, &image).unwrap();
        let nonces = open(&path, NOW + S);
        for nonce in 0..4 {
            prop_assert!(nonces.check(&key(1, NOW + nonce), at(NOW + S)).is_err());
        }
    }
}

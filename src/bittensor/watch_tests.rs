use std::collections::HashMap;
use std::time::Duration;

use super::*;

struct Room {
    dir: tempfile::TempDir,
    watch: FileWatch,
}

impl Room {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let watch = FileWatch::new(dir.path().join("metagraph.json"));
        Self { dir, watch }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("metagraph.json")
    }

    fn write(&self, text: &str) {
        fs_err::write(self.file(), text).unwrap();
    }

    /// What the watch says: the netuid of a snapshot, or the error.
    fn poll(&mut self) -> Option<Result<u16, String>> {
        let news = self.watch.poll()?;
        Some(news.map(|snapshot| snapshot.netuid).map_err(|error| error.to_string()))
    }

    /// Nothing is new, however often one asks.
    fn is_quiet(&mut self) {
        assert_eq!([self.poll(), self.poll(), self.poll()], [None, None, None]);
    }

    fn fails(&mut self, word: &str) {
        let error = self.poll().unwrap().unwrap_err();
        assert!(error.contains(word) && error.contains("metagraph.json"), "{error}");
        self.is_quiet();
    }

    fn finds(&mut self, netuid: u16) {
        assert_eq!(self.poll(), Some(Ok(netuid)));
        self.is_quiet();
    }
}

fn json(netuid: u16) -> String {
    format!("{{\"netuid\":{netuid},\"neurons\":[]}}")
}

#[test]
fn each_change_is_told_once() {
    let mut room = Room::new();
    room.fails("does not exist");
    room.write(&json(1));
    room.finds(1);
    room.write(&json(22));
    room.finds(22);
    fs_err::remove_file(room.file()).unwrap();
    room.fails("does not exist");
    room.write(&json(22));
    room.finds(22);
}

#[test]
fn a_file_that_is_replaced_is_seen_whatever_its_size_and_age() {
    let mut room = Room::new();
    room.write(&json(1));
    room.finds(1);
    let age = fs_err::metadata(room.file()).unwrap().modified().unwrap();
    for netuid in [2, 3] {
        let snapshot =
            Snapshot { netuid, block: None, taken_at: UNIX_EPOCH, neurons: HashMap::new() };
        snapshot.save(&room.file()).unwrap();
        set_age(&room.file(), age);
        room.finds(netuid);
    }
    let written = fs_err::read_to_string(room.file()).unwrap();
    for netuid in [4, 5] {
        // Longer than a tick of any clock for files.
        std::thread::sleep(Duration::from_millis(20));
        room.write(&written.replace("\"netuid\":3", &format!("\"netuid\":{netuid}")));
        set_age(&room.file(), age);
        room.finds(netuid);
    }
}

fn set_age(path: &Path, modified: SystemTime) {
    let file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn a_file_that_is_touched_is_told_again_since_it_may_be_younger() {
    let mut room = Room::new();
    room.write(&json(1));
    room.finds(1);
    let later = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    set_age(&room.file(), later);
    assert_eq!(room.watch.poll().unwrap().unwrap().taken_at, later);
    room.is_quiet();
}

#[test]
fn a_broken_file_is_told_once_and_a_mended_one_is_read() {
    let mut room = Room::new();
    let whole = json(7);
    room.write(&whole);
    room.finds(7);
    for end in [0, 1, whole.len() / 2, whole.len() - 1] {
        room.write(&whole[..end]);
        room.fails("not a metagraph");
    }
    room.write("{\"netuid\":1,\"neurons\":[{\"uid\":0,\"hotkey\":\"5x\",\"validator_permit\":true,\"stake\":1}]}");
    room.fails("neurons[0].hotkey");
    room.write(&whole);
    room.finds(7);
}

/// Where the clock for files is coarse, two writes may leave a file with the same stamp.
#[test]
fn what_has_changed_is_read_once_more() {
    let about = fs_err::metadata(env!("CARGO_MANIFEST_DIR")).unwrap();
    let (stamp, mut seen) = (Stamp::of(&about), Seen::Nothing);
    assert!(!seen.is_settled(stamp));
    for (text, is_news, is_settled) in
        [("a", true, false), ("b", true, false), ("b", false, true), ("b", false, true)]
    {
        assert_eq!(
            (seen.note(stamp, text.as_bytes()), seen.is_settled(stamp)),
            (is_news, is_settled)
        );
    }
    let later = Stamp { modified: stamp.modified + Duration::from_nanos(1), ..stamp };
    assert!(!seen.is_settled(later) && seen.note(later, b"b"), "younger, and so news");
}

#[test]
fn what_is_no_file_is_told_once() {
    let mut room = Room::new();
    fs_err::create_dir(room.file()).unwrap();
    room.fails("folder or a device");
    fs_err::remove_dir(room.file()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", room.file()).unwrap();
    // Still what it was: no news.
    room.is_quiet();
    fs_err::remove_file(room.file()).unwrap();
    std::os::unix::fs::symlink("metagraph.json", room.file()).unwrap();
    assert!(room.poll().unwrap().is_err(), "a link to itself");
    room.is_quiet();
    fs_err::remove_file(room.file()).unwrap();
    room.write(&json(1));
    room.finds(1);
    let huge = fs_err::File::create(room.file()).unwrap();
    huge.set_len(BYTES_MAX as u64 + 1).unwrap();
    room.fails("32 MiB");
}

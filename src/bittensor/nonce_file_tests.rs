use proptest::prelude::*;

use super::*;

const CAPACITY: usize = 8;

fn record(sequence: u64) -> Record {
    let byte = (sequence % 251) as u8 + 1;
    Record { id: [byte; 16], caller: [byte ^ 1; 16], nonce: 1000 + sequence, floor: 900, sequence }
}

fn contents() -> Contents {
    // The ring has gone round: the last eight of ten.
    let records = (2..10).map(record).collect();
    Contents { boot: [7; 16], floor: 900, records, damaged: false }
}

fn open(path: &Path) -> (NonceFile, Contents, Found) {
    NonceFile::open(path, CAPACITY, &|_| 5000).unwrap()
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(read(&image(&contents(), CAPACITY), CAPACITY), Some(contents()));
}

#[test]
fn a_file_is_made_filled_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("not/yet/there");
    let (mut file, contents, found) = open(&path);
    assert_eq!((found, contents.floor, contents.records.len()), (Found::Nothing, 5000, 0));
    (0..13).for_each(|sequence| file.write(&record(sequence)));
    drop(file);
    let (_file, contents, found) = open(&path);
    assert_eq!((found, contents.floor), (Found::Whole, 5000));
    assert_eq!(contents.records, (5..13).map(record).collect::<Vec<_>>());
    assert_eq!(fs_err::metadata(&path).unwrap().len(), 64 * 9);
}

#[test]
fn one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    let held = open(&path);
    let refused = NonceFile::open(&path, CAPACITY, &|_| 0).unwrap_err();
    assert!(matches!(refused, Unusable::Locked), "{refused}");
    drop(held);
    assert_eq!(open(&path).2, Found::Whole);
}

#[test]
fn an_earlier_life_of_the_host_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    fs_err::write(&path, image(&contents(), CAPACITY)).unwrap();
    let (file, kept, found) = open(&path);
    assert_eq!((found, kept.floor), (Found::Rebooted, 5000));
    assert_eq!(kept.records, contents().records);
    drop(file);
    let (_file, kept, found) = open(&path);
    assert_eq!((found, kept.floor), (Found::Whole, 5000));
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("somebodys");
    let others = [vec![0x7b; 10], vec![b'{'; 64 * 9], vec![b'r'; 100_000], b"roadcrew\n".to_vec()];
    for bytes in others {
        fs_err::write(&path, &bytes).unwrap();
        let refused = NonceFile::open(&path, CAPACITY, &|_| 0).unwrap_err();
        assert!(matches!(refused, Unusable::Foreign), "{refused}");
        assert_eq!(fs_err::read(&path).unwrap(), bytes);
    }
    let refused = NonceFile::open(folder.path(), CAPACITY, &|_| 0).unwrap_err();
    assert!(matches!(refused, Unusable::Io(_)), "{refused}");
    let refused = NonceFile::open(Path::new("/dev/null"), CAPACITY, &|_| 0).unwrap_err();
    assert!(matches!(refused, Unusable::Foreign | Unusable::Io(_)), "{refused}");
    let below = NonceFile::open(&path.join("below"), CAPACITY, &|_| 0).unwrap_err();
    assert!(matches!(below, Unusable::Io(_)), "{below}");
}

#[test]
fn another_capacity_is_damage() {
    let bytes = image(&contents(), CAPACITY);
    for capacity in [CAPACITY - 1, CAPACITY + 1] {
        let contents = read(&bytes, capacity).unwrap();
        assert!(contents.damaged && contents.records.is_empty());
    }
}

#[test]
fn a_record_in_anothers_place_is_damage() {
    let mut bytes = image(&contents(), CAPACITY);
    bytes.copy_within(SLOT..2 * SLOT, 2 * SLOT);
    let found = read(&bytes, CAPACITY).unwrap();
    assert!(found.damaged);
    assert_eq!(found.records.len(), CAPACITY - 1);
}

/// As after a disk that was full, or a file system that became read-only.
#[test]
fn a_file_that_cannot_be_written_shows_it_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonces");
    let (mut file, ..) = open(&path);
    file.write(&record(0));
    file.spoil();
    file.write(&record(1));
    drop(file);
    assert_eq!(fs_err::metadata(&path).unwrap().len(), 0);
    let (file, contents, found) = open(&path);
    assert_eq!((found, contents.floor, contents.records.len()), (Found::Damaged, 5000, 0));
    drop(file);

    // Neither written nor truncated: tried again with the next record.
    let mut file = NonceFile::unwritable(&path);
    for sequence in 0..2 {
        file.write(&record(sequence));
        assert_eq!(file.health, Health::Lacking);
    }
}

#[test]
fn the_host_names_its_life() {
    assert_eq!(boot_id(), boot_id());
    if cfg!(target_os = "linux") {
        assert_ne!(boot_id(), [0; 16]);
    }
}

proptest! {
    #[test]
    fn every_accident_is_seen(place: prop::sample::Index, change in 1..=255_u8) {
        let mut bytes = image(&contents(), CAPACITY);
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        // Nothing at all is taken for somebody else's file, which refuses what is old as well.
        if let Some(found) = read(&bytes, CAPACITY) {
            prop_assert!(found.damaged);
            let lost = contents().records.len() - found.records.len();
            prop_assert!(lost <= 1 || place < SLOT);
        } else {
            prop_assert!(place < MAGIC.len());
        }
    }

    #[test]
    fn every_shortening_is_seen(length in 0..64 * 9_usize) {
        let bytes = image(&contents(), CAPACITY);
        prop_assert!(read(&bytes[..length], CAPACITY).unwrap().damaged);
    }

    #[test]
    fn no_bytes_break_the_reader(mut bytes: Vec<u8>, ours: bool, capacity in 1..20_usize) {
        if ours {
            bytes.splice(..0, header(&contents(), capacity));
        }
        if let Some(contents) = read(&bytes, capacity) {
            prop_assert!(contents.records.len() <= capacity);
        }
    }
}

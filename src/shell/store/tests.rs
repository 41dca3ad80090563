//! What every engine must do, and what the sled engine must do besides.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use super::envelope::{key, meta, seal};
use super::*;
use crate::base::hash::sha256_hex;
use crate::base::limits::GROUP_MAX;
use crate::base::log::Blob;

type Open = dyn Fn(&Path) -> Box<dyn Engine>;

fn sled_engine(dir: &Path) -> Box<dyn Engine> {
    Box::new(SledEngine::open(dir).unwrap())
}

fn at(epoch: u32, seq: u64) -> Position {
    Position { epoch, seq }
}

fn append(user: &str, position: Position, count: u32, value: impl Into<Bytes>) -> Append {
    let (user, value) = (Arc::from(user), value.into());
    Append { ticket: position.seq, user, position, count, value, blobs: Vec::new() }
}

/// S, C, U or F for each outcome.
fn letters(outcomes: &[Outcome]) -> String {
    let letter = |o: &Outcome| match o {
        Outcome::Stored(_) => 'S',
        Outcome::Conflict => 'C',
        Outcome::Unknown => 'U',
        Outcome::Failed => 'F',
    };
    outcomes.iter().map(letter).collect()
}

fn commit(engine: &mut dyn Engine, group: &[Append]) -> String {
    letters(&engine.commit(group).unwrap())
}

type Found = (String, Position, u32, Vec<u8>);

fn all(engine: &dyn Engine) -> Result<Vec<Found>, StoreError> {
    let mut out = Vec::new();
    engine.replay(
        &mut |user, first, count, value| {
            out.push((user.to_owned(), first, count, value.to_vec()));
            Ok(())
        },
        &mut |done, total| assert!(done <= total),
    )?;
    Ok(out)
}

fn conformance(open: &Open) {
    places(open);
    reading(open);
    bounds(open);
    content(open);
    stays(open);
}

fn places(open: &Open) {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = open(dir.path());
    let group = [
        append("a", at(1, 1), 2, "a1"),
        append("b", at(1, 1), 1, "b1"),
        append("a", at(1, 3), 1, "a3"),
        append("a", at(1, 3), 1, "taken in this group"),
        append("c", at(1, 2), 1, "no first"),
    ];
    assert_eq!(commit(&mut *engine, &group), "SSSCC");
    assert_eq!(engine.syncs(), 1, "one sync for the group");
    assert_eq!(commit(&mut *engine, &[append("a", at(1, 3), 1, "taken")]), "C");
    assert_eq!(commit(&mut *engine, &[append("a", at(1, 5), 1, "gap")]), "C");
    assert_eq!(engine.syncs(), 1, "nothing to sync");
    assert_eq!(commit(&mut *engine, &[append("a", at(2, 2), 1, "epochs start at 1")]), "C");
    let group = [append("a", at(3, 1), 1, "later epoch"), append("a", at(3, 2), 1, "next")];
    assert_eq!(commit(&mut *engine, &group), "SS");
    assert_eq!(commit(&mut *engine, &[append("a", at(1, 4), 1, "earlier epoch")]), "C");
    assert_eq!(engine.counts().tally, Tally { batches: 5, records: 6 });
}

fn reading(open: &Open) {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = open(dir.path());
    let group = [
        append("u", at(0, 1), 3, "one to three"),
        append("u", at(0, 4), 1, "four"),
        append("u", at(2, 1), 2, "one and two of epoch 2"),
        append("ux", at(0, 1), 1, "of another"),
    ];
    assert_eq!(commit(&mut *engine, &group), "SSSS");
    drop(engine);
    let engine = open(dir.path());
    let first = Batch { first: at(0, 1), count: 3, value: "one to three".into() };
    for seq in 1..=3 {
        assert_eq!(engine.read("u", at(0, seq)).unwrap(), Some(first.clone()));
    }
    assert_eq!(engine.read("u", at(0, 4)).unwrap().unwrap().value, "four");
    for (user, absent) in [("u", at(0, 5)), ("u", at(1, 1)), ("u", at(2, 3)), ("v", at(0, 1))] {
        assert_eq!(engine.read(user, absent).unwrap(), None, "{absent:?}");
    }
    let places = |from| -> Vec<Position> {
        engine.tail("u", from).unwrap().iter().map(|b| b.first).collect()
    };
    assert_eq!(places(at(0, 2)), [at(0, 1), at(0, 4), at(2, 1)]);
    assert_eq!(places(at(0, 5)), [at(2, 1)]);
    assert_eq!(places(at(2, 3)), []);
}

fn bounds(open: &Open) {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = open(dir.path());
    let (full, more) = (vec![7; VALUE_OCTETS_MAX], vec![7; VALUE_OCTETS_MAX + 1]);
    assert_eq!(commit(&mut *engine, &[append("u", at(0, 1), 1, full.clone())]), "S");
    assert_eq!(engine.read("u", at(0, 1)).unwrap().unwrap().value, full);
    for bad in [
        append("u", at(0, 2), 1, more),
        append("u", at(0, 2), 0, "no record"),
        append("u", at(1, 0), 1, "record 0"),
        append("u", at(0, u64::MAX), 2, "past the end"),
        append("", at(0, 1), 1, "nobody"),
        append("a\0b", at(0, 1), 1, "zero octet"),
    ] {
        let group = [append("other", at(0, 1), 1, "x"), bad];
        assert!(matches!(engine.commit(&group), Err(StoreError::Refused(_))), "{:?}", group[1]);
    }
    assert_eq!(engine.read("other", at(0, 1)).unwrap(), None, "all or nothing");
    assert_eq!(commit(&mut *engine, &[append("other", at(0, 1), 1, "x")]), "S");
}

fn content(open: &Open) {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = open(dir.path());
    let octets = Bytes::from(vec![5; 300_000]);
    let name = sha256_hex(&octets);
    let blob = |name: &str| vec![Blob { name: name.to_owned(), octets: octets.clone() }];
    let mut good = append("u", at(0, 1), 1, name.clone());
    good.blobs = blob(&name);
    let mut wrong = good.clone();
    wrong.blobs = blob(&sha256_hex(b"another"));
    assert!(matches!(engine.commit(&[wrong]), Err(StoreError::Refused(_))));
    assert_eq!(commit(&mut *engine, &[good]), "S");
    drop(engine);
    let engine = open(dir.path());
    assert_eq!(engine.blob(&name).unwrap(), octets);
    assert!(engine.blob(&sha256_hex(b"another")).is_err());
}

fn stays(open: &Open) {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = BTreeSet::new();
    let mut secret = None;
    for round in 0..3u64 {
        let mut engine = open(dir.path());
        let now = engine.secret().mac(&[b"x"]);
        assert_eq!(*secret.get_or_insert(now), now, "one secret for ever");
        let found: BTreeSet<_> = all(&*engine).unwrap().into_iter().collect();
        assert_eq!(found, expected);
        assert_eq!(engine.counts().tally.batches, expected.len() as u64);
        let group: Vec<_> = (0..100)
            .map(|user| append(&format!("user{user}"), at(0, round + 1), 1, format!("{round}")))
            .collect();
        assert_eq!(commit(&mut *engine, &group), "S".repeat(100));
        for a in group {
            expected.insert((a.user.to_string(), a.position, a.count, a.value.to_vec()));
        }
    }
    let engine = open(dir.path());
    let found = all(&*engine).unwrap();
    for user in ["user0", "user99"] {
        let of_user = found.iter().filter(|(name, ..)| name == user);
        let places: Vec<Position> = of_user.map(|(_, at, ..)| *at).collect();
        assert_eq!(places, [at(0, 1), at(0, 2), at(0, 3)], "positions of a user in order");
    }
    let error = engine.replay(&mut |_, _, _, _| Err("no such kind".to_owned()), &mut |_, _| ());
    assert!(error.unwrap_err().to_string().contains("no such kind in partition"));
}

#[test]
fn sled_conforms() {
    conformance(&sled_engine);
}

#[test]
fn two_at_once_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = sled_engine(dir.path());
    let error = SledEngine::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("in use"), "{error}");
    assert!(matches!(checked(dir.path()), Err(StoreError::Locked { .. })));
    drop(engine);
    drop(sled_engine(dir.path()));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let engine = SledEngine::open(dir.path()).unwrap();
    engine.overwrite(&meta("format"), Some(seal(&meta("format"), &2u32.to_be_bytes())));
    drop(engine);
    let error = SledEngine::open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn nothing_is_acknowledged_before_or_after_a_failed_sync() {
    let dir = tempfile::tempdir().unwrap();
    let (syncs, fail) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen, failing) = (Arc::clone(&syncs), Arc::clone(&fail));
    let sync = move |file: &std::fs::File| {
        seen.fetch_add(1, Ordering::SeqCst);
        if failing.load(Ordering::SeqCst) {
            return Err(std::io::Error::other("the disk has gone"));
        }
        file.sync_data()
    };
    let mut engine = SledEngine::open_with(dir.path(), Box::new(sync)).unwrap();
    let opened = syncs.load(Ordering::SeqCst);
    for seq in 1..=5 {
        assert_eq!(commit(&mut engine, &[append("u", at(0, seq), 1, "x")]), "S");
        assert_eq!(syncs.load(Ordering::SeqCst), opened + seq);
    }
    fail.store(true, Ordering::SeqCst);
    let error = engine.commit(&[append("u", at(0, 6), 1, "x")]).unwrap_err();
    assert!(error.to_string().contains("the disk has gone"), "{error}");
    fail.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        let group = [append("u", at(0, 6), 1, "x"), append("v", at(0, 1), 1, "x")];
        assert_eq!(commit(&mut engine, &group), "FF");
    }
    assert_eq!(syncs.load(Ordering::SeqCst), opened + 6, "never tried again");
    assert!(matches!(engine.tail("u", at(0, 1)), Err(StoreError::Broken)));
    drop(engine);
    let mut engine = sled_engine(dir.path());
    assert!(all(&*engine).unwrap().len() >= 5);
    assert_eq!(commit(&mut *engine, &[append("v", at(0, 1), 1, "x")]), "S");
}

fn filled(dir: &Path) -> SledEngine {
    let mut engine = SledEngine::open(dir).unwrap();
    for seq in 1..=4 {
        let group: Vec<_> =
            ["a", "b"].iter().map(|u| append(u, at(0, seq), 1, format!("text {seq}"))).collect();
        assert_eq!(commit(&mut engine, &group), "SS");
    }
    engine
}

fn checked(dir: &Path) -> Result<Report, StoreError> {
    check(dir, &mut |_, _, _, _| Ok(Vec::new()), &mut |_, _| (), &mut |_, _| ())
}

/// Spoils a store of four groups with a batch each of `a` and `b`.
fn spoilt(spoil: &dyn Fn(&SledEngine), named: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    spoil(&engine);
    drop(engine);
    named_damage(dir.path(), named);
}

/// The first of `named` is what stops the start; check finds all of them.
fn named_damage(dir: &Path, named: &[&str]) {
    let engine = SledEngine::open(dir).unwrap();
    let error = all(&engine).unwrap_err().to_string();
    assert!(error.contains(named[0]) && error.contains("backup"), "{error}");
    drop(engine);
    let report = checked(dir).unwrap();
    assert!(!report.sound());
    for named in named {
        assert!(report.findings.iter().any(|f| f.what.contains(named)), "{named}: {report:?}");
    }
}

fn flip(engine: &SledEngine, number: u64, octet: usize) {
    let mut value = engine.stored(&key(number)).unwrap();
    value[octet] ^= 1;
    engine.overwrite(&key(number), Some(value));
}

#[test]
fn damaged_and_missing_batches_are_named() {
    let missing =
        ["a, epoch 0, record 3: records 2 to 2 are missing", "2 records that were on disk"];
    let both = ["b, epoch 0, record 3: records 2 to 2 are missing"];
    // In the head of the value, in its first batch, in the length of that.
    spoilt(&|e| flip(e, 2, 12), &[&["value 2: a checksum differs"][..], &missing, &both].concat());
    let one = ["value 2: a checksum differs", missing[0], "1 records that were on disk"];
    spoilt(&|e| flip(e, 2, 17 + 22 + 3), &one);
    spoilt(&|e| flip(e, 2, 17 + 18), &["value 2: the last 2 batches of a value are cut short"]);
    spoilt(&|e| e.overwrite(&key(4), Some(vec![1, 2, 3])), &["value 4: a value is cut short"]);
    let gone = ["values 2 to 2 are missing"];
    spoilt(&|e| e.overwrite(&key(2), None), &[&gone[..], &missing, &both].concat());
    spoilt(&|e| e.overwrite(&key(1), None), &["values 1 to 1", "records before 2 are missing"]);
    spoilt(&|e| e.overwrite(&key(4), None), &["records"]);
    spoilt(&|e| e.overwrite(b"Lx", Some(vec![])), &["a key cannot be read"]);
    let swap = |e: &SledEngine| e.overwrite(&key(3), e.stored(&key(2)));
    spoilt(&swap, &["value 3: a checksum differs"]);
}

#[test]
fn damage_is_met_where_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = filled(dir.path());
    engine.replay(&mut |_, _, _, _| Ok(()), &mut |_, _| ()).unwrap();
    flip(&engine, 4, 17 + 22 + 3);
    assert!(engine.read("a", at(0, 4)).unwrap_err().to_string().contains("checksum"));
    assert!(engine.tail("a", at(0, 1)).unwrap_err().to_string().contains("checksum"));
    assert_eq!(engine.read("b", at(0, 4)).unwrap().unwrap().value, "text 4");
    assert_eq!(engine.read("a", at(0, 3)).unwrap().unwrap().value, "text 3");
    engine.overwrite(&key(2), None);
    assert!(engine.read("a", at(0, 2)).unwrap_err().to_string().contains("value 2 is missing"));
    engine.overwrite(&key(3), engine.stored(&key(1)));
    assert!(engine.read("a", at(0, 3)).is_err());
    assert_eq!(commit(&mut engine, &[append("a", at(0, 5), 1, "head known")]), "S");
}

#[test]
fn a_group_of_several_values_cannot_appear_half() {
    let filled = |dir: &Path| {
        let mut engine = SledEngine::open(dir).unwrap();
        assert_eq!(commit(&mut engine, &[append("before", at(0, 1), 1, "x")]), "S");
        let group: Vec<_> = (1..=9)
            .map(|n| append(&format!("user{n}"), at(0, 1), 1, vec![7; VALUE_OCTETS_MAX / 3]))
            .collect();
        let syncs = engine.syncs();
        assert_eq!(commit(&mut engine, &group), "S".repeat(9));
        assert_eq!(engine.syncs(), syncs + 1);
        assert!(engine.stored(&key(6)).is_some() && engine.stored(&key(7)).is_none());
        engine
    };
    for gone in 2..=6u64 {
        for more_follows in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let mut engine = filled(dir.path());
            if more_follows {
                assert_eq!(commit(&mut engine, &[append("after", at(0, 1), 1, "x")]), "S");
            }
            engine.overwrite(&key(gone), None);
            drop(engine);
            // As after a power cut: the mark knows nothing of the group.
            std::fs::write(dir.path().join("mark"), b"").unwrap();
            named_damage(dir.path(), &[&format!("values {gone} to {gone} are missing")]);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let engine = filled(dir.path());
    (4..=6).for_each(|gone| engine.overwrite(&key(gone), None));
    drop(engine);
    named_damage(dir.path(), &["values 4 to 6 are missing"]);
}

#[test]
fn users_are_mixed_in_a_group_and_read_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = SledEngine::open(dir.path()).unwrap();
    let name = |n: u64| format!("user{n}");
    let text = |n: u64, seq: u64| format!("{n} {seq} {}", "x".repeat(1000));
    let mut expected = Vec::new();
    for round in 0..3 {
        // Three batches of two records for each of forty users, taking turns.
        let mut group = Vec::new();
        for seq in [1, 3, 5].map(|seq| seq + 6 * round) {
            for n in 0..40 {
                group.push(append(&name(n), at(1, seq), 2, text(n, seq)));
                expected.push((name(n), at(1, seq), 2, text(n, seq).into_bytes()));
            }
        }
        assert_eq!(commit(&mut engine, &group), "S".repeat(120));
    }
    for reopened in [false, true] {
        if reopened {
            drop(engine);
            engine = SledEngine::open(dir.path()).unwrap();
        }
        for n in [0, 17, 39] {
            for seq in 1..=18 {
                let first = seq - (seq - 1) % 2;
                let batch = engine.read(&name(n), at(1, seq)).unwrap().unwrap();
                assert_eq!((batch.first, batch.count), (at(1, first), 2));
                assert_eq!(batch.value, text(n, first));
                let tail = engine.tail(&name(n), at(1, seq)).unwrap();
                let places: Vec<u64> = tail.iter().map(|b| b.first.seq).collect();
                assert_eq!(places, (first..=17).step_by(2).collect::<Vec<_>>());
            }
            assert_eq!(engine.read(&name(n), at(1, 19)).unwrap(), None);
            assert_eq!(engine.tail(&name(n), at(1, 19)).unwrap(), []);
        }
    }
    assert_eq!(all(&engine).unwrap(), expected, "in the order of commits");
    assert_eq!(commit(&mut engine, &[append(&name(3), at(1, 19), 1, "next")]), "S");
    assert_eq!(commit(&mut engine, &[append(&name(3), at(1, 19), 1, "again")]), "C");
}

#[test]
fn flipped_bits_and_cuts_in_the_files_are_never_silent() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let good = all(&*sled_engine(dir.path())).unwrap();
    let path = dir.path().join("log").join("db");
    let whole = std::fs::read(&path).unwrap();
    let used = whole.iter().rposition(|o| *o != 0).unwrap();
    let tried = |octets: &[u8], what: usize| {
        std::fs::write(&path, octets).unwrap();
        match SledEngine::open(dir.path()).and_then(|e| all(&e)) {
            Ok(found) => assert_eq!(found, good, "octet {what}"),
            Err(error) => assert!(error.to_string().contains("backup"), "{error}"),
        }
    };
    for step in 0..24 {
        let mut octets = whole.clone();
        octets[used * step / 24] ^= 1 << (step % 8);
        tried(&octets, used * step / 24);
    }
    for step in 0..8 {
        tried(&whole[..used * step / 8], used * step / 8);
    }
}

/// Checking a damaged log made an end of it: the engine cut off what stood behind the damage.
#[test]
fn a_check_changes_nothing_of_what_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let path = dir.path().join("log").join("db");
    let mut spoilt = std::fs::read(&path).unwrap();
    let used = spoilt.iter().rposition(|o| *o != 0).unwrap();
    spoilt[used / 2] ^= 4;
    for octets in [&spoilt[..], &spoilt[..used / 2]] {
        std::fs::write(&path, octets).unwrap();
        let (mut copied, mut first) = ((0, 0), None);
        for _ in 0..2 {
            let decode = &mut |_: &str, _, _, _: &[u8]| Ok(Vec::new());
            let told = &mut |done, total| copied = (done, total);
            let report = check(dir.path(), decode, told, &mut |_, _| ());
            let report = report.map_err(|error| error.to_string());
            assert!(report.as_ref().is_ok_and(|r| !r.sound()) || report.is_err(), "{report:?}");
            let text = format!("{report:?}");
            assert!(!text.contains("cpmd-check"), "it speaks of the original: {text}");
            assert_eq!(*first.get_or_insert(report.clone()), report, "the same each time");
        }
        assert!(copied.0 == copied.1 && copied.0 >= octets.len() as u64, "{copied:?}");
        assert!(std::fs::read(&path).unwrap() == octets, "the evidence is kept");
    }
}

/// A log without its mark was taken for whole, whatever it had lost.
#[test]
fn a_log_without_its_mark_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let (log, mark) = (dir.path().join("log").join("db"), dir.path().join("mark"));
    std::fs::remove_file(&mark).unwrap();
    let before = std::fs::read(&log).unwrap();
    let refused = SledEngine::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("mark is missing") && refused.contains("touch"), "{refused}");
    assert!(std::fs::read(&log).unwrap() == before && !mark.exists(), "nothing was touched");
    let report = checked(dir.path()).unwrap();
    assert!(!report.sound() && report.findings[0].what.contains("mark is missing"), "{report:?}");
    assert_eq!((report.findings.len(), report.tally.batches), (1, 8));
    std::fs::write(&mark, b"").unwrap();
    assert_eq!(all(&*sled_engine(dir.path())).unwrap().len(), 8, "as it says what to do");
}

#[test]
fn check_counts_and_names_blobs() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(checked(dir.path()), Err(StoreError::Absent { .. })));
    let mut engine = filled(dir.path());
    let blob = |text: &'static str| Blob {
        name: sha256_hex(text.as_bytes()),
        octets: Bytes::from_static(text.as_bytes()),
    };
    let mut with = append("a", at(0, 5), 1, "mentions");
    with.blobs = vec![blob("mentioned"), blob("orphan")];
    assert_eq!(commit(&mut engine, &[with]), "S");
    drop(engine);
    let run = || {
        let decode = &mut |_: &str, _, _, value: &[u8]| match value {
            b"mentions" => Ok(vec![sha256_hex(b"mentioned")]),
            _ => Ok(vec![]),
        };
        check(dir.path(), decode, &mut |_, _| (), &mut |_, _| ()).unwrap()
    };
    let report = run();
    assert!(report.sound());
    assert_eq!((report.users, report.blobs), (2, 1));
    assert_eq!(report.tally, Tally { batches: 9, records: 9 });
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert!(report.findings[0].what.contains(&sha256_hex(b"orphan")));

    let name = sha256_hex(b"mentioned");
    std::fs::write(dir.path().join("blobs").join(&name[..2]).join(&name), "other").unwrap();
    let report = run();
    assert!(!report.sound() && report.findings[0].what.contains("altered"), "{report:?}");
    let cannot = &mut |_: &str, _, _, _: &[u8]| Err("of a later version".to_owned());
    let report = check(dir.path(), cannot, &mut |_, _| (), &mut |_, _| ()).unwrap();
    assert!(report.findings.iter().all(|f| f.what.contains("of a later version")));
    assert_eq!(report.findings.len(), 9);
}

#[test]
fn the_thread_groups_answers_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let done = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&done);
    let report = Box::new(move |outcomes: Vec<(u64, Outcome)>| {
        sink.lock().unwrap().extend(outcomes);
    });
    let committer = Committer::start(sled_engine(dir.path()), report).unwrap();
    let handle = committer.handle();
    // Holds the thread, so that all of the appends are waiting when it goes on.
    let (go, wait) = mpsc::channel::<()>();
    handle.ask(move |_| wait.recv().unwrap()).unwrap();
    let many = GROUP_MAX as u64 + 10;
    for seq in 1..=many {
        handle.append(append("u", at(0, seq), 1, "x")).unwrap();
    }
    let too_large = append("u", at(0, 1), 1, vec![0; VALUE_OCTETS_MAX + 1]);
    assert!(matches!(handle.append(too_large), Err(Refused::Invalid(_))));
    let (answer, answered) = mpsc::channel();
    handle.ask(move |e| answer.send(e.read("u", at(0, many)).unwrap()).unwrap()).unwrap();
    go.send(()).unwrap();
    assert_eq!(answered.recv().unwrap().unwrap().first, at(0, many), "sees what came before it");
    assert_eq!(handle.waiting(), 0);
    let engine = committer.stop().unwrap();
    assert_eq!(handle.append(append("u", at(0, many + 1), 1, "x")), Err(Refused::Closed));
    let counters = handle.counters();
    assert_eq!((counters.batches(), counters.records()), (many, many));
    assert!(counters.groups() <= 4 && counters.largest_group() <= GROUP_MAX as u64);
    assert_eq!(counters.syncs(), counters.groups());
    assert!(!counters.failed());
    let done = done.lock().unwrap();
    let tickets: Vec<u64> = done.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, (1..=many).collect::<Vec<_>>());
    assert!(matches!(done.last(), Some((_, Outcome::Stored(s))) if s.position() == at(0, many)));
    assert_eq!(all(&*engine).unwrap().len() as u64, many);
}

#[test]
fn a_broken_engine_fails_all_that_comes() {
    let dir = tempfile::tempdir().unwrap();
    let opening = AtomicBool::new(true);
    let sync = move |_: &std::fs::File| match opening.swap(false, Ordering::SeqCst) {
        true => Ok(()),
        false => Err(std::io::Error::other("the disk has gone")),
    };
    let engine = SledEngine::open_with(dir.path(), Box::new(sync)).unwrap();
    let (tell, told) = mpsc::channel();
    let report = Box::new(move |outcomes| tell.send(outcomes).unwrap());
    let committer = Committer::start(Box::new(engine), report).unwrap();
    for seq in 1..=2 {
        committer.handle().append(append("u", at(0, seq), 1, "x")).unwrap();
        let outcomes: Vec<(u64, Outcome)> = told.recv().unwrap();
        assert!(matches!(outcomes[..], [(ticket, Outcome::Failed)] if ticket == seq));
    }
    assert!(committer.handle().counters().failed());
}

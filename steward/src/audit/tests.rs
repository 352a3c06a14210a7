//! The chain across processes, files and full disks, and what breaks it.

use std::fs;
use std::path::Path;

use protocol::name::NodeName;

use super::chain::{Chain, FILES_KEPT};
use super::*;

fn record(event: &'static str, data: &str) -> Record {
    let name = |text: &str| Some(NodeName::new(text).unwrap());
    let data = Some(Data::Whole(Arc::from(data)));
    Record { at: Wall(1_700_000_000_000), event, from: name("central"), to: name("ship1"), data, ..Record::default() }
}

fn write(dir: &Path, records: &[Record]) -> u64 {
    let (mut chain, cut) = Chain::open(dir).unwrap();
    chain.append(records).unwrap();
    cut
}

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join("audit.jsonl")
}

fn broken_at(dir: &Path) -> (u64, String) {
    let broken = verify(dir, None).unwrap_err();
    (broken.line, broken.why)
}

#[test]
fn the_chain_goes_on_from_process_to_process() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        assert_eq!(write(dir.path(), &[record("sent", r#"["df"]"#), record("sent", "no JSON\n\"")]), 0);
    }
    let verified = verify(dir.path(), None).unwrap();
    assert_eq!((verified.lines, verified.first, verified.head.n), (6, 1, 6));
    let view = lines(dir.path()).nth(1).unwrap().unwrap().2;
    assert_eq!((view.rest["data"].as_str(), view.from.as_deref()), (Some("no JSON\n\""), Some("central")));
}

#[test]
fn whatever_is_altered_taken_out_or_moved_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<String> = (0..5).map(|number| format!("[\"{number}\"]")).collect();
    write(dir.path(), &data.iter().map(|data| record("sent", data)).collect::<Vec<_>>());
    let whole = fs::read_to_string(file(dir.path())).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let check = |text: String| {
        fs::write(file(dir.path()), text).unwrap();
        broken_at(dir.path())
    };
    let altered = check(whole.replace("[\"2\"]", "[\"9\"]"));
    assert_eq!(altered.0, 3);
    assert!(altered.1.contains("was altered"), "{altered:?}");
    let missing = check(format!("{}\n{}\n{}\n", lines[0], lines[1], lines[3]));
    assert_eq!(missing.0, 3);
    assert!(missing.1.contains("a line is missing before it"), "{missing:?}");
    assert_eq!(check(format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2])).0, 2);
    assert_eq!(check(format!("{}\nnonsense\n{}\n", lines[0], lines[1])).0, 2);
    assert_eq!(check(whole.replacen("\"n\":4", "\"n\":5", 1)).0, 4);
    // The end can be cut off; whoever knows the last line sees it.
    fs::write(file(dir.path()), &whole).unwrap();
    let head = verify(dir.path(), None).unwrap().head;
    fs::write(file(dir.path()), format!("{}\n{}\n", lines[0], lines[1])).unwrap();
    assert!(verify(dir.path(), None).is_ok());
    assert!(verify(dir.path(), Some(&head)).unwrap_err().why.contains("line 5 is not there"));
    let other = Head { n: 2, hash: head.hash };
    assert!(verify(dir.path(), Some(&other)).unwrap_err().why.contains("written anew"));
}

#[test]
fn a_line_without_an_end_is_cut_off_and_the_chain_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[record("sent", "[]"), record("sent", "[]")]);
    let whole = fs::read(file(dir.path())).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for len in [first + 1, whole.len() - 1, 1] {
        fs::write(file(dir.path()), &whole[..len]).unwrap();
        let cut = write(dir.path(), &[record("ended", "[]")]);
        let kept = if len > first { first } else { 0 };
        assert_eq!(cut, (len - kept) as u64);
        let verified = verify(dir.path(), None).unwrap();
        assert_eq!(verified.lines, 1 + u64::from(kept > 0));
    }
}

#[test]
fn what_a_full_disk_does_not_take_leaves_the_chain_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut chain, _) = Chain::open(dir.path()).unwrap();
    chain.append(&[record("sent", "[1]")]).unwrap();
    chain.fill_disk(true);
    assert!(chain.append(&[record("sent", "[2]")]).is_err());
    chain.fill_disk(false);
    chain.append(&[record("sent", "[2]"), record("sent", "[3]")]).unwrap();
    assert_eq!(verify(dir.path(), None).unwrap().lines, 3);
}

#[test]
fn the_chain_goes_over_files_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut chain, _) = Chain::open(dir.path()).unwrap();
    chain.bytes_max = 1000;
    for number in 0..100 {
        chain.append(&[record("sent", &format!("[\"{number}\"]"))]).unwrap();
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), FILES_KEPT + 1);
    let verified = verify(dir.path(), None).unwrap();
    assert!(verified.first > 1 && verified.head.n == 100 && verified.files == FILES_KEPT + 1, "{verified:?}");
    // A process that ended just after the rotation leaves an empty file.
    let newest = verified.head.n;
    for number in (0..FILES_KEPT).rev() {
        let name = |number: usize| match number {
            0 => file(dir.path()),
            number => dir.path().join(format!("audit.jsonl.{number}")),
        };
        fs::rename(name(number), name(number + 1)).unwrap();
    }
    write(dir.path(), &[record("sent", "[]")]);
    assert_eq!(verify(dir.path(), None).unwrap().head.n, newest + 1);
}

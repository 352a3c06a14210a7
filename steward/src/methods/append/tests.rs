//! Logs across crashes: at every point, with every combination of what was final by then.

use proptest::prelude::*;

use super::*;

const LOG: Log = Log { name: "test", rotate_at: None };
const SMALL: Log = Log { name: "small", rotate_at: Some(100) };

fn batch(tickets: &[u64], text: &str) -> Append {
    let outcome = |ticket: &u64| (Ticket(*ticket), Outcome::bare(Final::Done, None, clock::wall()));
    Append::new(text.as_bytes().to_vec(), tickets.iter().map(outcome).collect())
}

/// A writer that a test can kill.
struct Rig {
    dir: tempfile::TempDir,
    log: &'static Log,
    files: Option<Files>,
}

impl Rig {
    fn new(log: &'static Log) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), log, files: None }
    }

    fn write(&mut self, group: Vec<Append>) {
        let (files, _, result) = write_group(self.dir.path(), self.log, self.files.take(), group);
        result.unwrap();
        self.files = files;
    }

    /// The node dies, and comes back with these messages without a final state.
    fn restart(&mut self, running: &[u64]) -> u64 {
        self.files = None;
        recover(self.dir.path(), self.log, &running.iter().map(|ticket| Ticket(*ticket)).collect()).unwrap()
    }

    fn path(&self) -> PathBuf {
        self.log.path(self.dir.path())
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap_or_default()
    }
}

#[test]
fn what_is_final_stays_and_what_runs_again_goes() {
    for (running, left) in [
        (&[][..], "one\ntwo\nthree\n"),
        (&[4, 5][..], "one\ntwo\n"),
        (&[3, 4, 5][..], "one\n"),
        (&[1, 2, 3, 4, 5][..], ""),
        (&[9][..], "one\ntwo\nthree\n"),
    ] {
        let mut rig = Rig::new(&LOG);
        rig.write(vec![batch(&[1, 2], "one\n")]);
        rig.write(vec![batch(&[3], "two\n"), batch(&[4, 5], "three\n")]);
        rig.restart(running);
        assert_eq!(rig.text(), left, "with {running:?} running");
    }
}

#[test]
fn what_ran_again_is_judged_by_its_second_run() {
    let mut rig = Rig::new(&LOG);
    rig.write(vec![batch(&[1], "one\n")]);
    rig.write(vec![batch(&[2], "two\n")]);
    rig.restart(&[2]);
    rig.write(vec![batch(&[3], "three\n")]);
    rig.write(vec![batch(&[2], "two\n")]);
    rig.restart(&[2]);
    assert_eq!(rig.text(), "one\nthree\n", "cut where the second run began, not the first");
    rig.restart(&[2]);
    assert_eq!(rig.text(), "one\nthree\n", "killed again before anything was written");
}

#[test]
fn a_store_that_does_not_go_with_the_journal_cuts_nothing() {
    let mut rig = Rig::new(&LOG);
    rig.write(vec![batch(&[1], "one\n")]);
    rig.write(vec![batch(&[2], "two\n")]);
    assert_eq!(rig.restart(&[1]), 0);
    assert_eq!(rig.text(), "one\ntwo\n");
}

#[test]
fn lines_without_a_ticket_are_not_journalled() {
    let mut rig = Rig::new(&LOG);
    rig.write(vec![batch(&[1], "one\n")]);
    rig.write(vec![batch(&[], "nack\n")]);
    rig.restart(&[7]);
    assert_eq!(rig.text(), "one\nnack\n");
}

#[test]
fn a_file_that_was_emptied_or_moved_is_left_alone_and_a_new_one_begun() {
    let mut rig = Rig::new(&LOG);
    rig.write(vec![batch(&[1], "one and more\n")]);
    rig.write(vec![batch(&[2], "two\n")]);
    std::fs::write(rig.path(), "x\n").unwrap();
    assert_eq!(rig.restart(&[2]), 0);
    assert_eq!(rig.text(), "x\n");

    rig.write(vec![batch(&[3], "three\n")]);
    let moved = rig.dir.path().join("moved");
    std::fs::rename(rig.path(), &moved).unwrap();
    rig.write(vec![batch(&[4], "four\n")]);
    assert_eq!(rig.text(), "four\n");
    assert_eq!(rig.restart(&[3, 4]), 0, "the file where the cut would begin is not to be found");
    assert_eq!(std::fs::read_to_string(moved).unwrap(), "x\nthree\n");
}

#[test]
fn a_rotation_in_between_is_no_hindrance() {
    let mut rig = Rig::new(&SMALL);
    let line = |text: &str| format!("{text:.<59}\n");
    for number in 1..=3 {
        rig.write(vec![batch(&[number], &line(&number.to_string()))]);
    }
    let rotated = SMALL.rotated(rig.dir.path(), 1);
    assert_eq!(std::fs::read_to_string(&rotated).unwrap(), line("2"));
    rig.restart(&[2, 3]);
    assert_eq!((rig.text(), std::fs::read_to_string(&rotated).unwrap()), (String::new(), String::new()));
    assert_eq!(std::fs::read_to_string(SMALL.rotated(rig.dir.path(), 2)).unwrap(), line("1"));
}

#[test]
fn old_files_go_when_there_are_too_many() {
    let mut rig = Rig::new(&SMALL);
    for number in 0..10 {
        rig.write(vec![batch(&[number], &"x".repeat(90))]);
    }
    assert!(SMALL.rotated(rig.dir.path(), ROTATED_MAX).exists());
    assert!(!SMALL.rotated(rig.dir.path(), ROTATED_MAX + 1).exists());
}

#[test]
fn a_journal_that_cant_be_read_is_begun_anew() {
    for garbage in [vec![], b"garbage".to_vec(), vec![0; 64], vec![7; (journal::SLOTS as usize + 1) * 64]] {
        let mut rig = Rig::new(&LOG);
        rig.write(vec![batch(&[1], "one\n")]);
        std::fs::write(LOG.journal(rig.dir.path()), garbage).unwrap();
        assert_eq!(rig.restart(&[1]), 0);
        rig.write(vec![batch(&[1], "one\n")]);
        assert_eq!(rig.restart(&[1]), 4);
    }
}

#[test]
fn the_journal_goes_round() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(&dir.path().join("j")).unwrap();
    let record = |number: u64| Record { ticket: Ticket(number), inode: 1, len: number * 10 };
    let records: Vec<_> = (0..journal::SLOTS + 5).map(record).collect();
    for some in records.chunks(1000) {
        journal.note(some).unwrap();
    }
    assert_eq!(journal.records().unwrap(), records[5..]);
    drop(journal);
    let mut journal = Journal::open(&dir.path().join("j")).unwrap();
    journal.note(&[record(99_999)]).unwrap();
    assert_eq!(journal.records().unwrap().last(), Some(&record(99_999)));
    journal.forget().unwrap();
    assert_eq!(journal.records().unwrap(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Groups of batches are written; the node dies after some of them are final, with any part of what came behind
    /// them on the disk; it comes back, runs the rest again, perhaps dies once more. Each line is there once.
    #[test]
    fn each_line_is_there_exactly_once(
        groups in prop::collection::vec(prop::collection::vec(1_u64..4, 1..4), 1..6),
        final_groups in any::<prop::sample::Index>(),
        kept in any::<prop::sample::Index>(),
        again in any::<prop::sample::Index>(),
    ) {
        let mut rig = Rig::new(&LOG);
        let mut next = 1;
        let mut plan: Vec<Vec<Vec<u64>>> = Vec::new();
        for group in &groups {
            let batches = group.iter().map(|size| (0..*size).map(|_| { next += 1; next - 1 }).collect()).collect();
            plan.push(batches);
        }
        let lines = |batch: &Vec<u64>| batch.iter().map(|ticket| format!("line {ticket}\n")).collect::<String>();
        let append = |group: &Vec<Vec<u64>>| group.iter().map(|tickets| batch(tickets, &lines(tickets))).collect();
        let finals = final_groups.index(plan.len() + 1);
        let mut durable = 0;
        for (index, group) in plan.iter().enumerate() {
            rig.write(append(group));
            if index < finals {
                durable = rig.text().len();
            }
        }
        // A crash of the machine leaves any part of what was not synced; a synced prefix is always whole.
        let whole = rig.text().len();
        let left = durable + kept.index(whole - durable + 1);
        std::fs::OpenOptions::new().write(true).open(rig.path()).unwrap().set_len(left as u64).unwrap();
        let rest: Vec<Vec<u64>> = plan[finals..].concat();
        let running: Vec<u64> = rest.concat();
        rig.restart(&running);
        // Alone, one by one, as the protocol runs again what it had started; killed once more on the way.
        let stop = again.index(running.len() + 1);
        for ticket in &running[..stop] {
            rig.write(vec![batch(&[*ticket], &format!("line {ticket}\n"))]);
        }
        rig.restart(&running[stop..]);
        for ticket in &running[stop..] {
            rig.write(vec![batch(&[*ticket], &format!("line {ticket}\n"))]);
        }
        let expected: String = (1..next).map(|ticket| format!("line {ticket}\n")).collect();
        prop_assert_eq!(rig.text(), expected);
    }
}

#[tokio::test]
async fn a_log_that_cant_be_written_fails_its_messages_with_the_reason_and_mends() {
    let dir = tempfile::tempdir().unwrap();
    let (ends, mut told) = mpsc::channel(8);
    let (appender, writer) = Writer::new(dir.path(), &LOG, ends);
    let end = CancellationToken::new();
    let serving = writer.serve(end.clone());
    let test = async {
        std::fs::create_dir(LOG.path(dir.path())).unwrap();
        let ending = appender.append(batch(&[1], "one\n")).await.unwrap();
        assert_eq!(ending.state, Final::Failed);
        assert!(ending.reason.unwrap().contains("directory"), "the system's own word for it");
        std::fs::remove_dir(LOG.path(dir.path())).unwrap();
        assert_eq!(appender.append(batch(&[2], "two\n")).await.unwrap(), Ending::DONE);
        let ends: Vec<_> = [told.recv().await.unwrap(), told.recv().await.unwrap()].concat();
        let states: Vec<_> = ends.iter().map(|(ticket, outcome)| (ticket.0, outcome.state)).collect();
        assert_eq!(states, [(1, Final::Failed), (2, Final::Done)]);
        end.cancel();
    };
    let (served, ()) = tokio::time::timeout(std::time::Duration::from_secs(20), async { tokio::join!(serving, test) })
        .await
        .expect("it should have happened by now");
    served.unwrap();
}

//! What may happen to files in `messages.d/`, each with the real file system.

use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::intake::tests::{Taken as Accepted, central, engine, engine_with};

struct World {
    dir: TempDir,
    accepted: Arc<Mutex<Accepted>>,
    spool: Spool,
    /// Tells nothing: files are found by looking.
    blind: Watch,
    now: Mono,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (engine, accepted) = engine();
        let spool = Spool::open(dir.path(), Intake::new(engine, central())).unwrap();
        let blind = Watch::new(&dir.path().join("nowhere"), mpsc::channel(1).0);
        Self { dir, accepted, spool, blind, now: Mono(0) }
    }

    /// The node ends without any warning, and starts again.
    fn restart(&mut self) {
        let intake = Intake::new(engine_with(&self.accepted), central());
        self.spool = Spool::open(self.dir.path(), intake).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(NAME).join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Lets time pass, in steps of the scan.
    async fn pass(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        while self.now < end {
            self.now = self.now.after(Duration::from_secs(1));
            for _ in 0..100 {
                if !self.spool.turn(&self.blind, self.now).await {
                    break;
                }
            }
        }
    }

    /// The receivers of the messages that were accepted.
    fn receivers(&self) -> Vec<String> {
        self.accepted.lock().unwrap().messages.iter().map(|message| message.to.to_string()).collect()
    }

    /// The names in a folder, in order.
    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }
}

fn message(to: &str) -> String {
    format!("- {{toNode: {to}, commandOrEvent: EventACK, method: M}}\n")
}

#[tokio::test]
async fn files_are_taken_oldest_first_and_their_ids_are_beside_them() {
    let mut world = World::new();
    world.put("b.yaml", &message("one"));
    world.put("a.yml", &(message("two") + "- {toNodes: [three, four], commandOrEvent: EventACK, method: M}\n"));
    world.put("c.json", r#"{"toNode":"five","commandOrEvent":"EventACK","method":"M"}"#);
    for (seconds, name) in [(1, "b.yaml"), (2, "a.yml"), (3, "c.json")] {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().write(true).open(world.path(name)).unwrap().set_modified(time).unwrap();
    }
    world.pass(1).await;
    assert!(world.receivers().is_empty(), "nobody has told that they are complete");
    world.pass(40).await;
    assert_eq!(world.receivers(), ["one", "two", "three", "four", "five"]);
    assert_eq!(world.names(""), ["done"]);
    assert_eq!(world.names("done"), ["a.yml", "a.yml.ids", "b.yaml", "b.yaml.ids", "c.json", "c.json.ids"]);
    let messages = world.accepted.lock().unwrap().messages.clone();
    let expected: Vec<String> =
        messages[1..4].iter().map(|message| format!("{} {}\n", message.id, message.to)).collect();
    assert_eq!(world.read("done/a.yml.ids"), expected.concat());
    // The same name once more: neither replaces the other.
    world.put("b.yaml", &message("six"));
    world.pass(40).await;
    let names = world.names("done");
    assert_eq!(names.len(), 8, "{names:?}");
    assert!(names.iter().any(|name| name.ends_with("Z-b.yaml") || name.ends_with("-b.yaml")), "{names:?}");
    assert_eq!(world.read("done/b.yaml"), message("one"));
}

/// All or nothing, with the reason beside it; and then it can be moved in again.
#[tokio::test]
async fn a_file_that_makes_no_sense_is_rejected_as_a_whole() {
    let mut world = World::new();
    world.put("a.yaml", &(message("one") + &message("two.") + &message("th ree")));
    world.put("b.json", "[ nonsense ]");
    world.put("c.yaml", &message("four"));
    world.pass(40).await;
    assert_eq!(world.receivers(), ["four"]);
    assert_eq!(world.names("rejected"), ["a.yaml", "a.yaml.reason", "b.json", "b.json.reason"]);
    let reason = world.read("rejected/a.yaml.reason");
    let lines: Vec<&str> = reason.lines().collect();
    assert!(lines[0].starts_with("line 2, column 3: \"toNode\": the name \"two.\""), "{reason}");
    assert!(lines[1].starts_with("line 3, column 3: \"toNode\": the name \"th ree\""), "{reason}");
    assert!(lines[2].starts_with("Nothing of it was taken in."), "{reason}");
    assert!(world.read("rejected/b.json.reason").starts_with("line 1, column 3: a message begins with {"));
    fs::write(world.path("rejected/a.yaml"), message("one")).unwrap();
    fs::rename(world.path("rejected/a.yaml"), world.path("a.yaml")).unwrap();
    world.pass(40).await;
    assert_eq!(world.receivers(), ["four", "one"]);
}

/// Wherever it is killed: the ids are the same each time, and what is recorded is true.
#[tokio::test]
async fn a_crash_at_any_moment_neither_loses_nor_doubles() {
    let text: String = (0..2500).map(|n| message(&format!("ship{n}"))).collect();
    for crash_after in 1..=3 {
        let mut world = World::new();
        world.put("a.yaml", &text);
        world.accepted.lock().unwrap().crash_after = Some(crash_after);
        world.pass(4).await;
        assert!(world.receivers().len() >= 1000 * crash_after.min(2), "{}", world.receivers().len());
        assert_eq!(world.names("").len(), 1, "it is aside: {:?}", world.names(""));
        world.restart();
        world.put("b.yaml", &message("last"));
        world.pass(40).await;
        assert_eq!(world.receivers().len(), 2501, "crash after {crash_after}");
        assert_eq!(world.receivers()[2500], "last");
        assert_eq!(world.names("done"), ["a.yaml", "a.yaml.ids", "b.yaml", "b.yaml.ids"]);
        assert_eq!(world.read("done/a.yaml.ids").lines().count(), 2500);
    }
}

/// The note is written, and the file not moved; then also with another file of its name put away before.
#[tokio::test]
async fn a_crash_before_the_move_leaves_one_note() {
    let mut world = World::new();
    world.put("a.yaml", &message("one"));
    world.pass(40).await;
    let (first, ids) = (world.receivers(), world.read("done/a.yaml.ids"));
    // As it was a moment before: aside, under the name from which its ids follow.
    let id: protocol::message::MessageId = ids.split(' ').next().unwrap().parse().unwrap();
    fs::rename(world.path("done/a.yaml"), world.path(&format!(".taken-{id}-a.yaml"))).unwrap();
    world.restart();
    world.pass(40).await;
    assert_eq!(world.receivers(), first);
    assert_eq!(world.accepted.lock().unwrap().offered, 2);
    assert_eq!((world.names("done"), world.read("done/a.yaml.ids")), (vec!["a.yaml".into(), "a.yaml.ids".into()], ids));
}

#[tokio::test]
async fn a_full_disk_keeps_everything_until_there_is_room() {
    let mut world = World::new();
    world.accepted.lock().unwrap().full = true;
    world.put("a.yaml", &message("one"));
    world.pass(10).await;
    world.put("b.yaml", &message("two"));
    world.pass(10).await;
    assert!(world.receivers().is_empty() && world.names("done").is_empty());
    world.accepted.lock().unwrap().full = false;
    world.pass(40).await;
    assert_eq!(world.receivers(), ["one", "two"]);
    assert_eq!(world.names(""), ["done"]);
}

#[tokio::test]
async fn what_is_not_meant_for_it_is_left_alone() {
    let mut world = World::new();
    let outside = world.dir.path().join("outside.yaml");
    fs::write(&outside, message("outside")).unwrap();
    symlink(&outside, world.path("link.yaml")).unwrap();
    symlink(&outside, world.path(".taken-0193a5b2-7c1e-7d3a-9b52-5a1f00000000-x.yaml")).unwrap();
    fs::create_dir(world.path("folder.yaml")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("pipe.json"), rustix::fs::Mode::RWXU).unwrap();
    world.put(&format!("{}.yaml", "x".repeat(NAME_BYTES_MAX)), &message("long"));
    for name in [".hidden.yaml", "a.yaml.tmp", "b.json.part", "c.txt", "d.YAML~"] {
        world.put(name, &message("other"));
    }
    File::create(world.path("large.json")).unwrap().set_len(TEXT_BYTES_MAX as u64 + 1).unwrap();
    world.put("empty.yaml", "");
    let before = world.names("");
    world.pass(40).await;
    assert!(world.receivers().is_empty());
    assert_eq!(world.names(""), before);
    assert_eq!(fs::read_to_string(&outside).unwrap(), message("outside"));
    // They are in nobody's way.
    world.put("good.yaml", &message("good"));
    world.pass(40).await;
    assert_eq!(world.receivers(), ["good"]);
}

/// Whoever goes on writing is waited for; where nobody tells that he has ended, until he is seen to have.
#[tokio::test]
async fn a_file_that_somebody_writes_waits() {
    let mut world = World::new();
    let script = "exec 3>messages.d/a.yaml; printf -- '- {toNode: one, commandOrEvent: ' >&3; echo; read -r go; printf 'EventACK, method: M}\\n' >&3";
    let mut writer = std::process::Command::new("bash")
        .args(["-c", script])
        .current_dir(world.dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    io::Read::read_exact(writer.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    world.pass(20).await;
    assert_eq!(world.names(""), ["a.yaml"]);
    // It holds up no other.
    world.put("b.yaml", &message("two"));
    world.pass(40).await;
    assert_eq!(world.receivers(), ["two"]);
    drop(writer.stdin.take());
    writer.wait().unwrap();
    world.pass(40).await;
    assert_eq!(world.receivers(), ["two", "one"]);
}

/// Somebody has tidied up.
#[tokio::test]
async fn a_folder_that_is_gone_is_made_again() {
    let mut world = World::new();
    fs::remove_dir(world.path("")).unwrap();
    world.pass(1).await;
    world.put("a.yaml", &message("one"));
    world.pass(40).await;
    fs::remove_dir_all(world.path("done")).unwrap();
    world.put("b.yaml", &message("two"));
    world.pass(40).await;
    assert_eq!(
        (world.receivers(), world.names("done")),
        (vec!["one".into(), "two".into()], vec!["b.yaml".into(), "b.yaml.ids".into()])
    );
}

#[tokio::test]
async fn many_files_are_taken_in_turns() {
    let mut world = World::new();
    for n in 0..300 {
        world.put(&format!("{n:03}.yaml"), &message(&format!("ship{n}")));
    }
    world.pass(40).await;
    assert_eq!(world.receivers().len(), 300);
    assert_eq!(world.names("done").len(), 600);
    assert!(world.names("").len() == 1);
}

/// With the hints of the file system: a file that is moved in or closed is taken at once, however often.
#[tokio::test]
async fn a_running_intake_is_told_of_files_and_ends_when_asked() {
    let World { dir, accepted, spool, .. } = World::new();
    let end = CancellationToken::new();
    let folder = dir.path().join(NAME);
    let run = tokio::spawn(spool.run(Clock::start(), end.clone()));
    for count in 1..=4 {
        if count % 2 == 0 {
            fs::write(folder.join("a.yaml"), message("a")).unwrap();
        } else {
            fs::write(folder.join(".a.yaml"), message("a")).unwrap();
            fs::rename(folder.join(".a.yaml"), folder.join("a.yaml")).unwrap();
        }
        let arrived = async {
            while accepted.lock().unwrap().messages.len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), arrived).await.unwrap();
    }
    end.cancel();
    run.await.unwrap().unwrap();
}

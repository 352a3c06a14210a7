//! The folder of a node's own methods, as it is found and as it is told of.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use protocol::event::Ticket;
use protocol::message::{Message, MessageId, Options};
use protocol::name::{MethodName, NodeName};
use protocol::step::Run;
use protocol::time::Wall;

use super::program::Input;
use super::*;

fn put(dir: &Path, name: &str, mode: u32) -> PathBuf {
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
    let path = folder.join(name);
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    path
}

fn describe(dir: &Path, name: &str, text: &str) {
    let path = put(dir, &format!("{name}.toml"), 0o644);
    fs::write(path, text).unwrap();
}

fn problem(own: &OwnMethods, name: &str) -> String {
    let view = own.views().into_iter().find(|view| view.method == name);
    view.and_then(|view| view.problem).unwrap_or_else(|| panic!("{name} is not told of"))
}

#[test]
fn an_executable_is_a_method_as_its_description_says() {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in [("Plain", 0o700), ("Keeps-1_x", 0o755), (".hidden", 0o755), ("Plain~", 0o755)] {
        put(dir.path(), name, mode);
    }
    describe(dir.path(), "Keeps-1_x", "description = \"keeps\"\nevent = true\nrerun = true\ntimeout = \"2m\"\n");
    let own = OwnMethods::open(dir.path());
    let views = own.views();
    let found: Vec<&MethodView> = views.iter().filter(|view| view.own).collect();
    assert_eq!(found.iter().map(|view| &*view.method).collect::<Vec<_>>(), ["Keeps-1_x", "Plain"]);
    assert_eq!((found[0].event, found[0].rerun, found[0].timeout_seconds), (true, true, Some(120.0)));
    assert_eq!((own.facts("Keeps-1_x").rerun, own.facts("Plain").rerun), (true, false));
    assert_eq!((own.takes_events("Keeps-1_x"), own.takes_events("Plain")), (Some(true), Some(false)));
    assert!(own.of_events().contains(&"Keeps-1_x".to_owned()) && !own.of_events().contains(&"Plain".to_owned()));
    assert_eq!(own.check(Kind::CommandAck, "Plain", &["\0".to_owned()]), Ok(()));
    let unknown = own.check(Kind::CommandAck, "plain", &[]).unwrap_err();
    assert!(
        unknown.contains("ShellCommand") && unknown.ends_with("Keeps-1_x, Plain (names are case sensitive)"),
        "{unknown}"
    );
    assert_eq!(views.iter().filter(|view| !view.own).count(), TABLE.len());
}

#[test]
fn what_others_could_have_put_there_is_no_method() {
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in [
        ("Good", 0o755),
        ("Group", 0o775),
        ("World", 0o757),
        ("Text", 0o644),
        ("a.sh", 0o755),
        ("shellcommand", 0o755),
        ("file", 0o755),
    ] {
        put(dir.path(), name, mode);
    }
    let folder = dir.path().join(FOLDER);
    symlink(folder.join("Good"), folder.join("Link")).unwrap();
    fs::create_dir(folder.join("Folder")).unwrap();
    put(dir.path(), "Described", 0o755);
    describe(dir.path(), "Described", "retun = true\n");
    describe(dir.path(), "Nothing", "");
    put(dir.path(), "Shared", 0o755);
    describe(dir.path(), "Shared", "");
    fs::set_permissions(folder.join("Shared.toml"), Permissions::from_mode(0o666)).unwrap();
    let own = OwnMethods::open(dir.path());
    for (name, why) in [
        ("Group", "chmod go-w methods.d/Group"),
        ("World", "chmod go-w methods.d/World"),
        ("Text", "chmod +x"),
        ("a.sh", "'.' at position 2"),
        ("shellcommand", "ShellCommand is a method of steward's own"),
        ("file", "replyMethod"),
        ("Link", "is a link"),
        ("Folder", "no regular file"),
        ("Described", "Described.toml: line 1: unknown field `retun`"),
        ("Nothing.toml", "it describes Nothing, and there is no such file"),
        ("Shared", "Shared.toml: others than its owner can write it"),
    ] {
        assert!(problem(&own, name).contains(why), "{name}: {}", problem(&own, name));
        assert!(own.get(name).is_none() && own.checked(name).is_err(), "{name}");
    }
    assert!(own.get("Good").is_some() && own.checked("Good").is_ok());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.join("Good"), Some(65_534), None).unwrap();
        assert!(problem(&OwnMethods::open(dir.path()), "Good").contains("it belongs to user 65534"));
        std::os::unix::fs::chown(folder.join("Good"), Some(0), None).unwrap();
    }
    // Who can write the folder can put anything in the place of a file.
    fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
    let own = OwnMethods::open(dir.path());
    assert!(own.get("Good").is_none() && problem(&own, "methods.d/").contains("go-w methods.d"));
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(&folder, elsewhere.path().join(FOLDER)).unwrap();
    assert!(problem(&OwnMethods::open(elsewhere.path()), "methods.d/").contains("a link"));
}

#[tokio::test]
async fn what_changes_in_the_folder_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let own = OwnMethods::open(dir.path());
    let (end, mut changes) = (CancellationToken::new(), own.changes());
    let follow = tokio::spawn(own.clone().run(end.clone()));
    put(dir.path(), "New", 0o755);
    changes.changed().await.unwrap();
    assert!(own.get("New").is_some_and(|own| !own.rerun));
    describe(dir.path(), "New", "rerun = true\n");
    changes.changed().await.unwrap();
    assert!(own.facts("New").rerun);
    // A mistake takes it away: nobody knows what was meant.
    describe(dir.path(), "New", "rerun = maybe\n");
    changes.changed().await.unwrap();
    assert!(own.get("New").is_none() && !own.facts("New").rerun);
    describe(dir.path(), "New", "");
    changes.changed().await.unwrap();
    fs::remove_file(dir.path().join(FOLDER).join("New")).unwrap();
    changes.changed().await.unwrap();
    assert!(own.get("New").is_none());
    end.cancel();
    follow.await.unwrap().unwrap();
}

#[test]
fn a_hello_has_room_for_some_and_counts_the_others() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..70 {
        let name = format!("{number:02}{}", "x".repeat(62));
        put(dir.path(), &name, 0o755);
        describe(dir.path(), &name, &format!("description = \"{}\"", "船".repeat(200)));
    }
    let own = OwnMethods::open(dir.path());
    let (told, left_out) = own.told();
    assert_eq!((told.len(), told.len() + left_out), (2, 64));
    assert!(serde_json::to_string(&told).unwrap().len() <= TOLD_BYTES_MAX);
    assert!(problem(&own, &format!("69{}", "x".repeat(62))).contains("there are 64 methods before it"));
}

#[test]
fn a_folder_full_of_other_things_says_so() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "One", 0o755);
    for number in 0..1024 {
        fs::write(dir.path().join(FOLDER).join(format!(".{number}")), "").unwrap();
    }
    assert!(problem(&OwnMethods::open(dir.path()), "methods.d/").contains("more than 1024 files"));
}

/// The example in the text for operators is what a program reads.
#[test]
fn a_program_reads_what_is_documented() {
    let text = include_str!("../own.rs");
    let example = text.split("//! ```json\n//! ").nth(1).unwrap().split('\n').next().unwrap();
    let name = |text: &str| NodeName::new(text).unwrap();
    let message = Message {
        id: MessageId(0x0193_a1c2_7f00_7000_8000_00c0_ffee_0001),
        from: name("central"),
        to: name("ship1"),
        kind: Kind::CommandAck,
        method: MethodName::new("DiskReport").unwrap(),
        body: "[\"/var\"]".into(),
        options: Options::default(),
        created: Wall(1_795_410_000_000),
    };
    let facts = Facts { rerun: false, batch: 1 };
    let run = Run { ticket: Ticket(1), message, limit: None, facts, again: false, stored: false };
    assert_eq!(serde_json::to_string(&Input::of(&run, &["/var".to_owned()])).unwrap(), example);
}

impl Told {
    /// As many as a hello may have.
    pub(crate) fn most() -> (Vec<Self>, usize) {
        (vec![Self { name: String::new(), description: "x".repeat(TOLD_BYTES_MAX), event: false }], usize::MAX)
    }
}

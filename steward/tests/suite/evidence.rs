//! Receipts that others can check: `steward verify` and `steward export` on real nodes, and what somebody who alters
//! something gets for it.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::attacks::members::{Member, Members, secret};
use crate::harness::{Fleet, Node, event, eventually, shell, skipped, with};

/// A fleet with certificates.
struct Scene<'f> {
    central: Node<'f>,
    ship1: Node<'f>,
    members: Members,
    of_ship1: Member,
}

impl<'f> Scene<'f> {
    fn new(fleet: &'f Fleet) -> Self {
        let members = Members::new();
        let (mut central, mut ship1) = (fleet.absent("central", &[]), fleet.absent("ship1", &[]));
        members.join(&central);
        let of_ship1 = members.join(&ship1);
        central.start();
        ship1.start();
        Self { central, ship1, members, of_ship1 }
    }

    /// Runs a script on ship1 to its end; the id.
    fn ran(&self, script: &str) -> String {
        let message = self.central.send_and_wait(&shell("ship1", script));
        message["id"].as_str().unwrap().to_owned()
    }

    fn fleet_key(&self) -> String {
        fs::read_to_string(self.central.dir().join("identity/fleet.pub")).unwrap().trim().to_owned()
    }

    /// Checks a bundle in a directory that has nothing else.
    fn check_elsewhere(&self, bundle: &Path) -> (i32, Vec<Value>) {
        let nowhere = bundle.parent().unwrap().join("nowhere");
        fs::create_dir_all(&nowhere).unwrap();
        let (bundle, fleet) = (bundle.display().to_string(), self.fleet_key());
        let ran = self.central.cli_in(&nowhere, &["verify", "--bundle", &bundle, "--fleet", &fleet, "--json"]);
        assert_eq!(fs::read_dir(&nowhere).unwrap().count(), 0, "looking makes nothing");
        (ran.code, ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }
}

/// What `verify` says, and its exit code.
fn verify(node: &Node<'_>, id: &str) -> (i32, Value) {
    let ran = node.cli(&["verify", id, "--json"]);
    let said = serde_json::from_str(ran.stdout.trim()).unwrap_or_else(|_| panic!("{ran:?}"));
    (ran.code, said)
}

fn holds(node: &Node<'_>, id: &str) -> Value {
    let (code, said) = verify(node, id);
    assert_eq!((code, &said["answer"]), (0, &"holds".into()), "{said}");
    said
}

/// Changes something in the store of a node that does not run.
fn alter(node: &Node<'_>, sql: &str) {
    let store = Connection::open(node.dir().join("steward.db")).unwrap();
    assert!(store.execute(sql, []).unwrap() > 0, "{sql} changes nothing");
}

fn export(scene: &Scene<'_>, ids: &[&str], folder: &Path) -> PathBuf {
    let path = folder.join(format!("{}.bundle", ids[0]));
    let out = path.display().to_string();
    let ran = scene.central.cli(&[&["export"], ids, &["--out", &out]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    path
}

#[test]
fn every_end_that_a_node_has_said_can_be_shown() {
    let fleet = Fleet::new();
    let scene = Scene::new(&fleet);
    let central = &scene.central;
    let done = scene.ran("echo out; echo err >&2");
    let said = holds(central, &done);
    let signed = &said["signed"];
    assert_eq!((&said["fromNode"], &said["toNode"]), (&"central".into(), &"ship1".into()));
    assert_eq!(said["data"], json!(["bash", "-c", "echo out; echo err >&2"]));
    assert_eq!((&signed["stdout"]["text"], &signed["stderr"]["text"]), (&"out\n".into(), &"err\n".into()));
    assert_eq!((&signed["state"], &signed["key"]), (&"done".into(), &scene.of_ship1.public_key().into()));
    assert_eq!(signed["finishedAt"], central.show(&done)["finishedAt"]);

    let failed = scene.ran("exit 3");
    assert_eq!(holds(central, &failed)["signed"]["exitCode"], 3);
    let long = scene.ran("seq 100000; head -c 70000 /dev/zero >&2");
    let signed = &holds(central, &long)["signed"];
    assert_eq!((&signed["stdout"]["bytes"], &signed["stderr"]["bytes"]), (&588_895.into(), &70_000.into()));
    let refused = central.send_and_wait(&with(shell("ship1", ""), json!({ "method": "NoSuchMethod" })));
    assert_eq!(holds(central, refused["id"].as_str().unwrap())["signed"]["state"], "refused");

    let gate = fleet.file("gate");
    let running = central.send(&shell("ship1", &gate.awaited()));
    central.awaits(&running, "running");
    assert_eq!(verify(central, &running).0, 10);
    let late = central.send(&with(shell("ship1", "true"), json!({ "deadline": 1 })));
    let taken_back = central.send(&shell("ship1", "true"));
    central.awaits(&taken_back, "stored");
    assert_eq!(central.ended(&late)["state"], "expired");
    assert_eq!(central.cli(&["cancel", &taken_back]).code, 0);
    assert_eq!(central.cli(&["cancel", &running]).code, 0);
    for (id, state) in [(&late, "expired"), (&taken_back, "cancelled"), (&running, "cancelled")] {
        assert_eq!(central.ended(id)["state"], state);
        assert_eq!(holds(central, id)["signed"]["state"], state);
    }
    // What a node has sent to itself is signed as well.
    let own = central.send_and_wait(&shell("central", "echo self"));
    holds(central, own["id"].as_str().unwrap());

    let told = central.send_and_wait(&event("ship1", "TextLogging", &["x"]));
    assert_eq!(verify(central, told["id"].as_str().unwrap()).0, 11);
    let elsewhere = scene.ship1.cli(&["verify", &done]);
    assert!(elsewhere.code == 1, "{elsewhere:?}");
    let human = central.cli(&["verify", &done]).ok().stdout;
    assert!(human.contains("holds") && human.contains("signed by") && human.contains("  out\n"), "{human}");
}

#[test]
fn a_bundle_is_checked_on_a_machine_that_knows_the_fleet_alone() {
    let fleet = Fleet::new();
    let scene = Scene::new(&fleet);
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (scene.ran("echo out"), scene.ran("seq 1000000"));
    let bundle = export(&scene, &[&short, &long, &short], folder.path());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&bundle).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    let (code, said) = scene.check_elsewhere(&bundle);
    assert_eq!((code, said.len()), (0, 2), "{said:?}");
    assert_eq!((&said[0]["signed"]["stdout"]["text"], &said[0]["id"]), (&"out\n".into(), &short.as_str().into()));
    assert_eq!(said[1]["signed"]["stdout"]["bytes"], 6_888_896);
    // What is there is not replaced, and what does not hold is not written.
    let out = bundle.display().to_string();
    let again = scene.central.cli(&["export", &long, "--out", &out]);
    assert!(again.code == 1 && again.stderr.contains("exists"), "{again:?}");
    let told = scene.central.send_and_wait(&event("ship1", "TextLogging", &["x"]));
    let ran = scene.central.cli(&["export", &short, told["id"].as_str().unwrap(), "--out", &format!("{out}.2")]);
    assert!(ran.code == 11 && ran.stderr.contains("not signed"), "{ran:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "the bundle, and the empty directory");
    // Somebody alters it on its way.
    let right = fs::read(&bundle).unwrap();
    for at in (0..right.len()).step_by(right.len() / 40) {
        let mut other = right.clone();
        other[at] ^= 1;
        fs::write(&bundle, &other).unwrap();
        let (code, said) = scene.check_elsewhere(&bundle);
        assert!(code == 1 && said.is_empty(), "byte {at}: {code} {said:?}");
    }
    fs::write(&bundle, &right[..right.len() / 2]).unwrap();
    assert_eq!(scene.check_elsewhere(&bundle).0, 1);
    fs::write(&bundle, &right).unwrap();
    let nowhere = folder.path().join("nowhere");
    let unknown = scene.central.cli_in(&nowhere, &["verify", "--bundle", &out]);
    assert!(unknown.code == 2 && unknown.stderr.contains("--fleet"), "{unknown:?}");
}

#[test]
fn what_is_altered_or_gone_is_told_apart() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet);
    let long = scene.ran("seq 100000");
    let (short, other, third) = (scene.ran("echo 1"), scene.ran("echo 2"), scene.ran("echo 3"));
    scene.central.kill();
    let central = &scene.central;
    let row = |id: &str| format!("(SELECT row FROM outbox WHERE id = x'{}')", id.replace('-', ""));
    holds(central, &long);
    let file = central.dir().join(format!("blobs/out-{long}.stdout"));
    let right = fs::read(&file).unwrap();
    let mut wrong = right.clone();
    wrong[1000] ^= 1;
    fs::write(&file, &wrong).unwrap();
    assert_eq!(verify(central, &long).0, 13);
    assert_eq!(central.cli(&["export", &long]).code, 13);
    fs::write(&file, &right[1..]).unwrap();
    assert_eq!(verify(central, &long).0, 13);
    fs::remove_file(&file).unwrap();
    assert_eq!(verify(central, &long).0, 14);
    fs::write(&file, &right).unwrap();
    holds(central, &long);

    holds(central, &short);
    let swap = |column: &str, value: &str| {
        alter(central, &format!("UPDATE progress SET {column} = {value} WHERE row = {}", row(&short)));
        let (code, said) = verify(central, &short);
        assert_eq!(code, 13, "{column}: {said}");
    };
    swap("exit_code", "1");
    alter(central, &format!("UPDATE progress SET exit_code = 0 WHERE row = {}", row(&short)));
    holds(central, &short);
    swap("out_text", "'2' || x'0a'");
    alter(central, &format!("UPDATE progress SET out_text = '1' || x'0a' WHERE row = {}", row(&short)));
    swap("finished", "finished - 1000");
    alter(central, &format!("UPDATE outbox SET body = '[\"true\"]' WHERE row = {}", row(&other)));
    assert_eq!(verify(central, &other).0, 12);
    let proof = format!("(SELECT proof FROM evidence WHERE row = {})", row(&short));
    alter(central, &format!("UPDATE evidence SET proof = {proof} WHERE row = {}", row(&third)));
    assert_eq!(verify(central, &third).0, 12);
    alter(central, &format!("UPDATE evidence SET proof = x'01' WHERE row = {}", row(&third)));
    assert_eq!(verify(central, &third).0, 12);
    alter(central, &format!("DELETE FROM evidence WHERE row = {}", row(&third)));
    assert_eq!(verify(central, &third).0, 11);
    let unknown = central.cli(&["verify", "0193a5b2-7c1e-7d3a-9b52-000000000000"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("no message"), "{unknown:?}");
    // Another key has taken the name, and says that it was this one.
    let of_thief = scene.members.member("ship1", 9);
    alter(central, &format!("UPDATE signers SET certificate = '{}'", of_thief.certificate));
    assert_eq!(verify(central, &long).0, 12);
}

#[test]
fn evidence_outlives_crashes_and_keys() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet);
    let before = scene.ran("seq 100000");
    let gate = fleet.file("gate");
    let interrupted = scene.central.send(&shell("ship1", &gate.awaited()));
    scene.central.awaits(&interrupted, "running");
    // The sender is away when it ends, and the receiver when it is told.
    scene.central.kill();
    scene.ship1.kill();
    scene.ship1.start();
    scene.ship1.kill();
    scene.central.start();
    scene.ship1.start();
    assert_eq!(scene.central.ended(&interrupted)["state"], "interrupted");
    assert_eq!(holds(&scene.central, &interrupted)["signed"]["state"], "interrupted");
    let after = scene.ran("echo after");
    for id in [&before, &interrupted, &after] {
        holds(&scene.central, id);
    }
    // The key is revoked: what it has signed before stands, and is told apart.
    let folder = tempfile::tempdir().unwrap();
    let bundle = export(&scene, &[&before], folder.path());
    scene.central.kill();
    let list = scene.members.revoke(1, &scene.of_ship1, "ship1");
    secret(&scene.central.dir().join("revoked.jwt"), &list);
    let said = holds(&scene.central, &before);
    assert!(said["why"].as_str().unwrap().contains("revoked later"), "{said}");
    assert!(said["signed"]["revokedAt"].is_string());
    assert!(scene.check_elsewhere(&bundle).1[0]["signed"]["revokedAt"].is_null());
    let newer = export(&scene, &[&after], folder.path());
    assert!(scene.check_elsewhere(&newer).1[0]["signed"]["revokedAt"].is_string());
}

#[test]
fn evidence_goes_with_its_message() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet);
    let id = scene.ran("echo out");
    holds(&scene.central, &id);
    let count = |table: &str| {
        let store = Connection::open(scene.central.dir().join("steward.db")).unwrap();
        store.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!((count("evidence"), count("signers")), (1, 1));
    scene.central.kill();
    scene.central.set_flags(&["--keep=1ms"]);
    scene.central.start();
    eventually("it is removed", || (scene.central.cli(&["verify", &id]).code == 1).then_some(()));
    scene.central.kill();
    let left = Connection::open(scene.central.dir().join("steward.db")).unwrap();
    let orphans = "SELECT (SELECT count(*) FROM evidence WHERE row NOT IN (SELECT row FROM outbox))
        + (SELECT count(*) FROM signers WHERE id NOT IN (SELECT signer FROM evidence))";
    assert_eq!(left.query_row(orphans, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

/// The signature travels in the box, and what comes out of it can be shown to others like anything else.
#[test]
fn what_came_sealed_can_be_shown_as_well() {
    let fleet = Fleet::new();
    let scene = Scene::new(&fleet);
    let sealed = scene.central.send_and_wait(&with(shell("ship1", "seq 100000"), json!({ "seal": true })));
    let id = sealed["id"].as_str().unwrap();
    assert_eq!((&sealed["state"], &sealed["sealed"]), (&"done".into(), &true.into()));
    holds(&scene.central, id);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(scene.check_elsewhere(&export(&scene, &[id], folder.path())).0, 0);
}

/// The end and its evidence are written together: neither is there while the disk is full, and both are afterwards.
#[test]
fn a_full_disk_keeps_evidence_and_end_together() {
    let fleet = Fleet::new();
    let members = Members::new();
    let (mut central, mut ship1) = (fleet.absent("central", &[]), fleet.absent("ship1", &[]));
    if let Err(why) = central.put_on_disk(chaos::harness::DiskKind::Memory, 24) {
        return skipped("evidence::a_full_disk_keeps_evidence_and_end_together", &why);
    }
    members.join(&central);
    members.join(&ship1);
    central.start();
    ship1.start();
    let gate = fleet.file("gate");
    let id = central.send(&shell("ship1", &format!("{}; echo out", gate.awaited())));
    central.awaits(&id, "running");
    let filler = central.dir().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let is_full = (0..100_000).any(|_| std::io::Write::write_all(&mut file, &[0; 512]).is_err());
    assert!(is_full);
    gate.create();
    eventually("it has no room for the end", || {
        let refused = central.ask("POST", "/v1/messages", &json!([event("ship1", "TextLogging", &["x"])]).to_string());
        refused["error"].is_string().then_some(())
    });
    drop(file);
    fs::remove_file(&filler).unwrap();
    assert_eq!(central.ended(&id)["stdout"], "out\n");
    // Its disk is one that nobody else sees: what lies there is looked at elsewhere.
    central.kill();
    let copy = tempfile::tempdir().unwrap();
    members.member("central", 2).settle(copy.path());
    for entry in fs::read_dir(central.dir()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("steward.db") {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let ran = ship1.cli_in(copy.path(), &["verify", &id]);
    assert!(ran.code == 0, "{ran:?}");
}

#[test]
fn without_a_fleet_nothing_is_signed_and_it_says_what_to_do() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let done = central.send_and_wait(&shell("ship1", "true"));
    let (code, said) = verify(&central, done["id"].as_str().unwrap());
    assert!(code == 11 && said["why"].as_str().unwrap().contains("steward init"), "{said}");
}

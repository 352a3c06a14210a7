//! What commands write: apart, whole, hashed, cut where it is too much.

use std::path::Path;

use protocol::outcome::Output;

use super::rig::*;

fn assert_file(rig: &Rig, ticket: Ticket, stream: &str, output: &Output) -> Vec<u8> {
    let path = rig.path(&format!("blobs/in-{}.{stream}", ticket.0));
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len() as u64, output.len);
    assert_eq!(*blake3::hash(&bytes).as_bytes(), output.hash);
    assert_eq!(output.inline, None);
    assert!(!Path::new(&format!("{path}.part")).exists());
    bytes
}

#[tokio::test]
async fn streams_are_kept_apart() {
    let mut rig = Rig::new();
    let outcome = rig.sh("echo out; echo err >&2; exit 3").await;
    assert_eq!((text(&outcome.stdout), text(&outcome.stderr)), ("out\n", "err\n"));
    assert_eq!(outcome.stdout.hash, *blake3::hash(b"out\n").as_bytes());
    assert_eq!((outcome.state, outcome.exit_code, outcome.signal), (Final::Failed, Some(3), None));
    assert!(outcome.started.unwrap() <= outcome.finished);
}

#[tokio::test]
async fn nothing_is_nothing() {
    let mut rig = Rig::new();
    let outcome = rig.sh("exit 0").await;
    assert_eq!((outcome.state, outcome.exit_code, outcome.reason), (Final::Done, Some(0), None));
    assert_eq!((outcome.stdout, outcome.stderr), (Output::default(), Output::default()));
}

#[tokio::test]
async fn what_is_not_text_goes_to_a_file() {
    let mut rig = Rig::new();
    let ticket = rig.start("ShellCommand", &["printf", r"a\377b"]).await;
    let outcome = rig.end(ticket).await;
    assert_eq!(assert_file(&rig, ticket, "stdout", &outcome.stdout), b"a\xffb");
}

#[tokio::test]
async fn both_streams_share_what_travels_inline() {
    let mut rig = Rig::new();
    let cases = [
        (4096, 0, true, true),
        (4097, 0, false, true),
        (4000, 97, true, false),
        (4000, 96, true, true),
        (9000, 4096, false, true),
    ];
    for (out, err, out_inline, err_inline) in cases {
        let script = format!("head -c {out} /dev/zero | tr '\\0' x; head -c {err} /dev/zero | tr '\\0' y >&2");
        let ticket = rig.start("ShellCommand", &["sh", "-c", &script]).await;
        let outcome = rig.end(ticket).await;
        assert_eq!((outcome.stdout.len, outcome.stderr.len), (out, err));
        let streams = [("stdout", &outcome.stdout, out_inline), ("stderr", &outcome.stderr, err_inline)];
        for (stream, output, inline) in streams {
            assert_eq!(!output.is_bulk(), inline, "{stream} of {out} and {err}");
            if !inline {
                assert_file(&rig, ticket, stream, output);
            }
        }
    }
}

#[tokio::test]
async fn ten_megabytes_come_whole() {
    let mut rig = Rig::new();
    let ticket = rig.start("ShellCommand", &["seq", "1", "1400000"]).await;
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.state, outcome.stdout.truncated), (Final::Done, false));
    let bytes = assert_file(&rig, ticket, "stdout", &outcome.stdout);
    let expected: String = (1..=1_400_000).map(|number| format!("{number}\n")).collect();
    assert!(bytes.len() > 10_000_000 && bytes == expected.as_bytes());
}

#[tokio::test]
async fn what_is_beyond_the_limit_is_dropped_and_marked_and_the_command_goes_on() {
    let mut rig = Rig::new();
    let script = "echo first >&2; head -c 104857600 /dev/zero; exit 7";
    let ticket = rig.start("ShellCommand", &["sh", "-c", script]).await;
    let outcome = rig.end(ticket).await;
    assert_eq!((outcome.exit_code, outcome.stdout.truncated), (Some(7), true));
    assert_eq!(outcome.stdout.len + outcome.stderr.len, 64 << 20);
    assert_file(&rig, ticket, "stdout", &outcome.stdout);
}

#[tokio::test]
async fn a_small_limit_cuts_what_travels_inline() {
    let mut rig = Rig::with(|setup| setup.max_output = 10);
    let outcome = rig.sh("echo 123456; echo abcdefgh >&2").await;
    assert_eq!(outcome.stdout.len + outcome.stderr.len, 10);
    assert!(outcome.stdout.truncated || outcome.stderr.truncated);
}

#[tokio::test]
async fn output_that_cant_be_stored_is_told_and_harms_nothing_else() {
    let mut rig = Rig::with(|setup| setup.blobs = Blobs::new("/nonexistent".as_ref()));
    let outcome = rig.sh("echo fine").await;
    assert_eq!((outcome.state, text(&outcome.stdout)), (Final::Done, "fine\n"));
    let outcome = rig.sh("seq 1 100000").await;
    assert_eq!((outcome.state, outcome.stdout.len, outcome.stdout.truncated), (Final::Done, 0, true));
    assert!(outcome.reason.unwrap().contains("No such file"), "the reason says what went wrong");
}

#[tokio::test]
async fn a_message_without_a_record_leaves_no_file() {
    let mut rig = Rig::new();
    let done = rig.path("done");
    let run = rig.run("ShellCommand", &["sh", "-c", &format!("seq 1 100000; echo 1 > {done}")]);
    let from = run.message.from.clone();
    rig.effects.send(vec![Effect::StartUnrecorded { from, run }]).await.unwrap();
    rig.number("done").await;
    until("it has ended", || (rig.runner.counts().running == 0).then_some(())).await;
    assert!(!Path::new(&rig.path("blobs/in-1.stdout")).exists());
    assert!(!Path::new(&rig.path("blobs/in-1.stdout.part")).exists());
    assert_eq!(rig.runner.counts().unrecorded, 1);
}

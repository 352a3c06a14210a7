//! Outputs of every size and kind come back whole, or are marked as cut (L10).

use std::time::Duration;

use serde_json::json;

use crate::harness::{Fleet, eventually, shell, until, with};

/// L10: ten megabytes come back in pieces, the command runs once, and nobody waits for it.
#[test]
fn l10_ten_megabytes_of_output_come_back_and_the_command_runs_once() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let script = format!("echo ran >> {}; seq 1500000 | head -c 10000000; echo -n err >&2", ran.path());
    let large = central.send(&with(shell("ship1", &script), json!({ "timeout": 1 })));
    let behind = central.send(&shell("ship1", "echo behind"));
    let message = central.ended(&large);
    assert_eq!(message["state"], "done", "{}", message["reason"]);
    assert_eq!(message["stdoutBytes"], 10_000_000);
    assert_eq!(message["truncated"], false);
    assert_eq!(central.ended(&behind)["stdout"], "behind\n");
    let expected: Vec<u8> = (1..=1_500_000).flat_map(|n| format!("{n}\n").into_bytes()).take(10_000_000).collect();
    assert!(central.bytes(&format!("/v1/messages/{large}/stdout")) == expected, "the bytes differ");
    assert_eq!(central.bytes(&format!("/v1/messages/{large}/stderr")), b"err");
    assert_eq!(ran.lines(), ["ran"]);
}

#[test]
fn a_transfer_goes_on_after_either_side_or_the_broker_was_killed() {
    let fleet = Fleet::new();
    let (mut central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let ran = fleet.file("ran");
    let script = format!("echo ran >> {}; seq 10000000 | head -c 60000000", ran.path());
    let id = central.send(&shell("ship1", &script));
    central.awaits(&id, "fetching");
    ship1.kill();
    ship1.start();
    fleet.broker.stop();
    fleet.broker.start();
    central.kill();
    central.start();
    let message = central.ended(&id);
    assert_eq!((&message["state"], &message["stdoutBytes"]), (&"done".into(), &60_000_000.into()));
    let got = central.bytes(&format!("/v1/messages/{id}/stdout"));
    let expected: Vec<u8> = (1..=10_000_000).flat_map(|n| format!("{n}\n").into_bytes()).take(60_000_000).collect();
    assert!(got == expected, "the bytes differ");
    assert_eq!(ran.lines(), ["ran"]);
    eventually("ship1 has forgotten the output", || {
        let blobs = std::fs::read_dir(ship1.dir().join("blobs")).into_iter().flatten().count();
        (blobs == 0).then_some(())
    });
}

/// A piece that was asked of a process that is gone is asked of the next one at once, and not when the time for it is over.
#[test]
fn a_transfer_goes_on_at_once_when_its_receiver_is_back() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    for _ in 0..3 {
        let id = central.send(&shell("ship1", "seq 10000000 | head -c 30000000"));
        central.awaits(&id, "fetching");
        ship1.kill();
        ship1.start();
        let message = until(Duration::from_secs(8), "the rest comes before a piece would be given up", || {
            let message = central.show(&id);
            if message["state"] == "done" { Ok(message) } else { Err(message["history"].to_string()) }
        });
        assert_eq!(message["stdoutBytes"], 30_000_000);
    }
}

#[test]
fn what_is_beyond_the_limit_is_cut_and_marked() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--max-output=100KiB"]));
    let message = central.send_and_wait(&shell("ship1", "head -c 1000000 /dev/zero | tr '\\0' x; exit 3"));
    assert_eq!(message["truncated"], true, "{}", message["reason"]);
    assert_eq!(message["stdoutBytes"], 102_400);
    assert_eq!(message["exitCode"], 3, "the command goes on to its own end");
    let small = central.send_and_wait(&shell("ship1", "echo whole"));
    assert_eq!((&small["truncated"], &small["stdout"]), (&false.into(), &"whole\n".into()));
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_are() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let message = central.send_and_wait(&shell("ship1", "printf 'a\\0\\377\\r\\nb'; printf '\\376' >&2"));
    let id = message["id"].as_str().unwrap();
    assert_eq!(message["state"], "done", "{message}");
    assert_eq!(central.bytes(&format!("/v1/messages/{id}/stdout")), b"a\0\xff\r\nb");
    assert_eq!(central.bytes(&format!("/v1/messages/{id}/stderr")), b"\xfe");
}

#[test]
fn an_output_that_a_background_process_keeps_open_does_not_hold_the_answer() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let message = central.send_and_wait(&shell("ship1", "echo begun; sleep 600 & exit 0"));
    assert_eq!((&message["state"], &message["stdout"]), (&"done".into(), &"begun\n".into()), "{message}");
}

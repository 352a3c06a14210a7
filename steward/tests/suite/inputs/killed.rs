//! SIGKILL at each named point of a file's way through the spool folder. For a steward that was built with the feature `crash-points`;
//! `scripts/test` builds one for these.

use std::fs;

use serde_json::Value;

use super::{ids, put, spool};
use crate::harness::{Fleet, event, eventually};

#[test]
fn a_node_killed_at_each_point_of_its_spool_accepts_each_message_once() {
    let fleet = Fleet::new();
    let mut central = fleet.absent("central", &[]);
    let switches = central.dir().with_extension("switches");
    central.set_variable("STEWARD_SWITCHES", switches.to_str().unwrap());
    central.start();
    for (round, point) in ["spool-taken", "spool-read", "spool-noted"].into_iter().enumerate() {
        fs::write(&switches, format!("crash {point} 1")).unwrap();
        // It takes in what stands there when it passes a point.
        central.answers();
        for file in 0..3 {
            let messages = [0, 1].map(|n| event("central", "TextLogging", &[&format!("{point} {file} {n}\n")]));
            put(&central, &format!("{point}-{file}.json"), &Value::from(messages.to_vec()).to_string());
        }
        eventually(point, || (!central.runs()).then_some(()));
        fs::write(&switches, "").unwrap();
        central.start();
        let recorded: Vec<String> =
            (0..3).flat_map(|file| ids(&central, &format!("{point}-{file}.json"))).map(|(id, _)| id).collect();
        assert_eq!(recorded.len(), 6, "{point}");
        for id in &recorded {
            assert_eq!(central.ended(id)["state"], "done", "{point}");
        }
        assert_eq!(central.all_ended(6 * (round + 1)).len(), 6 * (round + 1), "{point}");
        let mut lines: Vec<String> = central.read("textlogging.log").lines().map(str::to_owned).collect();
        lines.retain(|line| line.starts_with(point));
        lines.sort();
        let expected: Vec<String> = (0..6).map(|n| format!("{point} {} {}", n / 2, n % 2)).collect();
        assert_eq!(lines, expected, "{point}");
    }
    let left: Vec<_> = fs::read_dir(spool(&central, "")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["done"]);
}

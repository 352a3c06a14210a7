//! What a node says of itself in its hello (R16): who and where it is, and how it is doing. JSON text, made anew each time
//! from a few small files of `/proc`; nothing that can fail keeps a node from saying hello.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use protocol::time::Wall;
use serde::Serialize;

use crate::audit::Head;
use crate::clock;
use crate::methods::Told;
use crate::metrics::disk_free_bytes;
use crate::view::ProcessView;

/// Characters of the reason for which a part does not run; there are a dozen parts, and a hello has a limit.
const WHY_CHARS_MAX: usize = 200;

/// What doesn't change while the process runs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hello {
    node: String,
    version: &'static str,
    started_at: String,
    host: Option<String>,
    os: Option<String>,
    kernel: Option<String>,
    arch: &'static str,
    cpus: usize,
    labels: BTreeMap<String, String>,
    #[serde(skip)]
    dir: PathBuf,
}

/// What waits in a node.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Queues {
    /// Outgoing messages that are not final.
    pub(crate) outbox: u64,
    /// Incoming messages that are not confirmed.
    pub(crate) inbox: u64,
    /// Methods that run.
    pub(crate) running: u64,
}

/// A part of the node that does not run.
#[derive(Debug, Serialize)]
struct Resting<'a> {
    task: &'a str,
    /// `down`, or `stopped` by somebody.
    state: &'a str,
    /// The last thing that went wrong with it, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Now<'a> {
    #[serde(flatten)]
    hello: &'a Hello,
    /// Processes that want to run, on average over 1, 5 and 15 minutes.
    load: Option<[f64; 3]>,
    disk_free_bytes: Option<u64>,
    memory_total_bytes: Option<u64>,
    memory_available_bytes: Option<u64>,
    queues: Queues,
    /// Absent while all is well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resting: Vec<Resting<'a>>,
    /// The last line of the audit log, so that others can tell whether lines are cut off later.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Head>,
    /// The version of the fleet's rules that holds here.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet_rules: Option<u64>,
    /// Its own methods; absent where it has none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    methods: Vec<Told>,
    /// How many more there are than there is room for.
    #[serde(skip_serializing_if = "is_none")]
    more_methods: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

impl Hello {
    /// For this process.
    pub(crate) fn new(node: &str, dir: &Path, started: Wall, labels: BTreeMap<String, String>) -> Self {
        Self {
            node: node.to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: clock::rfc3339(started),
            host: word("/proc/sys/kernel/hostname"),
            os: fs::read_to_string("/etc/os-release").ok().and_then(|text| os(&text)),
            kernel: word("/proc/sys/kernel/osrelease"),
            arch: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            labels,
            dir: dir.to_owned(),
        }
    }

    /// What it says at this moment, as JSON text. `resting` are the parts of the node that do not run;
    /// `told` are the last line of the audit log and the version of the fleet's rules; `own` its methods, and how many more
    /// there are.
    pub(crate) fn text(
        &self,
        queues: Queues,
        resting: &[ProcessView],
        told: (Option<Head>, Option<u64>),
        own: (Vec<Told>, usize),
    ) -> Arc<str> {
        let ((audit, fleet_rules), (methods, more_methods)) = (told, own);
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let now = Now {
            hello: self,
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|text| load(&text)),
            disk_free_bytes: disk_free_bytes(&self.dir),
            memory_total_bytes: meminfo(&memory, "MemTotal:"),
            memory_available_bytes: meminfo(&memory, "MemAvailable:"),
            queues,
            resting: resting.iter().map(resting_part).collect(),
            audit,
            fleet_rules,
            methods,
            more_methods,
        };
        serde_json::to_string(&now).unwrap_or_else(|_| "{}".to_owned()).into()
    }
}

fn resting_part(task: &ProcessView) -> Resting<'_> {
    // Control characters would take six bytes each.
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    let why = task.note.as_deref().map(|note| note.chars().take(WHY_CHARS_MAX).map(plain).collect());
    Resting { task: &task.name, state: &task.state, why }
}

fn word(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn os(release: &str) -> Option<String> {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn load(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
    Some([words.next()??, words.next()??, words.next()??])
}

fn meminfo(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_says_who_where_and_how() {
        let labels = [("region".to_owned(), "north".to_owned())].into();
        let hello = Hello::new("ship1", &std::env::temp_dir(), Wall(0), labels);
        let text = hello.text(Queues { outbox: 3, ..Queues::default() }, &[], (None, None), (Vec::new(), 0));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["node"], "ship1");
        assert_eq!(value["labels"]["region"], "north");
        assert_eq!(value["startedAt"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["queues"]["outbox"], 3);
        assert!(value["diskFreeBytes"].as_u64().unwrap() > 0);
        assert!(value["memoryTotalBytes"].as_u64() > value["memoryAvailableBytes"].as_u64());
        assert_eq!(value["load"].as_array().unwrap().len(), 3);
        assert!(text.len() < 2000, "{text}");
        assert_eq!((value.get("resting"), value.get("methods"), value.get("moreMethods")), (None, None, None));
    }

    #[test]
    fn a_part_that_is_down_is_told_with_the_reason() {
        let hello = Hello::new("ship1", &std::env::temp_dir(), Wall(0), BTreeMap::new());
        let down = ProcessView {
            kind: "task".to_owned(),
            name: "api".to_owned(),
            state: "down".to_owned(),
            messages: 0,
            restarts: 2,
            note: Some("船\u{1}".repeat(10_000)),
        };
        let text = hello.text(
            Queues::default(),
            &vec![down; 20],
            (Some(Head { n: u64::MAX, hash: "0".repeat(64) }), Some(u64::MAX)),
            Told::most(),
        );
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&value["resting"][0]["task"], &value["resting"][0]["state"]), (&"api".into(), &"down".into()));
        assert!(text.len() < crate::broker::wire::INFO_BYTES_MAX, "{}", text.len());
    }

    #[test]
    fn what_the_system_tells_is_read_or_left_out() {
        assert_eq!(os("ID=debian\nPRETTY_NAME=\"Debian 13\"\n").as_deref(), Some("Debian 13"));
        assert_eq!(os(""), None);
        assert_eq!(load("0.1 0.2 3 1/2 3"), Some([0.1, 0.2, 3.0]));
        assert_eq!(load("0.1 x"), None);
        assert_eq!(meminfo("MemTotal:  10 kB\n", "MemTotal:"), Some(10_240));
        assert_eq!(meminfo("MemTotal:  10\n", "MemTotal:"), None);
    }
}

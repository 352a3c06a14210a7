//! What the command line takes, before any verb runs.

use std::ffi::OsString;

use super::*;

fn rewritten(line: &str) -> String {
    let args = line.split(' ').map(OsString::from).collect();
    let rewritten = argv::rewrite(args, &command());
    rewritten.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

fn node_flags(line: &str) -> anyhow::Result<BTreeMap<&'static str, Vec<String>>> {
    let args = argv::rewrite(line.split(' ').map(OsString::from).collect(), &command());
    let matches = command().try_get_matches_from(args)?;
    match matches.subcommand() {
        None => flags(&matches, &matches, true),
        Some((name, own)) => flags(&matches, own, name == "run"),
    }
}

#[test]
fn the_definitions_hold_together() {
    command().debug_assert();
}

#[test]
fn every_name_of_the_seed_works_with_one_dash_or_two() {
    let names = [
        ("node", "node"),
        ("brokerAddress", "broker-address"),
        ("centralErrorLogger", "central-error-logger"),
        ("defaultMessageRetries", "default-message-retries"),
        ("defaultMessageTimeout", "default-message-timeout"),
        ("profilingPort", "profiling-port"),
        ("promHostAndPort", "prom-host-and-port"),
    ];
    for (camel, kebab) in names {
        for given in [format!("-{camel}"), format!("--{camel}"), format!("-{kebab}"), format!("--{kebab}")] {
            assert_eq!(rewritten(&format!("steward {given} x")), format!("steward --{kebab} x"));
            assert_eq!(rewritten(&format!("steward {given}=x")), format!("steward --{kebab}=x"));
        }
    }
}

#[test]
fn only_known_names_are_rewritten() {
    for line in [
        "steward -h",
        "steward -V",
        "steward -unknown",
        "steward send ship1 -- ls -node -dir",
        "steward - x",
        "steward --",
        "-node",
    ] {
        assert_eq!(rewritten(line), line);
    }
    assert_eq!(rewritten("steward -help"), "steward --help");
    assert_eq!(rewritten("steward send a -methodTimeout=3 -- -node"), "steward send a --method-timeout=3 -- -node");
}

#[test]
fn a_nodes_options_stand_before_the_verb_after_it_or_alone() {
    for line in [
        "steward -node=a -dir d",
        "steward run -node=a -dir d",
        "steward -node=a run -dir d",
        "steward -dir d run -node a",
    ] {
        let flags = node_flags(line).unwrap();
        assert_eq!((&flags["node"], &flags["dir"]), (&vec!["a".to_owned()], &vec!["d".to_owned()]), "{line}");
    }
    assert_eq!(node_flags("steward -centralErrorLogger").unwrap()["centralErrorLogger"], ["true"]);
    assert_eq!(node_flags("steward -centralErrorLogger=false").unwrap()["centralErrorLogger"], ["false"]);
    assert_eq!(node_flags("steward --allow a:b --allow c:d").unwrap()["allow"], ["a:b", "c:d"]);
    assert_eq!(node_flags("steward --node a --node b").unwrap()["node"], ["b"]);
    assert_eq!(node_flags("steward messages --dir d --node ship1").unwrap().len(), 1);
    let error = node_flags("steward --node=a messages").unwrap_err().to_string();
    assert!(error.starts_with("--node is an option of a running node"), "{error}");
}

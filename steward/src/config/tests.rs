//! Which source wins, and what a bad value is told.

use std::path::Path;

use super::file::File;
use super::*;

fn sources(flags: &[(&'static str, &str)], environment: &[(&str, &str)], file: &str) -> Sources {
    Sources {
        flags: flags.iter().map(|(name, value)| (*name, vec![(*value).to_owned()])).collect(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        file: Some(File::parse(Path::new("steward.toml"), file).unwrap()),
        own: None,
    }
}

fn file_error(text: &str) -> String {
    File::parse(Path::new("steward.toml"), text).unwrap_err().to_string()
}

fn error(flag: &'static str, value: &str) -> String {
    let flags = [("node", "ship1"), (flag, value)];
    Config::read(&sources(&flags, &[], "")).unwrap_err().to_string()
}

#[test]
fn nothing_given_is_what_the_seed_says() {
    let config = Config::read(&sources(&[("node", "ship1")], &[], "")).unwrap();
    assert_eq!(config.node.central.as_str(), "central");
    assert!(!config.node.is_error_logger);
    assert_eq!(config.node.dir, Path::new("."));
    assert_eq!(config.delivery.timeout, Duration::from_secs(10));
    assert_eq!(config.delivery.retries, 0);
    assert_eq!(config.delivery.method_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(config.methods.max_output, 64 << 20);
    assert_eq!(config.store.keep, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(config.listen.metrics, Some(ListenAddress { host: None, port: 2112 }));
    assert_eq!(config.listen.profiling, None);
    assert_eq!(config.broker.addresses.len(), 1);
    assert_eq!((config.broker.addresses[0].host(), config.broker.addresses[0].port()), ("127.0.0.1", 4222));
}

#[test]
fn the_flag_wins_then_the_environment_then_the_file() {
    let file = "node = \"file\"\ndefaultMessageRetries = 3\ndefault-message-timeout = 7\n";
    let environment = [("STEWARD_NODE", "environment"), ("STEWARD_DEFAULT_MESSAGE_RETRIES", "4")];
    let config = Config::read(&sources(&[("node", "flag")], &environment, file)).unwrap();
    assert_eq!(config.node.name.as_str(), "flag");
    assert_eq!(config.delivery.retries, 4);
    assert_eq!(config.delivery.timeout, Duration::from_secs(7));
}

#[test]
fn lists_come_from_every_source() {
    let rule = |from: Option<&str>, method: Option<&str>| AllowRule {
        from: from.map(|name| NodeName::new(name).unwrap()),
        method: method.map(|name| MethodName::new(name).unwrap()),
    };
    let file = "node = \"a\"\nallow = [\"ship1:ShellCommand\", \"*:TextLogging\"]\nlabel = \"place=north, deck = 2\"\n";
    let config = Config::read(&sources(&[], &[], file)).unwrap();
    assert_eq!(config.methods.allow, [rule(Some("ship1"), Some("ShellCommand")), rule(None, Some("TextLogging"))]);
    assert_eq!(config.node.labels["deck"], "2");
    let environment = [("STEWARD_ALLOW", "ship2:*"), ("STEWARD_BROKER_ADDRESS", "a,nats://b:5222")];
    let config = Config::read(&sources(&[], &environment, file)).unwrap();
    assert_eq!(config.methods.allow, [rule(Some("ship2"), None)]);
    assert_eq!(config.broker.addresses[1].port(), 5222);
}

#[test]
fn a_file_that_is_wrong_says_where_and_what_was_meant() {
    assert_eq!(
        file_error("node = \"a\"\n\nbrokerAdress = \"x\"\n"),
        "steward.toml:3: there is no option \"brokerAdress\"; did you mean \"brokerAddress\"?"
    );
    assert_eq!(
        file_error("colour = 1"),
        "steward.toml:1: there is no option \"colour\"; `steward --help` lists them all"
    );
    assert_eq!(file_error("\nnode = [\"a\"]"), "steward.toml:2: node: takes one value, not a list");
    assert!(file_error("node = \"a\"\nkeep = \n").starts_with("steward.toml:2: "));
    assert!(file_error("maxOutput = 1\nmax-output = 2").contains("twice"));
    let wrong = sources(&[("node", "a")], &[], "\n\nmaxOutput = \"lots\"");
    assert_eq!(
        Config::read(&wrong).unwrap_err().to_string().split(';').next(),
        Some("steward.toml:3: maxOutput is \"lots\": \"lots\" is no size")
    );
}

#[test]
fn a_bad_value_says_which_source_and_which_character() {
    let dotted = Config::read(&sources(&[], &[("STEWARD_NODE", "ship.1")], "")).unwrap_err().to_string();
    assert!(dotted.starts_with("STEWARD_NODE is \"ship.1\"") && dotted.contains("'.' at position 5"), "{dotted}");
    assert!(error("defaultMessageTimeout", "0").contains("--default-message-timeout is \"0\": must be more than 0"));
    assert!(error("defaultMessageRetries", "-1").contains("whole number"));
    assert!(error("allow", "ship1").contains("FROM:METHOD"));
    assert!(error("allow", "ship.1:X").contains("'.' at position 5"));
    assert!(error("profilingPort", "66666").contains("HOST:PORT"));
    assert!(error("brokerAddress", "http://x").contains("HOST:PORT"));
    assert!(error("centralErrorLogger", "perhaps").contains("true or false"));
    assert!(error("logLevel", "a=b=c").contains("trace"));
    assert!(error("dir", "").contains("empty"));
}

#[test]
fn a_host_name_becomes_a_node_name_or_says_why_not() {
    assert_eq!(name_of_host("ship1.fleet.example").unwrap().as_str(), "ship1-fleet-example");
    assert!(name_of_host("schiff ä").unwrap_err().contains("' ' at position 7"));
}

#[test]
fn the_seeds_zero_broker_is_the_default() {
    let config = Config::read(&sources(&[("node", "a"), ("brokerAddress", "0")], &[], "")).unwrap();
    assert_eq!(config.broker.addresses[0].port(), 4222);
}

#[test]
fn addresses_to_listen_on() {
    let at = |host: Option<&str>, port| Some(ListenAddress { host: host.map(str::to_owned), port });
    assert_eq!(listen(":2112", None), Ok(at(None, 2112)));
    assert_eq!(listen("6060", Some("127.0.0.1")), Ok(at(Some("127.0.0.1"), 6060)));
    assert_eq!(listen("[::1]:1", None), Ok(at(Some("::1"), 1)));
    assert_eq!(listen("::1:1", None).unwrap().unwrap().candidates(), ["[::1]:1"]);
    assert_eq!(listen(":0", None), Ok(at(None, 0)));
    for none in ["", "0", "none"] {
        assert_eq!(listen(none, None), Ok(None));
    }
}

#[test]
fn messages_are_taken_on_a_loopback_address_only() {
    for (text, address) in [
        ("7000", "127.0.0.1:7000"),
        ("127.0.0.1:7000", "127.0.0.1:7000"),
        ("127.8.0.1:7000", "127.8.0.1:7000"),
        ("localhost:7000", "127.0.0.1:7000"),
        ("[::1]:7000", "[::1]:7000"),
    ] {
        assert_eq!(loopback(text), Ok(Some(address.parse().unwrap())), "{text}");
    }
    for text in [":7000", "0.0.0.0:7000", "[::]:7000", "10.0.0.1:7000", "example.org:7000", "[::ffff:10.0.0.1]:1"] {
        assert!(loopback(text).unwrap_err().contains("loopback address"), "{text}");
    }
    assert!(loopback("127.0.0.1:66666").unwrap_err().contains("HOST:PORT"));
    assert_eq!(loopback("none"), Ok(None));
}

#[test]
fn a_variable_that_is_nearly_an_option_is_pointed_out() {
    let environment = [("STEWARD_BROKER_ADRESS", "x"), ("STEWARD_SERVICE_HOST", "10.0.0.1"), ("STEWARD_NODE", "a")];
    let suspects = sources(&[], &environment, "").suspects();
    assert_eq!(suspects.len(), 1, "{suspects:?}");
    assert!(suspects[0].ends_with("did you mean STEWARD_BROKER_ADDRESS?"), "{suspects:?}");
}

//! What rules say of messages, from the text of a file to the words of a refusal.

use super::*;
use crate::config::AllowRule;
use crate::security::certificate::Role;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

fn rules(text: &str, flags: Vec<AllowRule>) -> Rules {
    let rules = Rules::standard(name("ship1"), name("central"), flags);
    rules.hold(Some(RuleSet::parse(text).unwrap()), RulesView::default());
    rules
}

/// The rule that lets it in, or why it is refused.
fn judge(rules: &Rules, from: &str, kind: Kind, method: &str, data: &[&str]) -> Result<String, String> {
    let sender = Sender::unsigned(name(from), &name("central"));
    match rules.judge(&sender, kind, &MethodName::new(method).unwrap(), Some(&words(data))) {
        Decision::Accept(grant) => Ok(grant.rule.to_string()),
        Decision::Refuse(refusal) => Err(refusal.why),
    }
}

const SHELL: &str = "ShellCommand";

#[test]
fn the_first_rule_that_fits_decides() {
    let rules = rules(
        r#"
        otherwise = "refuse"
        [[rule]]
        name = "never rm"
        from = "*"
        method = "ShellCommand"
        firstWord = ["rm", "/bin/rm"]
        action = "refuse"
        [[rule]]
        name = "disk"
        from = ["ship2", "role:central"]
        type = "command"
        method = "ShellCommand"
        argv = [["df", "-h"], ["uptime"]]
        timeout = "3s"
        maxOutput = "1KiB"
        [[rule]]
        from = "central"
        method = "*"
        "#,
        Vec::new(),
    );
    let shell = |from: &str, data: &[&str]| judge(&rules, from, Kind::CommandAck, SHELL, data);
    assert_eq!(shell("ship2", &["df", "-h"]), Ok("disk".to_owned()));
    assert_eq!(shell("central", &["uptime"]), Ok("disk".to_owned()));
    assert_eq!(shell("central", &["anything"]), Ok("rule 3".to_owned()));
    assert!(shell("central", &["rm", "x"]).unwrap_err().contains("\"never rm\""));
    assert!(shell("ship3", &["df", "-h"]).unwrap_err().contains("--allow ship3:ShellCommand"));
    let sender = Sender::unsigned(name("ship2"), &name("central"));
    let decision = rules.judge(&sender, Kind::CommandNack, &MethodName::new(SHELL).unwrap(), Some(&words(&["uptime"])));
    let Decision::Accept(grant) = decision else { panic!("{decision:?}") };
    assert_eq!(grant.limits.timeout, Some(std::time::Duration::from_secs(3)));
    assert_eq!(grant.limits.max_output, Some(1024));
    assert_eq!(rules.refused(), 2);
}

#[test]
fn a_refusal_says_which_rule_is_missing_and_nothing_of_what_rules_look_for() {
    let rules = rules(
        r#"
        otherwise = "refuse"
        [[rule]]
        from = "ship2"
        method = "ShellCommand"
        regex = ["secret-[0-9]+", "..."]
        "#,
        Vec::new(),
    );
    let why = judge(&rules, "ship2", Kind::CommandAck, SHELL, &["other"]).unwrap_err();
    assert!(why.contains("no rule there lets it in with this data") && !why.contains("secret"), "{why}");
    assert!(judge(&rules, "ship2", Kind::CommandAck, SHELL, &["secret-1", "x"]).is_ok());
    let why = judge(&rules, "ship3", Kind::EventAck, "TextLogging", &["x"]).unwrap_err();
    assert!(why.contains("as an event") && !why.contains("secret"), "{why}");
}

#[test]
fn what_no_rule_fits_is_as_the_file_says() {
    let none = |otherwise: &str| rules(&format!("otherwise = {otherwise:?}"), Vec::new());
    let standard = none("standard");
    for from in ["central", "ship1"] {
        assert_eq!(judge(&standard, from, Kind::CommandAck, SHELL, &[]), Ok("standard".to_owned()));
    }
    assert!(judge(&standard, "ship2", Kind::CommandAck, SHELL, &[]).is_err());
    assert!(judge(&standard, "ship2", Kind::EventNack, "TextLogging", &[]).is_ok());
    let refuse = none("refuse");
    for from in ["central", "ship1", "ship2"] {
        for kind in Kind::ALL {
            assert!(judge(&refuse, from, kind, SHELL, &[]).is_err());
        }
    }
    assert!(judge(&none("accept"), "ship2", Kind::CommandAck, SHELL, &[]).is_ok());
}

#[test]
fn flags_are_rules_behind_those_of_the_file() {
    let flag = AllowRule { from: Some(name("ship2")), method: None };
    let open = rules("otherwise = \"refuse\"", vec![flag.clone()]);
    assert_eq!(judge(&open, "ship2", Kind::CommandAck, SHELL, &[]), Ok("--allow ship2:*".to_owned()));
    assert!(judge(&open, "ship2", Kind::EventAck, "TextLogging", &[]).is_err());
    let refusing = "otherwise = \"refuse\"\n[[rule]]\nfrom = \"ship2\"\nmethod = \"*\"\naction = \"refuse\"";
    let closed = rules(refusing, vec![flag]);
    assert!(judge(&closed, "ship2", Kind::CommandAck, SHELL, &[]).is_err());
}

#[test]
fn an_operator_has_no_right_that_no_rule_gives() {
    let text = r#"
        otherwise = "standard"
        [[rule]]
        from = "label:team=night"
        method = "ShellCommand"
        "#;
    let rules = rules(text, Vec::new());
    let judge = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let sender = Sender { name: name("ann"), role: Role::Operator, labels: Arc::new(labels), key: None };
        matches!(rules.judge(&sender, Kind::CommandAck, &MethodName::new(SHELL).unwrap(), None), Decision::Accept(_))
    };
    assert!(judge(&[("team", "night")]));
    assert!(!judge(&[]) && !judge(&[("team", "day")]));
}

/// `PortForward` of central, asked for in words, by these rules.
fn forward(text: &str, words: &str) -> Result<String, String> {
    let flags = vec![AllowRule { from: None, method: None }];
    let words: Vec<&str> = words.split(' ').collect();
    judge(&rules(text, flags), "central", Kind::CommandAck, "PortForward", &words)
}

#[test]
fn only_a_rule_that_names_the_place_lets_a_forward_in() {
    let named = r#"
        otherwise = "accept"
        [[rule]]
        name = "all"
        from = "*"
        method = "*"
        [[rule]]
        name = "page"
        from = "central"
        method = "PortForward"
        forward = ["localhost:80", "*:8000-8099"]
        listen = "127.0.0.1:*"
        "#;
    for accepted in ["connect localhost:80", "connect a.b:8042 hold=1h", "listen 127.0.0.1:1", "listen 7"] {
        assert_eq!(forward(named, accepted), Ok("page".to_owned()), "{accepted}");
    }
    for refused in
        ["connect localhost:81", "connect 127.0.0.1:80", "listen 0.0.0.0:80", "connect localhost:80 x=y", "", "x y"]
    {
        let why = forward(named, refused).unwrap_err();
        assert!(why.contains("no rule of ship1 names this place for central"), "{refused}: {why}");
    }
    for text in ["otherwise = \"standard\"", "otherwise = \"accept\""] {
        assert!(forward(text, "connect localhost:80").is_err(), "{text}");
    }
    let first = format!(
        "{}\n[[rule]]\nname = \"never\"\nfrom = \"*\"\nmethod = \"*\"\naction = \"refuse\"",
        "otherwise = \"accept\""
    );
    let first = first + &named.replace("otherwise = \"accept\"", "");
    assert!(forward(&first, "connect localhost:80").unwrap_err().contains("\"never\""));
    let bad = named.replace("listen", "user = \"nobody\"\nlisten");
    assert!(RuleSet::parse(&bad).unwrap_err().why.contains("no user"));
}

//! What a file of rules may say, and how it is told what is wrong with it.

use super::*;

fn bad(text: &str) -> (usize, usize, String) {
    let BadRules { line, column, why } = RuleSet::parse(text).unwrap_err();
    (line, column, why)
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let rule =
        |line: &str| format!("otherwise = \"refuse\"\n[[rule]]\nfrom = \"*\"\nmethod = \"ShellCommand\"\n{line}\n");
    for (line, column, part) in [
        ("argv = \"df\"", 8, "argv is a list of words"),
        ("firstwords = [\"df\"]", 1, "firstWord"),
        ("type = \"Command\"", 8, "\"Command\" is no type"),
        ("type = [\"command\", \"Event\"]", 20, "\"Event\" is no type"),
        ("regex = [\"(\"]", 9, "makes no sense"),
        ("regex = [\"a{1000}{1000}\"]", 9, "takes more than"),
        ("timeout = \"soon\"", 11, "no duration"),
        ("timeout = 0", 11, "lets nothing run"),
        ("maxOutput = -1", 13, "no size"),
        ("user = \"a b\"", 8, "no user"),
        ("name = \"\"", 8, "1 to 64 characters"),
        ("action = \"deny\"", 10, "neither accept nor refuse"),
        ("forward = [\"localhost\"]", 12, "no host and port"),
        ("listen = \"a:9-1\"", 10, "names no port"),
        ("user = ", 8, ""),
    ] {
        let (found_line, found_column, why) = bad(&rule(line));
        assert_eq!((found_line, found_column), (5, column), "{line}: {why}");
        assert!(why.contains(part), "{line}: {why}");
    }
    for (line, part) in [
        ("argv = [\"a\"]\nfirstWord = \"a\"", "one of argv, firstWord, regex and forward"),
        ("forward = \"a:1\"\nregex = \"a\"", "one of argv, firstWord, regex and forward"),
        ("forward = \"a:1\"", "for method = \"PortForward\" alone"),
        ("action = \"refuse\"\nuser = \"x\"", "a rule that refuses has no user"),
    ] {
        let (found_line, _, why) = bad(&rule(line));
        assert_eq!(found_line, 2, "{why}");
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn a_file_says_what_becomes_of_the_rest() {
    let (line, column, why) = bad("");
    assert_eq!((line, column), (1, 1));
    assert!(why.contains("otherwise = \"standard\"") && why.contains("otherwise = \"refuse\""), "{why}");
    assert!(bad("otherwise = \"deny\"").2.contains("none of standard"));
    assert!(RuleSet::parse("otherwise = \"standard\"").unwrap().rules.is_empty());
}

#[test]
fn a_file_has_limits() {
    let head = "otherwise = \"refuse\"\n";
    let rule = "[[rule]]\nfrom = \"*\"\nmethod = \"*\"\n";
    assert_eq!(RuleSet::parse(&format!("{head}{}", rule.repeat(RULES_MAX))).unwrap().rules.len(), RULES_MAX);
    assert!(bad(&format!("{head}{}", rule.repeat(RULES_MAX + 1))).2.contains("more than 1000 rules"));
    let regex = format!("{rule}regex = [\"a\"]\n");
    assert!(bad(&format!("{head}{}", regex.repeat(REGEXES_MAX + 1))).2.contains("regular expressions"));
    let long = vec!["\"a\""; LIST_MAX + 1].join(",");
    assert!(bad(&format!("{head}{rule}firstWord = [{long}]")).2.contains("more than 256"));
    assert!(bad(&format!("{head}{rule}argv = [{long}]")).2.contains("more than 256"));
    assert!(bad(&format!("{head}# {}", "x".repeat(FILE_BYTES_MAX as usize))).2.contains("at most"));
    let twice = format!("{head}{rule}name = \"a\"\n{rule}name = \"a\"\n");
    assert!(bad(&twice).2.contains("already"));
    // Nesting has an end, too.
    assert!(RuleSet::parse(&format!("{head}a = {}", "[".repeat(100_000))).is_err());
}

//! Keeps the house: what a reviewer would otherwise have to say again and again, as ordinary tests.
//! A rule is here because it protects something; its message says what, and what to do. Where a rule stands in the
//! way of better code, change the rule in a commit that says why.
//!
//! It never looks at what the code does, only at where it lies and how it is written.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 500;
const LINES_MAX_PROTOCOL: usize = 350;

/// What `protocol` may stand on. It decides and nothing else, so it needs next to nothing.
const PROTOCOL_DEPENDENCIES: &[&str] = &["thiserror", "uuid"];

/// What would let the outside world, or chance, into `protocol`.
const PROTOCOL_NEVER: &[(&str, &str)] = &[
    ("tokio", "the core is plain functions; what awaits belongs to `steward`"),
    ("std::fs", "the core asks for writes (`Step::writes`); `steward/src/store` does them"),
    ("std::net", "the core asks for effects (`Step::effects`); `steward/src/broker` does them"),
    ("std::env", "what the core needs to know is passed in"),
    ("std::process", "the core asks for effects; `steward/src/methods` runs things"),
    ("std::thread", "the core runs where it is called"),
    ("Instant", "time is passed in as `now`, so that the simulator can choose it"),
    ("SystemTime", "time is passed in as `now`, so that the simulator can choose it"),
    ("HashMap", "its order changes from run to run, and a seed must give the same bytes twice; use `BTreeMap`"),
    ("HashSet", "its order changes from run to run, and a seed must give the same bytes twice; use `BTreeSet`"),
];

#[test]
fn files_are_short_enough_to_be_read_in_one_go() {
    check(|file, findings| {
        if file.is_test() {
            return;
        }
        let lines_max = if file.in_folder("protocol") { LINES_MAX_PROTOCOL } else { LINES_MAX };
        let lines = file.lines().filter(|line| !line.in_test).count();
        if lines > lines_max {
            findings.add(
                file,
                lines_max,
                format!("{lines} lines without tests; the limit here is {lines_max}"),
                "a file does one thing: find the second one, and give it a file named after it",
            );
        }
    });
}

#[test]
fn files_begin_with_what_they_are_for() {
    check(|file, findings| {
        if !file.text.starts_with("//!") {
            findings.add(
                file,
                1,
                "no `//!` at the top",
                "begin with a sentence on what the module is for, and one on what it never does",
            );
        }
    });
}

#[test]
fn modules_are_found_by_their_names() {
    const SAYS_NOTHING: &[&str] = &["utils.rs", "util.rs", "common.rs", "helpers.rs", "types.rs", "misc.rs"];
    check(|file, findings| {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if name == "mod.rs" {
            findings.add(
                file,
                1,
                "a `mod.rs`: ten of them open in an editor look all the same",
                "name it after its folder and put it beside the folder: `foo.rs` and `foo/`",
            );
        }
        if SAYS_NOTHING.contains(&name) {
            findings.add(
                file,
                1,
                format!("`{name}` says nothing about what is inside, so everything ends up in it"),
                "put each thing beside what uses it",
            );
        }
    });
}

#[test]
fn tests_wait_for_facts_and_not_for_time() {
    let sleep = concat!("sleep", "(");
    check(|file, findings| {
        // One place waits, so that all the others can say what for.
        if file.path.ends_with("/harness.rs") || file.path.contains("/harness/") {
            return;
        }
        for line in file.lines().filter(|line| file.is_test() || line.in_test) {
            if line.code().contains(sleep) {
                findings.add(
                    file,
                    line.number,
                    "a test that sleeps is slow on every machine and fails on a slow one",
                    "wait for the fact itself, with a deadline, through the harness",
                );
            }
        }
    });
}

#[test]
fn what_is_left_to_do_has_an_owner() {
    let markers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    check(|file, findings| {
        for line in file.lines() {
            let Some((_, comment)) = line.text.split_once("//") else {
                continue;
            };
            for marker in markers {
                let Some(after) = after_word(comment, marker) else {
                    continue;
                };
                if !after.starts_with('(') || after.starts_with("()") {
                    findings.add(
                        file,
                        line.number,
                        format!("a {marker} that belongs to nobody stays for ever"),
                        format!("do it now, or write {marker}(name or issue): and what is missing"),
                    );
                }
            }
        }
    });
}

#[test]
fn protocol_only_decides() {
    check(|file, findings| {
        if !file.path.starts_with("protocol/src/") {
            return;
        }
        for line in file.lines().filter(|line| !line.in_test) {
            for (word, instead) in PROTOCOL_NEVER {
                if after_word(line.code(), word).is_some() {
                    findings.add(file, line.number, format!("`{word}` in the pure core"), *instead);
                }
            }
        }
    });
}

#[test]
fn protocol_stands_on_next_to_nothing() {
    let path = root().join("protocol/Cargo.toml");
    let text = fs::read_to_string(&path).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let mut findings = Findings::default();
    for section in ["dependencies", "build-dependencies", "target"] {
        let named = manifest.get(section).and_then(|value| value.as_table()).into_iter().flatten();
        for (name, _) in named {
            if !PROTOCOL_DEPENDENCIES.contains(&name.as_str()) {
                let number = text.lines().position(|line| line.starts_with(name.as_str())).unwrap_or(0) + 1;
                findings.add_at(
                    "protocol/Cargo.toml",
                    number,
                    format!("[{section}] {name}: every dependency is code that the simulator doesn't prove"),
                    "do without it, or let `steward` do that part; PROTOCOL_DEPENDENCIES in tidy.rs is the list",
                );
            }
        }
    }
    findings.assert_none();
}

/// The `//!` text of a method is what its operator reads, so its example must be one that can be sent.
#[test]
fn methods_are_documented_with_a_message_that_can_be_sent() {
    check(|file, findings| {
        let folder = file.path.strip_prefix("steward/src/methods/");
        if folder.is_none_or(|name| name.contains('/')) || !file.text.contains("impl Method for ") {
            return;
        }
        let instead = "write a ```json block into the `//!` text: an array with one message, as in inmsg.txt";
        let examples = json_examples(&file.text);
        if examples.is_empty() {
            findings.add(file, 1, "a method without an example of a message", instead);
        }
        for (number, example) in examples {
            let messages: Vec<serde_json::Map<String, serde_json::Value>> = match serde_json::from_str(&example) {
                Ok(messages) => messages,
                Err(error) => {
                    findings.add(file, number, format!("the example is no array of messages: {error}"), instead);
                    continue;
                }
            };
            for message in messages {
                for key in ["toNode", "commandOrEvent", "method", "data"] {
                    if !message.contains_key(key) {
                        findings.add(file, number, format!("the example has no `{key}`"), instead);
                    }
                }
                let method = message.get("method").and_then(|method| method.as_str()).unwrap_or_default();
                let quoted = format!("\"{method}\"");
                let is_own = file.text.lines().any(|line| line.contains("const NAME:") && line.contains(&quoted));
                // With a schedule it is sent as one of the method that runs others.
                let is_wrapped = message.contains_key("schedule") && file.path.ends_with("methods/schedule.rs");
                if !is_own && !is_wrapped {
                    findings.add(file, number, format!("the example is for `{method}`, another method"), instead);
                }
            }
        }
    });
}

/// The JSON blocks of a file's `//!` text, each with the line it begins in.
fn json_examples(text: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let Some(doc) = line.strip_prefix("//!") else {
            break;
        };
        match &mut open {
            None if doc.trim() == "```json" => open = Some((index + 1, String::new())),
            None => {}
            Some(_) if doc.trim() == "```" => examples.extend(open.take()),
            Some((_, example)) => {
                example.push_str(doc);
                example.push('\n');
            }
        }
    }
    examples
}

// What the rules above are made of.

fn check(rule: impl Fn(&SourceFile, &mut Findings)) {
    let mut findings = Findings::default();
    let files = source_files();
    assert!(files.len() > 5, "tidy found next to no source files below {}", root().display());
    for file in &files {
        rule(file, &mut findings);
    }
    findings.assert_none();
}

/// SECURITY.md names the test for each attack: one that was renamed or taken out is missed here.
#[test]
fn the_tests_that_security_names_are_there() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let files = source_files();
    let rows = page.lines().skip_while(|line| !line.starts_with("| attack |")).skip(2);
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 10, "SECURITY.md has no table of attacks");
    for row in rows {
        let tests: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test stands in {row}");
        for test in tests {
            let name = format!("fn {test}(");
            assert!(files.iter().any(|file| file.text.contains(&name)), "no test is called {test}: {row}");
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every Rust file of the workspace's packages, with its path from the root.
fn source_files() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for package in ["protocol", "sim", "steward", "chaos"] {
        collect(&root().join(package), &mut files);
    }
    files
}

fn collect(folder: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            files.push(SourceFile { path, text });
        }
    }
}

struct SourceFile {
    path: String,
    text: String,
}

struct Line<'a> {
    number: usize,
    text: &'a str,
    /// Whether it belongs to an item under `#[cfg(test)]`.
    in_test: bool,
}

impl SourceFile {
    fn in_folder(&self, package: &str) -> bool {
        self.path.split('/').next() == Some(package)
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.contains("/benches/") || self.path.ends_with("/tests.rs")
    }

    /// An item under `#[cfg(test)]` ends at the brace in the column where it began, or at once with a semicolon.
    /// rustfmt sees to that.
    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut test_item: Option<usize> = None;
        self.text.lines().enumerate().map(move |(index, text)| {
            let indent = text.len() - text.trim_start().len();
            let code = text.trim();
            if test_item.is_none() && code == "#[cfg(test)]" {
                test_item = Some(indent);
            }
            let in_test = test_item.is_some();
            let ends = code == "}" || code == "};" || (code.ends_with(';') && !code.starts_with("//"));
            if test_item == Some(indent) && ends {
                test_item = None;
            }
            Line { number: index + 1, text, in_test }
        })
    }
}

impl Line<'_> {
    /// The line without what is commented out.
    fn code(&self) -> &str {
        self.text.split("//").next().unwrap_or_default()
    }
}

/// What follows `word` in `text`, when it stands there as a word of its own.
fn after_word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).find_map(|(at, _)| {
        let after = &text[at + word.len()..];
        (!text[..at].ends_with(part_of_word) && !after.starts_with(part_of_word)).then_some(after)
    })
}

#[derive(Default)]
struct Findings(String);

impl Findings {
    fn add(&mut self, file: &SourceFile, line: usize, what: impl fmt::Display, instead: impl fmt::Display) {
        self.add_at(&file.path, line, what, instead);
    }

    fn add_at(&mut self, path: &str, line: usize, what: impl fmt::Display, instead: impl fmt::Display) {
        writeln!(self.0, "{path}:{line}: {what}\n    instead: {instead}").unwrap();
    }

    fn assert_none(&self) {
        assert!(self.0.is_empty(), "\n\n{}", self.0);
    }
}

#[test]
fn tidy_itself_sees_what_it_looks_for() {
    let file = SourceFile {
        path: "protocol/src/x.rs".to_owned(),
        text: "//! X.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {} // Instant\n".to_owned(),
    };
    let in_test: Vec<bool> = file.lines().map(|line| line.in_test).collect();
    assert_eq!(in_test, [false, false, true, true, true, true, true, false]);
    assert_eq!(file.lines().last().unwrap().code().trim(), "fn c() {}");

    assert!(after_word("use std::time::Instant;", "Instant").is_some());
    assert!(after_word("struct Instantly;", "Instant").is_none());
    let docs = "//! Runs.\n//! ```json\n//! [1]\n//! ```\nfn a() {}\n";
    assert_eq!(json_examples(docs), [(2, " [1]\n".to_owned())]);
}

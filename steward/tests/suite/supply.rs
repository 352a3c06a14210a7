//! Holds the dependencies to deny.toml with nothing but cargo, so that a machine without cargo-deny checks the same
//! licences, bans and sources. `docs/adr/0001-licence-check-without-a-tool.md` says why.
//!
//! It never looks at advisories: their database needs a network, and changes from day to day.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn every_licence_is_one_that_we_allow() {
    let allowed: BTreeSet<String> = strings(&rules()["licenses"]["allow"]).collect();
    let mut used = BTreeSet::new();
    let mut refused = Vec::new();
    for package in foreign_packages() {
        let expression = package["license"].as_str().unwrap_or_default();
        let mut allow = |licence: &str| {
            let allow = allowed.contains(licence);
            if allow {
                used.insert(licence.to_owned());
            }
            allow
        };
        if !satisfied(expression, &mut allow) {
            refused.push(format!("{}: `{expression}`", name(&package)));
        }
    }
    assert!(
        refused.is_empty(),
        "licences that deny.toml doesn't allow: {refused:#?}\n\
         Do without the crate; or, if the licence is a permissive one, add it to [licenses] in deny.toml."
    );
    let unused: Vec<_> = allowed.difference(&used).collect();
    assert!(unused.is_empty(), "deny.toml allows licences that no crate needs any more, take them out: {unused:?}");
}

#[test]
fn no_crate_is_banned() {
    let rules = rules();
    for package in foreign_packages() {
        for ban in rules["bans"]["deny"].as_array().unwrap() {
            assert!(
                package["name"].as_str() != ban["crate"].as_str(),
                "{} is banned: {}. `cargo tree --invert {}` shows who brings it in; turn that feature off.",
                name(&package),
                ban["reason"].as_str().unwrap(),
                ban["crate"].as_str().unwrap(),
            );
        }
    }
}

#[test]
fn every_crate_comes_from_where_we_allow() {
    let registries: Vec<String> =
        strings(&rules()["sources"]["allow-registry"]).map(|url| format!("registry+{url}")).collect();
    for package in foreign_packages() {
        let source = package["source"].as_str().unwrap();
        assert!(
            registries.iter().any(|registry| registry == source),
            "{} comes from {source}, which deny.toml doesn't allow: use a version from crates.io.",
            name(&package),
        );
    }
}

/// What a test needs to break a node from inside is in no program that anybody runs.
#[test]
fn the_program_has_no_crash_points() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_steward")).unwrap();
    let holds = |name: &[u8]| program.windows(name.len()).any(|window| window == name);
    assert!(holds(b"STEWARD_MESSAGE_ID"), "names are found where they are");
    assert_eq!(holds(b"STEWARD_SWITCHES"), cfg!(feature = "crash-points"));
}

fn rules() -> toml::Table {
    let path = root().join("deny.toml");
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every package that isn't ours, on the systems that we ship for.
fn foreign_packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--locked", "--format-version", "1", "--all-features"]).current_dir(root());
    for target in strings(&rules()["graph"]["targets"]) {
        cargo.args(["--filter-platform", &target]);
    }
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let foreign: Vec<Value> = packages.iter().filter(|package| !package["source"].is_null()).cloned().collect();
    assert!(foreign.len() > 50, "cargo metadata lists next to nothing: {} packages", foreign.len());
    foreign
}

fn name(package: &Value) -> String {
    format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap())
}

fn strings(list: &toml::Value) -> impl Iterator<Item = String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned())
}

/// Whether an SPDX expression can be met with the allowed licences. `AND` binds tighter than `OR`; an old `/` is an
/// `OR`; a `WITH` makes a licence of its own. What can't be read is not allowed.
fn satisfied(expression: &str, allow: &mut impl FnMut(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any_of(&mut rest, allow) == Some(true) && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allow: &mut impl FnMut(&str) -> bool) -> Option<bool> {
    let mut met = all_of(rest, allow)?;
    while take(rest, "OR") {
        met |= all_of(rest, allow)?;
    }
    Some(met)
}

fn all_of(rest: &mut &[&str], allow: &mut impl FnMut(&str) -> bool) -> Option<bool> {
    let mut met = one(rest, allow)?;
    while take(rest, "AND") {
        met &= one(rest, allow)?;
    }
    Some(met)
}

fn one(rest: &mut &[&str], allow: &mut impl FnMut(&str) -> bool) -> Option<bool> {
    if take(rest, "(") {
        let met = any_of(rest, allow)?;
        return take(rest, ")").then_some(met);
    }
    let (licence, after) = rest.split_first()?;
    *rest = after;
    if take(rest, "WITH") {
        let (exception, after) = rest.split_first()?;
        *rest = after;
        return Some(allow(&format!("{licence} WITH {exception}")));
    }
    Some(allow(licence))
}

fn take(rest: &mut &[&str], token: &str) -> bool {
    match rest.split_first() {
        Some((first, after)) if *first == token => {
            *rest = after;
            true
        }
        _ => false,
    }
}

#[test]
fn licence_expressions_are_read_as_they_are_meant() {
    let with = |allowed: &[&str], expression: &str| satisfied(expression, &mut |licence| allowed.contains(&licence));
    assert!(with(&["MIT"], "MIT OR GPL-3.0"));
    assert!(with(&["MIT"], "MIT/Apache-2.0"));
    assert!(!with(&["MIT"], "MIT AND GPL-3.0"));
    assert!(with(&["MIT"], "GPL-3.0 AND ISC OR MIT"));
    assert!(!with(&["MIT"], "GPL-3.0 AND (ISC OR MIT)"));
    assert!(!with(&["Apache-2.0"], "Apache-2.0 WITH LLVM-exception"));
    assert!(!with(&["MIT"], ""));
    assert!(!with(&["MIT"], "MIT OR"));
    assert!(!with(&["MIT"], "(MIT"));
    assert!(!with(&["MIT"], "MIT MIT"));
}

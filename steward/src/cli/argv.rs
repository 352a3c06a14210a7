//! Takes the seed's spellings (`-brokerAddress`, `--brokerAddress=X`) for the flags that they mean. It knows only names
//! that some verb has; everything else is left for clap to judge.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::Command;

/// Rewrites every known long name to `--kebab-case`, up to a `--`.
pub(super) fn rewrite(args: Vec<OsString>, command: &Command) -> Vec<OsString> {
    let names = names(command);
    let mut is_argument = true;
    let rewritten = args.into_iter().enumerate().map(|(index, arg)| {
        is_argument &= arg != "--";
        match arg.to_str() {
            Some(text) if index > 0 && is_argument => spelled(text, &names).map_or(arg, OsString::from),
            _ => arg,
        }
    });
    rewritten.collect()
}

/// All spellings of all long names, without dashes, and what they mean.
fn names(command: &Command) -> BTreeMap<String, String> {
    let mut names =
        BTreeMap::from([("help".to_owned(), "help".to_owned()), ("version".to_owned(), "version".to_owned())]);
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands());
        for long in command.get_arguments().filter_map(clap::Arg::get_long) {
            names.insert(camel(long), long.to_owned());
            names.insert(long.to_owned(), long.to_owned());
        }
    }
    names
}

fn camel(kebab: &str) -> String {
    let mut parts = kebab.split('-');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut camel, part| {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
        camel
    })
}

/// `-nameOfFlag=value` as `--name-of-flag=value`, if the name is known and longer than a letter.
fn spelled(text: &str, names: &BTreeMap<String, String>) -> Option<String> {
    let bare = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    let (name, value) = match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    };
    if name.len() < 2 {
        return None;
    }
    let name = names.get(name)?;
    Some(match value {
        Some(value) => format!("--{name}={value}"),
        None => format!("--{name}"),
    })
}

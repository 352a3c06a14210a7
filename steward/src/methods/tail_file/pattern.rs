//! Which files are meant: an absolute path whose names may have wildcards, as a shell has them, and the files that fit it
//! now. It only looks into folders.
//!
//! `*` is any text, `?` one character, `[a-z]` and `[!a-z]` one of some, `\` takes the next character as it is. None of them
//! stands for a slash, nor for a dot at the beginning of a name.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::str::Chars;

use regex::{Regex, RegexBuilder};

/// The longest path, in bytes; of a file as well, or it is not found: what is known of many of them has to be kept.
const BYTES_MAX: usize = 768;

/// Names in a path.
const PARTS_MAX: usize = 64;

/// Names of folders that are looked at in one look; what lies behind them is not found.
const ENTRIES_MAX: usize = 50_000;

/// Folders that one look goes through.
const FOLDERS_MAX: usize = 256;

/// Bytes that a name's expression may take when it is compiled.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// A path with wildcards.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Name(String),
    /// Whether a name that begins with a dot is meant.
    Wild {
        regex: Regex,
        hidden: bool,
    },
}

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Regular files that fit, in the order of their paths.
    pub(super) files: Vec<(String, Metadata)>,
    /// The folders in which they lie or may come to lie.
    pub(super) folders: Vec<PathBuf>,
    /// Why there may be more, in words.
    pub(super) over: Option<String>,
}

impl Pattern {
    /// Understands a path, or says why it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(200).collect();
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("{shown:?} is not absolute; a path begins with a slash"));
        };
        if text.len() > BYTES_MAX {
            return Err(format!("it has {} bytes; at most {BYTES_MAX} are taken", text.len()));
        }
        let parts: Vec<Part> =
            rest.split('/').map(part).collect::<Result<_, _>>().map_err(|why| format!("{shown:?} {why}"))?;
        if parts.len() > PARTS_MAX {
            return Err(format!("it goes through more than {PARTS_MAX} folders"));
        }
        Ok(Self { parts })
    }

    /// Whether this path fits.
    pub(crate) fn fits(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix('/') else { return false };
        let mut names = rest.split('/');
        self.parts.iter().all(|part| names.next().is_some_and(|name| part.fits(name))) && names.next().is_none()
    }

    /// The path, if it has no wildcards.
    pub(crate) fn literal(&self) -> Option<String> {
        let name = |part: &Part| match part {
            Part::Name(name) => Some(name.clone()),
            Part::Wild { .. } => None,
        };
        let names: Option<Vec<String>> = self.parts.iter().map(name).collect();
        names.map(|names| format!("/{}", names.join("/")))
    }

    /// Looks which regular files fit; with `links` also those that a link leads to. Blocks as looking into folders does.
    pub(super) fn find(&self, links: bool) -> Found {
        let mut found = Found::default();
        let (mut folders, mut entries) = (vec![PathBuf::from("/")], 0);
        let Some((last, above)) = self.parts.split_last() else { return found };
        for part in above {
            let mut next = Vec::new();
            for folder in folders {
                match part {
                    Part::Name(name) => next.push(folder.join(name)),
                    Part::Wild { .. } => {
                        let names = names(&folder, part, &mut entries, &mut found);
                        next.extend(names.into_iter().map(|name| folder.join(name)));
                        found.folders.push(folder);
                    }
                }
            }
            next.sort_unstable();
            if next.len() > FOLDERS_MAX {
                next.truncate(FOLDERS_MAX);
                found.over = Some(format!("more than {FOLDERS_MAX} folders fit"));
            }
            folders = next;
        }
        for folder in folders {
            match last {
                Part::Name(name) => found.add(folder.join(name), links),
                Part::Wild { .. } => {
                    let names = names(&folder, last, &mut entries, &mut found);
                    names.into_iter().for_each(|name| found.add(folder.join(name), links));
                }
            }
            found.folders.push(folder);
        }
        found.files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        found
    }
}

impl Found {
    fn add(&mut self, path: PathBuf, links: bool) {
        let looked = if links { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        // What is not there, or may not be seen, does not fit now.
        let Ok(meta) = looked else { return };
        let Ok(text) = path.into_os_string().into_string() else { return };
        if meta.is_file() && text.len() <= BYTES_MAX {
            self.files.push((text, meta));
        }
    }
}

impl Part {
    fn fits(&self, name: &str) -> bool {
        match self {
            Self::Name(wanted) => wanted == name,
            Self::Wild { regex, hidden } => (*hidden || !name.starts_with('.')) && regex.is_match(name),
        }
    }
}

/// The names in a folder that fit. Names that are no text can't be told, and are left out.
fn names(folder: &Path, part: &Part, entries: &mut usize, found: &mut Found) -> Vec<String> {
    let Ok(listed) = fs::read_dir(folder) else { return Vec::new() };
    let mut names = Vec::new();
    for entry in listed.flatten() {
        *entries += 1;
        if *entries > ENTRIES_MAX {
            found.over = Some(format!("there are more than {ENTRIES_MAX} names to look at"));
            break;
        }
        names.extend(entry.file_name().into_string().ok().filter(|name| part.fits(name)));
    }
    names
}

/// One name of a path.
fn part(text: &str) -> Result<Part, String> {
    if text.is_empty() {
        return Err("has a slash at its end, or two of them together; it names a file".to_owned());
    }
    if matches!(text, "." | "..") {
        return Err(format!("goes through {text:?}; write the path that is meant"));
    }
    if text.contains('\0') {
        return Err("holds a NUL character".to_owned());
    }
    let (mut regex, mut name, mut is_wild) = (String::from("^"), String::new(), false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' => regex.push_str(&class(&mut chars)?),
            c => {
                let c = if c == '\\' { chars.next().ok_or("ends with a backslash")? } else { c };
                name.push(c);
                regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                continue;
            }
        }
        is_wild = true;
    }
    if !is_wild {
        return Ok(Part::Name(name));
    }
    regex.push('$');
    let built = RegexBuilder::new(&regex).dot_matches_new_line(true).size_limit(REGEX_BYTES_MAX).build();
    let regex = built.map_err(|_| format!("has wildcards in {text:?} that make no sense"))?;
    Ok(Part::Wild { regex, hidden: text.trim_start_matches('\\').starts_with('.') })
}

/// One of some characters, behind its opening bracket.
fn class(chars: &mut Chars<'_>) -> Result<String, String> {
    let mut class = String::from("[");
    let mut is_first = true;
    loop {
        match chars.next().ok_or("has a [ without a ]; write \\[ for the character")? {
            '!' | '^' if is_first && class.len() == 1 => {
                class.push('^');
                continue;
            }
            ']' if !is_first => break,
            '-' => class.push('-'),
            c => {
                let c = if c == '\\' { chars.next().ok_or("ends with a backslash")? } else { c };
                // Escaped as what it is: && and [ mean something in a class of a regular expression.
                class.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
            }
        }
        is_first = false;
    }
    class.push(']');
    Ok(class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fits_as_it_would_in_a_shell() {
        for (pattern, path, fits) in [
            ("/var/log/x.log", "/var/log/x.log", true),
            ("/var/log/x.log", "/var/log/xxlog", false),
            ("/var/log/*.log", "/var/log/x.log", true),
            ("/var/log/*.log", "/var/log/a/x.log", false),
            ("/var/log/*", "/var/log/.hidden", false),
            ("/var/log/.*", "/var/log/.hidden", true),
            ("/var/*/x", "/var/a/x", true),
            ("/var/*/x", "/var/a/b/x", false),
            ("/a/[ab]?", "/a/bx", true),
            ("/a/[!ab]?", "/a/bx", false),
            ("/a/[a-c]", "/a/b", true),
            ("/a/[]&&[]", "/a/&", true),
            ("/a/\\*", "/a/*", true),
            ("/a/\\*", "/a/b", false),
            ("/a/ü?", "/a/üß", true),
            ("/a/+(x)", "/a/+(x)", true),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().fits(path), fits, "{pattern} {path}");
        }
        assert_eq!(Pattern::parse("/a/\\*b").unwrap().literal().as_deref(), Some("/a/*b"));
        assert_eq!(Pattern::parse("/a/*b").unwrap().literal(), None);
        for (pattern, reason) in [
            ("x", "is not absolute"),
            ("", "is not absolute"),
            ("/", "it names a file"),
            ("/var/", "it names a file"),
            ("/var//x", "two of them together"),
            ("/var/../etc", "goes through"),
            ("/var/[a", "without a ]"),
            ("/var/[z-a]", "make no sense"),
            ("/var/\\", "ends with a backslash"),
            ("/a\0b", "NUL"),
        ] {
            let said = Pattern::parse(pattern).unwrap_err();
            assert!(said.contains(reason), "{pattern:?}: {said}");
        }
    }

    #[test]
    fn files_are_found_where_they_are_and_links_are_none_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["a", "b", "c.log"] {
            fs::create_dir(at(folder)).unwrap();
        }
        for file in ["a/1.log", "a/2.log", "b/1.log", "b/.h.log", "b/other"] {
            fs::write(at(file), "").unwrap();
        }
        std::os::unix::fs::symlink(at("a/1.log"), at("b/link.log")).unwrap();
        let found = |pattern: &str, links| {
            let found = Pattern::parse(&format!("{}/{pattern}", dir.path().display())).unwrap().find(links);
            let strip = |(path, _): (String, Metadata)| path[dir.path().to_str().unwrap().len() + 1..].to_owned();
            (found.files.into_iter().map(strip).collect::<Vec<_>>(), found.folders.len())
        };
        assert_eq!(found("*/*.log", false), (vec!["a/1.log".into(), "a/2.log".into(), "b/1.log".into()], 4));
        assert_eq!(found("b/*.log", true).0, ["b/1.log", "b/link.log"]);
        assert_eq!(found("b/link.log", false), (vec![], 1));
        assert_eq!(found("a/3.log", false), (vec![], 1), "it may come later");
        assert_eq!(found("nowhere/*/x", false).0, Vec::<String>::new());
    }
}

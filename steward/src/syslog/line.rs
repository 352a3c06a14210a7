//! A line and whose it is: the machine that it says it comes from (RFC 5424 and 3164), as a name that can be a folder.
//! Nothing else of a line is ever read, and nothing of it is changed.

use protocol::time::Wall;

/// The longest name of a host that is kept, in bytes.
pub(crate) const HOST_BYTES_MAX: usize = 100;

/// A line as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// When it came here, or when the journal says that it was written.
    pub(super) at: Wall,
    /// Whose it is; safe as the name of a folder.
    pub(super) host: String,
    pub(super) bytes: Vec<u8>,
}

/// How a line came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// From a program on this machine, which in the old form says no host.
    Here,
    /// Over a network, or from another node.
    Network,
}

/// The host that a line names, if it names one.
pub(super) fn host(line: &[u8], via: Via) -> Option<String> {
    let head = line.get(..line.len().min(512)).unwrap_or_default();
    let rest = after_priority(head)?;
    let mut words = rest.split(|byte| *byte == b' ');
    let first = words.next()?;
    let word = match (first, via) {
        (b"1", _) => {
            words.next()?;
            words.next()?
        }
        (_, Via::Here) => return None,
        // Nov  3 05:00:00 host tag: text, or with a time as in RFC 3339.
        (first, Via::Network) if is_month(first) => {
            let mut words = words.filter(|word| !word.is_empty());
            words.next()?;
            words.next()?;
            named(words.next()?)?
        }
        (first, Via::Network) if is_date(first) => named(words.next()?)?,
        _ => return None,
    };
    if word == b"-" { None } else { safe(&String::from_utf8_lossy(word)) }
}

fn after_priority(line: &[u8]) -> Option<&[u8]> {
    let end = line.iter().take(5).position(|byte| *byte == b'>')?;
    let (priority, rest) = (line.get(1..end)?, line.get(end + 1..)?);
    (line.first() == Some(&b'<') && !priority.is_empty() && priority.iter().all(u8::is_ascii_digit)).then_some(rest)
}

/// A word that may be a host; `sshd[12]:` and `su:` are tags, of a line without one.
fn named(word: &[u8]) -> Option<&[u8]> {
    let is_tag = word.last() == Some(&b':') || word.contains(&b'[');
    (!is_tag && !word.is_empty()).then_some(word)
}

fn is_month(word: &[u8]) -> bool {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    MONTHS.contains(&word)
}

fn is_date(word: &[u8]) -> bool {
    let digits = |from: usize, to: usize| word.get(from..to).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    digits(0, 4) && digits(5, 7) && digits(8, 10) && word.get(4) == Some(&b'-') && word.get(10) == Some(&b'T')
}

/// A name as a folder may have it; none if nothing is left of it.
pub(super) fn safe(name: &str) -> Option<String> {
    let mut safe: String = name
        .chars()
        .take(HOST_BYTES_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':') { c } else { '_' })
        .collect();
    if safe.starts_with('.') {
        safe.replace_range(..1, "_");
    }
    (!safe.is_empty()).then_some(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_where_the_two_forms_have_them() {
        let over = |line: &str| host(line.as_bytes(), Via::Network);
        for (line, found) in [
            ("<34>1 2026-11-23T05:00:00.003Z web-1.example.org su - ID47 - failed", Some("web-1.example.org")),
            ("<34>1 - - su - - - failed", None),
            ("<34>Oct 11 22:14:15 web-1 su: failed for lonvick", Some("web-1")),
            ("<34>Oct  1 22:14:15 10.0.0.7 su: failed", Some("10.0.0.7")),
            ("<34>Oct 11 22:14:15 su: failed for lonvick", None),
            ("<34>Oct 11 22:14:15 sshd[12]: failed", None),
            ("<34>2026-11-23T05:00:00+01:00 router %LINK-3: down", Some("router")),
            ("<34>%LINK-3: down", None),
            ("<34>", None),
            ("<>1 2 3", None),
            ("text without a priority", None),
            ("<34>1 t ../../etc a", Some("_._.._etc")),
        ] {
            assert_eq!(over(line).as_deref(), found, "{line}");
        }
    }

    #[test]
    fn a_program_here_names_a_host_in_the_new_form_only() {
        assert_eq!(host(b"<13>Oct 11 22:14:15 my app: text", Via::Here), None);
        assert_eq!(host(b"<13>1 t ship1 app - - - text", Via::Here).as_deref(), Some("ship1"));
    }

    #[test]
    fn a_name_is_never_a_way_out_of_its_folder() {
        for (name, folder) in
            [("..", "_."), (".hidden", "_hidden"), ("a/b\0c", "a_b_c"), ("fe80::1", "fe80::1"), ("ü", "_")]
        {
            assert_eq!(safe(name).as_deref(), Some(folder));
        }
        assert_eq!(safe(""), None);
        assert_eq!(safe(&"x".repeat(1000)).unwrap().len(), HOST_BYTES_MAX);
    }
}

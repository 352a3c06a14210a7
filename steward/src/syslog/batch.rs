//! Lines as the data of a message `Syslogforwarding`: a head that says of which day and of which hosts they are, then the
//! lines as they came. Lines without a head, as somebody writes them by hand, are of the day of their message and of the
//! hosts that they name. What is no text, or begins with a zero, travels as a zero and base64.

use data_encoding::BASE64;
use protocol::time::Wall;
use serde::{Deserialize, Serialize};

use super::framing::LINE_BYTES_MAX;
use super::line::{self, Line, Via};
use crate::clock;

/// Hosts of one message.
pub(crate) const HOSTS_MAX: usize = 256;

/// The version of the head that is written.
const VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    v: u8,
    day: String,
    /// Hosts in the order of the lines, with how many lines in a row are of it.
    hosts: Vec<(String, usize)>,
}

/// The lines of a message, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    /// Of which day they are (UTC), as in `2026-11-23`; none: of the day of their message.
    pub(crate) day: Option<String>,
    /// Each line with its host; none: the node that sends it.
    pub(crate) lines: Vec<(Option<String>, Vec<u8>)>,
}

/// The day of a point in time, in UTC.
pub(crate) fn day(at: Wall) -> String {
    clock::rfc3339(at).chars().take(10).collect()
}

/// How many of these lines one message takes: all, unless they are of too many hosts.
pub(super) fn fitting(lines: &[Line]) -> usize {
    let mut hosts = 0;
    let mut last = None;
    for (index, line) in lines.iter().enumerate() {
        hosts += usize::from(last != Some(&line.host));
        if hosts > HOSTS_MAX {
            return index;
        }
        last = Some(&line.host);
    }
    lines.len()
}

/// The data of a message with these lines, which are of one day and of at most [`HOSTS_MAX`] hosts in a row.
pub(super) fn pack(lines: &[Line]) -> Vec<String> {
    let mut hosts: Vec<(String, usize)> = Vec::new();
    for line in lines {
        match hosts.last_mut() {
            Some((host, many)) if *host == line.host => *many += 1,
            _ => hosts.push((line.host.clone(), 1)),
        }
    }
    let day = lines.first().map(|line| day(line.at)).unwrap_or_default();
    let head = serde_json::json!({ "v": VERSION, "day": day, "hosts": hosts }).to_string();
    std::iter::once(head).chain(lines.iter().map(|line| text(&line.bytes))).collect()
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with('\0') => text.to_owned(),
        _ => format!("\0{}", BASE64.encode(bytes)),
    }
}

/// Understands the data of a message, or says in words why it makes no sense.
pub(crate) fn unpack(data: &[String]) -> Result<Lines, String> {
    let head =
        data.first().filter(|item| item.starts_with("{\"")).and_then(|item| serde_json::from_str::<Head>(item).ok());
    let items = if head.is_some() { data.get(1..).unwrap_or_default() } else { data };
    if items.is_empty() {
        return Err("data has no lines; give lines of syslog, as in \"<13>Nov 23 05:00:00 web-1 app: text\"".to_owned());
    }
    let lines = items.iter().map(|item| bytes(item)).collect::<Result<Vec<_>, _>>()?;
    let Some(head) = head else {
        let lines: Vec<_> = lines.into_iter().map(|line| (line::host(&line, Via::Network), line)).collect();
        let runs = 1 + lines
            .windows(2)
            .filter(|pair| pair.first().map(|line| &line.0) != pair.last().map(|line| &line.0))
            .count();
        return if runs > HOSTS_MAX { Err(too_many()) } else { Ok(Lines { day: None, lines }) };
    };
    if head.v != VERSION {
        return Err(format!("the lines are in form {} and this node knows {VERSION} only; update it", head.v));
    }
    if head.hosts.len() > HOSTS_MAX {
        return Err(too_many());
    }
    let many = head.hosts.iter().fold(0_usize, |sum, (_, many)| sum.saturating_add(*many));
    if many != lines.len() {
        return Err(format!("the head is of {many} lines and there are {}", lines.len()));
    }
    if head.day.parse::<jiff::civil::Date>().is_err() || head.day.len() != 10 {
        return Err(format!("the day {:?} is none; it is written as 2026-11-23", head.day));
    }
    let hosts = head.hosts.iter().flat_map(|(host, many)| std::iter::repeat_n(line::safe(host), *many));
    Ok(Lines { day: Some(head.day), lines: hosts.zip(lines).collect() })
}

fn too_many() -> String {
    format!("the lines are of more than {HOSTS_MAX} hosts in turn; send several messages")
}

fn bytes(item: &str) -> Result<Vec<u8>, String> {
    let bytes = match item.strip_prefix('\0') {
        Some(text) => BASE64.decode(text.as_bytes()).map_err(|error| format!("a line is no base64: {error}"))?,
        None => item.strip_suffix('\n').unwrap_or(item).as_bytes().to_vec(),
    };
    if bytes.len() > LINE_BYTES_MAX {
        return Err(format!("a line has {} bytes; at most {LINE_BYTES_MAX} are allowed", bytes.len()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(host: &str, bytes: &[u8]) -> Line {
        Line { at: Wall(1_795_409_999_000), host: host.to_owned(), bytes: bytes.to_vec() }
    }

    #[test]
    fn lines_travel_byte_for_byte_with_their_hosts_and_their_day() {
        let lines = [
            line("a", b"<13>one"),
            line("a", b"<13>two\nof it \xff"),
            line("b", "<13>dréi".as_bytes()),
            line("a", b"\0zero"),
            line("a", b"{\"v\":1}"),
        ];
        let data = pack(&lines);
        assert_eq!(data[0], r#"{"day":"2026-11-23","hosts":[["a",2],["b",1],["a",2]],"v":1}"#);
        let unpacked = unpack(&data).unwrap();
        assert_eq!(unpacked.day.as_deref(), Some("2026-11-23"));
        let expected: Vec<_> = lines.iter().map(|line| (Some(line.host.clone()), line.bytes.clone())).collect();
        assert_eq!(unpacked.lines, expected);
    }

    #[test]
    fn lines_without_a_head_are_of_whom_they_name() {
        let data = ["<13>Nov 23 05:00:00 web-1 app: text\n", "text"].map(str::to_owned);
        let unpacked = unpack(&data).unwrap();
        let web = (Some("web-1".to_owned()), b"<13>Nov 23 05:00:00 web-1 app: text".to_vec());
        assert_eq!(unpacked, Lines { day: None, lines: vec![web, (None, b"text".to_vec())] });
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_reason() {
        for (data, reason) in [
            (vec![], "has no lines"),
            (vec![r#"{"v":1,"day":"2026-11-23","hosts":[]}"#], "has no lines"),
            (vec![r#"{"v":2,"day":"2026-11-23","hosts":[["a",1]]}"#, "x"], "form 2"),
            (vec![r#"{"v":1,"day":"2026-11-23","hosts":[["a",2]]}"#, "x"], "of 2 lines and there are 1"),
            (
                vec![r#"{"v":1,"day":"2026-11-23","hosts":[["a",18446744073709551615],["b",1]]}"#, "x"],
                "lines and there are 1",
            ),
            (vec![r#"{"v":1,"day":"../../../x","hosts":[["a",1]]}"#, "x"], "the day"),
            (vec!["\0!"], "no base64"),
        ] {
            let data: Vec<String> = data.into_iter().map(str::to_owned).collect();
            let error = unpack(&data).unwrap_err();
            assert!(error.contains(reason), "no {reason} in {error}");
        }
        let long = unpack(&["x".repeat(LINE_BYTES_MAX + 1)]).unwrap_err();
        assert!(long.contains("at most"), "{long}");
        let many: Vec<Line> = (0..300).map(|n| line(&format!("h{n}"), b"x")).collect();
        assert_eq!(fitting(&many), HOSTS_MAX);
        assert!(unpack(&pack(&many)).unwrap_err().contains("hosts"));
    }
}

//! Lines of syslog, from programs and networks of all kinds and from other nodes.

use crate::syslog::batch;
use crate::syslog::fuzzed;

/// A stream of lines: the same ones whatever the pieces are in which it comes, and they travel as they are. The same bytes as the
/// data of a message.
pub(super) fn syslog(bytes: &[u8]) {
    let whole = fuzzed::lines(bytes, bytes.len().max(1));
    for piece in [1, 7, 1000] {
        assert_eq!(fuzzed::lines(bytes, piece), whole, "in pieces of {piece}");
    }
    for line in &whole {
        assert!(fuzzed::host(line).is_none_or(|host| !host.starts_with('.') && !host.contains('/')));
    }
    let data = fuzzed::pack(&whole);
    match batch::unpack(&data) {
        Ok(lines) => assert_eq!(lines.lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>(), whole),
        Err(why) => assert!(whole.is_empty(), "{why}"),
    }
    let text = String::from_utf8_lossy(bytes);
    let data: Vec<String> = text.split('|').map(str::to_owned).collect();
    drop(batch::unpack(&data));
    fuzzed::entry(bytes);
}

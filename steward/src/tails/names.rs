//! What files are called here that have a name elsewhere: the same, with what could lead out of the folder, or mislead a reader, written as
//! `%` and two hexadecimal digits. So `/var/log/x.log` of ship1 is `ship1/var/log/x.log`.

use protocol::name::NodeName;

use super::FOLDER;

/// The longest name of a file or folder, in bytes. What is longer is cut, and a hash takes the place of the rest.
const NAME_BYTES_MAX: usize = 200;

/// Stands before the hash of a name that was cut. No name that was written out has it.
const CUT: &str = "%~";

/// Where the lines of a file of another node lie, from this node's directory on.
pub(crate) fn place(node: &NodeName, path: &str) -> String {
    let names: Vec<String> = path.split('/').filter(|name| !name.is_empty()).map(name).collect();
    format!("{FOLDER}/{node}/{}", names.join("/"))
}

/// The path there of a file that lies here, which is given from the node's own folder on. None if its name was cut.
pub(crate) fn path(place: &str) -> Option<String> {
    let names: Option<Vec<String>> = place.split('/').map(original).collect();
    names.map(|names| format!("/{}", names.join("/")))
}

fn name(original: &str) -> String {
    let mut name = String::with_capacity(original.len());
    for (index, c) in original.char_indices() {
        if c == '%' || c.is_control() || (c == '.' && index == 0) {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| name.push_str(&format!("%{byte:02X}")));
        } else {
            name.push(c);
        }
    }
    if name.len() > NAME_BYTES_MAX {
        let hash = blake3::hash(original.as_bytes()).to_hex();
        let kept = name.floor_char_boundary(NAME_BYTES_MAX - CUT.len() - 16);
        name.truncate(kept);
        name.push_str(CUT);
        name.push_str(hash.get(..16).unwrap_or_default());
    }
    name
}

fn original(name: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name.as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            bytes.extend(data_encoding::HEXUPPER.decode(digits).ok()?);
            rest = behind;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_out_of_the_folder_and_each_has_a_place_of_its_own() {
        let node = NodeName::new("ship1").unwrap();
        let of = |path: &str| place(&node, path);
        assert_eq!(of("/var/log/x.log"), "tails/ship1/var/log/x.log");
        let long = "x".repeat(255);
        let paths = [
            "/var/log/x.log",
            "/var/log/.x.log",
            "/var/log/%2Ex.log",
            "/../../etc/passwd",
            "/var/log/a\nb\u{1b}",
            "/var/log/\u{fc}\u{85}",
            "/...",
        ];
        for path in paths {
            let place = of(path);
            for name in place.split('/') {
                assert!(!name.starts_with('.') && !name.is_empty(), "{place}");
                assert!(!name.chars().any(char::is_control), "{place:?}");
            }
            assert_eq!(super::path(place.strip_prefix("tails/ship1/").unwrap()).as_deref(), Some(path), "{place}");
        }
        let places: std::collections::HashSet<String> = paths.iter().map(|path| of(path)).collect();
        assert_eq!(places.len(), paths.len());
        let (one, other) = (of(&format!("/{long}a")), of(&format!("/{long}b")));
        assert_ne!(one, other);
        assert!(one.len() <= "tails/ship1/".len() + NAME_BYTES_MAX);
        assert_eq!(super::path(one.strip_prefix("tails/ship1/").unwrap()), None);
        assert!(of(&format!("/{}", "\u{20ac}".repeat(100))).len() <= "tails/ship1/".len() + NAME_BYTES_MAX);
    }
}

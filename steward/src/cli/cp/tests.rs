//! What is understood of what was typed.

use super::*;

#[test]
fn an_end_is_a_path_here_or_one_on_a_node() {
    let end = |text: &str| text.parse::<End>();
    let there = |node: &str, path: &str| End::There(node.parse().unwrap(), path.to_owned());
    assert_eq!(end("ship1:/var/log/x"), Ok(there("ship1", "/var/log/x")));
    assert_eq!(end("ship1:/srv/"), Ok(there("ship1", "/srv")));
    assert_eq!(end("ship1:/"), Ok(there("ship1", "/")));
    assert_eq!(end("ship1:a/b"), Ok(there("ship1", "a/b")));
    for here in [".", "/etc/motd", "./a:b", "/srv/a:b", "plain"] {
        assert_eq!(end(here), Ok(End::Here(here.into())), "{here}");
    }
    for (bad, why) in [("", "is empty"), ("a b:c", "./a b:c"), ("ship1:", "is empty"), ("ship1:/a/../b", "..")] {
        let said = end(bad).unwrap_err();
        assert!(said.contains(why), "{bad}: {said}");
    }
    assert_eq!(end("ship1:/a/b").unwrap().name(), Some("b".as_ref()));
}

//! What is understood of the data of a message.

use super::*;

fn parse(data: &[&str]) -> Result<Order, String> {
    let data: Vec<String> = data.iter().map(|item| (*item).to_owned()).collect();
    CopyFile::parse(&data)
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    for (data, reason) in [
        (&[][..], "data has no two items"),
        (&["get"], "data has no two items"),
        (&["steal", "/a"], "data[0]: \"steal\" is none of get"),
        (&["get", "/a/../b"], "data[1]: the path"),
        (&["get", "/a", "limit"], "data[2]: \"limit\" is no option"),
        (&["get", "/a", "limit=1", "limit=2"], "data[3]: limit is given twice"),
        (&["get", "/a", "limit=x"], "data[2]: limit: "),
        (&["get", "/a", "speed=1"], "data[2]: get has no option \"speed\""),
    ] {
        let said = parse(data).unwrap_err();
        assert!(said.starts_with(reason), "{data:?}: {said}");
    }
    assert!(parse(&["get", "/a b=c", "limit=1MiB"]).is_ok());
    let hash = format!("blake3={}", blake3::hash(b"x").to_hex());
    let put = |but: &str| {
        let words = ["put", "/a", "name=b", "bytes=1", &hash, "mode=644", "modified=1.000000000"];
        parse(&words.into_iter().filter(|word| !word.starts_with(but)).collect::<Vec<_>>())
    };
    assert!(put("name").is_ok() && put("none of them").is_ok());
    for missing in ["bytes", "blake3", "mode", "modified"] {
        assert!(put(missing).unwrap_err().contains(missing), "{missing}");
    }
    for bad in ["name=a/b", "name=..", "bytes=-1", "blake3=12", "mode=4755", "modified=1"] {
        let name = bad.split_once('=').unwrap().0;
        let words = ["put", "/a", "bytes=1", &hash, "mode=644", "modified=1.000000000"];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.starts_with(name)).chain([bad]).collect();
        assert!(parse(&words).is_err(), "{bad}");
    }
}

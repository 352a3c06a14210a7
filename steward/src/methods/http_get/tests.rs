//! What a message may say. What comes of it is tried with real servers, in `tests/suite/http_get.rs`.

use std::time::Duration;

use super::ask::{Ask, Shape};

fn parse(data: &[&str]) -> Result<Ask, String> {
    let data: Vec<String> = data.iter().map(|&item| item.to_owned()).collect();
    Ask::parse(&data)
}

#[test]
fn what_is_asked_for_is_understood() {
    let ask = parse(&["http://[::1]:81/a b?c#d"]).unwrap();
    assert_eq!(ask.url.as_str(), "http://[::1]:81/a%20b?c");
    assert_eq!((ask.method.as_str(), ask.redirects, ask.shape), ("GET", 0, Shape::Both));
    let ask = parse(&[
        "https://host/",
        "method=POST",
        "header=A: b: c",
        "header=a:d",
        "body=x=y",
        "limit=1KiB",
        "timeLimit=1m",
        "redirects=20",
        "as=json",
        "file=a.bin",
        "ca=ca.pem",
        "cert=me.pem",
        "insecure=false",
    ])
    .unwrap();
    let values: Vec<_> = ask.headers.get_all("a").iter().collect();
    assert_eq!(values, ["b: c", "d"]);
    assert_eq!((&ask.body[..], ask.limit, ask.time), (&b"x=y"[..], Some(1024), Duration::from_secs(60)));
    assert_eq!((ask.file.as_deref(), ask.tls.ca.as_deref()), (Some("a.bin"), Some("ca.pem")));
}

#[test]
fn what_makes_no_sense_is_refused_with_words() {
    let url = "http://host/";
    let many: Vec<String> = (0..65).map(|n| format!("header=x-{n}: 1")).collect();
    let many: Vec<&str> = std::iter::once(url).chain(many.iter().map(String::as_str)).collect();
    let long = format!("http://host/{}", "x".repeat(8192));
    let bad: &[(&[&str], &str)] = &[
        (&[], "data is empty"),
        (&["host/path"], "data[0], the URL"),
        (&["ftp://host/"], "neither http nor https"),
        (&["file:///etc/passwd"], "neither http nor https"),
        (&["http://me:secret@host/"], "a user or a password"),
        (&["http://"], "data[0], the URL"),
        (&[&long], "at most 8192"),
        (&[url, "verbose"], "data[1]: \"verbose\" is no option"),
        (&[url, "colour=red"], "there is no option colour"),
        (&[url, "as=body", "as=json"], "data[2]: as is given twice"),
        (&[url, "method=get"], "none of GET, HEAD"),
        (&[url, "method=CONNECT"], "none of GET, HEAD"),
        (&[url, "header=x"], "a header is"),
        (&[url, "header=x y: z"], "no name of a header"),
        (&[url, "header=x: a\r\nEvil: 1"], "the value of the header x"),
        (&[url, "header=Content-Length: 9"], "set by steward itself"),
        (&[url, "header=transfer-encoding: chunked"], "set by steward itself"),
        (&many, "more than 64"),
        (&[url, "limit=many"], "is no size"),
        (&[url, "timeLimit=0"], "timeLimit is 0"),
        (&[url, "timeLimit=soon"], "is no duration"),
        (&[url, "redirects=21"], "from 0 to 20"),
        (&[url, "redirects=-1"], "from 0 to 20"),
        (&[url, "as=xml"], "none of both"),
        (&[url, "file=../x"], "has a slash"),
        (&[url, "file="], "is empty"),
        (&[url, "file=.x.part"], "begins with a dot"),
        (&[url, "file=a\u{1b}[2J"], "control character"),
        (&[url, "file=x", "as=head"], "reads no body"),
        (&[url, "file=x", "method=HEAD"], "brings no body"),
        (&[url, "insecure=yes"], "neither true nor false"),
        (&[url, "ca=x"], "the URL is http"),
        (&["https://host/", "ca=x", "insecure=true"], "give one of them"),
        (&["https://host/", "ca=/etc/ssl/cert.pem"], "has a slash"),
    ];
    for (data, reason) in bad {
        let said = parse(data).map(drop).unwrap_err();
        assert!(said.contains(reason), "{data:?}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

//! `HttpGet` (R25): what a real web server on the node's side answers, and everything that it may do instead of answering.

pub(crate) mod server;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use self::server::{Server, hang, reply};
use crate::harness::{Fleet, Node, eventually, with};

/// A message that asks for something, with these options.
fn ask(url: &str, options: &[&str]) -> Value {
    let data: Vec<&str> = std::iter::once(url).chain(options.iter().copied()).collect();
    json!({ "toNode": "ship1", "data": data, "commandOrEvent": "CommandACK", "method": "HttpGet" })
}

/// The same, to its end.
#[track_caller]
fn asked(central: &Node<'_>, url: &str, options: &[&str]) -> Value {
    central.send_and_wait(&ask(url, options))
}

#[track_caller]
fn is(message: &Value, state: &str, reason: &str) {
    let said = message["reason"].as_str().unwrap_or_default();
    assert!(message["state"] == state && said.contains(reason), "no {state} with {reason:?}: {message:#}");
}

fn stdout(central: &Node<'_>, message: &Value) -> Vec<u8> {
    central.bytes(&format!("/v1/messages/{}/stdout", message["id"].as_str().unwrap()))
}

#[test]
fn any_status_is_a_result_with_its_head_and_its_body() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let server = Server::start(|line, stream| match line {
        "GET /ok?a=b HTTP/1.1" => reply(stream, "200 OK", b"fine\n"),
        "GET /gone HTTP/1.1" => reply(stream, "404 Lost At Sea", b"no\n"),
        "GET /bytes HTTP/1.1" => reply(stream, "200 OK", b"a\0\xff\r\nb"),
        "GET /empty HTTP/1.1" => reply(stream, "204 No Content", b""),
        "HEAD /ok HTTP/1.1" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"),
        "POST /take HTTP/1.1" => reply(stream, "500 Internal Server Error", b"broken"),
        other => panic!("{other}"),
    });
    let fine = asked(&central, &server.url("/ok?a=b#part"), &["header=X-Key: k:1", "header=accept: text/plain"]);
    is(&fine, "done", "200 OK");
    assert_eq!((&fine["stdout"], &fine["truncated"]), (&"fine\n".into(), &false.into()));
    assert_eq!(fine["stderr"], "HTTP/1.1 200 OK\ncontent-length: 5\nx-test: yes\n\n");
    let heard = server.asked().pop().unwrap();
    for line in ["x-key: k:1\r\n", "accept: text/plain\r\n", "connection: close\r\n", "host: 127.0.0.1:"] {
        assert!(heard.contains(line), "no {line:?} in {heard:?}");
    }
    assert!(!heard.contains("*/*"), "what is given stands for what would be sent otherwise: {heard:?}");

    let gone = asked(&central, &server.url("/gone"), &["as=body"]);
    is(&gone, "done", "404 Lost At Sea");
    assert_eq!((&gone["stdout"], &gone["stderr"]), (&"no\n".into(), &"".into()));

    let broken = asked(&central, &server.url("/take"), &["method=POST", "body=a=b&c", "as=json"]);
    is(&broken, "done", "500 Internal Server Error");
    let object: Value = serde_json::from_str(broken["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(object["headers"], json!([["content-length", "6"], ["x-test", "yes"]]));
    assert_eq!((&object["status"], &object["body"], &object["bytes"]), (&500.into(), &"broken".into(), &6.into()));
    assert_eq!((&object["url"], &object["redirects"]), (&server.url("/take").into(), &json!([])));
    assert!(server.asked().pop().unwrap().ends_with("\r\n\r\na=b&c"));

    let bytes = asked(&central, &server.url("/bytes"), &[]);
    assert_eq!(stdout(&central, &bytes), b"a\0\xff\r\nb");
    let bytes = asked(&central, &server.url("/bytes"), &["as=json"]);
    let object: Value = serde_json::from_str(bytes["stdout"].as_str().unwrap()).unwrap();
    assert_eq!((&object["bodyBase64"], &object["body"]), (&"YQD/DQpi".into(), &Value::Null));

    is(&asked(&central, &server.url("/empty"), &[]), "done", "204 No Content");
    let head = asked(&central, &server.url("/ok"), &["method=HEAD", "as=head"]);
    assert_eq!(head["stdout"], "HTTP/1.1 200 OK\ncontent-length: 999\n\n");
}

#[test]
fn what_is_no_answer_fails_with_words_and_keeps_what_came() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let server = Server::start(|line, stream| match line.split(' ').nth(1).unwrap() {
        "/cut" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"),
        "/chunks" => write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        "/nothing" => Ok(()),
        "/noise" => write!(stream, "SSH-2.0-OpenSSH_9.6\r\n"),
        "/head" => {
            write!(stream, "HTTP/1.1 200 OK\r\n")?;
            (0..200_000).try_for_each(|n| write!(stream, "x-{n}: {n}\r\n"))
        }
        "/length" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nx"),
        other => panic!("{other}"),
    });
    let cut = asked(&central, &server.url("/cut"), &[]);
    is(&cut, "failed", "broke off after 10 bytes of 100 of its body");
    assert_eq!(cut["stdout"], "half of it");
    assert!(cut["stderr"].as_str().unwrap().starts_with("HTTP/1.1 200 OK\n"));
    let cut = asked(&central, &server.url("/chunks"), &["as=body"]);
    is(&cut, "failed", "broke off after 4 bytes of its body");
    assert_eq!(cut["stdout"], "half");
    for (path, reason) in [("/nothing", "there was no answer"), ("/noise", "there was no answer")] {
        is(&asked(&central, &server.url(path), &[]), "failed", reason);
    }
    is(&asked(&central, &server.url("/head"), &[]), "failed", "head");
    is(&asked(&central, &server.url("/length"), &[]), "failed", "there was no answer");
    let nobody = server.url("/");
    drop(server);
    is(&asked(&central, &nobody, &[]), "failed", "can't be reached: Connection refused");
    is(
        &asked(&central, "http://no.such.host.invalid/", &["timeLimit=20s"]),
        "failed",
        "http://no.such.host.invalid/: ",
    );
}

#[test]
fn what_takes_too_long_ends_in_time_and_leaves_no_connection() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let server = Server::start(|line, stream| match line.split(' ').nth(1).unwrap() {
        "/mute" => hang(stream),
        "/stops" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")?;
            hang(stream)
        }
        other => panic!("{other}"),
    });
    is(
        &asked(&central, &server.url("/mute"), &["timeLimit=300ms"]),
        "failed",
        "no whole answer within its limit of 300ms",
    );
    let stops = asked(&central, &server.url("/stops"), &["timeLimit=300ms"]);
    is(&stops, "failed", "no whole answer within its limit");
    assert_eq!(stops["stdout"], "begun");
    let limited = central.send_and_wait(&with(ask(&server.url("/stops"), &[]), json!({ "methodTimeout": 1 })));
    is(&limited, "timed_out", "");
    assert_eq!(limited["stdout"], "begun");
    let id = central.send(&ask(&server.url("/stops"), &["file=never.bin"]));
    eventually("it is connected", || (server.open() == 1).then_some(()));
    assert_eq!(central.cli(&["cancel", &id]).code, 0);
    is(&central.ended(&id), "cancelled", "");
    eventually("no connection is left", || (server.open() == 0).then_some(()));
    assert_eq!(fs::read_dir(fleet.dir().join("ship1/downloads")).unwrap().count(), 0, "nothing half is left");
}

#[test]
fn bodies_without_end_are_cut_and_large_ones_come_whole() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node_with("ship1", &["--max-output=24MiB"]));
    let server = Server::start(|line, stream| match line.split(' ').nth(1).unwrap() {
        "/endless" => {
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 8192])?;
            }
        }
        "/large" => reply(stream, "200 OK", &vec![b'y'; 20_000_000]),
        "/exact" => reply(stream, "200 OK", b"0123456789"),
        other => panic!("{other}"),
    });
    let cut = asked(&central, &server.url("/endless"), &["limit=100KiB"]);
    is(&cut, "done", "200 OK; the body was cut after 102400 bytes");
    assert_eq!((&cut["truncated"], &cut["stdoutBytes"]), (&true.into(), &102_400.into()));
    let cut = asked(&central, &server.url("/endless"), &["as=body"]);
    assert_eq!((&cut["truncated"], &cut["stdoutBytes"]), (&true.into(), &(24 << 20).into()), "{cut:#}");
    let cut = asked(&central, &server.url("/endless"), &["as=json"]);
    let object: Value = serde_json::from_slice(&stdout(&central, &cut)).unwrap();
    assert_eq!((&object["truncated"], &object["bytes"]), (&true.into(), &(1 << 20).into()));
    is(&asked(&central, &server.url("/endless"), &["file=x", "limit=1MiB"]), "failed", "more than 1048576 bytes");
    is(&asked(&central, &server.url("/large"), &["file=x", "limit=1MiB"]), "failed", "the body has 20000000 bytes");
    eventually("nobody is connected to what has no end", || (server.open() == 0).then_some(()));
    assert_eq!(fs::read_dir(fleet.dir().join("ship1/downloads")).unwrap().count(), 0);

    let large = asked(&central, &server.url("/large"), &[]);
    assert_eq!((&large["truncated"], &large["stdoutBytes"]), (&false.into(), &20_000_000.into()), "{large:#}");
    assert!(stdout(&central, &large).iter().all(|byte| *byte == b'y'));
    let exact = asked(&central, &server.url("/exact"), &["limit=10"]);
    assert_eq!((&exact["truncated"], &exact["stdout"]), (&false.into(), &"0123456789".into()));
}

#[test]
fn redirects_are_followed_only_as_far_as_they_may_be() {
    let fleet = Fleet::new();
    let (central, _ship1) = (fleet.node("central"), fleet.node("ship1"));
    let other = Server::start(|_, stream| reply(stream, "200 OK", b"the other one"));
    let elsewhere = other.url("/x");
    let server = Server::start(move |line, stream| {
        let mut to = |status: &str, location: &str| {
            write!(stream, "HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 5\r\n\r\nmoved")
        };
        match line.split(' ').nth(1).unwrap() {
            "/here" => to("301 Moved Permanently", "there?q=1"),
            "/there?q=1" => to("303 See Other", "/end"),
            "/loop" => to("302 Found", "/loop"),
            "/away" => to("307 Temporary Redirect", &elsewhere),
            "/file" => to("302 Found", "file:///etc/passwd"),
            "/end" => reply(stream, "200 OK", b"the end"),
            other => panic!("{other}"),
        }
    });
    let result = asked(&central, &server.url("/here"), &[]);
    is(&result, "done", "301 Moved Permanently");
    assert_eq!(result["stdout"], "moved");
    let end = asked(&central, &server.url("/here"), &["redirects=2", "method=POST", "body=once", "header=X-Key: 1"]);
    is(&end, "done", "200 OK");
    assert_eq!(end["stdout"], "the end");
    let head = end["stderr"].as_str().unwrap();
    assert_eq!(head.matches("HTTP/1.1 ").count(), 3, "the head of each: {head}");
    let asked_for = server.asked().pop().unwrap();
    assert!(asked_for.starts_with("GET /end ") && asked_for.contains("x-key: 1"), "{asked_for}");
    let end = asked(&central, &server.url("/here"), &["redirects=5", "as=json"]);
    let object: Value = serde_json::from_str(end["stdout"].as_str().unwrap()).unwrap();
    assert_eq!(object["redirects"], json!([server.url("/here"), server.url("/there?q=1")]));
    assert_eq!(object["url"], server.url("/end"));

    let before = server.asked().len();
    is(&asked(&central, &server.url("/loop"), &["redirects=3"]), "failed", "3 redirects were followed");
    assert_eq!(server.asked().len() - before, 4);
    is(&asked(&central, &server.url("/file"), &["redirects=3"]), "failed", "neither http nor https");

    let key = ["redirects=1", "header=Authorization: Basic c2VjcmV0"];
    is(&asked(&central, &server.url("/away"), &key), "done", "200 OK");
    assert!(server.asked().pop().unwrap().contains("c2VjcmV0"));
    assert!(!other.asked().pop().unwrap().contains("c2VjcmV0"), "no other server hears what was for the first one");
    let sent = asked(&central, &server.url("/away"), &["redirects=1", "method=POST", "body=secret"]);
    is(&sent, "failed", "it is another server");
    assert_eq!(other.asked().len(), 1);
}

/// A certificate authority that belongs to a test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate for a host until a year, with its key.
    fn issue(&self, host: &str, until: i32) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// What a server with such a certificate needs; `clients` are the ones that it takes.
    fn server(&self, host: &str, until: i32, clients: Option<&Self>) -> ServerConfig {
        let (certificate, key) = self.issue(host, until);
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from(clients.0.der().to_vec())).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

#[test]
fn certificates_are_believed_only_where_they_should_be() {
    let fleet = Fleet::new();
    let (central, ship1) = (fleet.node("central"), fleet.node("ship1"));
    let (ours, theirs) = (Authority::new(), Authority::new());
    let tls = ship1.dir().join("tls");
    fs::create_dir(&tls).unwrap();
    fs::write(tls.join("ours.pem"), ours.0.pem()).unwrap();
    fs::write(tls.join("theirs.pem"), theirs.0.pem()).unwrap();
    fs::write(tls.join("empty.pem"), "nothing\n").unwrap();
    let (certificate, key) = ours.issue("ship1", 4000);
    fs::write(tls.join("me.pem"), certificate.pem() + &key.serialize_pem()).unwrap();
    symlink(ship1.dir().join("steward.db"), tls.join("link.pem")).unwrap();

    let good = Server::tls(ours.server("localhost", 4000, None), |_, stream| reply(stream, "200 OK", b"secure"));
    let url = good.secure("localhost", "/");
    let fine = asked(&central, &url, &["ca=ours.pem"]);
    is(&fine, "done", "200 OK");
    assert_eq!(fine["stdout"], "secure");
    is(&asked(&central, &url, &["ca=theirs.pem"]), "failed", "ca=FILE says whose certificates to believe");
    is(&asked(&central, &good.secure("127.0.0.1", "/"), &["ca=ours.pem"]), "failed", "certificate");
    is(&asked(&central, &url, &[]), "failed", "");
    is(&asked(&central, &good.secure("127.0.0.1", "/"), &["insecure=true"]), "done", "200 OK");
    for (name, reason) in [("none.pem", "can't be read"), ("empty.pem", "no certificate"), ("link.pem", "is a link")] {
        is(&asked(&central, &url, &[&format!("ca={name}")]), "failed", reason);
    }
    assert_eq!(good.asked().len(), 2, "nothing was asked of a server that is not believed");

    let old = Server::tls(ours.server("localhost", 2001, None), |_, stream| reply(stream, "200 OK", b"old"));
    is(&asked(&central, &old.secure("localhost", "/"), &["ca=ours.pem"]), "failed", "expired");
    let picky = Server::tls(ours.server("localhost", 4000, Some(&ours)), |_, stream| reply(stream, "200 OK", b"you"));
    let url = picky.secure("localhost", "/");
    is(&asked(&central, &url, &["ca=ours.pem"]), "failed", "");
    is(&asked(&central, &url, &["ca=ours.pem", "cert=me.pem"]), "done", "200 OK");
    is(&asked(&central, &url, &["ca=ours.pem", "cert=ours.pem"]), "failed", "no private key");

    let cut = Server::tls(ours.server("localhost", 4000, None), |_, stream| {
        write!(stream, "HTTP/1.1 200 OK\r\n\r\nhalf")?;
        stream.flush()?;
        Err(std::io::Error::other("cut without the end that TLS asks for"))
    });
    let half = asked(&central, &cut.secure("localhost", "/"), &["ca=ours.pem"]);
    is(&half, "failed", "broke off after 4 bytes of its body");
    assert_eq!(half["stdout"], "half", "nobody can take away the end of an answer unseen");
    let plain = Server::start(|_, stream| reply(stream, "200 OK", b"plain"));
    is(&asked(&central, &plain.secure("localhost", "/"), &["ca=ours.pem"]), "failed", "there is no TLS with localhost");
    let away = plain.url("/");
    let down = Server::tls(ours.server("localhost", 4000, None), move |_, stream| {
        write!(stream, "HTTP/1.1 302 Found\r\nLocation: {away}\r\nContent-Length: 0\r\n\r\n")
    });
    let led = asked(&central, &down.secure("localhost", "/"), &["ca=ours.pem", "redirects=1"]);
    is(&led, "failed", "anybody could read along");
}

#[test]
fn a_body_becomes_a_file_whole_or_not_at_all() {
    let fleet = Fleet::new();
    let (central, mut ship1) = (fleet.node("central"), fleet.node("ship1"));
    let server = Server::start(|line, stream| match line.split(' ').nth(1).unwrap() {
        "/new" => reply(stream, "200 OK", &vec![b'n'; 3_000_000]),
        "/gone" => reply(stream, "404 Not Found", b"why"),
        "/cut" => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        "/stops" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
            stream.write_all(&[b's'; 900_000])?;
            hang(stream)
        }
        other => panic!("{other}"),
    });
    let file = ship1.dir().join("downloads/app.bin");
    let got = asked(&central, &server.url("/new"), &["file=app.bin"]);
    is(&got, "done", "200 OK");
    let object: Value = serde_json::from_str(got["stdout"].as_str().unwrap()).unwrap();
    let whole = vec![b'n'; 3_000_000];
    let hash = blake3::hash(&whole).to_string();
    assert_eq!(object, json!({ "file": "downloads/app.bin", "bytes": 3_000_000, "blake3": hash }));
    assert!(fs::read(&file).unwrap() == whole);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let gone = asked(&central, &server.url("/gone"), &["file=app.bin"]);
    is(&gone, "done", "404 Not Found");
    assert_eq!(gone["stdout"], "why");
    is(&asked(&central, &server.url("/cut"), &["file=app.bin"]), "failed", "broke off after 4 bytes of 100");

    let id = central.send(&ask(&server.url("/stops"), &["file=app.bin"]));
    let again =
        central.send(&with(ask(&server.url("/stops"), &["file=app.bin"]), json!({ "parallel": true, "rerun": true })));
    let count = |dir: &std::path::Path| fs::read_dir(dir).unwrap().count();
    eventually("both have begun a file", || (count(file.parent().unwrap()) == 3).then_some(()));
    ship1.kill();
    eventually("the server has noticed", || (server.open() == 0).then_some(()));
    ship1.start();
    is(&central.ended(&id), "interrupted", "");
    eventually("what may run again does", || (server.open() == 1 && count(file.parent().unwrap()) == 2).then_some(()));
    assert_eq!(central.cli(&["cancel", &again]).code, 0);
    is(&central.ended(&again), "cancelled", "");
    assert!(fs::read(&file).unwrap() == whole, "the old one is there until a new one is whole");
    assert_eq!(count(file.parent().unwrap()), 1);

    let outside = fleet.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::remove_dir_all(ship1.dir().join("downloads")).unwrap();
    symlink(&outside, ship1.dir().join("downloads")).unwrap();
    is(&asked(&central, &server.url("/new"), &["file=app.bin"]), "failed", "is a link");
    assert_eq!(count(&outside), 0);
}

#[test]
fn nobody_but_central_may_ask_until_a_rule_says_so() {
    let fleet = Fleet::new();
    let (_central, ship1, ship2) = (fleet.node("central"), fleet.node("ship1"), fleet.node("ship2"));
    let server = Server::start(|_, stream| reply(stream, "200 OK", b"fine"));
    let url = server.url("/metrics");
    is(&ship2.send_and_wait(&ask(&url, &[])), "refused", "");
    let rules = format!(
        "otherwise = \"standard\"\n[[rule]]\nname = \"its metrics\"\nfrom = \"ship2\"\nmethod = \"HttpGet\"\nregex = ['{}']\nmaxOutput = \"2\"\n",
        url.replace('.', "\\.")
    );
    fs::write(ship1.dir().join("rules.toml"), rules).unwrap();
    eventually("the rule lets it in", || {
        let message = ship2.send_and_wait(&ask(&url, &["as=body"]));
        assert_eq!(message["state"], "refused", "options are no part of the rule");
        let message = ship2.send_and_wait(&ask(&url, &[]));
        (message["state"] == "done" && message["truncated"] == true).then_some(())
    });
    is(&ship2.send_and_wait(&ask(&server.url("/other"), &[])), "refused", "");
    assert!(server.asked().iter().all(|asked| asked.starts_with("GET /metrics ")));
}

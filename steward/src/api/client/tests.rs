//! The client against a server that answers, refuses, and goes away in the middle.

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::*;

fn client(dir: &Path) -> Client {
    let pieces = |pieces: Vec<Result<&'static str, io::Error>>| Body::from_stream(stream::iter(pieces));
    let app = Router::new()
        .route("/object", get(|| async { axum::Json(json!({ "a": 1 })) }))
        .route("/echo", post(|body: String| async { body }))
        .route("/no", get(|| async { (StatusCode::NOT_FOUND, axum::Json(json!({ "error": "no such thing" }))) }))
        .route(
            "/faults",
            post(|| async {
                let errors = json!({ "errors": [{ "index": 0, "error": "bad" }, { "index": 2, "error": "worse" }] });
                (StatusCode::UNPROCESSABLE_ENTITY, axum::Json(errors))
            }),
        )
        .route("/lines", get(move || async move { pieces(vec![Ok("{\"n\":"), Ok("1}\n\n{\"n\":2}\n{\"n\"")]) }))
        .route("/lost", get(move || async move { pieces(vec![Ok("abc"), Err(io::Error::other("gone"))]) }));
    let (path, dir_kept) = socket_path(dir).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    drop(dir_kept);
    drop(tokio::spawn(async move { axum::serve(listener, app).await }));
    Client::new(dir)
}

#[tokio::test]
async fn objects_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let client = client(dir.path());
    assert_eq!(client.get::<Value>("/object").await.unwrap(), json!({ "a": 1 }));
    assert_eq!(client.post::<Value>("/echo", "[2]".to_owned()).await.unwrap(), json!([2]));
    assert!(matches!(client.get::<Vec<u8>>("/object").await, Err(ClientError::Answer(_))));
}

#[tokio::test]
async fn a_no_comes_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let client = client(dir.path());
    let error = client.get::<Value>("/no").await.unwrap_err();
    assert_eq!(error.to_string(), "no such thing");
    assert!(!error.is_passing());
    let error = client.post::<Value>("/faults", String::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "message 1: bad\nmessage 3: worse");
    let error = client.get::<Value>("/nowhere").await.unwrap_err();
    assert_eq!(error.to_string(), "the node answered 404 Not Found");
}

#[tokio::test]
async fn lines_are_put_together_from_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = client(dir.path()).stream("/lines").await.unwrap();
    assert_eq!(lines.line::<Value>().await.unwrap(), Some(json!({ "n": 1 })));
    assert_eq!(lines.line::<Value>().await.unwrap(), Some(json!({ "n": 2 })));
    assert_eq!(lines.line::<Value>().await.unwrap(), None, "a line without its end is none");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let client = client(dir.path());
    let error = client.get::<Value>("/lost").await.unwrap_err();
    assert!(matches!(error, ClientError::Lost(_)) && error.is_passing(), "{error}");
}

#[tokio::test]
async fn nobody_there_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::new(dir.path()).get::<Value>("/object").await.unwrap_err();
    assert!(error.is_passing() && error.to_string().contains("steward run --dir"), "{error}");
    // A socket that was left behind by a process that was killed.
    drop(UnixListener::bind(dir.path().join(SOCKET)).unwrap());
    let error = Client::new(dir.path()).get::<Value>("/object").await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning(_)), "{error}");
}

#[tokio::test]
async fn a_long_directory_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("x".repeat(200));
    std::fs::create_dir(&long).unwrap();
    assert_eq!(client(&long).get::<Value>("/object").await.unwrap(), json!({ "a": 1 }));
}

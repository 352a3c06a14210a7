//! CPU profiles over HTTP (R17), off unless a port is given, in the format that `go tool pprof` and others read.
//!
//! Profiles show the names of functions and nothing of the messages; still, the port is on the loopback interface unless
//! an address is given.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use pprof::ProfilerGuardBuilder;
use pprof::protos::Message as _;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::api::serve;
use crate::config::ListenAddress;
use crate::supervise::Supervisor;

/// Samples a second: not a round number, so that they don't fall in step with timers.
const FREQUENCY_HERTZ: i32 = 99;

/// The default and the longest profile, in seconds.
const SECONDS: (u64, u64) = (30, 300);

const LIMITS: serve::Limits =
    serve::Limits { connections: 8, idle: Duration::from_secs(30), stall: Duration::from_secs(30) };

const HELP: &str = "CPU profiles of this steward node.\n\n\
    /debug/pprof/profile?seconds=30   what the CPU is used for in the next 30 seconds (at most 300)\n\n\
    for example: go tool pprof -http=: http://ADDRESS/debug/pprof/profile?seconds=10\n";

/// Offers profiles until the end. A port that is in use is tried again.
pub(crate) async fn serve(
    address: ListenAddress,
    supervisor: Supervisor,
    end: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(listener) = serve::listen(&address, "profiles", &end).await {
        serve::serve(listener, router(), LIMITS, "profiling connection", &supervisor, end).await;
    }
    Ok(())
}

fn router() -> Router {
    let help = || async { HELP };
    Router::new()
        .route("/", get(help))
        .route("/debug/pprof/", get(help))
        .route("/debug/pprof/profile", get(profile))
        // The profiler is one for the whole process.
        .with_state(Arc::new(Semaphore::new(1)))
}

#[derive(Debug, Deserialize)]
struct ProfileQuery {
    seconds: Option<u64>,
}

async fn profile(State(one): State<Arc<Semaphore>>, Query(query): Query<ProfileQuery>) -> Response {
    let Ok(running) = one.try_acquire() else {
        return (StatusCode::CONFLICT, "a profile is being taken; ask again when it is done\n").into_response();
    };
    let (default, max) = SECONDS;
    let seconds = query.seconds.unwrap_or(default);
    if !(1..=max).contains(&seconds) {
        return (StatusCode::BAD_REQUEST, format!("seconds must be between 1 and {max}\n")).into_response();
    }
    let taken = take(Duration::from_secs(seconds)).await;
    drop(running);
    match taken {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response(),
        Err(error) => {
            tracing::warn!(%error, "a profile can't be taken");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("a profile can't be taken: {error}\n")).into_response()
        }
    }
}

async fn take(length: Duration) -> anyhow::Result<Vec<u8>> {
    // Unwinding inside these is not safe in a signal handler.
    let blocked = ["libc", "libgcc", "pthread", "vdso"];
    let guard = ProfilerGuardBuilder::default().frequency(FREQUENCY_HERTZ).blocklist(&blocked).build()?;
    tokio::time::sleep(length).await;
    // Finding the names takes a while.
    let encoded = tokio::task::spawn_blocking(move || anyhow::Ok(guard.report().build()?.pprof()?.encode_to_vec()));
    encoded.await?
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::supervise::Rule;

    async fn get(port: u16, path: &str) -> Vec<u8> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_profile_can_be_taken_and_only_one_at_a_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let supervisor = Supervisor::new(Rule::NODE);
        let (server, end) = (supervisor.clone(), supervisor.token());
        supervisor.once("profiling", async move { serve::serve(listener, router(), LIMITS, "c", &server, end).await });
        assert!(String::from_utf8(get(port, "/debug/pprof/").await).unwrap().contains("profile?seconds="));
        assert!(get(port, "/debug/pprof/profile?seconds=0").await.starts_with(b"HTTP/1.0 400"));
        let both =
            tokio::join!(get(port, "/debug/pprof/profile?seconds=1"), get(port, "/debug/pprof/profile?seconds=1"));
        let mut starts = [&both.0[..12], &both.1[..12]];
        starts.sort();
        assert_eq!(starts, [b"HTTP/1.0 200", b"HTTP/1.0 409"]);
        assert!(supervisor.stop(Duration::from_secs(5)).await.is_empty());
    }
}

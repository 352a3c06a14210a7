//! Serves HTTP to whoever connects, within limits: what the socket, the metrics and the profiles have in common.
//!
//! It never knows what is served.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::ListenAddress;
use crate::supervise::Supervisor;

/// How long an answer that has begun may take when the node stops.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait before a port that is in use is tried again.
const BIND_PAUSE: Duration = Duration::from_secs(10);

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at the same time; more wait until one ends.
    pub(crate) connections: usize,
    /// A connection without a complete request head for so long is closed.
    pub(crate) idle: Duration,
}

/// Serves until the end. Each connection is a task of its own: what goes wrong in one ends it alone.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    limits: Limits,
    name: &'static str,
    supervisor: &Supervisor,
    end: CancellationToken,
) {
    let slots = std::sync::Arc::new(Semaphore::new(limits.connections));
    loop {
        let slot = tokio::select! {
            () = end.cancelled() => return,
            slot = std::sync::Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else {
            return;
        };
        let (io, _) = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        supervisor.once(name, connection(io, router.clone(), limits, end.clone(), slot));
    }
}

async fn connection<I>(io: I, router: Router, limits: Limits, end: CancellationToken, slot: OwnedSemaphorePermit)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut server = http1::Builder::new();
    // Counts from the end of the last answer, so it ends idle connections as well.
    server.timer(TokioTimer::new()).header_read_timeout(limits.idle);
    let connection = server.serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GOODBYE_LIMIT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
    drop(slot);
}

/// Listens on a port. If it can't be had, that is said once, and tried again until it can. `None` is the end.
pub(crate) async fn listen(address: &ListenAddress, what: &str, end: &CancellationToken) -> Option<TcpListener> {
    let mut said = None;
    loop {
        match bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
                tracing::info!(%address, "{what} can be read here");
                return Some(listener);
            }
            Err(error) if said != Some(error.kind()) => {
                said = Some(error.kind());
                let address = address.candidates().join(" or ");
                tracing::warn!(%address, %error, "{what} can't be offered; trying again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = end.cancelled() => return None,
            () = tokio::time::sleep(BIND_PAUSE) => {}
        }
    }
}

async fn bind(address: &ListenAddress) -> io::Result<TcpListener> {
    let mut last = io::Error::other("no address");
    for candidate in address.candidates() {
        match TcpListener::bind(&candidate).await {
            Ok(listener) => return Ok(listener),
            // The second candidate is only for machines that lack what the first one needs.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}

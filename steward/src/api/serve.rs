//! Serves HTTP to whoever connects, within limits: what the socket, the metrics and the profiles have in common.
//!
//! Nobody who connects and then does nothing can keep others out. Where all places are taken, the connection goes that
//! has been silent for longest; one that does not send its request, or does not take its answer, is closed after a while.
//!
//! It never knows what is served.

mod patience;
mod seats;

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::serve::Listener;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::ListenAddress;
use crate::supervise::Supervisor;
use patience::Patience;
use seats::{Seat, Seats};

/// How long an answer that has begun may take when the node stops.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait before a port that is in use is tried again.
const BIND_PAUSE: Duration = Duration::from_secs(10);

/// The longest head of a request, and what is held of an answer that is not taken, in bytes for each connection; a longer
/// head is answered with status 431.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What a server allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at the same time. One more takes the place of the one that has been silent for longest; where each
    /// has asked for something, it waits until one ends.
    pub(crate) connections: usize,
    /// A connection without a complete request head for so long is closed.
    pub(crate) idle: Duration,
    /// A connection on which an answer does not get on for so long is closed.
    pub(crate) stall: Duration,
}

/// Serves until the end. Each handler can ask who is at the other end ([`axum::Extension`] of the listener's address). Each connection is a task of its own: what goes wrong in one ends it alone.
pub(crate) async fn serve<L: Listener<Addr: Clone + Send + Sync>>(
    mut listener: L,
    router: Router,
    limits: Limits,
    name: &'static str,
    supervisor: &Supervisor,
    end: CancellationToken,
) {
    let seats = Seats::new(limits.connections);
    loop {
        let (io, peer) = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let seat = tokio::select! {
            () = end.cancelled() => return,
            seat = seats.take() => seat,
        };
        if let Some(seat) = seat {
            supervisor.once(name, connection(io, router.clone().layer(Extension(peer)), limits, end.clone(), seat));
        }
    }
}

async fn connection<I>(io: I, router: Router, limits: Limits, end: CancellationToken, seat: Seat)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut server = http1::Builder::new();
    // Counts from the end of the last answer, so it ends idle connections as well.
    server.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_buf_size(BUFFER_BYTES_MAX);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        seat.has_asked();
        let answer = router.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = server.serve_connection(TokioIo::new(Patience::new(io, limits.stall)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.is_wanted() => {
            tracing::debug!("a connection that was silent made room for another");
            Ok(())
        }
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(GOODBYE_LIMIT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
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

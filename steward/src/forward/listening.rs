//! Taking connections in, where they begin: as many as there are places for, and only while there is somebody to pass them on
//! to. The others wait in the system's queue, as they do at any busy server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::place::Place;
use super::{Conn, Forward, pump};

/// How long to wait where the system gives no connection, for want of file numbers or memory.
const PAUSE: Duration = Duration::from_millis(500);

/// Listens there. The error says where and why not.
pub(crate) async fn bind(place: &Place) -> Result<TcpListener, String> {
    let cannot = |why: String| format!("nothing can be listened to on {place}: {why}");
    let address: IpAddr = place.host.parse().map_err(|_| cannot("that is no address".to_owned()))?;
    let bound = TcpListener::bind(SocketAddr::new(address, place.port)).await;
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => cannot("another program listens there".to_owned()),
        io::ErrorKind::PermissionDenied => {
            cannot("ports below 1024 are for root, or for whom the system says".to_owned())
        }
        _ => cannot(error.to_string()),
    })
}

impl Forward {
    /// Takes connections in, for as long as this is polled. Returns why no more may be.
    pub(crate) async fn listen(&self, listener: &TcpListener) -> String {
        loop {
            if !self.session.state().has_place() {
                self.session.free.notified().await;
                continue;
            }
            // Never closed.
            let Ok(seat) = Arc::clone(&self.forwards.0.seats).acquire_owned().await else { continue };
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::debug!(%error, "a connection that is to be forwarded could not be taken in");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if let Err(why) = (self.session.allowed)() {
                return why;
            }
            let opened = self.session.state().open();
            match opened {
                Some(opened) => {
                    let conn = Conn::new(&self.forwards, &self.session, opened, Some(seat));
                    self.forwards.spawn(&self.session, pump::pump(socket, conn));
                    self.forwards.0.wake.notify_one();
                }
                // The other node has begun anew in this moment.
                None => refuse(&socket),
            }
        }
    }
}

/// Breaks a connection off.
fn refuse(socket: &TcpStream) {
    if let Err(error) = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection is closed instead of broken off");
    }
}

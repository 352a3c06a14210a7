//! The task of one connection: bytes from its socket to its stream and back, as far as each has room; the end of one
//! direction without that of the other; and what a broken connection looks like on either side.
//!
//! A socket is set up so that closing it breaks the connection off, until both directions have come to their end. So a program
//! never takes what a node that died had passed on by then for all that there was.

use std::io;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_keepalive, set_socket_linger};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::stream::Taken;
use super::{CONNECTIONS_MAX, Conn};

/// Bytes that are read or written at once.
const PIECE_BYTES: usize = 32 * 1024;

/// How long it may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// Connects for the other node, and moves bytes until the connection is over.
pub(super) async fn connect(mut conn: Conn) {
    if let Err(why) = (conn.session.allowed)() {
        conn.session.end(why.clone());
        return conn.broke(&why);
    }
    let Some(target) = conn.session.target.clone() else { return conn.broke("nothing is connected to here") };
    let seats = std::sync::Arc::clone(&conn.forwards.0.seats);
    let Ok(seat) = seats.try_acquire_owned() else {
        let why = format!("{} has {CONNECTIONS_MAX} forwarded connections already", conn.forwards.0.me);
        return conn.broke(&why);
    };
    conn.seat = Some(seat);
    let bell = std::sync::Arc::clone(&conn.bell);
    let connected = tokio::select! {
        biased;
        () = bell.broken.cancelled() => return,
        connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect((target.host.as_str(), target.port))) => connected,
    };
    match connected {
        Ok(Ok(socket)) => pump(socket, conn).await,
        Ok(Err(error)) => conn.broke(&format!("{target}: {error}")),
        Err(_) => conn.broke(&format!("{target} has not answered for {} s", CONNECT_LIMIT.as_secs())),
    }
}

/// Moves bytes until the connection is over.
pub(super) async fn pump(mut socket: TcpStream, conn: Conn) {
    if let Err(error) = prepare(&socket) {
        return conn.broke(&error.to_string());
    }
    let bell = std::sync::Arc::clone(&conn.bell);
    let moved = {
        let (read, write) = socket.split();
        let both = async { tokio::try_join!(reading(read, &conn), writing(write, &conn)) };
        tokio::select! {
            biased;
            () = bell.broken.cancelled() => None,
            moved = both => Some(moved),
        }
    };
    match moved {
        // What was written is to arrive, however long that takes.
        Some(Ok(_)) => match set_socket_linger(&socket, None) {
            Ok(()) => conn.over(),
            Err(error) => conn.broke(&error.to_string()),
        },
        Some(Err(error)) => conn.broke(&error.to_string()),
        None => {}
    }
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    set_socket_linger(socket, Some(Duration::ZERO))?;
    // Who has vanished without a word is noticed, after some hours.
    set_socket_keepalive(socket, true)?;
    socket.set_nodelay(true)
}

/// From the socket to the stream, to the end.
async fn reading(mut socket: ReadHalf<'_>, conn: &Conn) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let room = conn.session.state().read_room(conn.number).ok_or_else(broken)?;
        if room == 0 {
            conn.bell.room.notified().await;
            continue;
        }
        let count = socket.read(&mut piece[..room.min(PIECE_BYTES)]).await?;
        {
            let mut state = conn.session.state();
            match count {
                0 => state.finish(conn.now(), conn.number),
                count => state.push(conn.now(), conn.number, &piece[..count]),
            }
        }
        conn.changed();
        if count == 0 {
            return Ok(());
        }
    }
}

/// From the stream to the socket, to the end.
async fn writing(mut socket: WriteHalf<'_>, conn: &Conn) -> io::Result<()> {
    loop {
        let taken = conn.session.state().take(conn.number, PIECE_BYTES).ok_or_else(broken)?;
        match taken {
            Taken::Nothing => conn.bell.arrived.notified().await,
            Taken::Bytes(bytes) => {
                socket.write_all(&bytes).await?;
                if conn.session.state().wrote(conn.now(), conn.number, bytes.len()) {
                    conn.changed();
                }
            }
            Taken::End => {
                socket.shutdown().await?;
                conn.session.state().passed_end(conn.number);
                conn.changed();
                return Ok(());
            }
        }
    }
}

/// The connection is broken off already; whoever did that has told the other node.
fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "it was broken off")
}

//! How the link is, in words that say what to do: what the client, TLS and the server say about an attempt to connect
//! becomes one of a few states. `steward ps` and `/v1/info` show it; the log has a line for each change.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::denied::Denials;
use crate::view::ProcessView;

/// Characters of what somebody else said that are shown.
const WHY_CHARS_MAX: usize = 300;

/// How the link is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkState {
    /// Nothing is known yet.
    #[default]
    Connecting,
    /// It works.
    Up,
    /// Nobody answers there.
    Unreachable,
    /// It is connected, and nothing comes back.
    Silent,
    /// Something takes connections, and says nothing.
    Mute,
    /// The broker speaks no TLS, and we insist on it.
    Plain,
    /// The broker's certificate is signed by nobody that we trust.
    Untrusted,
    /// The broker's certificate has expired.
    Expired,
    /// The broker's certificate is not valid yet.
    NotYetValid,
    /// The broker's certificate is for another name.
    Misnamed,
    /// The broker does not take our TLS certificate, or misses it.
    CertificateRefused,
    /// The broker does not know our login.
    Unauthorized,
    /// Our credentials were revoked.
    Revoked,
    /// Our credentials have expired.
    LoginExpired,
    /// The broker does not permit what a node can't do without.
    Forbidden,
    /// Our own files of login and TLS can't be used.
    Unusable,
}

impl LinkState {
    /// One word for tables and programs: a public interface.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Up => "up",
            Self::Unreachable => "unreachable",
            Self::Silent => "silent",
            Self::Mute => "mute",
            Self::Plain => "plain",
            Self::Untrusted => "untrusted",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::Misnamed => "misnamed",
            Self::CertificateRefused => "certificate-refused",
            Self::Unauthorized => "unauthorized",
            Self::Revoked => "revoked",
            Self::LoginExpired => "login-expired",
            Self::Forbidden => "forbidden",
            Self::Unusable => "unusable",
        }
    }

    /// Whether it stays so until somebody does something; then it is tried less often.
    pub(super) fn needs_somebody(self) -> bool {
        match self {
            Self::Connecting | Self::Up | Self::Unreachable | Self::Silent | Self::Mute => false,
            Self::Plain
            | Self::Untrusted
            | Self::Expired
            | Self::NotYetValid
            | Self::Misnamed
            | Self::CertificateRefused
            | Self::Unauthorized
            | Self::Revoked
            | Self::LoginExpired
            | Self::Forbidden
            | Self::Unusable => true,
        }
    }

    /// Whether the broker has looked at our login and does not want it, or we have none that can be used.
    pub(crate) fn is_refusal(self) -> bool {
        match self {
            Self::Unauthorized | Self::Revoked | Self::LoginExpired | Self::Forbidden | Self::Unusable => true,
            Self::Connecting
            | Self::Up
            | Self::Unreachable
            | Self::Silent
            | Self::Mute
            | Self::Plain
            | Self::Untrusted
            | Self::Expired
            | Self::NotYetValid
            | Self::Misnamed
            | Self::CertificateRefused => false,
        }
    }

    /// What the failure of an attempt to connect means. The texts are those of async-nats, rustls and nats-server.
    pub(crate) fn of_failure(why: &str) -> Self {
        let why = why.to_ascii_lowercase();
        let says = |part: &str| why.contains(part);
        if says("certificate expired") {
            Self::Expired
        } else if says("not valid yet") {
            Self::NotYetValid
        } else if says("not valid for name") {
            Self::Misnamed
        } else if says("invalid peer certificate") {
            Self::Untrusted
        } else if says("corrupt message") {
            Self::Plain
        } else if says("fatal alert") && (says("certificate") || says("unknownca")) {
            Self::CertificateRefused
        } else if says("failed signing nonce") || says("tls error") {
            Self::Unusable
        } else if says("expected info, got nothing") {
            Self::Mute
        } else {
            Self::of_refusal(&why).unwrap_or(Self::Unreachable)
        }
    }

    /// What it means that the server says this and hangs up; `None`: something else is the matter.
    pub(super) fn of_refusal(why: &str) -> Option<Self> {
        let why = why.to_ascii_lowercase();
        if why.contains("authentication revoked") {
            Some(Self::Revoked)
        } else if why.contains("authentication expired") {
            Some(Self::LoginExpired)
        } else if why.contains("authorization violation") {
            Some(Self::Unauthorized)
        } else {
            None
        }
    }

    /// What it is and what to do, after what was said about it.
    pub(crate) fn advice(self, why: &str) -> String {
        match self {
            Self::Connecting => "no attempt to connect has ended yet".to_owned(),
            Self::Up => String::new(),
            Self::Unreachable => format!("the broker can't be reached ({why}); it is tried for ever"),
            Self::Silent => "it is connected, but nothing comes back; the connection is made anew".to_owned(),
            Self::Mute => {
                "something takes connections there and says nothing: a nats-server with handshake_first wants \
                           --broker-tls-first; or it is no nats-server"
                    .to_owned()
            }
            Self::Plain => "what answers there speaks no TLS, so nothing was told to it: take the port on which the \
                            broker has TLS, or leave out tls:// and the --broker-tls options if plain is what you want"
                .to_owned(),
            Self::Untrusted => format!(
                "the broker's certificate is signed by no CA that this node trusts ({why}): name the right CA's file with \
                 --broker-tls-ca; if that is the right one, somebody else answers there"
            ),
            Self::Expired => format!(
                "the broker's certificate has expired ({why}): renew it there (`steward broker` does so by itself), or \
                 set this machine's clock if that is wrong"
            ),
            Self::NotYetValid => {
                format!(
                    "the broker's certificate is not valid yet ({why}): this machine's clock seems to be wrong; set it"
                )
            }
            Self::Misnamed => format!(
                "the broker's certificate is for other names than the address that is connected to ({why}): use one of \
                 those in --broker-address, or have a certificate made for this one"
            ),
            Self::CertificateRefused => format!(
                "the broker does not take this node's TLS certificate, or wants one ({why}): name one that its CA has \
                 signed with --broker-tls-cert and --broker-tls-key"
            ),
            Self::Unauthorized => {
                "the broker does not let this node in: its login is wrong or unknown there, or it was \
                                   revoked; compare it with what the broker knows, or enrol the node again (`steward \
                                   invite` at central, `steward join` here)"
                    .to_owned()
            }
            Self::Revoked => {
                "this node was revoked at the broker; to let it in again, `steward invite` it at central and \
                              `steward join` here"
                    .to_owned()
            }
            Self::LoginExpired => {
                "this node's credentials have expired; renew them (`steward invite` at central, `steward \
                                   join` here)"
                    .to_owned()
            }
            Self::Forbidden => format!(
                "the broker does not permit what a node needs ({why}): docs/wire.md lists it; the name in the login has to \
                 be this node's name"
            ),
            Self::Unusable => {
                format!("this node's own files for the broker can't be used ({why}): mend or replace them")
            }
        }
    }
}

/// How the link is now. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkBoard(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    view: Mutex<LinkView>,
    denials: Denials,
}

/// What there is to say of the link.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkView {
    /// How it is.
    pub(crate) state: LinkState,
    /// What it means and what to do; nothing where there is nothing to do.
    pub(crate) note: Option<String>,
    /// How often it came up.
    ups: u64,
}

impl LinkBoard {
    /// As it is.
    pub(crate) fn view(&self) -> LinkView {
        self.lock().clone()
    }

    /// What the broker does not permit.
    pub(crate) fn denials(&self) -> &Denials {
        &self.0.denials
    }

    /// As `ps` shows it.
    pub(crate) fn process(&self) -> ProcessView {
        let LinkView { state, note, ups } = self.view();
        let denied = self.denials().all();
        let denied = denied.first().map(|first| match denied.len() - 1 {
            0 => first.advice(),
            more => format!("{}; and {more} more, each in a line of its own", first.advice()),
        });
        let note = note.or(denied);
        ProcessView {
            kind: "link".to_owned(),
            name: "broker".to_owned(),
            state: state.as_str().to_owned(),
            messages: 0,
            restarts: ups.saturating_sub(1),
            note,
        }
    }

    /// It works.
    pub(super) fn up(&self) {
        let mut view = self.lock();
        *view = LinkView { state: LinkState::Up, note: None, ups: view.ups + 1 };
    }

    /// It worked.
    pub(super) fn down(&self) {
        let mut view = self.lock();
        if view.state == LinkState::Up {
            view.state = LinkState::Connecting;
            view.note = None;
        }
    }

    /// It does not work, and this was said about it. Answers with what that means, given what is known already.
    pub(super) fn fails(&self, state: LinkState, why: &str) -> (LinkState, String) {
        let mut view = self.lock();
        let is_known_better = match (view.state, state) {
            // A server says why it ends a connection once; afterwards it only says that we may not come in.
            (LinkState::Revoked | LinkState::LoginExpired, LinkState::Unauthorized) => true,
            // Without permission for what we listen to, nothing comes back.
            (LinkState::Forbidden, LinkState::Silent) => true,
            _ => false,
        };
        if !is_known_better {
            view.state = state;
            view.note = Some(state.advice(&shortened(why)));
        }
        (view.state, view.note.clone().unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, LinkView> {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody else said, as it may stand in a log: printable, and not too long.
fn shortened(why: &str) -> String {
    // The client tells the kind of an error before the error.
    let why = why.trim_start_matches("IO error: ").trim_start_matches("nats: ");
    let why = why.trim_start_matches("failed signing nonce: ").trim_start_matches("TLS error: ");
    let mut short: String = why.chars().filter(|c| !c.is_control()).take(WHY_CHARS_MAX).collect();
    if why.chars().nth(WHY_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What rustls and nats-server really say is tried in `tests/suite/broker_access.rs`.
    #[test]
    fn what_is_said_first_by_a_server_stays_known() {
        let board = LinkBoard::default();
        board.up();
        board.fails(LinkState::Revoked, "User Authentication Revoked");
        let (state, note) = board.fails(LinkState::Unauthorized, "authorization violation");
        assert_eq!(state, LinkState::Revoked);
        assert!(note.contains("steward invite"), "{note}");
        board.fails(LinkState::Unreachable, "refused");
        assert_eq!(board.view().state, LinkState::Unreachable);
        board.up();
        assert_eq!((board.view().state, board.view().note), (LinkState::Up, None));
        board.fails(LinkState::Forbidden, "Permissions Violation");
        assert_eq!(board.fails(LinkState::Silent, "").0, LinkState::Forbidden);
        assert_eq!(board.process().restarts, 1);
    }

    #[test]
    fn what_others_say_is_shown_in_one_short_line() {
        let (_, note) = LinkBoard::default().fails(LinkState::Unreachable, &"x\r\n".repeat(10_000));
        assert!(note.len() < 500 && !note.contains('\n'), "{note}");
    }
}

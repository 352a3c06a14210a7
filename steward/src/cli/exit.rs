//! Exit codes: a public interface, the same in the help of `send`. Nothing else in the program ends the process.

use std::process::ExitCode;

use protocol::outcome::Final;

use crate::view::MessageView;

/// It could not be done.
pub(super) const FAILED: u8 = 1;
/// The command line or the configuration makes no sense.
pub(super) const USAGE: u8 = 2;
/// `send` could not send, as far as it knows; the remote command has no part in it.
pub(super) const NOT_SENT: u8 = 125;
/// The receiver's rules refuse it.
pub(super) const REFUSED: u8 = 126;
/// Ended by the end of its terminal, as a shell has it (128 and SIGHUP).
pub(super) const HUNG_UP: u8 = 129;
/// Ended by Ctrl-C, as a shell has it.
pub(super) const CTRL_C: u8 = 130;
/// The reader of our output is gone, as a shell has it (128 and SIGPIPE).
pub(super) const BROKEN_PIPE: u8 = 141;
/// Ended because somebody asked for it, as a shell has it (128 and SIGTERM).
pub(super) const TERMINATED: u8 = 143;

/// What was typed makes no sense, although each word of it does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exit(pub(super) u8);

impl Exit {
    pub(super) const OK: Self = Self(0);

    /// What the end of one message means.
    pub(super) fn of(view: &MessageView) -> Self {
        let Some(state) = Final::parse(&view.state) else { return Self(FAILED) };
        Self(match state {
            Final::Done | Final::Sent => 0,
            Final::Failed => match (view.exit_code, view.signal) {
                (_, Some(signal)) => u8::try_from(signal).map_or(FAILED, |signal| signal.saturating_add(128)),
                // A code beyond a byte (or a failure with code 0) must not look like success.
                (Some(code), None) => u8::try_from(code).ok().filter(|code| *code != 0).unwrap_or(FAILED),
                (None, None) => FAILED,
            },
            Final::Expired => 120,
            Final::Undeliverable => 121,
            Final::Interrupted => 122,
            Final::Cancelled => 123,
            Final::TimedOut => 124,
            Final::Refused => REFUSED,
        })
    }

    /// Several messages: none may have failed.
    pub(super) fn of_all(views: &[MessageView]) -> Self {
        match views {
            [one] => Self::of(one),
            many if many.iter().all(|view| Self::of(view) == Self::OK) => Self::OK,
            _ => Self(FAILED),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

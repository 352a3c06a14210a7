//! Runs a method of the node's own: the file as it is at this moment, with the message on its standard input.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Seek as _, Write as _};

use protocol::outcome::Final;
use protocol::step::Run;
use rustix::fs::MemfdFlags;
use serde::Serialize;

use crate::clock;
use crate::methods::program::{self, Program};
use crate::methods::{AfterCrash, Ending, Method, MethodCtx, MethodError};

/// Any method of the node's own. Which one it is, and what it may do, its message and its file say.
pub(in crate::methods) struct OwnMethod;

/// A message, as its program reads it. Field names are a public interface: add, never rename.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Input<'a> {
    id: String,
    from_node: &'a str,
    to_node: &'a str,
    command_or_event: &'a str,
    method: &'a str,
    data: &'a [String],
    created_at: String,
    again: bool,
}

impl<'a> Input<'a> {
    /// Of a message with this data.
    pub(super) fn of(Run { message, again, .. }: &'a Run, data: &'a [String]) -> Self {
        Self {
            id: message.id.to_string(),
            from_node: message.from.as_str(),
            to_node: message.to.as_str(),
            command_or_event: message.kind.as_str(),
            method: message.method.as_str(),
            data,
            created_at: clock::rfc3339(message.created),
            again: *again,
        }
    }

    /// A file that holds it as one line, and that is nowhere on the disk: whoever reads slowly holds nobody up.
    fn file(&self) -> Result<File, MethodError> {
        let words = |error: &dyn std::fmt::Display| MethodError(format!("its input can't be made: {error}"));
        let mut text = serde_json::to_vec(self).map_err(|error| words(&error))?;
        text.push(b'\n');
        let memory = rustix::fs::memfd_create("message", MemfdFlags::CLOEXEC).map_err(|error| words(&error))?;
        let mut file = File::from(memory);
        file.write_all(&text).and_then(|()| file.rewind()).map_err(|error| words(&error))?;
        Ok(file)
    }
}

impl Method for OwnMethod {
    const NAME: &'static str = "of the node's own";
    /// Unless its description says otherwise.
    const AFTER_CRASH: AfterCrash = AfterCrash::Interrupt;
    /// Unless its description says otherwise.
    const EVENT: bool = false;
    type Args = Vec<String>;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        Ok(data.to_vec())
    }

    async fn run(data: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(run) = ctx.runs().first() else { return Ok(Ending::DONE) };
        let method = run.message.method.clone();
        let input = Input::of(run, &data).file()?;
        let own = ctx.own().clone();
        let name = method.to_string();
        let checked = tokio::task::spawn_blocking(move || own.checked(&name)).await;
        let path = match checked.map_err(|error| MethodError(error.to_string()))? {
            Ok(own) => own.path,
            Err(why) => return Ok(Ending::because(Final::Refused, format!("{method} can't be used here now: {why}"))),
        };
        program::run(Program::new(vec![OsString::from(path)]).lends(0).reads(input), ctx).await
    }
}

//! Runs another method again and again by a schedule, on the node that receives it, whether or not there is a link. What each run
//! brings waits there and comes when it can. Nobody has to write this method: a message with the key `schedule` becomes one.
//!
//! ```json
//! [ { "toNode": "ship1", "data": ["df", "-h"], "commandOrEvent": "CommandACK", "method": "ShellCommand", "schedule": "0 3 * * * Europe/Berlin" },
//!   { "toNode": "ship1", "data": ["http://127.0.0.1:9090/metrics", "as=body"], "commandOrEvent": "CommandACK", "method": "HttpGet",
//!     "schedule": { "every": "15m", "missed": "once" }, "replyMethod": "fileAppend", "fileName": "metrics.txt" } ]
//! ```
//!
//! `steward send ship1 --cron '0 3 * * * Europe/Berlin' -- df -h` and `steward send ship1 --every 15m --method HttpGet -- URL` do the same.
//!
//! | key of `schedule` | |
//! | --- | --- |
//! | `every` | the time between two runs, `1s` to a year: a grid that begins when the node takes the order. The first run is at once |
//! | `cron` | minute, hour, day of month, month, day of week (`*/5 8-18 * * MON-FRI`), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly` |
//! | `zone` | the time zone of `cron`: a name as in `Europe/Berlin`, `UTC` (where there is none), or `local`, that of the node. It may stand behind the fields |
//! | `missed` | what becomes of runs that were due while the node was away or the run before still went on: `skip` leaves them out (the default), `once` makes up for all of them with one run, `all` with a run for each, the newest 1000 |
//! | `overlap` | `true`: a run begins while others go on, up to 8 at once. Otherwise never |
//! | `jitter` | a time by a part of which each node and order begins later, always the same part: so a thousand nodes don't begin together |
//!
//! Instead of the object a text will do: `"every 15m"`, or the fields of cron with or without a zone.
//!
//! * The message stays `running`: it is the order, and its node keeps it through restarts and crashes until you take it back (`steward
//!   schedules remove ID`). Nothing in its lane waits for it. `steward schedules` lists orders and their results, pauses them and lets them go on.
//! * `methodTimeout` limits each run, and so do the rules of the node, which are asked again before each: for the method `Schedule`, and for
//!   the method that it runs with its data. A sender whose key was revoked has nothing run any more.
//! * Each result comes back once, with its number, whatever happens to link and nodes: it waits on its node's disk. Of its output 256 KiB are kept, both
//!   streams together; what is more is dropped and marked. `replyMethod` is done with each result on its own.
//! * A run is written down before it begins. One that went on when its node died is `interrupted`: nobody knows how far it came. If a rerun is harmless
//!   (`"rerun": true`), it is run again, and has one result.
//! * Less than a minute late is not missed. What is left out is counted.
//! * When the clock is put forward, a fixed time of day that does not exist runs at the first moment behind the gap; when it is put back, once. `*/15`
//!   and the like follow the time that passes.
//! * A clock that is set back by up to three hours runs nothing twice; one that is set further is followed. After more than 400 days nothing counts as
//!   missed: the clock was wrong.
//! * While the node's disk is full, or as many messages are outstanding as may be, nothing runs that could not be told.
//! * What goes on until it is cancelled can't run by a schedule, nor can `CopyFile`.
//! * A node runs up to 64 of these at once and keeps up to 1024 orders; more are refused.
//!
//! As it travels, `data[0]` is the schedule as a JSON object, with `methodTimeout` and `rerun` where the message has them, `data[1]` the method, and
//! the rest its data. A node that is too old to know this refuses it, and runs nothing.

mod board;
mod order;
pub(crate) mod spec;
pub(crate) mod state;
mod times;
pub(crate) mod told;

use std::time::Duration;

use protocol::message::Kind;
use protocol::name::MethodName;

use self::order::Standing;
use self::spec::Spec;
use self::state::Plan;
use super::{AfterCrash, Ending, Method, MethodCtx, MethodError};
use crate::intake::input::METHOD_TIMEOUT_SECONDS_MAX;

pub(crate) use self::board::Board;
pub(crate) use self::order::ids_of_runs;

/// Runs of an order that go on at the same time, where it asks for that.
const OVERLAP_MAX: usize = 8;

/// See the module's text.
pub(crate) struct Schedule;

/// What is to run, and when.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    spec: Spec,
    plan: Plan,
    method: MethodName,
    data: Vec<String>,
    timeout: Option<Duration>,
}

impl Method for Schedule {
    const NAME: &'static str = "Schedule";
    const AFTER_CRASH: AfterCrash = AfterCrash::Rerun;
    const EVENT: bool = false;
    const STANDING: bool = true;
    type Args = Box<Order>;

    fn parse(data: &[String]) -> Result<Self::Args, String> {
        let (spec, method, data) = parts(data)?;
        let spec: Spec = serde_json::from_str(spec).map_err(|error| format!("data[0], the schedule: {error}"))?;
        let method = MethodName::new(method).map_err(|error| format!("data[1], the method: {error}"))?;
        super::may_be_scheduled(method.as_str())?;
        // Whether the node has a method of its own by that name is asked where the node is known.
        if super::entry(method.as_str()).is_some() {
            super::check(Kind::CommandAck, method.as_str(), data)?;
        }
        let plan = Plan {
            times: spec.times()?,
            later_ms: spec.jitter_ms()?,
            missed: spec.missed,
            at_once: if spec.overlap { OVERLAP_MAX } else { 1 },
        };
        let timeout = match spec.method_timeout {
            None => None,
            Some(seconds) if seconds > 0.0 && seconds <= METHOD_TIMEOUT_SECONDS_MAX => {
                Some(Duration::from_secs_f64(seconds))
            }
            Some(seconds) => return Err(format!("\"methodTimeout\": {seconds} seconds can't be")),
        };
        Ok(Box::new(Order { spec, plan, method, data: data.to_vec(), timeout }))
    }

    async fn run(order: Self::Args, ctx: &mut MethodCtx<'_>) -> Result<Ending, MethodError> {
        let Some(run) = ctx.runs().first().cloned() else { return Ok(Ending::DONE) };
        let Some(place) = ctx.orders().put((run.message.from.clone(), run.message.id)) else {
            return Err(MethodError(format!(
                "{} orders with a schedule stand here already; remove some",
                board::ORDERS_MAX
            )));
        };
        Standing::take_up(*order, run, ctx).await?.stand(place).await
    }
}

fn parts(data: &[String]) -> Result<(&str, &str, &[String]), String> {
    match data {
        [spec, method, data @ ..] => Ok((spec, method, data)),
        _ => Err(
            "data is not a schedule, a method and its data; write the key \"schedule\" into a message of that method"
                .to_owned(),
        ),
    }
}

/// What an order runs: the method and its data. None if it is no order.
pub(crate) fn inside<'a>(method: &str, data: &'a [String]) -> Option<(MethodName, &'a [String])> {
    let (_, inner, data) = parts(data).ok().filter(|_| method == Schedule::NAME)?;
    Some((MethodName::new(inner).ok()?, data))
}

/// When an order runs, for people, from its data.
pub(crate) fn words(data: &[String]) -> String {
    let spec = data.first().and_then(|spec| serde_json::from_str::<Spec>(spec).ok());
    spec.map_or_else(|| "?".to_owned(), |spec| spec.words())
}

/// The data of an order that runs this. What makes no sense is told in words.
pub(crate) fn wrap(spec: &Spec, method: &str, data: Vec<String>) -> Result<Vec<String>, String> {
    spec.times()?;
    spec.jitter_ms()?;
    if method == Schedule::NAME {
        return Err("a schedule of a schedule makes no sense; name the method that is to run".to_owned());
    }
    let spec = serde_json::to_string(spec).map_err(|error| error.to_string())?;
    Ok([spec, method.to_owned()].into_iter().chain(data).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Order, String> {
        Schedule::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).map(|order| *order)
    }

    #[test]
    fn an_order_is_understood_as_it_was_wrapped() {
        let spec =
            Spec { method_timeout: Some(2.5), overlap: true, jitter: Some("5m".to_owned()), ..Spec::of_text("15m") };
        let data = wrap(&spec, "ShellCommand", vec!["df".to_owned(), "-h".to_owned()]).unwrap();
        let order = Schedule::parse(&data).unwrap();
        assert_eq!((order.method.as_str(), order.data.join(" ")), ("ShellCommand", "df -h".to_owned()));
        assert_eq!(
            (order.plan.at_once, order.plan.later_ms, order.timeout),
            (OVERLAP_MAX, 300_000, Some(Duration::from_millis(2500)))
        );
        assert_eq!(inside("Schedule", &data).unwrap().0, order.method);
        assert_eq!(inside("ShellCommand", &data), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_words() {
        let every = r#"{"every":"15m"}"#;
        for (words, reason) in [
            (&[][..], "the key \"schedule\""),
            (&[every], "the key \"schedule\""),
            (&["every 15m", "ShellCommand", "df"], "data[0], the schedule"),
            (&["{}", "ShellCommand", "df"], "neither \"every\""),
            (&[r#"{"every":"1ms"}"#, "ShellCommand", "df"], "a year"),
            (&[r#"{"every":"15m","methodTimeout":-1}"#, "ShellCommand", "df"], "can't be"),
            (&[every, "ShellCommand"], "data is empty"),
            (&[every, "a b"], "data[1], the method"),
            (&[every, "CopyFile", "get", "x"], "can't run by a schedule"),
            (&[every, "Schedule", every, "ShellCommand", "df"], "can't run by a schedule"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(reason), "{words:?}: {error}");
        }
        assert!(wrap(&Spec::of_text("15m"), "Schedule", Vec::new()).unwrap_err().contains("makes no sense"));
        assert!(wrap(&Spec::of_text("now"), "M", Vec::new()).is_err());
    }
}

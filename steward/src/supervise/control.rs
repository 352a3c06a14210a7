//! Stopping and starting a kept task by its name, for whoever may.

use super::{Control, ControlError, Shared, State, Supervisor, Task, Whence, Wish};
use crate::view::ProcessView;

/// How long somebody who stops or starts a task waits until it is so: longer than a task may take to end.
const CONTROL_LIMIT: std::time::Duration = std::time::Duration::from_secs(7);

impl Supervisor {
    /// Stops a kept task until somebody starts it again, or the node. Returns once it has stopped.
    pub(crate) async fn halt(&self, name: &str, whence: Whence) -> Result<ProcessView, ControlError> {
        let (id, ()) = self.shared.find(name, |_, control| {
            control.stops.check(name, whence)?;
            control.wish.send_modify(|wish| wish.run = false);
            Ok(())
        })?;
        self.shared.becomes(id, name, |task| task.state == State::Stopped).await
    }

    /// Starts a kept task that was stopped, is down, has ended, or waits for its next try. One that runs is left alone.
    pub(crate) async fn start(&self, name: &str) -> Result<ProcessView, ControlError> {
        let (id, before) = self.shared.find(name, |task, control| {
            if task.state == State::Running && control.wish.borrow().run {
                return Ok(None);
            }
            control.wish.send_modify(|wish| *wish = Wish { run: true, starts: wish.starts + 1 });
            Ok(Some(task.runs))
        })?;
        // It may have ended again before anybody looks.
        self.shared.becomes(id, name, |task| before.is_none_or(|before| task.runs > before)).await
    }
}

impl Shared {
    /// The kept task with this name, after `act` was done with it.
    fn find<T>(
        &self,
        name: &str,
        act: impl FnOnce(&Task, &Control) -> Result<T, ControlError>,
    ) -> Result<(u64, T), ControlError> {
        let tasks = self.tasks();
        let kept = || tasks.iter().filter_map(|(id, task)| Some((*id, task, task.control.as_ref()?)));
        if let Some((id, task, control)) = kept().find(|(_, task, _)| *task.name == *name) {
            return act(task, control).map(|acted| (id, acted));
        }
        let known = kept().map(|(_, task, _)| task.name.to_string()).collect();
        Err(ControlError::Unknown { name: name.to_owned(), known })
    }

    /// Waits until it is so with a task.
    async fn becomes(&self, id: u64, name: &str, is_so: impl Fn(&Task) -> bool) -> Result<ProcessView, ControlError> {
        let mut changes = self.changes.subscribe();
        let look = || self.tasks().get(&id).filter(|task| is_so(task)).map(Task::view);
        let wait = async {
            loop {
                changes.mark_unchanged();
                if let Some(view) = look() {
                    return Some(view);
                }
                changes.changed().await.ok()?;
            }
        };
        let became = tokio::time::timeout(CONTROL_LIMIT, wait).await.ok().flatten();
        became.ok_or_else(|| ControlError::Late(name.to_owned()))
    }
}

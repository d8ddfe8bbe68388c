//! The listeners of a configuration, at start and at each reload: inherited, kept, or bound.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::bind::bind;
use super::inherit::{bound_name, Inherited, Passed, What};
use super::plan::Plan;
use super::Listener;
use crate::config::Listen;
use crate::error::{Error, Kind};
use crate::sync::lock::{Mutex, MutexGuard};

/// The sockets a process was started with, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Sockets {
    inherited: Inherited,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bound by a predecessor of this program, until it is known that it will not come back.
    succeeded: Vec<Arc<Listener>>,
    /// A slot for each inherited socket: filled when it is first served, the same listener ever after.
    served: Vec<Option<Arc<Listener>>>,
    /// The notes of the last call, for a reload repeats none of them.
    said: Vec<String>,
}

/// The listeners of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Acquired {
    pub(crate) listeners: Vec<Arc<Listener>>,
    /// What a person should know, a log line each, without what the call before said already.
    pub(crate) notes: Vec<String>,
}

impl Sockets {
    pub(crate) fn new(mut inherited: Inherited) -> Self {
        let succeeded = std::mem::take(&mut inherited.succeeded);
        let served = inherited.passed.iter().map(|_| None).collect();
        Sockets {
            inherited,
            state: Mutex::new(State {
                served,
                succeeded,
                said: Vec::new(),
            }),
        }
    }

    /// The listeners that a predecessor of this program had bound: `current` for the first configuration.
    pub(crate) fn succeeded(&self) -> Vec<Arc<Listener>> {
        self.state().succeeded.clone()
    }

    /// The same, once: this process closes what it does not want of them.
    pub(crate) fn take_succeeded(&self) -> Vec<Arc<Listener>> {
        std::mem::take(&mut self.state().succeeded)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Every listening socket that a successor is to have, and its name: those that were passed to this process, in
    /// their order, then those that were bound.
    pub(crate) fn passed_on(&self, listeners: &[Arc<Listener>]) -> Vec<(Arc<OwnedFd>, String)> {
        let inherited = self
            .inherited
            .passed
            .iter()
            .filter_map(|passed| match &passed.what {
                What::Listening(socket, _) => {
                    Some((socket.clone(), passed.name.clone().unwrap_or_default()))
                }
                What::Wrong(..) => None,
            });
        let bound = listeners.iter().filter_map(|listener| {
            listener
                .entry()
                .map(|entry| (listener.socket(), bound_name(entry)))
        });
        inherited.chain(bound).collect()
    }

    /// The listeners for `listen`, at start and at each reload. An entry that a listener of `current` was bound for
    /// keeps that very one; the others are bound. `backlog` is for those that are new here, inherited ones among them.
    /// Looking up a host name blocks.
    ///
    /// # Errors
    /// Every entry that cannot be had, a line each. Then nothing new stays bound, and `current` is as it was.
    pub(crate) fn acquire(
        &self,
        listen: Option<&[Listen]>,
        backlog: i32,
        current: &[Arc<Listener>],
    ) -> Result<Acquired, Error> {
        let mut state = self.state();
        let mut plan = Plan::new(&self.inherited, listen);
        let mut listeners = self.serve(&mut plan, &mut state.served, backlog);
        listeners.extend(keep_or_bind(&mut plan, backlog, current));
        if !plan.faults.is_empty() {
            abandon(&listeners, current);
            return Err(Error::new(Kind::Socket, plan.faults.join("\n")));
        }
        let notes = plan
            .notes
            .iter()
            .filter(|note| !state.said.contains(note))
            .cloned()
            .collect();
        state.said = plan.notes;
        Ok(Acquired { listeners, notes })
    }

    /// More listeners, for something else than requests: inherited ones by their name, or bound. Those of `current` must
    /// not be in use already.
    ///
    /// # Errors
    /// Every entry that cannot be had, a line each. Then nothing new stays bound.
    pub(crate) fn acquire_beside(
        &self,
        entries: &[Listen],
        backlog: i32,
        current: &[Arc<Listener>],
    ) -> Result<Vec<Arc<Listener>>, Error> {
        let mut state = self.state();
        let mut plan = Plan::beside(&self.inherited, entries);
        let mut listeners = self.serve(&mut plan, &mut state.served, backlog);
        listeners.extend(keep_or_bind(&mut plan, backlog, current));
        if plan.faults.is_empty() {
            return Ok(listeners);
        }
        abandon(&listeners, current);
        Err(Error::new(Kind::Socket, plan.faults.join("\n")))
    }

    fn serve(
        &self,
        plan: &mut Plan,
        served: &mut [Option<Arc<Listener>>],
        backlog: i32,
    ) -> Vec<Arc<Listener>> {
        let mut listeners = Vec::new();
        for (place, (passed, slot)) in self.inherited.passed.iter().zip(served).enumerate() {
            if !plan.serve.contains(&place) {
                continue;
            }
            match listener_of(passed, slot, backlog) {
                Ok(listener) => listeners.push(listener),
                Err(fault) => plan.faults.push(fault),
            }
        }
        listeners
    }
}

impl Acquired {
    /// Closes what was bound for a configuration that is refused after all; `current` and inherited ones stay.
    pub(crate) fn abandon(self, current: &[Arc<Listener>]) {
        abandon(&self.listeners, current);
    }
}

fn abandon(listeners: &[Arc<Listener>], current: &[Arc<Listener>]) {
    for listener in listeners
        .iter()
        .filter(|listener| !current.iter().any(|kept| Arc::ptr_eq(kept, listener)))
    {
        listener.close();
    }
}

/// The listener of an inherited socket, made on the first call. It listens anew: whoever passed it may have set a
/// backlog of 1, as systemfd does.
fn listener_of(
    passed: &Passed,
    slot: &mut Option<Arc<Listener>>,
    backlog: i32,
) -> Result<Arc<Listener>, String> {
    if let Some(listener) = slot {
        return Ok(Arc::clone(listener));
    }
    let What::Listening(socket, address) = &passed.what else {
        return Err(passed.to_string());
    };
    let made = Listener::inherited(Arc::clone(socket), address.clone(), passed.name.clone())
        .and_then(|listener| listener.set_backlog(backlog).map(|()| listener));
    let listener =
        made.map_err(|error| format!("the inherited socket {passed} cannot be served: {error}"))?;
    Ok(Arc::clone(slot.insert(Arc::new(listener))))
}

fn keep_or_bind(plan: &mut Plan, backlog: i32, current: &[Arc<Listener>]) -> Vec<Arc<Listener>> {
    // each listener answers for one entry: two of `127.0.0.1:0` are two sockets
    let mut free = current.to_vec();
    let mut ours = current.to_vec();
    let mut listeners = Vec::new();
    for entry in &plan.bind {
        if let Some(index) = free
            .iter()
            .position(|listener| listener.entry() == Some(entry))
        {
            listeners.push(free.swap_remove(index));
            continue;
        }
        match bind(entry, backlog, &ours) {
            Ok(listener) => {
                let listener = Arc::new(listener);
                ours.push(Arc::clone(&listener));
                listeners.push(listener);
            }
            Err(fault) => plan.faults.push(fault),
        }
    }
    listeners
}

//! Acquires the listeners of a configuration, at start and at each reload: inherited, kept from the
//! previous configuration, or newly bound.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::bind::bind;
use super::inherit::{bound_name, FdKind, InheritedFd, InheritedSockets};
use super::plan::ListenPlan;
use super::Listener;
use crate::config::Listen;
use crate::error::{Error, Kind};
use crate::sync::lock::{Mutex, MutexGuard};

/// The sockets that the process was started with. It keeps them until it exits.
#[derive(Debug)]
pub(crate) struct Sockets {
    inherited: InheritedSockets,
    state: Mutex<SocketsState>,
}

#[derive(Debug)]
struct SocketsState {
    /// Bound by the old process. Empty once the upgrade is confirmed, because from then on
    /// the old process cannot take over again.
    bound_by_old_process: Vec<Arc<Listener>>,
    /// The listener of each inherited socket, created on first use and reused from then on.
    inherited_listeners: Vec<Option<Arc<Listener>>>,
    /// The notes of the last call. A reload does not repeat them.
    last_notes: Vec<String>,
}

/// The listeners of a configuration.
#[derive(Debug, Default)]
pub(crate) struct ListenerSet {
    pub(crate) listeners: Vec<Arc<Listener>>,
    /// Notes for the log, one line each, without the notes of the previous call.
    pub(crate) notes: Vec<String>,
}

impl Sockets {
    pub(crate) fn new(mut inherited: InheritedSockets) -> Self {
        let bound_by_old_process = std::mem::take(&mut inherited.bound_by_old_process);
        let inherited_listeners = inherited.fds.iter().map(|_| None).collect();
        Sockets {
            inherited,
            state: Mutex::new(SocketsState {
                inherited_listeners,
                bound_by_old_process,
                last_notes: Vec::new(),
            }),
        }
    }

    /// The listeners that the old process had bound. They are the `current` listeners of the first
    /// configuration.
    pub(crate) fn bound_by_old_process(&self) -> Vec<Arc<Listener>> {
        self.state().bound_by_old_process.clone()
    }

    /// Takes the listeners that the old process had bound. The caller closes the
    /// listeners that the configuration does not use.
    pub(crate) fn take_bound_by_old_process(&self) -> Vec<Arc<Listener>> {
        std::mem::take(&mut self.state().bound_by_old_process)
    }

    fn state(&self) -> MutexGuard<'_, SocketsState> {
        self.state.lock()
    }

    /// Returns every listening socket for a new process, with its name: the inherited sockets in
    /// their order, then the bound ones.
    pub(crate) fn for_new_process(
        &self,
        listeners: &[Arc<Listener>],
    ) -> Vec<(Arc<OwnedFd>, String)> {
        let inherited = self
            .inherited
            .fds
            .iter()
            .filter_map(|inherited| match &inherited.kind {
                FdKind::Listening(socket, _) => {
                    Some((socket.clone(), inherited.name.clone().unwrap_or_default()))
                }
                FdKind::Unusable(..) => None,
            });
        let bound = listeners.iter().filter_map(|listener| {
            listener
                .entry()
                .map(|entry| (listener.socket(), bound_name(entry)))
        });
        inherited.chain(bound).collect()
    }

    /// Returns the listeners for `listen`, at start and at each reload. An entry keeps the listener
    /// of `current` that was bound for an equal entry; other entries are bound. `backlog` applies
    /// to new listeners and to inherited sockets that are used for the first time. Looking up a
    /// host name blocks.
    ///
    /// # Errors
    /// Lists every entry that cannot be used, one line each. Then nothing new stays bound, and
    /// `current` is unchanged.
    pub(crate) fn acquire(
        &self,
        listen: Option<&[Listen]>,
        backlog: i32,
        current: &[Arc<Listener>],
    ) -> Result<ListenerSet, Error> {
        let mut state = self.state();
        let mut plan = ListenPlan::new(&self.inherited, listen);
        let mut listeners =
            self.inherited_listeners(&mut plan, &mut state.inherited_listeners, backlog);
        listeners.extend(keep_or_bind(&mut plan, backlog, current));
        if !plan.faults.is_empty() {
            abandon(&listeners, current);
            return Err(Error::new(Kind::Socket, plan.faults.join("\n")));
        }
        let notes = plan
            .notes
            .iter()
            .filter(|note| !state.last_notes.contains(note))
            .cloned()
            .collect();
        state.last_notes = plan.notes;
        Ok(ListenerSet { listeners, notes })
    }

    /// Acquires listeners that are not for requests, such as `metrics.listen`. `current` must
    /// contain only listeners that are not in use elsewhere.
    ///
    /// # Errors
    /// Lists every entry that cannot be used, one line each. Then nothing new stays bound.
    pub(crate) fn acquire_other(
        &self,
        entries: &[Listen],
        backlog: i32,
        current: &[Arc<Listener>],
    ) -> Result<Vec<Arc<Listener>>, Error> {
        let mut state = self.state();
        let mut plan = ListenPlan::for_entries(&self.inherited, entries);
        let mut listeners =
            self.inherited_listeners(&mut plan, &mut state.inherited_listeners, backlog);
        listeners.extend(keep_or_bind(&mut plan, backlog, current));
        if plan.faults.is_empty() {
            return Ok(listeners);
        }
        abandon(&listeners, current);
        Err(Error::new(Kind::Socket, plan.faults.join("\n")))
    }

    fn inherited_listeners(
        &self,
        plan: &mut ListenPlan,
        inherited_listeners: &mut [Option<Arc<Listener>>],
        backlog: i32,
    ) -> Vec<Arc<Listener>> {
        let mut listeners = Vec::new();
        for (index, (inherited, slot)) in self
            .inherited
            .fds
            .iter()
            .zip(inherited_listeners)
            .enumerate()
        {
            if !plan.use_inherited.contains(&index) {
                continue;
            }
            match inherited_listener(inherited, slot, backlog) {
                Ok(listener) => listeners.push(listener),
                Err(fault) => plan.faults.push(fault),
            }
        }
        listeners
    }
}

impl ListenerSet {
    /// Closes the listeners that were bound for a configuration that is now rejected. Those of
    /// `current` and inherited ones stay open.
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

/// Returns the listener of an inherited socket and creates it on the first call. listen(2) is
/// called again because the parent may have set a backlog of 1, as systemfd does.
fn inherited_listener(
    inherited: &InheritedFd,
    slot: &mut Option<Arc<Listener>>,
    backlog: i32,
) -> Result<Arc<Listener>, String> {
    if let Some(listener) = slot {
        return Ok(Arc::clone(listener));
    }
    let FdKind::Listening(socket, address) = &inherited.kind else {
        return Err(inherited.to_string());
    };
    let created = Listener::inherited(Arc::clone(socket), address.clone(), inherited.name.clone())
        .and_then(|listener| listener.set_backlog(backlog).map(|()| listener));
    let listener =
        created.map_err(|error| format!("cannot use the inherited socket {inherited}: {error}"))?;
    Ok(Arc::clone(slot.insert(Arc::new(listener))))
}

fn keep_or_bind(
    plan: &mut ListenPlan,
    backlog: i32,
    current: &[Arc<Listener>],
) -> Vec<Arc<Listener>> {
    // each listener is used for one entry only: two entries `127.0.0.1:0` need two sockets
    let mut free = current.to_vec();
    let mut bound = current.to_vec();
    let mut listeners = Vec::new();
    for entry in &plan.bind {
        if let Some(index) = free
            .iter()
            .position(|listener| listener.entry() == Some(entry))
        {
            listeners.push(free.swap_remove(index));
            continue;
        }
        match bind(entry, backlog, &bound) {
            Ok(listener) => {
                let listener = Arc::new(listener);
                bound.push(Arc::clone(&listener));
                listeners.push(listener);
            }
            Err(fault) => plan.faults.push(fault),
        }
    }
    listeners
}

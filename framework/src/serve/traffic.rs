//! All connections of a process, from accept to close: active ones, parked ones, tunnels, and the stages of a drain.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use async_channel::Sender;
use async_io::Timer;
use bytes::Bytes;
use futures_lite::future;

use super::ledger::{Cut, Ledger};
use super::slot::Slot;
use super::tunnel::TunnelStream;
use crate::config;
use crate::http::connection::{self, Connection, Outcome};
use crate::http::departure::Leaving;
use crate::http::detached::Detached;
use crate::http::env::{Env, Stage};
#[cfg(feature = "http2")]
use crate::http::h2;
use crate::http::limits::{Seat, Seats};
use crate::http::parked::Lot;
#[cfg(feature = "http2")]
use crate::http::record::Record;
use crate::http::timeouts::{after, now, tick};
use crate::http::{linger, Ends};
use crate::observe::metrics::{Metrics, Plain};
use crate::socket::Stream;

/// Everybody who is connected.
pub(crate) struct Traffic {
    pub(crate) env: Arc<Env>,
    pub(crate) seats: Arc<Seats>,
    /// Those of another protocol take one of these as well.
    tunnels: Arc<Seats>,
    ledger: Arc<Ledger>,
    lot: Lot,
    /// Where connections go while they are handed over.
    way_out: Mutex<Option<Sender<Leaving>>>,
}

/// How many are connected, by what they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// With a request that is being answered.
    pub(crate) active: usize,
    /// Between two requests, with a task.
    pub(crate) idle: usize,
    /// Of another protocol, after a 101.
    pub(crate) tunnels: usize,
    /// Without a task.
    pub(crate) parked: usize,
}

impl Count {
    /// All that have a task.
    pub(crate) fn at_work(self) -> usize {
        self.active + self.idle + self.tunnels
    }
}

impl Traffic {
    pub(crate) fn new(
        slot: Arc<Slot>,
        limits: config::Http,
        lot: Lot,
        seats: usize,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let traffic = Arc::new(Traffic {
            env: Arc::new(Env::new(slot.clone(), limits, metrics)),
            seats: Seats::new(seats),
            tunnels: Seats::unlimited(),
            ledger: Arc::default(),
            lot,
            way_out: Mutex::default(),
        });
        slot.counts(&traffic);
        traffic
    }

    /// Serves a connection that has just been accepted.
    pub(crate) fn welcome(
        self: &Arc<Self>,
        socket: OwnedFd,
        ends: Arc<Ends>,
        seat: Seat,
    ) -> io::Result<()> {
        if self.env.metrics.is_on() {
            self.env.metrics.count(Plain::Accepted);
        }
        let (stream, now) = (Stream::new(socket)?, now());
        let head = Bytes::new();
        self.go(Connection {
            stream,
            ends,
            seat,
            accepted: now,
            head,
            since: now,
            claim: None,
        });
        Ok(())
    }

    /// Goes on with a connection that comes from another process, or comes back from one. Nothing is read of it until
    /// something has come: the other process would take it for one that may be in the middle of a request.
    pub(crate) fn adopt(self: &Arc<Self>, connection: Detached) {
        if self.env.stage() == Stage::Open && !connection.speaks() {
            self.park(connection);
        } else {
            self.attach(connection);
        }
    }

    fn attach(self: &Arc<Self>, connection: Detached) {
        match connection.attach() {
            Ok(connection) => self.go(connection),
            Err(error) => log::warn!("a connection cannot be watched: {error}; it is closed"),
        }
    }

    /// Serves a connection in a task of its own, until it ends or is parked.
    fn go(self: &Arc<Self>, connection: Connection) {
        let traffic = self.clone();
        async_std::task::spawn(async move { traffic.serve(connection).await });
    }

    async fn serve(self: Arc<Self>, connection: Connection) {
        let entry = self.ledger.entry();
        match connection::serve(connection, &self.env, |record| entry.show(record)).await {
            Outcome::Idle(connection) => {
                drop(entry);
                self.detach(connection, Self::park);
            }
            Outcome::Leaving(connection, place) => {
                drop(entry);
                self.detach(connection, |traffic, connection| {
                    traffic.send_off(Leaving { connection, place });
                });
            }
            Outcome::HeadOverdue(connection) => {
                linger::refuse_overdue_head(connection, &self.env).await
            }
            Outcome::Answered(connection) => linger::close(connection, &self.env).await,
            Outcome::Switched(connection, switch) => {
                TunnelStream::start(connection, switch, entry, self.tunnels.squeeze_in());
            }
            #[cfg(feature = "http2")]
            Outcome::Http2(connection) => {
                drop(entry);
                let ledger = self.ledger.clone();
                let enlist = move |record: &Arc<Record>| {
                    let entry = ledger.entry();
                    entry.show(record);
                    entry
                };
                h2::serve(connection, &self.env, enlist).await;
            }
            Outcome::Over => {}
        }
    }

    fn detach(self: &Arc<Self>, connection: Connection, then: impl FnOnce(&Arc<Self>, Detached)) {
        match Detached::of(connection) {
            Ok(connection) => then(self, connection),
            Err(error) => {
                log::warn!("an idle connection is still being watched: {error}; it is closed")
            }
        }
    }

    /// Parks a silent connection, or closes it where its time is over.
    fn park(self: &Arc<Self>, connection: Detached) {
        let timeout = after(connection.since, self.env.limits().idle_timeout);
        if self.env.stage() >= Stage::CloseIdle || timeout <= now() {
            return connection.close();
        }
        if let Err(error) = self.lot.park(connection) {
            log::warn!("an idle connection could not be parked: {error}; it is closed");
        }
        // the stage may have come between the question and the parking
        match self.env.stage() {
            Stage::Open | Stage::LastCall => {}
            Stage::HandOver => self.empty_lot(),
            Stage::CloseIdle | Stage::Stop | Stage::Cut => {
                self.lot.close_all();
            }
        }
    }

    /// From now on connections leave by `way`, each at a boundary and as soon as there is a place for it.
    pub(crate) fn hand_over(self: &Arc<Self>, way: Sender<Leaving>) {
        *self.way_out.lock().unwrap_or_else(PoisonError::into_inner) = Some(way);
        self.env.set_stage(Stage::HandOver);
        self.empty_lot();
        let ledger = self.ledger.clone();
        async_std::task::spawn(async move { ledger.wake_in_turn(|_| true).await });
    }

    /// Connections stay again.
    pub(crate) fn keep(&self) {
        *self.way_out.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.env.set_stage(Stage::Open);
        self.ledger.wake_all();
    }

    /// Sends the parked ones off. Those whose turn has not come can still speak, and are answered here.
    fn empty_lot(self: &Arc<Self>) {
        let traffic = self.clone();
        async_std::task::spawn(async move {
            loop {
                let places = traffic.env.places.take_silent().await;
                if traffic.env.stage() != Stage::HandOver {
                    return;
                }
                let parked = traffic.lot.take_some(places.len());
                if parked.is_empty() {
                    return;
                }
                for (connection, place) in parked.into_iter().zip(places) {
                    traffic.send_off(Leaving { connection, place });
                }
            }
        });
    }

    fn send_off(self: &Arc<Self>, leaving: Leaving) {
        let way = self
            .way_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let stays = match way {
            Some(way) => way
                .try_send(leaving)
                .err()
                .map(async_channel::TrySendError::into_inner),
            None => Some(leaving),
        };
        // the stage has changed meanwhile
        if let Some(Leaving { connection, .. }) = stays {
            self.adopt(connection);
        }
    }

    /// Gives parked connections that have something to say a task again; never ends.
    pub(crate) async fn tend_parked(self: Arc<Self>) {
        loop {
            match self.lot.woken().await {
                Ok(woken) => {
                    woken.into_iter().for_each(|parked| self.attach(parked));
                }
                Err(error) => {
                    log::error!(
                        "parked connections cannot be watched: {error}; tried again in a second"
                    );
                    Timer::after(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Keeps everybody's time, while there is anybody; never ends.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        loop {
            self.seats.occupied().await;
            let limits = self.env.limits();
            let http = &*limits;
            // where all are parked, one limit is left, and that is long
            let until_somebody_is_active = async {
                Timer::after(tick([http.idle_timeout])).await;
            };
            future::or(self.ledger.occupied(), until_somebody_is_active).await;
            if self.ledger.len() > 0 {
                Timer::after(tick([
                    http.header_timeout,
                    http.idle_timeout,
                    http.body_timeout,
                    http.request_timeout,
                    http.write_timeout,
                    http.idle_release,
                ]))
                .await;
            }
            let now = now();
            self.ledger.wake_overdue(now).await;
            self.lot.close_overdue(&limits, now);
        }
    }

    pub(crate) fn count(&self) -> Count {
        let (all, active, tunnels) = (
            self.ledger.len(),
            self.ledger.asking(),
            self.tunnels.taken(),
        );
        let idle = all.saturating_sub(active + tunnels);
        Count {
            active,
            idle,
            tunnels,
            parked: self.lot.len(),
        }
    }

    /// The request that has been in the works for the longest time.
    pub(crate) fn oldest_request(&self) -> Option<Cut> {
        self.ledger.oldest_request()
    }

    /// From now on every answer carries `Connection: close`; idle connections may send one more request.
    pub(crate) fn last_call(&self) {
        self.env.set_stage(Stage::LastCall);
    }

    /// Idle connections close; returns how many of them were parked.
    pub(crate) fn close_idle(&self) -> usize {
        self.env.set_stage(Stage::CloseIdle);
        let parked = self.lot.close_all();
        self.ledger.wake_all();
        parked
    }

    /// Handlers are told to come to an end: bodies are waited for no longer.
    pub(crate) fn stop(&self) {
        self.env.set_stage(Stage::Stop);
        self.ledger.wake_all();
    }

    /// Cuts whoever is left, and names them.
    pub(crate) fn cut(&self) -> Vec<Cut> {
        let survivors = self.ledger.survivors();
        self.env.set_stage(Stage::Cut);
        self.lot.close_all();
        self.ledger.wake_all();
        survivors
    }

    /// Back to keep-alive as usual.
    pub(crate) fn reopen(&self) {
        self.env.set_stage(Stage::Open);
    }
}

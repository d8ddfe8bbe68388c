//! The running process' side of the control socket: who may ask, one line in, the answers out.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Receiver;
use async_io::{Async, Timer};
use async_std::future::timeout;
use async_std::task::{self, JoinHandle};
use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
use futures_lite::{future, FutureExt};

use super::protocol::{line, Answer, Ask, Request, MAX_LINE};
use super::socket::{peer, Socket};
use crate::sync::limiter::{Limiter, Permit};
use crate::sync::token::{token, Token, Trigger};

/// How long whoever connects may take to say what it wants, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often whoever waits is told how the process stands.
const PROGRESS: Duration = Duration::from_millis(250);

/// How long the last answers may take, before the process ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Whoever answers what is asked: any number of answers, of which the last is no progress.
pub(crate) type Desk = Arc<dyn Fn(Ask) -> Receiver<Answer> + Send + Sync>;

/// Listens on the control socket.
pub(crate) struct Server {
    socket: Arc<Socket>,
    listens: Option<JoinHandle<()>>,
    conversations: Arc<Limiter>,
    over: Trigger,
}

impl Server {
    /// # Errors
    /// The socket cannot be watched.
    pub(crate) fn start(socket: Arc<Socket>, desk: Desk) -> io::Result<Self> {
        let listener = Async::new_nonblocking(socket.listener().try_clone()?)?;
        let conversations = Limiter::unlimited();
        let (over, is_over) = token();
        let (permits, place) = (conversations.clone(), socket.clone());
        let listens = task::spawn(async move {
            let accept = async {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            task::spawn(converse(
                                stream,
                                desk.clone(),
                                is_over.clone(),
                                permits.acquire_unbounded(),
                            ));
                        }
                        Err(error) => {
                            log::debug!("the control socket cannot be accepted on: {error}");
                            Timer::after(Duration::from_millis(100)).await;
                        }
                    }
                }
            };
            future::or(accept, wait_for(&place)).await;
        });
        Ok(Server {
            socket,
            listens: Some(listens),
            conversations,
            over,
        })
    }

    /// The process ends: whoever still waits hears so, and nobody is listened to any more.
    pub(crate) async fn close(mut self) {
        self.over.fire();
        if let Some(listens) = self.listens.take() {
            listens.cancel().await;
        }
        let _ = timeout(LAST_ANSWERS, self.conversations.empty()).await;
        self.socket.remove();
    }
}

/// Waits for a place that another process holds; never ends.
async fn wait_for(socket: &Socket) {
    loop {
        Timer::after(Duration::from_secs(1)).await;
        if socket.try_again() {
            log::info!("the control socket is in place now");
        }
    }
}

async fn converse(stream: Async<UnixStream>, desk: Desk, over: Token, _permit: Permit) {
    if let Err(error) = answer(stream, &desk, over).await {
        log::debug!("a command at the control socket is gone: {error}");
    }
}

async fn answer(mut stream: Async<UnixStream>, desk: &Desk, over: Token) -> io::Result<()> {
    // read in any case: closing with something unread would cut the answer
    let line = timeout(PATIENCE, read_line(&mut stream))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    if let Err(why) = may_ask(&stream) {
        log::warn!("refused at the control socket: {why}");
        return say(&mut stream, &Answer::Failed(why)).await;
    }
    match Request::read(&line) {
        Ok(ask) => {
            if ask != Ask::Status {
                let pid = peer(&stream).map_or(0, |peer| peer.pid);
                log::info!("{} asked for by pid {pid}", ask.name());
            }
            outcome(&mut stream, desk, ask, over).await
        }
        Err(why) => say(&mut stream, &Answer::Failed(why)).await,
    }
}

/// Passes the answers on, and tells meanwhile how the process stands.
async fn outcome(
    stream: &mut Async<UnixStream>,
    desk: &Desk,
    ask: Ask,
    over: Token,
) -> io::Result<()> {
    let answers = desk(ask);
    loop {
        let next = async { Some(answers.recv().await) };
        let meanwhile = async {
            Timer::after(PROGRESS).await;
            None
        };
        let last = async {
            over.wait().await;
            // what was answered before the end comes first
            Some(answers.try_recv().map_err(|_| async_channel::RecvError))
        };
        match next.or(last).or(meanwhile).await {
            Some(Ok(answer)) => {
                say(stream, &answer).await?;
                if !matches!(answer, Answer::Progress(_)) {
                    return Ok(());
                }
            }
            Some(Err(_)) => {
                return say(stream, &Answer::Failed("the process has ended".into())).await
            }
            None => {
                if let Ok(Answer::Status(process)) = desk(Ask::Status).recv().await {
                    say(stream, &Answer::Progress(process)).await?;
                }
            }
        }
    }
}

/// The user of the process itself, and root.
fn may_ask(stream: &Async<UnixStream>) -> Result<(), String> {
    let ours = rustix::process::geteuid().as_raw();
    match peer(stream) {
        Some(peer) if peer.uid == ours || peer.uid == 0 => Ok(()),
        Some(peer) => Err(format!(
            "this process belongs to user {ours}; user {} may not ask it",
            peer.uid
        )),
        None => Err("the operating system does not say who asks".into()),
    }
}

async fn read_line(stream: &mut Async<UnixStream>) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        read.extend(&buffer[..count]);
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            read.truncate(end);
            return Ok(read);
        }
        if count == 0 || read.len() > MAX_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

async fn say(stream: &mut Async<UnixStream>, answer: &Answer) -> io::Result<()> {
    let line = line(answer);
    timeout(PATIENCE, stream.write_all(&line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

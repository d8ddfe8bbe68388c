//! The server of the control socket: checks the user, reads one command, and sends the responses.

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

use super::protocol::{line, ControlCommand, ControlRequest, ControlResponse, MAX_LINE};
use super::socket::{peer_credentials, Socket};
use crate::sync::limiter::{Limiter, Permit};
use crate::sync::token::{token, Token, Trigger};

/// The time that a client may take to send its command, or to read a response.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// The interval of progress responses.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// The time for the last responses before the process exits.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Carries out a command. Returns any number of responses, the last of which is not `Progress`.
pub(crate) type CommandHandler =
    Arc<dyn Fn(ControlCommand) -> Receiver<ControlResponse> + Send + Sync>;

/// Accepts connections on the control socket.
pub(crate) struct Server {
    socket: Arc<Socket>,
    accept_task: Option<JoinHandle<()>>,
    connections: Arc<Limiter>,
    end: Trigger,
}

impl Server {
    /// Starts a task that accepts connections and has `handler` carry out their commands.
    ///
    /// # Errors
    /// The socket cannot be registered with the reactor.
    pub(crate) fn start(socket: Arc<Socket>, handler: CommandHandler) -> io::Result<Self> {
        let listener = Async::new_nonblocking(socket.listener().try_clone()?)?;
        let connections = Limiter::unlimited();
        let (end, ended) = token();
        let (permits, retried) = (connections.clone(), socket.clone());
        let accept_task = task::spawn(async move {
            let accept = async {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            task::spawn(serve(
                                stream,
                                handler.clone(),
                                ended.clone(),
                                permits.acquire_unbounded(),
                            ));
                        }
                        Err(error) => {
                            log::debug!("cannot accept on the control socket: {error}");
                            Timer::after(Duration::from_millis(100)).await;
                        }
                    }
                }
            };
            future::or(accept, retry_path(&retried)).await;
        });
        Ok(Server {
            socket,
            accept_task: Some(accept_task),
            connections,
            end,
        })
    }

    /// Closes the socket because the process exits. Clients that still wait receive a last
    /// response.
    pub(crate) async fn close(mut self) {
        self.end.fire();
        if let Some(accept_task) = self.accept_task.take() {
            accept_task.cancel().await;
        }
        let _ = timeout(CLOSE_TIMEOUT, self.connections.wait_until_unused()).await;
        self.socket.remove();
    }
}

/// Retries to take the socket path while another process holds it. Never returns.
async fn retry_path(socket: &Socket) {
    loop {
        Timer::after(Duration::from_secs(1)).await;
        if socket.retry() {
            log::info!(
                "the control socket is now available: the other process has released its path"
            );
        }
    }
}

async fn serve(stream: Async<UnixStream>, handler: CommandHandler, ended: Token, _permit: Permit) {
    if let Err(error) = respond(stream, &handler, ended).await {
        log::debug!("the connection of a command to the control socket failed: {error}");
    }
}

async fn respond(
    mut stream: Async<UnixStream>,
    handler: &CommandHandler,
    ended: Token,
) -> io::Result<()> {
    // read the command before any refusal: closing a socket with unread data resets it, and the
    // response would be lost
    let line = timeout(IO_TIMEOUT, read_line(&mut stream))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    if let Err(reason) = check_user(&stream) {
        log::warn!("command refused: {reason}");
        return send(&mut stream, &ControlResponse::Failed(reason)).await;
    }
    match ControlRequest::read(&line) {
        Ok(command) => {
            if command != ControlCommand::Status {
                let pid = peer_credentials(&stream).map_or(0, |peer| peer.pid);
                log::info!("command {} received from pid {pid}", command.name());
            }
            carry_out(&mut stream, handler, command, ended).await
        }
        Err(reason) => send(&mut stream, &ControlResponse::Failed(reason)).await,
    }
}

/// Forwards the responses, and sends the status while there is none.
async fn carry_out(
    stream: &mut Async<UnixStream>,
    handler: &CommandHandler,
    command: ControlCommand,
    ended: Token,
) -> io::Result<()> {
    let responses = handler(command);
    loop {
        let next = async { Some(responses.recv().await) };
        let meanwhile = async {
            Timer::after(PROGRESS_INTERVAL).await;
            None
        };
        let last = async {
            ended.wait().await;
            // a response that was sent before the end has precedence
            Some(responses.try_recv().map_err(|_| async_channel::RecvError))
        };
        match next.or(last).or(meanwhile).await {
            Some(Ok(response)) => {
                send(stream, &response).await?;
                if !matches!(response, ControlResponse::Progress(_)) {
                    return Ok(());
                }
            }
            Some(Err(_)) => {
                return send(
                    stream,
                    &ControlResponse::Failed(
                        "the process exited before the command finished".into(),
                    ),
                )
                .await
            }
            None => {
                if let Ok(ControlResponse::Status(process)) =
                    handler(ControlCommand::Status).recv().await
                {
                    send(stream, &ControlResponse::Progress(process)).await?;
                }
            }
        }
    }
}

/// Returns an error unless the client runs as the user of this process or as root.
fn check_user(stream: &Async<UnixStream>) -> Result<(), String> {
    let ours = rustix::process::geteuid().as_raw();
    match peer_credentials(stream) {
        Some(peer) if peer.uid == ours || peer.uid == 0 => Ok(()),
        Some(peer) => Err(format!(
            "this process belongs to user {ours}; user {} may not control it",
            peer.uid
        )),
        None => Err("the kernel did not report the user of the command".into()),
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

async fn send(stream: &mut Async<UnixStream>, response: &ControlResponse) -> io::Result<()> {
    let line = line(response);
    timeout(IO_TIMEOUT, stream.write_all(&line))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
}

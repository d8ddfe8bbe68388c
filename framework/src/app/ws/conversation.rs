//! A WebSocket from its 101 to its end: messages both ways, signs of life, and the closing handshake.
//!
//! The handler and the protocol are one task but two futures, so that a ping is answered and a drain is heard while
//! the handler is busy with something else.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use async_std::sync::Mutex;
use async_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use async_tungstenite::tungstenite::{self, Error};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, WebSocketStream};
use bytes::Bytes;
use futures_lite::{future, AsyncWriteExt, FutureExt, StreamExt};
use tide::http::upgrade::Connection;

use super::heard::Heard;
use super::socket::{Code, Outgoing};
use super::{Closed, Message, WebSocket};
use crate::app::request::Parting;
use crate::error::{panic_text, Result};
use crate::http::states::State;
use crate::sync::token::token;

/// How long a client is given to answer a close.
const FAREWELL: Duration = State::WebSocketClosing.fixed();

/// What tungstenite holds for each connection; large messages get buffers of their own.
const BUFFER: usize = 4 << 10;

/// RFC 6455, section 7.4.1; 1012 is in the registry of section 11.7.
const NORMAL: Code = 1000;
const PROTOCOL_ERROR: Code = 1002;
const NOT_UTF8: Code = 1007;
const TOO_BIG: Code = 1009;
const FAILED: Code = 1011;
const RESTART: Code = 1012;

/// How a connection is treated.
pub(super) struct Manners {
    pub(super) max_message: usize,
    pub(super) ping: Option<Duration>,
    pub(super) parting: Parting,
}

/// Why the talking is over.
enum End {
    /// The client has closed, and has been answered.
    Theirs,
    /// This side closes.
    Ours(CloseFrame),
    /// The client broke the protocol: what it sends from now on means nothing.
    Broken(CloseFrame),
    /// The connection is gone.
    Lost,
}

type Incoming = WebSocketReceiver<Heard>;

/// Messages, pings and pongs are sent from different places, each to its end.
type Wire = Mutex<WebSocketSender<Heard>>;

/// Runs `handler` on a connection whose 101 is written, until both have come to their end.
pub(super) async fn hold<F, Fut>(
    connection: Connection,
    protocol: Option<String>,
    manners: Manners,
    handler: F,
) where
    F: FnOnce(WebSocket) -> Fut + Send,
    Fut: Future<Output = Result<()>> + Send,
{
    let (to_handler, incoming) = async_channel::bounded(1);
    let (sender, from_handler) = async_channel::bounded(1);
    let sender = super::Sender(sender);
    let socket = WebSocket {
        incoming,
        sender: sender.clone(),
        protocol,
    };
    let work = async {
        let worked = AssertUnwindSafe(async { handler(socket).await })
            .catch_unwind()
            .await;
        let (code, reason) = verdict(worked);
        sender.close(code, reason).await;
    };
    let (over, is_over) = token();
    let protocol = async {
        // kept until the handler has ended: until then a shutdown waits for it, and names it
        let kept = converse(connection, &manners, to_handler, from_handler).await;
        over.fire();
        kept
    };
    let abandoned = async {
        future::zip(manners.parting.told(), is_over.wait()).await;
        Timer::after(FAREWELL).await;
        log::warn!(
            "the handler of a WebSocket that is closed goes on after it was to end; it is dropped"
        );
    };
    async { drop(future::zip(work, protocol).await) }
        .or(abandoned)
        .await;
}

/// What a handler's end means for the client, who is not told more of a failure than that there was one.
fn verdict(worked: Result<Result<()>, Box<dyn Any + Send>>) -> (Code, &'static str) {
    match worked {
        Ok(Ok(())) => return (NORMAL, ""),
        Ok(Err(error)) if error.is::<Closed>() => return (NORMAL, ""),
        Ok(Err(error)) => {
            log::error!("a WebSocket's handler failed: {error}; it is closed with {FAILED}");
        }
        Err(panic) => {
            log::error!(
                "a WebSocket's handler panicked: {}; it is closed with {FAILED}",
                panic_text(&*panic)
            );
        }
    }
    (FAILED, "the handler failed")
}

async fn converse(
    connection: Connection,
    manners: &Manners,
    to_handler: Sender<Message>,
    from_handler: Receiver<Outgoing>,
) -> Option<Connection> {
    let Manners {
        max_message,
        ping,
        parting,
    } = manners;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(*max_message))
        .max_frame_size(Some(*max_message));
    let heard = Arc::new(AtomicBool::new(true));
    let connection = Heard {
        connection,
        something: heard.clone(),
    };
    let stream = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let (sender, mut incoming) = stream.split();
    let wire = Mutex::new(sender);

    let leave = async {
        Timer::after(parting.told().await).await;
        End::Ours(frame(RESTART, "the server restarts"))
    };
    let end = receive(&mut incoming, &wire, to_handler.clone())
        .or(send(&wire, from_handler))
        .or(watch(&wire, *ping, &heard, to_handler))
        .or(leave)
        .await;
    close(wire.into_inner(), incoming, end).await
}

/// Takes what the client sends; ends when it closes or breaks the rules.
async fn receive(incoming: &mut Incoming, wire: &Wire, handler: Sender<Message>) -> End {
    while let Some(received) = incoming.next().await {
        match received {
            // a handler that listens no longer may still be sending
            Ok(tungstenite::Message::Text(text)) => {
                drop(handler.send(Message::Text(text.to_string())).await);
            }
            Ok(tungstenite::Message::Binary(bytes)) => {
                drop(handler.send(Message::Binary(bytes.into())).await);
            }
            // answered before anything else is read, so that a flood of pings is not a flood of pongs to be kept
            Ok(tungstenite::Message::Ping(data)) => {
                if wire
                    .lock()
                    .await
                    .send(tungstenite::Message::Pong(data))
                    .await
                    .is_err()
                {
                    return End::Lost;
                }
            }
            Ok(_) => {}
            Err(error) => return fault(&error),
        }
    }
    End::Theirs
}

/// What an error of tungstenite's means for the client.
fn fault(error: &Error) -> End {
    log::debug!("a WebSocket's client is at fault: {error}");
    match error {
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => End::Broken(frame(
            TOO_BIG,
            &format!("a message may be {max_size} bytes long"),
        )),
        Error::Capacity(_) => End::Broken(frame(TOO_BIG, "too long")),
        Error::Utf8(_) => End::Broken(frame(NOT_UTF8, "text is not UTF-8")),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Lost,
        Error::Protocol(error) => End::Broken(frame(PROTOCOL_ERROR, &error.to_string())),
        _ => End::Lost,
    }
}

/// Sends what the handler has to say, to its last word.
async fn send(wire: &Wire, handler: Receiver<Outgoing>) -> End {
    while let Ok(outgoing) = handler.recv().await {
        match outgoing {
            Outgoing::Message(message) => match wire.lock().await.send(message.into()).await {
                Ok(()) => {}
                Err(Error::Io(_)) => return End::Lost,
                // the client has closed, and the receiving side is about to answer that
                Err(_) => return future::pending().await,
            },
            Outgoing::Close(code, reason) => return End::Ours(frame(code, &reason)),
        }
    }
    End::Ours(frame(NORMAL, ""))
}

/// Pings a silent client, and gives up one that does not answer.
async fn watch(
    wire: &Wire,
    silence: Option<Duration>,
    heard: &AtomicBool,
    handler: Sender<Message>,
) -> End {
    let Some(silence) = silence else {
        return future::pending().await;
    };
    loop {
        Timer::after(silence).await;
        // a handler that is behind keeps the answers from being read
        if heard.swap(false, Ordering::Relaxed) || handler.is_full() {
            continue;
        }
        let asked = async {
            let _ = wire
                .lock()
                .await
                .send(tungstenite::Message::Ping(Bytes::new()))
                .await;
            future::pending::<()>().await;
        };
        let patience = async {
            Timer::after(silence).await;
        };
        asked.or(patience).await;
        if !heard.load(Ordering::Relaxed) && !handler.is_full() {
            log::debug!(
                "a WebSocket's client is silent and does not answer a ping; it is given up"
            );
            return End::Lost;
        }
    }
}

fn frame(code: Code, reason: &str) -> CloseFrame {
    /// A control frame takes 125 bytes, of which the code has two.
    const LONGEST: usize = 123;
    let code = Some(CloseCode::from(code))
        .filter(|code| code.is_allowed())
        .unwrap_or(CloseCode::Normal);
    let end = (0..=LONGEST.min(reason.len()))
        .rfind(|end| reason.is_char_boundary(*end))
        .unwrap_or_default();
    CloseFrame {
        code,
        reason: reason[..end].into(),
    }
}

/// Says farewell in the way that the end asks for, and closes.
async fn close(
    mut wire: WebSocketSender<Heard>,
    mut incoming: Incoming,
    end: End,
) -> Option<Connection> {
    // a client that takes nothing of it is given up after `http.write_timeout`
    match end {
        End::Theirs | End::Lost => {}
        End::Ours(frame) => {
            let sent = wire.send(tungstenite::Message::Close(Some(frame)));
            if sent.await.is_ok() {
                // until the client has closed as well
                in_time(async { while let Some(Ok(_)) = incoming.next().await {} }).await;
            }
        }
        End::Broken(frame) => drop(wire.send(tungstenite::Message::Close(Some(frame))).await),
    }
    let Heard { mut connection, .. } = WebSocketStream::reunite(wire, incoming).ok()?.into_inner();
    let _ = connection.close().await;
    Some(connection)
}

async fn in_time(farewell: impl Future<Output = ()>) {
    let patience = async {
        Timer::after(FAREWELL).await;
    };
    farewell.or(patience).await;
}

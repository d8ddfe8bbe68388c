//! A WebSocket after the 101: messages in both directions, pings, and the closing handshake.
//!
//! One task runs two futures, the handler and the protocol, so that pings are answered and a drain is noticed while the
//! handler waits for something else.

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

use super::activity::{PartialMessage, TrackedConnection};
use super::socket::{Code, CountedMessage, OutgoingFrame};
use super::{Closed, Message, WebSocket};
use crate::error::{panic_text, Result};
use crate::http::memory::{HeldBytes, Memory, MemoryExhausted};
use crate::http::states::TimedState;
use crate::http::DrainSignal;
use crate::sync::token::token;

/// Time for the client to answer a close.
const CLOSE_TIMEOUT: Duration = TimedState::WebSocketClosing.fixed();

/// Size of tungstenite's read buffer and write buffer in bytes. Larger messages get their own buffers.
const BUFFER: usize = 4 << 10;

/// Close codes of RFC 6455, section 7.4.1; 1012 and 1013 are registered by IANA (section 11.7).
const NORMAL: Code = 1000;
const PROTOCOL_ERROR: Code = 1002;
const NOT_UTF8: Code = 1007;
const TOO_BIG: Code = 1009;
const FAILED: Code = 1011;
const RESTART: Code = 1012;
const TRY_LATER: Code = 1013;

/// Options of a WebSocket.
pub(super) struct Options {
    pub(super) max_message: usize,
    pub(super) ping: Option<Duration>,
    pub(super) drain: DrainSignal,
    pub(super) memory: Option<Arc<Memory>>,
}

/// The reason a WebSocket closes.
enum CloseCause {
    /// The client sent a close, and tungstenite answered it.
    Client,
    /// The server closes.
    Server(CloseFrame),
    /// The client violated the protocol. Its further bytes cannot be interpreted.
    Violation(CloseFrame),
    /// The connection is lost.
    Lost,
}

type Incoming = WebSocketReceiver<TrackedConnection>;

/// Messages, pings and pongs are sent by different futures. The lock is held until a frame is sent completely.
type Wire = Mutex<WebSocketSender<TrackedConnection>>;

/// Runs `handler` on a connection whose 101 has been written, until the handler has returned and the connection is
/// closed.
pub(super) async fn hold<F, Fut>(
    connection: Connection,
    protocol: Option<String>,
    options: Options,
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
        let result = AssertUnwindSafe(async { handler(socket).await })
            .catch_unwind()
            .await;
        let (code, reason) = close_code(result);
        sender.close(code, reason).await;
    };
    let (close, closed) = token();
    let protocol = async {
        // keep the connection until the handler has returned, so that a shutdown waits for it and names it in its
        // report
        let connection = converse(connection, &options, to_handler, from_handler).await;
        close.fire();
        connection
    };
    let abandoned = async {
        future::zip(options.drain.wait(), closed.wait()).await;
        Timer::after(CLOSE_TIMEOUT).await;
        log::warn!(
            "a WebSocket handler did not return after a drain closed its connection; it was dropped after {CLOSE_TIMEOUT:?}"
        );
    };
    async { drop(future::zip(work, protocol).await) }
        .or(abandoned)
        .await;
}

/// Returns the close code for the result of a handler, and logs a failure. The client does not get the error's text.
fn close_code(result: Result<Result<()>, Box<dyn Any + Send>>) -> (Code, &'static str) {
    match result {
        Ok(Ok(())) => return (NORMAL, ""),
        Ok(Err(error)) if error.is::<Closed>() => return (NORMAL, ""),
        Ok(Err(error)) => {
            log::error!(
                "a WebSocket handler failed: {error}; the connection is closed with code {FAILED}"
            );
        }
        Err(panic) => {
            log::error!(
                "a WebSocket handler panicked: {}; the connection is closed with code {FAILED}",
                panic_text(&*panic)
            );
        }
    }
    (FAILED, "the handler failed")
}

async fn converse(
    connection: Connection,
    options: &Options,
    to_handler: Sender<CountedMessage>,
    from_handler: Receiver<OutgoingFrame>,
) -> Option<Connection> {
    let Options {
        max_message,
        ping,
        drain,
        memory,
    } = options;
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(*max_message))
        .max_frame_size(Some(*max_message));
    let received = Arc::new(AtomicBool::new(true));
    let partial = PartialMessage::new(memory.as_ref().map(HeldBytes::new));
    let connection = TrackedConnection {
        connection,
        received: received.clone(),
        partial: partial.clone(),
    };
    let stream = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let (sender, mut incoming) = stream.split();
    let wire = Mutex::new(sender);

    let restart = async {
        Timer::after(drain.wait().await).await;
        CloseCause::Server(frame(RESTART, "the server is restarting"))
    };
    let cause = receive(&mut incoming, &wire, &partial, to_handler.clone())
        .or(send(&wire, from_handler))
        .or(watch(&wire, *ping, &received, to_handler))
        .or(restart)
        .await;
    close(wire.into_inner(), incoming, cause).await
}

/// Receives messages and passes them to the handler, until the client closes or violates the protocol.
async fn receive(
    incoming: &mut Incoming,
    wire: &Wire,
    partial: &PartialMessage,
    handler: Sender<CountedMessage>,
) -> CloseCause {
    while let Some(received) = incoming.next().await {
        let message = match received {
            Ok(tungstenite::Message::Text(text)) => Message::Text(text.to_string()),
            Ok(tungstenite::Message::Binary(bytes)) => Message::Binary(bytes.into()),
            // send the pong before reading the next frame: otherwise a flood of pings would fill memory with pongs
            Ok(tungstenite::Message::Ping(data)) => {
                if wire
                    .lock()
                    .await
                    .send(tungstenite::Message::Pong(data))
                    .await
                    .is_err()
                {
                    return CloseCause::Lost;
                }
                continue;
            }
            Ok(_) => continue,
            Err(error) => return receive_error(&error),
        };
        let counted = CountedMessage {
            message,
            _held: partial.complete(),
        };
        // fails if the handler dropped its `WebSocket`; it may still send with a `Sender`
        drop(handler.send(counted).await);
    }
    CloseCause::Client
}

/// Converts an error of tungstenite into the cause for the close.
fn receive_error(error: &Error) -> CloseCause {
    log::debug!("receiving from a WebSocket client failed: {error}");
    match error {
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            CloseCause::Violation(frame(
                TOO_BIG,
                &format!("messages are limited to {max_size} bytes"),
            ))
        }
        Error::Capacity(_) => CloseCause::Violation(frame(TOO_BIG, "message too long")),
        Error::Utf8(_) => CloseCause::Violation(frame(NOT_UTF8, "a text message is not UTF-8")),
        Error::Io(error)
            if error
                .get_ref()
                .is_some_and(|error| error.is::<MemoryExhausted>()) =>
        {
            CloseCause::Violation(frame(TRY_LATER, &error.to_string()))
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => CloseCause::Lost,
        Error::Protocol(error) => CloseCause::Violation(frame(PROTOCOL_ERROR, &error.to_string())),
        _ => CloseCause::Lost,
    }
}

/// Sends the messages of the handler, until it closes or returns.
async fn send(wire: &Wire, handler: Receiver<OutgoingFrame>) -> CloseCause {
    while let Ok(outgoing) = handler.recv().await {
        match outgoing {
            OutgoingFrame::Message(message) => match wire.lock().await.send(message.into()).await {
                Ok(()) => {}
                Err(Error::Io(_)) => return CloseCause::Lost,
                // the client closed; `receive` returns next
                Err(_) => return future::pending().await,
            },
            OutgoingFrame::Close(code, reason) => return CloseCause::Server(frame(code, &reason)),
        }
    }
    CloseCause::Server(frame(NORMAL, ""))
}

/// Pings a client that sends nothing, and returns if it does not answer.
async fn watch(
    wire: &Wire,
    interval: Option<Duration>,
    received: &AtomicBool,
    handler: Sender<CountedMessage>,
) -> CloseCause {
    let Some(interval) = interval else {
        return future::pending().await;
    };
    loop {
        Timer::after(interval).await;
        // while the queue to the handler is full, `receive` does not read the client's pongs
        if received.swap(false, Ordering::Relaxed) || handler.is_full() {
            continue;
        }
        let ping = async {
            let _ = wire
                .lock()
                .await
                .send(tungstenite::Message::Ping(Bytes::new()))
                .await;
            future::pending::<()>().await;
        };
        let timeout = async {
            Timer::after(interval).await;
        };
        ping.or(timeout).await;
        if !received.load(Ordering::Relaxed) && !handler.is_full() {
            log::debug!("a WebSocket client did not answer a ping; the connection is closed");
            return CloseCause::Lost;
        }
    }
}

fn frame(code: Code, reason: &str) -> CloseFrame {
    /// Limit on a reason in bytes: a control frame has at most 125 bytes, and the code takes two.
    const MAX_REASON: usize = 123;
    let code = Some(CloseCode::from(code))
        .filter(|code| code.is_allowed())
        .unwrap_or(CloseCode::Normal);
    let end = (0..=MAX_REASON.min(reason.len()))
        .rfind(|end| reason.is_char_boundary(*end))
        .unwrap_or_default();
    CloseFrame {
        code,
        reason: reason[..end].into(),
    }
}

/// Performs the closing handshake that fits the cause, and closes the connection.
async fn close(
    mut wire: WebSocketSender<TrackedConnection>,
    mut incoming: Incoming,
    cause: CloseCause,
) -> Option<Connection> {
    // a client that does not read the close frame is given up after `http.write_timeout`
    match cause {
        CloseCause::Client | CloseCause::Lost => {}
        CloseCause::Server(frame) => {
            let sent = wire.send(tungstenite::Message::Close(Some(frame)));
            if sent.await.is_ok() {
                // read until the client answers the close
                with_timeout(async { while let Some(Ok(_)) = incoming.next().await {} }).await;
            }
        }
        CloseCause::Violation(frame) => {
            drop(wire.send(tungstenite::Message::Close(Some(frame))).await);
        }
    }
    let TrackedConnection { mut connection, .. } =
        WebSocketStream::reunite(wire, incoming).ok()?.into_inner();
    let _ = connection.close().await;
    Some(connection)
}

async fn with_timeout(future: impl Future<Output = ()>) {
    let timeout = async {
        Timer::after(CLOSE_TIMEOUT).await;
    };
    future.or(timeout).await;
}

//! The handler's side of a WebSocket.

use std::fmt;

use async_tungstenite::tungstenite;
use bytes::Bytes;

use crate::http::memory::HeldBytes;

/// A complete message, assembled from its fragments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text. If a client sends text that is not UTF-8, the connection is closed with 1007.
    Text(String),
    /// Binary data.
    Binary(Vec<u8>),
}

/// A message that waits for the handler.
#[derive(Debug)]
pub(super) struct CountedMessage {
    pub(super) message: Message,
    /// The message's share of the memory budget, until the handler receives it.
    pub(super) _held: Option<HeldBytes>,
}

/// An open WebSocket.
///
/// The connection is closed when the handler returns. Dropping the `WebSocket` does not close it.
#[derive(Debug)]
pub struct WebSocket {
    pub(super) incoming: async_channel::Receiver<CountedMessage>,
    pub(super) sender: Sender,
    pub(super) protocol: Option<String>,
}

/// Sends messages on a WebSocket, also from other tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender(pub(super) async_channel::Sender<OutgoingFrame>);

/// A message or a close that the handler sends.
#[derive(Debug)]
pub(super) enum OutgoingFrame {
    Message(Message),
    Close(Code, String),
}

/// The error of sending on a WebSocket that is closed or closing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A close code (RFC 6455, section 7.4).
pub(super) type Code = u16;

impl WebSocket {
    /// Returns the next message, or `None` if the client or the server closed the WebSocket or the connection is lost.
    ///
    /// ```
    /// # async fn handler(mut socket: slackwater::ws::WebSocket) {
    /// while let Some(message) = socket.recv().await {
    ///     println!("{message:?}");
    /// }
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<Message> {
        self.incoming
            .recv()
            .await
            .ok()
            .map(|counted| counted.message)
    }

    /// Sends a message. Waits while the client reads more slowly than the handler sends.
    ///
    /// # Errors
    /// The connection is closed. If the handler returns this error, it is not logged as a failure.
    ///
    /// ```
    /// # async fn handler(socket: slackwater::ws::WebSocket) -> slackwater::Result<()> {
    /// socket.send("hello").await?;
    /// socket.send(vec![1, 2, 3]).await?;
    /// # Ok(()) }
    /// ```
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Closed> {
        self.sender.send(message).await
    }

    /// Closes the WebSocket after all messages sent before, with a code and a reason of at most 123 bytes.
    ///
    /// 1000 is a normal closure; 4000 to 4999 are for applications. A code that must not be sent is replaced by 1000,
    /// and a longer reason is truncated. Without this call, the code is 1000 if the handler returns, and 1011 if it
    /// fails.
    pub async fn close(self, code: u16, reason: &str) {
        self.sender.close(code, reason).await;
    }

    /// Returns a sender for other tasks.
    ///
    /// ```
    /// # async fn handler(mut socket: slackwater::ws::WebSocket) {
    /// let sender = socket.sender();
    /// async_std::task::spawn(async move { sender.send("from elsewhere").await });
    /// while socket.recv().await.is_some() {}
    /// # }
    /// ```
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Returns the subprotocol that was negotiated with [`Upgrade::protocols`](super::Upgrade::protocols).
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }
}

impl Sender {
    /// Sends a message, as [`WebSocket::send`] does.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Closed> {
        self.0
            .send(OutgoingFrame::Message(message.into()))
            .await
            .map_err(|_| Closed)
    }

    /// Resolves when the connection is closed.
    ///
    /// Use it in a handler that does not receive messages. Such a handler otherwise does not notice a drain, and a
    /// shutdown waits for it.
    ///
    /// ```
    /// use futures_lite::FutureExt;
    ///
    /// # async fn handler(socket: slackwater::ws::WebSocket, news: async_channel::Receiver<String>) -> slackwater::Result<()> {
    /// let closed = socket.sender();
    /// let forward = async {
    ///     while let Ok(item) = news.recv().await {
    ///         socket.send(item).await?;
    ///     }
    ///     Ok(())
    /// };
    /// let closed = async {
    ///     closed.closed().await;
    ///     Ok(())
    /// };
    /// forward.or(closed).await
    /// # }
    /// ```
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    pub(super) async fn close(&self, code: Code, reason: &str) {
        // fails if the connection is already closed
        let _ = self
            .0
            .send(OutgoingFrame::Close(code, reason.to_owned()))
            .await;
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Message::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Message::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Message::Binary(bytes)
    }
}

impl From<Message> for tungstenite::Message {
    fn from(message: Message) -> Self {
        match message {
            Message::Text(text) => tungstenite::Message::Text(text.into()),
            Message::Binary(bytes) => tungstenite::Message::Binary(Bytes::from(bytes)),
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the WebSocket is closed")
    }
}

impl std::error::Error for Closed {}

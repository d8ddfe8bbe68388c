//! A handler's end of a WebSocket: messages in, messages out.

use std::fmt;

use async_tungstenite::tungstenite;
use bytes::Bytes;

/// A message: text or bytes, put together from however many fragments it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text, which is UTF-8: the connection fails with 1007 where it is not.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// An open WebSocket, as its handler has it.
///
/// The connection is closed when the handler returns; dropping this alone does not close it.
#[derive(Debug)]
pub struct WebSocket {
    pub(super) incoming: async_channel::Receiver<Message>,
    pub(super) sender: Sender,
    pub(super) protocol: Option<String>,
}

/// Sends on a WebSocket from anywhere: another task, a room full of chatters. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sender(pub(super) async_channel::Sender<Outgoing>);

/// What a handler wants to have done.
#[derive(Debug)]
pub(super) enum Outgoing {
    Message(Message),
    Close(Code, String),
}

/// The connection is closed, or about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// A close code (RFC 6455, section 7.4).
pub(super) type Code = u16;

impl WebSocket {
    /// The next message; `None` when there will be none: the client or the server has closed, or the connection is gone.
    ///
    /// ```
    /// # async fn handler(mut socket: slackwater::ws::WebSocket) {
    /// while let Some(message) = socket.recv().await {
    ///     println!("{message:?}");
    /// }
    /// # }
    /// ```
    pub async fn recv(&mut self) -> Option<Message> {
        self.incoming.recv().await.ok()
    }

    /// Sends a message; waits where the client takes them more slowly than they come.
    ///
    /// # Errors
    /// The connection is closed. A handler may return that: it is no failure.
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

    /// Closes with a code and a reason of up to 123 bytes, after all that was sent before.
    ///
    /// Codes for an application's own use are 4000 to 4999; 1000 is "all is well". A code that may not be sent becomes
    /// 1000, and a longer reason is cut. Without this a handler's return closes with 1000, its failure with 1011.
    ///
    /// ```
    /// # async fn handler(socket: slackwater::ws::WebSocket) {
    /// socket.close(4001, "your session has ended").await;
    /// # }
    /// ```
    pub async fn close(self, code: u16, reason: &str) {
        self.sender.close(code, reason).await;
    }

    /// A second way to send, for another task.
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

    /// The subprotocol that was agreed on, of those that [`Upgrade::protocols`](super::Upgrade::protocols) offered.
    ///
    /// ```
    /// # fn handler(socket: slackwater::ws::WebSocket) {
    /// let speaks_v2 = socket.protocol() == Some("chat.v2");
    /// # }
    /// ```
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }
}

impl Sender {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    /// The connection is closed.
    ///
    /// ```
    /// # async fn room(members: Vec<slackwater::ws::Sender>) {
    /// for member in &members {
    ///     let _ = member.send("somebody came in").await;
    /// }
    /// # }
    /// ```
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), Closed> {
        self.0
            .send(Outgoing::Message(message.into()))
            .await
            .map_err(|_| Closed)
    }

    /// Resolves when the connection is closed: for a handler that waits for something else than messages, which a
    /// drain would otherwise wait for.
    ///
    /// ```
    /// use futures_lite::FutureExt;
    ///
    /// # async fn handler(socket: slackwater::ws::WebSocket, news: async_channel::Receiver<String>) -> slackwater::Result<()> {
    /// let closed = socket.sender();
    /// let tell = async {
    ///     while let Ok(item) = news.recv().await {
    ///         socket.send(item).await?;
    ///     }
    ///     Ok(())
    /// };
    /// let closed = async {
    ///     closed.closed().await;
    ///     Ok(())
    /// };
    /// tell.or(closed).await
    /// # }
    /// ```
    pub async fn closed(&self) {
        self.0.closed().await;
    }

    pub(super) async fn close(&self, code: Code, reason: &str) {
        // one that is closed already needs no second close
        let _ = self.0.send(Outgoing::Close(code, reason.to_owned())).await;
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

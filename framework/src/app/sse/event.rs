//! An event in the text format of the HTML standard, section 9.2.6.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

/// An event of an event stream: data and a name, a `retry:` hint, or a comment.
///
/// ```
/// use slackwater::sse::Event;
///
/// let event = Event::data("12 knots").name("wind").id("7");
/// assert_eq!(event.to_string(), "event: wind\nid: 7\ndata: 12 knots\n\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    name: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
    data: Option<String>,
    comment: Option<String>,
}

impl Event {
    /// Creates an event with data. Each line of the data becomes a `data:` line.
    #[must_use]
    pub fn data(data: impl Into<String>) -> Self {
        Event {
            data: Some(data.into()),
            ..Event::default()
        }
    }

    /// Creates an event with JSON data.
    ///
    /// # Errors
    /// The value cannot be serialized to JSON.
    pub fn json(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::to_string(value).map(Event::data)
    }

    /// Creates a comment. Clients ignore it, but it keeps the connection from timing out. The stream sends an empty
    /// comment itself after 15 seconds without an event.
    #[must_use]
    pub fn comment(text: impl Into<String>) -> Self {
        Event {
            comment: Some(text.into()),
            ..Event::default()
        }
    }

    /// Sets the event's name. Without a name, the client dispatches a `message` event. Line breaks in the name are
    /// removed.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the event's id. A client that reconnects sends the last id that it received in the header
    /// `Last-Event-ID`. Line breaks and null bytes in the id are removed.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the time that the client waits before it reconnects, rounded down to milliseconds.
    #[must_use]
    pub fn retry(mut self, after: Duration) -> Self {
        self.retry = Some(after);
        self
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.comment.iter().flat_map(|comment| lines(comment)) {
            writeln!(f, ": {line}")?;
        }
        field(f, "event", self.name.as_deref())?;
        field(f, "id", self.id.as_deref())?;
        if let Some(retry) = self.retry {
            writeln!(f, "retry: {}", retry.as_millis())?;
        }
        for line in self.data.iter().flat_map(|data| lines(data)) {
            writeln!(f, "data: {line}")?;
        }
        f.write_char('\n')
    }
}

/// Writes a field on one line. Line breaks in the value are removed, because the text after one would be another field.
fn field(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&str>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    write!(f, "{name}: ")?;
    value
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n' | '\0'))
        .try_for_each(|c| f.write_char(c))?;
    f.write_char('\n')
}

/// Splits text into lines. The HTML standard ends a line at CR LF, LF or CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split("\r\n").flat_map(|part| part.split(['\n', '\r']))
}

impl From<&str> for Event {
    fn from(data: &str) -> Self {
        Event::data(data)
    }
}

impl From<String> for Event {
    fn from(data: String) -> Self {
        Event::data(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Parses a stream by the rules of the HTML standard. Returns name, id and data of each event.
    fn parse(stream: &str) -> Vec<(String, String, String)> {
        let (mut events, mut id) = (vec![], String::new());
        let (mut name, mut data) = (String::new(), None::<String>);
        for line in stream
            .replace("\r\n", "\n")
            .replace('\r', "\n")
            .split_terminator('\n')
        {
            match line.split_once(": ") {
                None if line.is_empty() => {
                    if let Some(data) = data.take() {
                        events.push((std::mem::take(&mut name), id.clone(), data));
                    }
                }
                Some(("event", value)) => name = value.into(),
                Some(("id", value)) => id = value.into(),
                Some(("data", value)) => match &mut data {
                    Some(data) => *data += &format!("\n{value}"),
                    None => data = Some(value.into()),
                },
                _ => {}
            }
        }
        events
    }

    #[test]
    fn data_is_split_at_every_kind_of_line_break() {
        assert_eq!(
            Event::data("a\r\nb\rc\n").to_string(),
            "data: a\ndata: b\ndata: c\ndata: \n\n"
        );
        assert_eq!(Event::data("").to_string(), "data: \n\n");
    }

    proptest! {
        #[test]
        fn text_in_a_name_an_id_or_data_cannot_inject_a_field(name in "(?s).*", id in "(?s).*", data in "(?s).*") {
            let sent = Event::data(data.clone()).name(name.clone()).id(id.clone());
            let stream = format!("{sent}{}", Event::data("end"));
            let stripped = |text: &str| text.replace(['\r', '\n', '\0'], "");
            let data = data.replace("\r\n", "\n").replace('\r', "\n");
            let first = (stripped(&name), stripped(&id), data);
            let second = (String::new(), stripped(&id), "end".to_owned());
            prop_assert_eq!(parse(&stream), [first, second]);
        }
    }
}

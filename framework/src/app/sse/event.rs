//! One event, in the form that the event stream of the HTML standard gives it (section 9.2.6).

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

/// What a client is sent: data, most often with a name; or a hint, or a comment.
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
    /// An event with data, of any number of lines.
    ///
    /// ```
    /// let event = slackwater::sse::Event::data("one\ntwo");
    /// assert_eq!(event.to_string(), "data: one\ndata: two\n\n");
    /// ```
    #[must_use]
    pub fn data(data: impl Into<String>) -> Self {
        Event {
            data: Some(data.into()),
            ..Event::default()
        }
    }

    /// An event whose data is JSON.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    ///
    /// ```
    /// let event = slackwater::sse::Event::json(&[1, 2])?;
    /// assert_eq!(event.to_string(), "data: [1,2]\n\n");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn json(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::to_string(value).map(Event::data)
    }

    /// Something that clients do not see: it only shows that the connection stands. The stream sends one by itself when
    /// nothing else was sent for 15 seconds.
    ///
    /// ```
    /// assert_eq!(slackwater::sse::Event::comment("still here").to_string(), ": still here\n\n");
    /// ```
    #[must_use]
    pub fn comment(text: impl Into<String>) -> Self {
        Event {
            comment: Some(text.into()),
            ..Event::default()
        }
    }

    /// The event's name, by which a client listens for it; without one it is a `message`. Line breaks in it are left out.
    ///
    /// ```
    /// let event = slackwater::sse::Event::data("12 knots").name("wind");
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The event's id: a client that comes back names the last one it saw in the header `Last-Event-ID`. Line breaks
    /// and zero bytes in it are left out.
    ///
    /// ```
    /// let event = slackwater::sse::Event::data("12 knots").id("7");
    /// ```
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// How long the client waits before it opens the stream again when it has ended; whole milliseconds.
    ///
    /// ```
    /// let event = slackwater::sse::Event::default().retry(std::time::Duration::from_secs(5));
    /// assert_eq!(event.to_string(), "retry: 5000\n\n");
    /// ```
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

/// A field of one line: what would end it is left out, or the rest would be a field of its own.
fn field(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&str>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    write!(f, "{name}: ")?;
    value
        .chars()
        .filter(|c| !matches!(c, '\r' | '\n' | '\0'))
        .try_for_each(|c| f.write_char(c))?;
    f.write_char('\n')
}

/// The standard ends a line at CR LF, at LF and at CR.
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

    /// What a client makes of a stream, by the standard's rules: names, ids and data of the events.
    fn parsed(stream: &str) -> Vec<(String, String, String)> {
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
    fn a_line_break_of_any_kind_makes_a_line_of_data() {
        assert_eq!(
            Event::data("a\r\nb\rc\n").to_string(),
            "data: a\ndata: b\ndata: c\ndata: \n\n"
        );
        assert_eq!(Event::data("").to_string(), "data: \n\n");
    }

    proptest! {
        #[test]
        fn nothing_in_a_name_or_in_data_can_make_a_field_of_its_own(name in "(?s).*", id in "(?s).*", data in "(?s).*") {
            let sent = Event::data(data.clone()).name(name.clone()).id(id.clone());
            let stream = format!("{sent}{}", Event::data("end"));
            let kept = |text: &str| text.replace(['\r', '\n', '\0'], "");
            let data = data.replace("\r\n", "\n").replace('\r', "\n");
            let first = (kept(&name), kept(&id), data);
            let second = (String::new(), kept(&id), "end".to_owned());
            prop_assert_eq!(parsed(&stream), [first, second]);
        }
    }
}

//! Follows a job over server-sent events. A broken connection is taken up again after the last event
//! that arrived, so nothing is lost and nothing comes twice.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::Value;

use crate::{Client, Error, Event, Job};

/// Failures in a row after which a follower gives up: about two minutes.
const TRIES: u32 = 60;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What a follower hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// Something happened.
    Event(Event),
    /// The job said how far it is.
    Progress(Value),
    /// The job ended; this is the last update.
    End(Box<Job>),
}

/// A follower; see [`Client::follow`].
pub struct Follow {
    client: Client,
    job: String,
    last: i64,
    stream: Option<Response>,
    buffer: Vec<u8>,
    failures: u32,
}

impl Follow {
    pub(crate) fn new(client: Client, job: String, after: i64) -> Self {
        Self { client, job, last: after, stream: None, buffer: vec![], failures: 0 }
    }

    /// The next update. To be called until [`Update::End`].
    ///
    /// # Errors
    /// There is no such job, the token is refused, or the daemon was away for minutes.
    pub async fn next(&mut self) -> Result<Update, Error> {
        loop {
            while let Some(message) = self.message() {
                if let Some(update) = self.read(&message) {
                    self.failures = 0;
                    return Ok(update);
                }
            }
            match self.receive().await {
                Ok(()) => {}
                Err(error) if error.is_transient() && self.failures < TRIES => {
                    self.stream = None;
                    self.buffer.clear();
                    self.failures += 1;
                    tokio::time::sleep(LONGEST_WAIT.min(FIRST_WAIT * self.failures)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds what comes next to the buffer; connects if there is no connection.
    async fn receive(&mut self) -> Result<(), Error> {
        let stream = if let Some(stream) = &mut self.stream {
            stream
        } else {
            let path = ["v1", "jobs", &self.job, "logs"];
            let request = self.client.request(Method::GET, &path).header("last-event-id", self.last);
            self.stream.insert(self.client.send(request).await?)
        };
        match stream.chunk().await.map_err(|error| self.client.unreachable(error))? {
            Some(bytes) => self.buffer.extend_from_slice(&bytes),
            // the daemon goes down, or a proxy cut the stream
            None => return Err(Error::Closed { url: self.client.url().to_string() }),
        }
        Ok(())
    }

    /// Takes the first whole message out of the buffer.
    fn message(&mut self) -> Option<String> {
        let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")?;
        let message: Vec<u8> = self.buffer.drain(..end + 2).collect();
        Some(String::from_utf8_lossy(&message).into_owned())
    }

    fn read(&mut self, message: &str) -> Option<Update> {
        let field = |name: &str| {
            message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_start)
        };
        let data = field("data")?;
        match field("event")? {
            "event" => {
                let event: Event = serde_json::from_str(data).ok()?;
                self.last = event.seq;
                Some(Update::Event(event))
            }
            "progress" => Some(Update::Progress(serde_json::from_str(data).ok()?)),
            "end" => Some(Update::End(serde_json::from_str(data).ok()?)),
            _ => None,
        }
    }
}

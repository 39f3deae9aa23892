//! A teacher's server that answers as it is told to: right, wrong, half, slowly or not at all.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What the server does with a request.
pub(crate) enum Reply {
    /// An answer.
    Good(Value),
    /// A refusal with these headers and this text.
    Refused(u16, Vec<(&'static str, String)>, String),
    /// An answer of which the second half does not come.
    Half(Value),
    /// An answer that never ends, a byte at a time.
    Slow,
    /// Good, after so long.
    Late(Duration, Value),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The body.
    pub(crate) body: Value,
    /// The header `Authorization`.
    pub(crate) key: Option<String>,
}

/// A request as it came, whatever it asks.
pub(crate) struct Raw {
    /// The method and the path.
    pub(crate) asked: String,
    /// The header `Authorization`.
    pub(crate) key: Option<String>,
    /// What was sent.
    pub(crate) body: Vec<u8>,
}

/// A server of this machine.
pub(crate) struct Server {
    /// Its address up to `/chat/completions`.
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Serves on a port of its own. `reply` is given the number of the request, from 0, and its body.
    pub(crate) fn start(reply: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(vec![]));
        let (reply, requests) = (Arc::new(reply), Arc::clone(&seen));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (reply, requests) = (Arc::clone(&reply), Arc::clone(&requests));
                // a client may hang up at any time
                thread::spawn(move || serve(stream, reply.as_ref(), &requests));
            }
        });
        Self { url, seen }
    }

    /// Serves whatever is asked on a port of its own, and returns the address up to `/chat/completions`.
    pub(crate) fn raw(reply: impl Fn(Raw) -> (u16, String) + Send + Sync + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let reply = Arc::new(reply);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let reply = Arc::clone(&reply);
                thread::spawn(move || {
                    let (status, text) = reply(read(&stream)?);
                    let length = text.len();
                    let head = format!(
                        "HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                    );
                    stream.write_all((head + &text).as_bytes())
                });
            }
        });
        url
    }

    /// The requests that came so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    reply: &dyn Fn(usize, &Value) -> Reply,
    requests: &Mutex<Vec<Seen>>,
) -> std::io::Result<()> {
    let Raw { key, body, .. } = read(&stream)?;
    let body: Value = serde_json::from_slice(&body)?;
    let number = {
        let mut requests = requests.lock().unwrap();
        requests.push(Seen { body: body.clone(), key });
        requests.len() - 1
    };
    let mut stream = stream;
    let mut send = |status: u16, headers: &[(&str, String)], text: &str, length: usize| {
        let mut head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\nconnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n{text}").as_bytes())
    };
    match reply(number, &body) {
        Reply::Good(value) => send(200, &[], &value.to_string(), value.to_string().len()),
        Reply::Late(wait, value) => {
            thread::sleep(wait);
            send(200, &[], &value.to_string(), value.to_string().len())
        }
        Reply::Refused(status, headers, text) => send(status, &headers, &text, text.len()),
        Reply::Half(value) => {
            let text = value.to_string();
            send(200, &[], &text[..text.len() / 2], text.len())
        }
        Reply::Slow => {
            send(200, &[], "{", 1 << 20)?;
            loop {
                thread::sleep(Duration::from_millis(100));
                stream.write_all(b" ")?;
            }
        }
    }
}

/// A request as it stands in the stream.
fn read(stream: &TcpStream) -> std::io::Result<Raw> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length, mut key) = (String::new(), 0, None);
    reader.read_line(&mut line)?;
    let asked = line.rsplit_once(' ').map(|(asked, _)| asked.to_owned()).unwrap_or_default();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => key = Some(value.to_owned()),
            Some(_) => {}
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Raw { asked, key, body })
}

/// An answer with these choices, of 10 tokens for the prompt and 5 for each choice.
pub(crate) fn answer(texts: &[&str]) -> Value {
    let choice = |(index, text): (usize, &&str)| {
        let message = json!({ "role": "assistant", "content": text, "reasoning_content": "hm" });
        json!({ "index": index, "finish_reason": "stop", "message": message })
    };
    let choices: Vec<_> = texts.iter().enumerate().map(choice).collect();
    json!({
        "choices": choices,
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5 * texts.len(),
            "prompt_tokens_details": { "cached_tokens": 4 },
            "completion_tokens_details": { "reasoning_tokens": 2 },
        },
    })
}

/// What the user's turn of a request says.
pub(crate) fn asked(body: &Value) -> String {
    let turns = body["messages"].as_array().unwrap();
    turns.last().unwrap()["content"].as_str().unwrap().to_owned()
}

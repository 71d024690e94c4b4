//! The pipe: commands out, answers and events in; each a JSON object that ends with a zero byte.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::support::wait::PATIENCE;

/// May be used by many threads at a time: answers find whoever asked.
pub(super) struct Pipe {
    to: Mutex<Out>,
    heard: Arc<Mutex<Heard>>,
}

struct Out {
    stream: ChildStdin,
    last_id: u64,
}

/// What came back.
#[derive(Default)]
struct Heard {
    waiting: HashMap<u64, Sender<Value>>,
    /// What pages complained of, by their session.
    complaints: HashMap<String, Vec<String>>,
    is_over: bool,
}

// === impl Pipe ===

impl Pipe {
    /// A thread reads until the browser ends.
    pub(super) fn new(to: ChildStdin, from: ChildStdout) -> Pipe {
        let heard = Arc::<Mutex<Heard>>::default();
        let hears = heard.clone();
        std::thread::spawn(move || {
            for message in BufReader::new(from).split(0) {
                let Ok(message) = message else { break };
                let message = serde_json::from_slice(&message).expect("the browser speaks JSON");
                lock(&hears).take(message);
            }
            lock(&hears).end();
        });
        Pipe { to: Mutex::new(Out { stream: to, last_id: 0 }), heard }
    }

    /// What the browser answers to a command, which it must know how to do.
    #[track_caller]
    pub(super) fn call(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let answer = self.try_call(session, method, parameters);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The same of a command that it may refuse, for instance while a page is being exchanged for another.
    pub(super) fn try_call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value, String> {
        let (sender, answer) = channel();
        self.send(session, method, parameters, sender)?;
        let mut answer = answer.recv_timeout(PATIENCE).map_err(|error| format!("no answer: {error}"))?;
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["result"].take()),
        }
    }

    fn send(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
        answer: Sender<Value>,
    ) -> Result<(), String> {
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        to.last_id += 1;
        let mut command = json!({ "id": to.last_id, "method": method });
        command["params"] = parameters;
        if let Some(session) = session {
            command["sessionId"] = json!(session);
        }
        {
            let mut heard = lock(&self.heard);
            if heard.is_over {
                return Err("the browser has ended".to_owned());
            }
            heard.waiting.insert(to.last_id, answer);
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        to.stream.write_all(&bytes).map_err(|error| error.to_string())
    }

    /// What a tab's pages have complained of since this was asked last.
    pub(super) fn complaints(&self, session: &str) -> Vec<String> {
        lock(&self.heard).complaints.remove(session).unwrap_or_default()
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Heard ===

impl Heard {
    fn take(&mut self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            // Whoever asked may have lost patience.
            let _ = self.waiting.remove(&id).map(|waiting| waiting.send(message));
            return;
        }
        let complaint = match message["method"].as_str() {
            Some("Log.entryAdded") => complaint(&message["params"]["entry"]),
            Some("Runtime.exceptionThrown") => Some(message["params"]["exceptionDetails"].to_string()),
            _ => None,
        };
        if let (Some(complaint), Some(session)) = (complaint, message["sessionId"].as_str()) {
            self.complaints.entry(session.to_owned()).or_default().push(complaint);
        }
    }

    /// Nobody is answered any more.
    fn end(&mut self) {
        self.is_over = true;
        self.waiting.clear();
    }
}

/// What stands in the console as an error: violations of the content security policy do. That an answer was 404 is
/// no fault of the page that it made.
fn complaint(entry: &Value) -> Option<String> {
    let is_error = entry["level"] == "error" && entry["source"] != "network";
    is_error.then(|| entry["text"].to_string())
}

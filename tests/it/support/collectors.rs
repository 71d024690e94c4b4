//! Stripe and Lago on this machine, as they document themselves: what they take, what they know twice and for how long,
//! and what they refuse. They may be told to fail.
//!
//! Knows only the standard library and JSON, so that the tests inside the crate use it as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// A server that is both. Ends with the process.
#[derive(Clone)]
pub(crate) struct Collectors {
    url: String,
    state: Arc<Mutex<State>>,
}

/// How it fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// It answers 503, and has taken nothing.
    Down,
    /// It takes what it is sent, and answers 500.
    FailsAfterTaking,
    /// It takes what it is sent, and the connection ends without an answer.
    HangsUpAfterTaking,
    /// It answers 429 and wants to be left alone for so many seconds.
    Busy(u64),
}

/// An event that was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    pub(crate) identifier: String,
    /// The customer, or the subscription.
    pub(crate) account: String,
    /// The meter, or the billable metric.
    pub(crate) meter: String,
    pub(crate) units: u64,
    /// In seconds since 1970.
    pub(crate) at: i64,
    pub(crate) taken_at: i64,
}

type Now = dyn Fn() -> i64 + Send;

struct State {
    now: Box<Now>,
    mood: Mood,
    taken: Vec<Taken>,
    /// Accounts that there are not.
    unknown: BTreeSet<String>,
    subscriptions: HashMap<String, Value>,
    /// Answers by their idempotency keys.
    answered: HashMap<String, (u16, Value)>,
    asked: Vec<String>,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// What it is known by.
pub(crate) const SECRET: &str = "sk_test_standin";

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

// === impl Collectors ===

impl Collectors {
    /// `now` tells the time, in seconds since 1970.
    pub(crate) fn start(now: impl Fn() -> i64 + Send + 'static) -> Collectors {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound socket"));
        let state = Arc::new(Mutex::new(State {
            now: Box::new(now),
            mood: Mood::Well,
            taken: Vec::new(),
            unknown: BTreeSet::new(),
            subscriptions: HashMap::new(),
            answered: HashMap::new(),
            asked: Vec::new(),
        }));
        let collectors = Collectors { url, state };
        let serving = collectors.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        collectors
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn fares(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// There is no such account from now on, or there is.
    pub(crate) fn knows(&self, account: &str, known: bool) {
        let mut state = self.state();
        if known {
            state.unknown.remove(account)
        } else {
            state.unknown.insert(account.to_owned())
        };
    }

    /// How a subscription of Stripe's stands.
    pub(crate) fn subscription(&self, id: &str, customer: &str, status: &str, prices: &[&str]) {
        let items: Vec<_> = prices.iter().map(|price| json!({ "price": { "id": price } })).collect();
        let subscription = json!({
            "id": id, "object": "subscription", "customer": customer, "status": status, "items": { "data": items },
        });
        self.state().subscriptions.insert(id.to_owned(), subscription);
    }

    /// Everything that was taken, in this order.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.state().taken.clone()
    }

    /// What was asked: method and path.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    /// Units by account and hour.
    pub(crate) fn sums(&self) -> BTreeMap<(String, i64), u64> {
        let mut sums = BTreeMap::new();
        for taken in &self.state().taken {
            let hour = taken.at.div_euclid(HOUR) * HOUR;
            *sums.entry((taken.account.clone(), hour)).or_insert(0) += taken.units;
        }
        sums
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) {
        let Ok(Some(request)) = Request::read(&stream) else { return };
        let answer = self.state().answer(&request);
        let Some((status, retry_after, body)) = answer else { return };
        let body = body.to_string();
        let retry = retry_after.map_or(String::new(), |seconds| format!("retry-after: {seconds}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\n{retry}content-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(format!("{head}{body}").as_bytes());
    }
}

// === impl State ===

impl State {
    /// Status, `Retry-After` and body; `None` if the connection just ends.
    fn answer(&mut self, request: &Request) -> Option<(u16, Option<u64>, Value)> {
        self.asked.push(format!("{} {}", request.method, request.path));
        let fault = || json!({ "error": { "message": "something went wrong", "type": "api_error" } });
        match self.mood {
            Mood::Down => return Some((503, None, fault())),
            Mood::Busy(seconds) => return Some((429, Some(seconds), fault())),
            Mood::Well | Mood::FailsAfterTaking | Mood::HangsUpAfterTaking => {}
        }
        let bearer = format!("Bearer {SECRET}");
        if request.headers.get("authorization") != Some(&bearer) {
            return Some((401, None, json!({ "error": { "message": "Invalid API Key provided" } })));
        }
        let key = request.headers.get("idempotency-key").cloned();
        if let Some((status, body)) = key.as_ref().and_then(|key| self.answered.get(key)) {
            return Some((*status, None, body.clone()));
        }
        let (status, body) = self.done(request);
        let (status, body) = match self.mood {
            Mood::FailsAfterTaking if request.method == "POST" => (500, fault()),
            Mood::HangsUpAfterTaking if request.method == "POST" => return None,
            _ => (status, body),
        };
        // Stripe keeps its answer to a key, whatever it was.
        if let Some(key) = key {
            self.answered.insert(key, (status, body.clone()));
        }
        Some((status, None, body))
    }

    fn done(&mut self, request: &Request) -> (u16, Value) {
        let parts: Vec<_> = request.path.trim_start_matches('/').split('/').collect();
        match (request.method.as_str(), &parts[..]) {
            ("POST", ["v1", "billing", "meter_events"]) => self.take_meter_event(request),
            ("GET", ["v1", "billing", "meters"]) => (200, self.meters()),
            ("GET", ["v1", "billing", "meters", id, "event_summaries"]) => (200, self.summaries(id, request)),
            ("GET", ["v1", "subscriptions", id]) => match self.subscriptions.get(*id) {
                Some(found) => (200, found.clone()),
                None => (
                    404,
                    json!({ "error": { "code": "resource_missing", "message": "No such subscription" } }),
                ),
            },
            ("POST", ["api", "v1", "events", "batch"]) => self.take_batch(request),
            _ => (404, json!({ "error": { "message": "Unrecognized request URL" } })),
        }
    }

    /// <https://docs.stripe.com/api/billing/meter-event/create>
    fn take_meter_event(&mut self, request: &Request) -> (u16, Value) {
        let form = pairs(&String::from_utf8_lossy(&request.body));
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let invalid = |message: String| {
            (400, json!({ "error": { "type": "invalid_request_error", "message": message } }))
        };
        let now = (self.now)();
        let (Ok(at), Ok(units)) = (field("timestamp").parse::<i64>(), field("payload[value]").parse()) else {
            return invalid("timestamp and payload[value] must be whole numbers".to_owned());
        };
        if !(now - 35 * DAY..=now + 300).contains(&at) {
            return invalid(
                "The timestamp must be within the past 35 days or up to 5 minutes in the future.".to_owned(),
            );
        }
        let (identifier, account) = (field("identifier"), field("payload[stripe_customer_id]"));
        if identifier.is_empty() || identifier.len() > 100 {
            return invalid("identifier must have 1 to 100 characters".to_owned());
        }
        if self.unknown.contains(&account) {
            return invalid(format!("No such customer: '{account}'"));
        }
        // Of earlier ones it knows nothing any more.
        let is_known = |taken: &Taken| taken.identifier == identifier && now - taken.taken_at < DAY;
        if self.taken.iter().any(is_known) {
            return invalid(format!("An event already exists with identifier {identifier}."));
        }
        let taken = Taken { identifier, account, meter: field("event_name"), units, at, taken_at: now };
        let body =
            json!({ "object": "billing.meter_event", "identifier": taken.identifier, "timestamp": at });
        self.taken.push(taken);
        (200, body)
    }

    fn meters(&self) -> Value {
        let meter =
            |name: &str| json!({ "id": format!("mtr_{name}"), "event_name": name, "status": "active" });
        let names: BTreeSet<_> =
            self.taken.iter().map(|taken| taken.meter.as_str()).chain(["calls"]).collect();
        json!({ "data": names.into_iter().map(meter).collect::<Vec<_>>(), "has_more": false })
    }

    fn summaries(&self, meter: &str, request: &Request) -> Value {
        let number =
            |name: &str| request.query.get(name).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        let (from, to) = (number("start_time"), number("end_time"));
        assert!(from % 60 == 0 && to % 60 == 0, "must be aligned with minute boundaries");
        let counted = self.taken.iter().filter(|taken| {
            format!("mtr_{}", taken.meter) == meter
                && Some(&taken.account) == request.query.get("customer")
                && (from..to).contains(&taken.at)
        });
        let sum: u64 = counted.map(|taken| taken.units).sum();
        let data = if sum == 0 { json!([]) } else { json!([{ "aggregated_value": sum as f64 }]) };
        json!({ "data": data, "has_more": false })
    }

    /// <https://getlago.com/docs/api-reference/events/batch>
    fn take_batch(&mut self, request: &Request) -> (u16, Value) {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let events = body["events"].as_array().cloned().unwrap_or_default();
        let refused = |details: Value| {
            let body = json!({
                "status": 422, "error": "Unprocessable Entity", "code": "validation_errors", "error_details": details,
            });
            (422, body)
        };
        if events.is_empty() || events.len() > 100 {
            return refused(json!({ "events": ["too_many_events"] }));
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let taken: Vec<_> = events
            .iter()
            .map(|event| Taken {
                identifier: text(&event["transaction_id"]),
                account: text(&event["external_subscription_id"]),
                meter: text(&event["code"]),
                units: event["properties"]["units"].as_u64().unwrap_or(0),
                at: event["timestamp"].as_i64().unwrap_or(0),
                taken_at: (self.now)(),
            })
            .collect();
        let mut details = serde_json::Map::new();
        for (place, event) in taken.iter().enumerate() {
            let known =
                |other: &Taken| (&other.identifier, &other.account) == (&event.identifier, &event.account);
            if self.taken.iter().any(known) {
                details.insert(place.to_string(), json!({ "transaction_id": ["value_already_exist"] }));
            } else if self.unknown.contains(&event.account) {
                details
                    .insert(place.to_string(), json!({ "external_subscription_id": ["value_is_invalid"] }));
            }
        }
        // One that can't be taken, and none is.
        if !details.is_empty() {
            return refused(details.into());
        }
        self.taken.extend(taken);
        (200, json!({ "events": events }))
    }
}

// === impl Request ===

impl Request {
    fn read(stream: &TcpStream) -> io::Result<Option<Request>> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Ok(Some(Request { method, path: path.to_owned(), query: pairs(query), headers, body }))
    }
}

/// Of a form or a query.
fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (decoded(name), decoded(value)));
    text.split('&').filter_map(pair).collect()
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

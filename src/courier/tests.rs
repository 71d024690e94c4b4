//! The courier, from a channel that is made by the control plane to what a receiver gets, by a clock that the test moves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Courier, CourierSettings, MailSecurity, MailSettings};
use crate::clock::{Clock, TestClock};
use crate::control::{
    ChannelChange, ChannelSettings, Control, CreatedChannel, NewChannel, NewTenant, Principal, TenantRef,
};
use crate::domain::{Actor, ChannelKind, Delivery, DeliveryState};
use crate::outbound::{Plain, Reach};
use crate::secret::hash::Pepper;
use crate::secret::seal::KeyRing;
use crate::store::Page;
use crate::store::testing::{TestStore, on_both};

on_both! {
    a_receiver_that_fails_for_an_hour_gets_it_under_one_id,
    a_delivery_that_never_arrives_is_a_dead_letter_and_can_be_sent_again,
    two_couriers_deliver_it_once,
    a_courier_that_died_in_the_middle_is_followed_by_another,
    while_a_secret_takes_anothers_place_both_sign,
    a_channel_that_is_disabled_gets_nothing_but_tests,
}

/// A receiver on this machine that answers with the statuses it is told to, then with 204.
struct Receiver {
    url: String,
    seen: Arc<Mutex<Vec<Message>>>,
    statuses: Arc<Mutex<Vec<u16>>>,
}

#[derive(Clone, Debug)]
struct Message {
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct House {
    store: TestStore,
    control: Control,
    clock: TestClock,
    owner: Principal,
    acme: TenantRef,
}

impl Receiver {
    async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/in", listener.local_addr().unwrap());
        let (seen, statuses) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<u16>>>::default());
        let (seeing, telling) = (seen.clone(), statuses.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let message = read(&mut stream).await;
                seeing.lock().unwrap().push(message);
                let status = telling.lock().unwrap().pop().unwrap_or(204);
                let answer =
                    format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Receiver { url, seen, statuses }
    }

    /// Statuses of the next answers, in this order.
    fn answers(&self, statuses: &[u16]) {
        *self.statuses.lock().unwrap() = statuses.iter().rev().copied().collect();
    }

    fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read(stream: &mut tokio::net::TcpStream) -> Message {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let length = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..length]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let headers: HashMap<_, _> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let body = &bytes[end + 4..];
        if body.len() >= headers["content-length"].parse().unwrap() {
            return Message { headers, body: body.to_vec() };
        }
    }
}

impl Message {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether one of its signatures is that of the secret.
    fn is_signed_with(&self, secret: &str) -> bool {
        let at = crate::clock::Timestamp::from_seconds(self.headers["webhook-timestamp"].parse().unwrap());
        let id = &self.headers["webhook-id"];
        let expected = super::signature::signatures([secret].into_iter(), id, at, &self.body).unwrap();
        self.headers["webhook-signature"].split(' ').any(|signature| signature == expected)
    }
}

fn ring() -> KeyRing {
    KeyRing::parse([(1, "07".repeat(32).as_str())]).unwrap()
}

impl House {
    async fn on(store: TestStore) -> House {
        let clock = TestClock::at("2026-11-23T06:00:00Z");
        let pepper = Pepper::new(1, &[7; 32]);
        let channels = ChannelSettings {
            allow_http: true,
            networks: vec!["127.0.0.0/8".parse().unwrap()],
            has_mail: true,
        };
        let control =
            Control::new((*store).clone(), Arc::new(clock.clone()), pepper.into(), Arc::new(Notify::new()))
                .with_secrets(ring())
                .with_channels(channels);
        let owner = Principal::platform(Actor::system("test"), Uuid::max());
        let acme = NewTenant { name: "Acme".to_owned(), ..NewTenant::default() };
        let acme = TenantRef::Id(control.create_tenant(&owner, acme).await.unwrap().id);
        House { store, control, clock, owner, acme }
    }

    fn courier(&self) -> Courier {
        self.courier_with(|_| {})
    }

    fn courier_with(&self, change: impl FnOnce(&mut CourierSettings)) -> Courier {
        let mut settings = CourierSettings {
            plain: Plain::Anywhere,
            reach: Reach::Public { and: vec!["127.0.0.0/8".parse().unwrap()] },
            ..CourierSettings::default()
        };
        change(&mut settings);
        let clock = Arc::new(self.clock.clone());
        Courier::new((*self.store).clone(), clock, ring(), settings, &Registry::new()).unwrap()
    }

    async fn channel(&self, kind: ChannelKind, target: &str) -> CreatedChannel {
        let new = NewChannel { name: "ops".to_owned(), kind, target: target.to_owned(), kinds: Vec::new() };
        self.control.create_channel(&self.owner, &self.acme, new).await.unwrap()
    }

    /// Something is sent to the channel.
    async fn sends(&self, channel: &CreatedChannel) -> Delivery {
        self.control.test_channel(&self.owner, &self.acme, channel.channel.id).await.unwrap()
    }

    async fn delivery(&self) -> Delivery {
        let all =
            self.control.deliveries(&self.owner, &self.acme, None, None, &Page::default()).await.unwrap();
        assert_eq!(all.items.len(), 1);
        all.items[0].clone()
    }
}

/// All that is due now, once.
async fn deliver(courier: &Courier) -> usize {
    let taken = courier.take(super::AT_ONCE).await;
    let number = taken.len();
    for delivery in taken {
        courier.attempt(delivery).await;
    }
    number
}

async fn a_receiver_that_fails_for_an_hour_gets_it_under_one_id(store: TestStore) {
    let (house, receiver) = (House::on(store).await, Receiver::start().await);
    let channel = house.channel(ChannelKind::Webhook, &receiver.url).await;
    let sent = house.sends(&channel).await;
    let courier = house.courier();
    receiver.answers(&[500; 100]);
    let began = house.clock.now();
    while house.clock.now().since(began) < Duration::from_secs(3_600) {
        deliver(&courier).await;
        house.clock.advance(Duration::from_secs(1));
    }
    let failures = receiver.seen().len();
    assert_eq!(failures, 4, "at once, after 5 s, 5 and 30 minutes");
    let waiting = house.delivery().await;
    assert_eq!((waiting.state, waiting.attempts), (DeliveryState::Pending, 4));
    assert_eq!(waiting.last_error.as_deref(), Some("it answers 500"));
    receiver.answers(&[]);
    // The next attempt is two hours after the last, and at most a fifth later.
    house.clock.advance(Duration::from_secs(8_640));
    deliver(&courier).await;
    house.clock.advance(Duration::from_secs(10 * 86_400));
    assert_eq!(deliver(&courier).await, 0, "what is delivered is not sent again");
    let seen = receiver.seen();
    assert_eq!(seen.len(), failures + 1);
    let secret = channel.secret.unwrap();
    for message in &seen {
        assert_eq!(message.headers["webhook-id"], sent.id.to_string());
        assert_eq!(message.body, seen[0].body, "the same, byte for byte");
        assert!(message.is_signed_with(&secret));
    }
    assert_ne!(seen[0].headers["webhook-timestamp"], seen[4].headers["webhook-timestamp"]);
    assert_eq!(seen[0].json()["type"], "alert.test");
    assert_eq!(seen[0].json()["data"]["tenant_id"], sent.tenant.to_string());
    assert_eq!(house.delivery().await.state, DeliveryState::Delivered);
}

async fn a_delivery_that_never_arrives_is_a_dead_letter_and_can_be_sent_again(store: TestStore) {
    let (house, receiver) = (House::on(store).await, Receiver::start().await);
    let channel = house.channel(ChannelKind::Webhook, &receiver.url).await;
    house.sends(&channel).await;
    let courier = house.courier();
    receiver.answers(&[503; 10]);
    for _ in 0..100 {
        deliver(&courier).await;
        house.clock.advance(Duration::from_secs(3_600));
    }
    let dead = house.delivery().await;
    assert_eq!((dead.state, dead.attempts), (DeliveryState::Dead, 10));
    assert_eq!(receiver.seen().len(), 10);
    let again = house.control.resend_delivery(&house.owner, &house.acme, dead.id).await.unwrap();
    assert_eq!((again.id, again.state), (dead.id, DeliveryState::Pending));
    deliver(&courier).await;
    assert_eq!(house.delivery().await.state, DeliveryState::Delivered);
    assert_eq!(receiver.seen()[10].headers["webhook-id"], dead.id.to_string());
    // A receiver that is gone is not asked again.
    receiver.answers(&[410]);
    house.sends(&channel).await;
    deliver(&courier).await;
    let dead = Some(DeliveryState::Dead);
    let dead =
        house.control.deliveries(&house.owner, &house.acme, None, dead, &Page::default()).await.unwrap();
    assert_eq!(dead.items.len(), 1);
    assert_eq!(dead.items[0].attempts, 1);
}

async fn two_couriers_deliver_it_once(store: TestStore) {
    let (house, receiver) = (House::on(store).await, Receiver::start().await);
    let channel = house.channel(ChannelKind::Webhook, &receiver.url).await;
    for _ in 0..10 {
        house.sends(&channel).await;
    }
    let (one, other) = (house.courier(), house.courier());
    let (first, second) = tokio::join!(deliver(&one), deliver(&other));
    assert_eq!(first + second, 10);
    let mut ids: Vec<_> =
        receiver.seen().iter().map(|message| message.headers["webhook-id"].clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((receiver.seen().len(), ids.len()), (10, 10));
}

async fn a_courier_that_died_in_the_middle_is_followed_by_another(store: TestStore) {
    let (house, receiver) = (House::on(store).await, Receiver::start().await);
    let channel = house.channel(ChannelKind::Webhook, &receiver.url).await;
    house.sends(&channel).await;
    let dead = house.courier();
    let taken = dead.take(1).await;
    assert_eq!(taken.len(), 1);
    let living = house.courier();
    assert_eq!(deliver(&living).await, 0, "somebody is at it");
    house.clock.advance(Duration::from_secs(41));
    assert_eq!(deliver(&living).await, 1);
    // The dead one was only slow: what it did counts no more.
    dead.attempt(taken[0].clone()).await;
    let delivery = house.delivery().await;
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Delivered, 2));
    let seen = receiver.seen();
    assert_eq!((seen.len(), &seen[0].headers["webhook-id"]), (2, &seen[1].headers["webhook-id"]));
}

async fn while_a_secret_takes_anothers_place_both_sign(store: TestStore) {
    let (house, receiver) = (House::on(store).await, Receiver::start().await);
    let made = house.channel(ChannelKind::Webhook, &receiver.url).await;
    let (id, grace) = (made.channel.id, Duration::from_secs(60));
    let rotated = house.control.rotate_channel(&house.owner, &house.acme, id, grace).await.unwrap();
    let (old, new) = (made.secret.clone().unwrap(), rotated.secret.unwrap());
    let courier = house.courier();
    house.sends(&made).await;
    deliver(&courier).await;
    house.clock.advance(Duration::from_secs(61));
    house.sends(&made).await;
    deliver(&courier).await;
    let seen = receiver.seen();
    assert!(seen[0].is_signed_with(&old) && seen[0].is_signed_with(&new));
    assert!(!seen[1].is_signed_with(&old) && seen[1].is_signed_with(&new));
}

async fn a_channel_that_is_disabled_gets_nothing_but_tests(store: TestStore) {
    let (house, receiver) = (House::on(store).await, Receiver::start().await);
    let made = house.channel(ChannelKind::Slack, &format!("{}/T0/secret", receiver.url)).await;
    assert!(!made.channel.target.contains("secret") && made.secret.is_none());
    let off = ChannelChange { enabled: Some(false), ..ChannelChange::default() };
    let off = house.control.change_channel(&house.owner, &house.acme, made.channel.id, off).await.unwrap();
    assert!(!off.takes(crate::domain::AlertKind::Quota));
    house.sends(&made).await;
    deliver(&house.courier()).await;
    let text = receiver.seen()[0].json()["text"].as_str().unwrap().to_owned();
    assert_eq!(text, ":information_source: *Acme*: This is a test of the channel ops.");
}

#[tokio::test]
async fn an_address_behind_the_gateway_is_not_asked() {
    let (house, receiver) = (House::on(TestStore::sqlite().await).await, Receiver::start().await);
    let channel = house.channel(ChannelKind::Webhook, &receiver.url).await;
    house.sends(&channel).await;
    let strict = house.courier_with(|settings| settings.reach = Reach::Public { and: Vec::new() });
    deliver(&strict).await;
    assert_eq!(receiver.seen().len(), 0);
    let error = house.delivery().await.last_error.unwrap();
    assert_eq!(error, "127.0.0.1 is not an address that may be reached");
    // And a name that leads there is none either.
    let port = receiver.url.rsplit_once(':').unwrap().1;
    let named = house.channel(ChannelKind::Webhook, &format!("http://localhost:{port}")).await;
    house.sends(&named).await;
    deliver(&strict).await;
    assert_eq!(receiver.seen().len(), 0);
}

#[tokio::test]
async fn mail_says_what_happened_and_keeps_its_id() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let house = House::on(TestStore::sqlite().await).await;
    let channel = house.channel(ChannelKind::Email, "ops@acme.example").await;
    let sent = house.sends(&channel).await;
    let courier = house.courier_with(|settings| {
        settings.mail = Some(MailSettings {
            host: "127.0.0.1".to_owned(),
            port,
            security: MailSecurity::Plain,
            credentials: None,
            from: "Tollgate <alerts@tollgate.example>".to_owned(),
            ca: None,
        });
    });
    let (taken, mail) = tokio::join!(deliver(&courier), take_mail(&listener));
    assert_eq!(taken, 1);
    for line in [
        "RCPT TO:<ops@acme.example>",
        "MAIL FROM:<alerts@tollgate.example>",
        "Subject: [info] Acme: This is a test of the channel ops.",
        &format!("Message-ID: <{}@tollgate.example>", sent.id),
        "Kind: test",
    ] {
        assert!(mail.contains(line), "{line} is not in\n{mail}");
    }
    assert_eq!(house.delivery().await.state, DeliveryState::Delivered);
}

/// As much of SMTP as one message needs; answers all that was said.
async fn take_mail(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut said, mut buffer) = (String::new(), [0; 4_096]);
    stream.write_all(b"220 here\r\n").await.unwrap();
    let mut in_data = false;
    loop {
        let length = stream.read(&mut buffer).await.unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        said.push_str(&text);
        let answer = match &text[..text.len().min(4)] {
            _ if length == 0 => return said,
            _ if in_data && !said.ends_with("\r\n.\r\n") => continue,
            _ if in_data => {
                in_data = false;
                "250 taken\r\n"
            }
            "EHLO" => "250 hello\r\n",
            "DATA" => {
                in_data = true;
                "354 go on\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "250 good\r\n",
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

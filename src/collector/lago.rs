//! Lago: events, a hundred at a time.
//!
//! # Why a batch that is refused is not lost, and not there either
//! One event that Lago knows already makes it refuse the whole batch, with the places of those that it knows. These are
//! there; the rest is not, and is sent again. A batch that is refused without a place is halved until the culprit is
//! found.

use serde_json::{Value, json};

use super::{Collector, Fate, Trouble};
use crate::domain::billing::BillingEvent;
use crate::outbound::Question;

/// What Lago takes at most in one question.
pub(super) const BATCH_MAX: usize = 100;
/// What an event carries its units as: the field that a billable metric sums.
const UNITS: &str = "units";

// === impl Collector ===

impl Collector {
    pub(super) async fn send_to_lago(&self, events: &[BillingEvent]) -> Vec<Fate> {
        let mut fates: Vec<_> = events.iter().map(|event| self.refused_unsent(event)).collect();
        let unsent = (0..events.len()).filter(|at| fates[*at].is_none()).collect::<Vec<_>>();
        let mut batches = vec![unsent];
        while let Some(batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.send_batch(batch.iter().map(|at| &events[*at])).await {
                Ok(_) => batch.iter().for_each(|at| fates[*at] = Some(Fate::Arrived)),
                Err(Trouble::Refused { status, body }) => {
                    let told = told_of(&body, batch.len());
                    if told.is_empty() && batch.len() == 1 {
                        fates[batch[0]] = Some(Trouble::Refused { status, body }.fate());
                    } else if told.is_empty() {
                        let (one, other) = batch.split_at(batch.len() / 2);
                        batches.extend([one.to_vec(), other.to_vec()]);
                    } else {
                        let is_told = |at: &usize| told.iter().any(|(place, _)| batch[*place] == *at);
                        batches.push(batch.iter().copied().filter(|at| !is_told(at)).collect());
                        told.into_iter().for_each(|(place, fate)| fates[batch[place]] = Some(fate));
                    }
                }
                Err(Trouble::Setback(setback)) => {
                    batch.iter().for_each(|at| fates[*at] = Some(Fate::Waits(setback.clone())));
                }
            }
        }
        fates.into_iter().flatten().collect()
    }

    fn refused_unsent(&self, event: &BillingEvent) -> Option<Fate> {
        self.meter(event.resource).is_none().then(|| Fate::not_counted(event.resource))
    }

    async fn send_batch(&self, events: impl Iterator<Item = &BillingEvent>) -> Result<Value, Trouble> {
        let event = |event: &BillingEvent| {
            json!({
                "transaction_id": event.identifier(),
                "external_subscription_id": event.account,
                "code": self.meter(event.resource),
                "timestamp": event.bucket.seconds(),
                "properties": { UNITS: event.units },
            })
        };
        let body = json!({ "events": events.map(event).collect::<Vec<_>>() });
        let headers = vec![
            ("authorization", format!("Bearer {}", self.settings.secret)),
            ("content-type", "application/json".to_owned()),
        ];
        let question = Question { headers, body: Some(body.to_string().into_bytes()) };
        self.ask("/api/v1/events/batch", question).await
    }
}

/// What is said of single events, by their places in the batch.
fn told_of(body: &Value, length: usize) -> Vec<(usize, Fate)> {
    let details = body["error_details"].as_object();
    let told = details.into_iter().flatten().filter_map(|(place, faults)| {
        let place = place.parse::<usize>().ok().filter(|place| *place < length)?;
        let is_known = faults["transaction_id"]
            .as_array()
            .is_some_and(|faults| faults.iter().any(|fault| fault == "value_already_exist"));
        Some((place, if is_known { Fate::Arrived } else { Fate::Refused(faults.to_string()) }))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::told_of;
    use crate::collector::Fate;

    #[test]
    fn a_refusal_says_of_which_events_it_is_and_why() {
        let body = json!({ "status": 422, "error_details": {
            "1": { "transaction_id": ["value_already_exist"] },
            "2": { "code": ["value_is_invalid"] },
            "9": { "code": ["value_is_invalid"] },
            "external_subscription_id": ["value_is_mandatory"],
        } });
        let expected =
            [(1, Fate::Arrived), (2, Fate::Refused(r#"{"code":["value_is_invalid"]}"#.to_owned()))];
        assert_eq!(told_of(&body, 3), expected);
        assert_eq!(told_of(&json!({}), 3), []);
    }
}

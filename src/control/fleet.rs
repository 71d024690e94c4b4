//! The fleet, as far as one gateway can tell: itself, and who else brings usage to the same store.

use std::time::Duration;

use uuid::Uuid;

use super::principal::Operation;
use super::work::Target;
use super::{Control, ControlError, Principal};
use crate::clock::Timestamp;

/// A gateway of this store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewaySeen {
    /// Its till's id, which outlives its process.
    pub id: Uuid,
    /// Whether it is the one that answers.
    pub is_this: bool,
    /// When it last brought usage; `None` in the last hour never, which one that serves nobody has no reason to.
    pub last_flush_at: Option<Timestamp>,
    /// Records of the journal that it brought in the last hour.
    pub records: u64,
}

/// How far back gateways are looked for.
const LOOKED_BACK: Duration = Duration::from_secs(3_600);

impl Control {
    /// This gateway first, if one runs here, then the others that brought usage in the last hour.
    ///
    /// # Errors
    /// [`ControlError::Forbidden`]
    pub async fn gateways(&self, principal: &Principal) -> Result<Vec<GatewaySeen>, ControlError> {
        self.allow(principal, Operation::Reconcile, &Target::platform("books")).await?;
        let seen = self.read().await?.flushers(self.now().minus(LOOKED_BACK)).await?;
        let own = self.parts.till.as_ref().map(|till| till.id().0);
        let mut gateways: Vec<_> = own
            .map(|id| GatewaySeen { id, is_this: true, last_flush_at: None, records: 0 })
            .into_iter()
            .collect();
        for flusher in seen {
            let is_this = own == Some(flusher.till);
            let (id, last_flush_at) = (flusher.till, Some(flusher.last_at));
            let gateway = GatewaySeen { id, is_this, last_flush_at, records: flusher.records };
            match gateways.first_mut() {
                Some(first) if is_this => *first = gateway,
                _ => gateways.push(gateway),
            }
        }
        Ok(gateways)
    }
}

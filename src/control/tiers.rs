//! Tiers and resource types, read.

use super::principal::Operation;
use super::{Control, ControlError, Principal};
use crate::domain::{ResourceType, Tier};

impl Control {
    /// The latest version of each tier, cheapest first.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn tiers(&self, principal: &Principal) -> Result<Vec<Tier>, ControlError> {
        principal.authorize(Operation::ReadTiers)?;
        Ok(self.read_as(principal).await?.tiers().await?)
    }

    /// Everything that is counted.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn resource_types(&self, principal: &Principal) -> Result<Vec<ResourceType>, ControlError> {
        principal.authorize(Operation::ReadTiers)?;
        Ok(self.read_as(principal).await?.resource_types().await?)
    }
}

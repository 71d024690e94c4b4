//! Tiers and resource types, read.

use super::principal::Operation;
use super::work::Target;
use super::{Control, ControlError, Principal};
use crate::domain::{ResourceType, Tier};

impl Control {
    /// The latest version of each tier, cheapest first.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn tiers(&self, principal: &Principal) -> Result<Vec<Tier>, ControlError> {
        self.allow(principal, Operation::ReadTiers, &Target::platform("tier")).await?;
        Ok(self.read_as(principal).await?.tiers().await?)
    }

    /// Everything that is counted.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn resource_types(&self, principal: &Principal) -> Result<Vec<ResourceType>, ControlError> {
        self.allow(principal, Operation::ReadTiers, &Target::platform("tier")).await?;
        Ok(self.read_as(principal).await?.resource_types().await?)
    }
}

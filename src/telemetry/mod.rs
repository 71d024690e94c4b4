//! What the process says about itself: logs and readiness. Knows no other room, so that all may speak through it.

pub mod log;
pub mod readiness;

//! What templates do with values that are not text yet.

#![expect(unreachable_pub, reason = "what a filter is made of is public, says its macro")]
#![allow(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]

use std::fmt::Display;

use askama::Values;
use askama::filters::Safe;

use super::text;
use crate::clock::Timestamp;
use crate::domain::Units;
use crate::domain::billing::Money;

/// A name of ours as words.
#[askama::filter_fn]
pub(super) fn words(name: impl Display, _: &dyn Values) -> askama::Result<String> {
    Ok(text::words(&name.to_string()))
}

/// An instant to the minute, and to the microsecond for programs.
#[askama::filter_fn]
pub(super) fn when(at: &Timestamp, _: &dyn Values) -> askama::Result<Safe<String>> {
    Ok(Safe(format!("<time datetime=\"{at}\">{}</time>", text::instant(*at))))
}

/// A number with its thousands apart.
#[askama::filter_fn]
pub(super) fn grouped(number: &u64, _: &dyn Values) -> askama::Result<String> {
    Ok(text::grouped(*number))
}

/// The same of units.
#[askama::filter_fn]
pub(super) fn units(units: &Units, _: &dyn Values) -> askama::Result<String> {
    Ok(text::grouped(units.get()))
}

/// An amount with its thousands apart.
#[askama::filter_fn]
pub(super) fn money(money: &Money, _: &dyn Values) -> askama::Result<String> {
    Ok(text::money(*money))
}

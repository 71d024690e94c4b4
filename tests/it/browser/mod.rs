//! The console as people meet it: in a real browser, on a real gateway.

mod administration;
mod billing;
mod forms;
mod instrument;
mod journey;
mod pages;
mod people;
mod site;

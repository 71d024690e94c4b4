//! What takes its time at the gateway: gibibytes, and thousands of clients.

mod bodies;
mod crowds;

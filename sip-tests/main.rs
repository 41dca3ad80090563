//! The whole program in virtual time, the torture messages, and the rules of the house.

mod data;
#[expect(clippy::expect_used, reason = "a test may give up")]
mod flows;
#[expect(clippy::expect_used, reason = "a test may give up")]
mod sim;
#[expect(clippy::expect_used, reason = "a test may give up")]
mod swarm;
#[expect(clippy::expect_used, reason = "a test may give up")]
mod tidy;
mod torture;

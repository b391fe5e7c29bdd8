//! Bounds on exchanges, each a stage of the way: how many, how large, how long.
//!
//! Owns the stages; must not know what lies behind them.

mod body;
mod rate;
mod time;

pub(crate) use body::BodyLimit;
pub(crate) use rate::{Buckets, RateLimit};
pub(crate) use time::AnswerTimeout;

#[cfg(test)]
mod tests;

//! Bounds on exchanges, each a stage of the way: how many, how large, how long.
//!
//! Owns the stages; must not know what lies behind them.

mod body;
mod bucket;
mod lease;
mod rate;
mod reach;
mod shared;
mod time;

pub(crate) use body::BodyLimit;
pub(crate) use bucket::Buckets;
pub(crate) use rate::RateLimit;
pub(crate) use reach::Reach;
pub(crate) use time::AnswerTimeout;

#[cfg(test)]
mod tests;

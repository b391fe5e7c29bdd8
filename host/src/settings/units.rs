//! Sizes, times and rates as a user writes them.
//!
//! Like `values`: parsed once, the same on the command line and in a file, and every error says what to write.

use std::{
    num::{NonZeroU32, NonZeroU64},
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use jiff::{SignedDuration, Span, SpanRelativeTo};

use super::values::Wrong;
use crate::proxy::Rate;

/// A number of bytes, at least one. `kB`, `MB`, `GB` are powers of 1000; `KiB`, `MiB`, `GiB` powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl Size {
    /// The size as a length in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        match text.trim().parse::<ByteSize>() {
            Ok(ByteSize(bytes @ 1..)) => Ok(Self(bytes)),
            Ok(ByteSize(0)) => {
                Err(Wrong("a size of 0 would let nothing pass; write for example 500kB".to_owned()))
            }
            Err(_) => Err(Wrong(format!(
                "\"{text}\" is no size; write a number and a unit: 500kB, 2GB (of 1000) or 512KiB, 64MiB (of 1024)"
            ))),
        }
    }
}

/// A [`Size`], or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxBody(pub Option<u64>);

impl FromStr for MaxBody {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text == "unlimited" {
            return Ok(Self(None));
        }
        match text.parse() {
            Ok(Size(bytes)) => Ok(Self(Some(bytes))),
            Err(Wrong(why)) => Err(Wrong(format!("{why}, or \"unlimited\""))),
        }
    }
}

/// A length of time above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub Duration);

impl FromStr for Wait {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let parsed = text.trim().parse::<SignedDuration>().ok();
        match parsed.and_then(|time| Duration::try_from(time).ok()) {
            Some(time) if !time.is_zero() => Ok(Self(time)),
            Some(_) => Err(Wrong("a time of 0 is too short; write for example 500ms".to_owned())),
            None => Err(Wrong(format!("\"{text}\" is no time; write a number and a unit: 30s, 500ms, 2m"))),
        }
    }
}

/// A length of time that may be counted in days, or none at all: `180d`, `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongTime(pub Duration);

impl FromStr for LongTime {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let days = SpanRelativeTo::days_are_24_hours();
        let span = text.trim().parse::<Span>().and_then(|span| span.to_duration(days)).ok();
        let time = span.and_then(|time| Duration::try_from(time).ok());
        time.map(Self)
            .ok_or_else(|| Wrong(format!("\"{text}\" is no time; write a number and a unit: 180d, 52w, 24h")))
    }
}

/// A rate limit, or `off`: `1000/s`, `10/min`, or with the burst named, `1000/s,burst=5000`; by default twice the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit(pub Option<Rate>);

impl FromStr for RateLimit {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = || {
            Wrong(format!(
                "\"{text}\" is no rate; write 1000/s or 10/min, with a burst 1000/s,burst=5000 (each at least 1), or off"
            ))
        };
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (rate, Some(burst.trim().strip_prefix("burst=").ok_or_else(wrong)?)),
            None => (text, None),
        };
        let (number, per) = match rate.trim().split_once('/') {
            Some((number, "s")) => (number, 1),
            Some((number, "min")) => (number, 60),
            _ => return Err(wrong()),
        };
        let tokens: NonZeroU32 = number.parse().map_err(|_| wrong())?;
        let burst = match burst {
            Some(burst) => burst.parse().map_err(|_| wrong())?,
            None => tokens.saturating_mul(NonZeroU32::new(2).expect("not zero")),
        };
        Ok(Self(Some(Rate { tokens, per: Duration::from_secs(per), burst })))
    }
}

/// The bytes a second that are expected at least, or `off`: `240B/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeastRate(pub Option<NonZeroU64>);

impl FromStr for LeastRate {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        if text == "off" {
            return Ok(Self(None));
        }
        let size = text.trim().strip_suffix("/s").and_then(|size| size.parse::<Size>().ok());
        match size.and_then(|size| NonZeroU64::new(size.0)) {
            Some(least) => Ok(Self(Some(least))),
            None => Err(Wrong(format!(
                "\"{text}\" is no rate of bytes; write a size a second, 240B/s or 1kB/s, or \"off\""
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_least_rate_is_a_size_a_second() {
        assert_eq!("240B/s".parse(), Ok(LeastRate(NonZeroU64::new(240))));
        assert_eq!("1 KiB/s".parse(), Ok(LeastRate(NonZeroU64::new(1024))));
        assert_eq!("off".parse(), Ok(LeastRate(None)));
        for text in ["240", "0B/s", "-1B/s", "/s", "240B/m"] {
            let Wrong(why) = text.parse::<LeastRate>().unwrap_err();
            assert!(why.contains("240B/s"), "{text}: {why}");
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary_as_written() {
        for (text, bytes) in [
            ("500kB", 500_000),
            ("500KB", 500_000),
            ("2GB", 2_000_000_000),
            ("64MiB", 64 * 1024 * 1024),
            ("512 KiB", 512 * 1024),
            ("1.5MB", 1_500_000),
            ("1000", 1000),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "500 kilos", "-1", "MB", "unlimited", "0", "0MB"] {
            let Wrong(why) = text.parse::<Size>().unwrap_err();
            assert!(why.contains("500kB"), "{why}");
        }
    }

    #[test]
    fn only_a_body_is_unlimited() {
        assert_eq!("unlimited".parse(), Ok(MaxBody(None)));
        assert_eq!("2GB".parse(), Ok(MaxBody(Some(2_000_000_000))));
        let Wrong(why) = "lots".parse::<MaxBody>().unwrap_err();
        assert!(why.contains("\"lots\"") && why.contains("\"unlimited\""), "{why}");
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!("30s".parse(), Ok(Wait(Duration::from_secs(30))));
        assert_eq!("500ms".parse(), Ok(Wait(Duration::from_millis(500))));
        assert_eq!("1m 30s".parse(), Ok(Wait(Duration::from_secs(90))));
        for text in ["30", "", "-5s", "soon", "0s"] {
            let Wrong(why) = text.parse::<Wait>().unwrap_err();
            assert!(why.contains("500ms"), "{text}: {why}");
        }
    }

    #[test]
    fn rates_have_a_burst() {
        let rate = |per_second, burst| {
            let number = |n| NonZeroU32::new(n).unwrap();
            Ok(RateLimit(Some(Rate::per_second(number(per_second), number(burst)))))
        };
        assert_eq!("1000/s".parse(), rate(1000, 2000));
        assert_eq!("5/s,burst=50".parse(), rate(5, 50));
        assert_eq!("5/s, burst=50".parse(), rate(5, 50));
        assert_eq!("4000000000/s".parse(), rate(4_000_000_000, u32::MAX));
        assert_eq!("off".parse(), Ok(RateLimit(None)));
        for text in ["", "0/s", "5", "5/m", "5/s,50", "5/s,burst=0", "-5/s"] {
            let Wrong(why) = text.parse::<RateLimit>().unwrap_err();
            assert!(why.contains("1000/s"), "{text}: {why}");
        }
    }
}

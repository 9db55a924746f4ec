//! The current time: the only file that reads the system clock. Tests pass a fixed clock.
//!
//! Times are for users (creation dates, retention); no decision about safety depends on a clock.

use std::sync::atomic::{AtomicI64, Ordering};

/// A source of the current time.
pub trait Clock: Send + Sync {
    /// Returns the milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}

/// The system clock.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one function that reads the clock")]
    fn now_ms(&self) -> i64 {
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }
}

/// A clock that shows a fixed time until it is set.
pub struct FixedClock(AtomicI64);

impl FixedClock {
    /// Starts at `ms` milliseconds since 1970-01-01T00:00:00Z.
    pub fn new(ms: i64) -> Self {
        Self(AtomicI64::new(ms))
    }

    /// Sets the clock to `ms`.
    pub fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::Relaxed);
    }
}

impl Clock for FixedClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Writes a time as RFC 3339 in UTC with milliseconds, as `2026-11-23T01:45:00.000Z`. Times outside
/// the years -9999..=9999 are clamped.
pub fn format_time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    format!("{time:.3}")
}

/// Parses an RFC 3339 / ISO 8601 time with an offset, or a plain date (`2026-11-23`, midnight UTC),
/// to milliseconds.
pub fn parse_time(text: &str) -> Option<i64> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.as_millisecond());
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_in_rfc_3339() {
        assert_eq!(format_time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(format_time(1_795_398_300_123), "2026-11-23T01:45:00.123Z");
        assert_eq!(parse_time("2026-11-23T01:45:00.123Z"), Some(1_795_398_300_123));
        assert_eq!(parse_time("2026-11-23T02:45:00.123+01:00"), Some(1_795_398_300_123));
        assert_eq!(parse_time("1970-01-02"), Some(86_400_000));
        assert_eq!(parse_time("yesterday"), None);
        assert!(format_time(i64::MAX).starts_with("9999-"));
    }
}

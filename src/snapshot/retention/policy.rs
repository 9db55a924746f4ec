//! Retention policies as the user states them, and their checks.
//!
//! A [`RetentionPolicy`] is the input of the user, as a struct or as JSON. [`Rules`] is the same
//! after all checks, and the only form that can be applied. So a policy that is empty, misspelt or
//! out of range is refused before anything is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::id::SnapshotId;

/// Keys of a policy in JSON, in the order of messages.
const KEYS: [&str; 13] = [
    "keepLast",
    "keepHours",
    "keepDays",
    "keepWeeks",
    "keepMonths",
    "keepYears",
    "keepWithin",
    "keepTags",
    "keepIds",
    "groupBy",
    "timeZone",
    "dayStartsAt",
    "anchor",
];

/// The number of snapshots that a counting rule keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// The rule is off.
    #[default]
    Off,
    /// This many; 0 is the same as [`Keep::Off`].
    Count(u32),
    /// One of each period, without a limit.
    All,
}

impl Keep {
    /// True when the rule keeps something.
    pub fn is_on(self) -> bool {
        !matches!(self, Self::Off | Self::Count(0))
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("0"),
            Self::Count(count) => write!(f, "{count}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// The time from which `keep_within` is counted back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The newest snapshot of the group that is not dated in the future.
    #[default]
    Latest,
    /// The time at which the policy is applied.
    Now,
}

/// Which snapshots to keep. A snapshot is kept when any rule selects it; the newest of each group
/// is always kept.
///
/// The names are those of the JSON form in snake case. In the default every rule is off, which
/// [`Rules::new`] refuses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// The newest snapshots.
    pub keep_last: Keep,
    /// The newest of each of the last hours that have one.
    pub keep_hours: Keep,
    /// The newest of each of the last calendar days that have one.
    pub keep_days: Keep,
    /// The newest of each of the last ISO weeks (Monday to Sunday) that have one.
    pub keep_weeks: Keep,
    /// The newest of each of the last calendar months that have one.
    pub keep_months: Keep,
    /// The newest of each of the last calendar years that have one.
    pub keep_years: Keep,
    /// All snapshots at most this much older than the anchor: `7d`, `1y6m`, `2w`, `36h`; units in
    /// the order y, m, w, d, h.
    pub keep_within: Option<String>,
    /// Snapshots that have all tags of one of these maps; the value `*` matches any value.
    pub keep_tags: Vec<BTreeMap<String, String>>,
    /// The snapshots with these ids.
    pub keep_ids: Vec<SnapshotId>,
    /// Snapshots that differ in one of these tags are counted separately.
    pub group_by: Vec<String>,
    /// Name of the time zone of calendar periods, such as `Europe/Berlin`; `UTC` when `None`.
    pub time_zone: Option<String>,
    /// Start of a day as `HH:MM`; midnight when `None`. It shifts weeks, months and years too, but
    /// not hours.
    pub day_starts_at: Option<String>,
    /// The time from which `keep_within` is counted back.
    pub anchor: Anchor,
}

impl RetentionPolicy {
    /// Parses a policy from a JSON object. Members that are `null` are ignored.
    ///
    /// # Errors
    /// When the text is not such an object, has an unknown key, or a value of the wrong kind. The
    /// policy as a whole is checked by [`Rules::new`].
    pub fn from_json(text: &str) -> Result<Self, PolicyError> {
        let Ok(Value::Object(members)) = serde_json::from_str(text) else {
            return refuse("it is not a JSON object");
        };
        let mut policy = Self::default();
        for (key, value) in &members {
            if !KEYS.contains(&key.as_str()) {
                return refuse(format!(
                    "{key:?} is not a key of a policy; the keys are {}",
                    KEYS.join(", ")
                ));
            }
            if !value.is_null() {
                policy.set(key, value)?;
            }
        }
        Ok(policy)
    }

    /// Sets the field of `key`, which is one of [`KEYS`].
    fn set(&mut self, key: &str, value: &Value) -> Result<(), PolicyError> {
        match key {
            "keepLast" => self.keep_last = count(key, value)?,
            "keepHours" => self.keep_hours = count(key, value)?,
            "keepDays" => self.keep_days = count(key, value)?,
            "keepWeeks" => self.keep_weeks = count(key, value)?,
            "keepMonths" => self.keep_months = count(key, value)?,
            "keepYears" => self.keep_years = count(key, value)?,
            "keepWithin" => self.keep_within = Some(text(key, value)?),
            "keepTags" => self.keep_tags = list(key, value, tag_map)?,
            "keepIds" => self.keep_ids = list(key, value, whole_id)?,
            "groupBy" => self.group_by = list(key, value, text)?,
            "timeZone" => self.time_zone = Some(text(key, value)?),
            "dayStartsAt" => self.day_starts_at = Some(text(key, value)?),
            _ => self.anchor = anchor(value)?,
        }
        Ok(())
    }

    /// The counting rules with their periods, in the order of reasons.
    fn counts(&self) -> [(Period, Keep); 6] {
        [
            (Period::Each, self.keep_last),
            (Period::Hour, self.keep_hours),
            (Period::Day, self.keep_days),
            (Period::Week, self.keep_weeks),
            (Period::Month, self.keep_months),
            (Period::Year, self.keep_years),
        ]
    }
}

/// A policy is refused. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError {
    /// The refused part, and why.
    pub reason: String,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for PolicyError {}

/// The unit of a counting rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// Each snapshot.
    Each,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    /// Key of the rule that counts it.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Self::Each => KEYS[0],
            Self::Hour => KEYS[1],
            Self::Day => KEYS[2],
            Self::Week => KEYS[3],
            Self::Month => KEYS[4],
            Self::Year => KEYS[5],
        }
    }
}

/// A policy that passed all checks and can be applied.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The counting rules that are on.
    pub(super) counts: Vec<(Period, Keep)>,
    /// `keepWithin` as text and parsed.
    pub(super) within: Option<(String, Within)>,
    pub(super) keep_tags: Vec<BTreeMap<String, String>>,
    pub(super) keep_ids: BTreeSet<SnapshotId>,
    pub(super) group_by: Vec<String>,
    pub(super) zone: TimeZone,
    /// From midnight to the start of the day.
    pub(super) day_starts_after: SignedDuration,
    pub(super) anchor: Anchor,
}

impl Rules {
    /// Checks `policy`.
    ///
    /// # Errors
    /// When it keeps nothing, or when a duration, time zone or time of day is not valid.
    pub fn new(policy: &RetentionPolicy) -> Result<Self, PolicyError> {
        let counts: Vec<_> = policy.counts().into_iter().filter(|(_, keep)| keep.is_on()).collect();
        let within = match &policy.keep_within {
            None => None,
            Some(text) => match Within::parse(text) {
                Some(within) => Some((text.clone(), within)),
                None => {
                    return refuse(format!(
                        "keepWithin: {text:?} is not a duration such as 7d, 1y6m, 2w or 36h"
                    ));
                }
            },
        };
        if counts.is_empty() && within.is_none() && policy.keep_tags.is_empty() && policy.keep_ids.is_empty() {
            return refuse("it keeps nothing; to remove all snapshots, forget them by their ids");
        }
        Ok(Self {
            counts,
            within,
            keep_tags: policy.keep_tags.clone(),
            keep_ids: policy.keep_ids.iter().copied().collect(),
            group_by: policy.group_by.clone(),
            zone: zone(policy.time_zone.as_deref().unwrap_or("UTC"))?,
            day_starts_after: day_starts_after(policy.day_starts_at.as_deref().unwrap_or("00:00"))?,
            anchor: policy.anchor,
        })
    }

    /// Name of the time zone of calendar periods.
    pub fn time_zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }
}

/// A duration in calendar units and hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Within {
    months: i64,
    days: i64,
    hours: i64,
}

impl Within {
    /// Parses `1y2m3w4d5h`: at least one of these parts, in this order.
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut parts = [None; 5];
        for (part, unit) in parts.iter_mut().zip(['y', 'm', 'w', 'd', 'h']) {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, after) = rest.split_at(digits);
            if let (false, Some(after)) = (number.is_empty(), after.strip_prefix(unit)) {
                *part = Some(i64::from(number.parse::<u32>().ok()?));
                rest = after;
            }
        }
        if !rest.is_empty() || parts.iter().all(Option::is_none) {
            return None;
        }
        let [years, months, weeks, days, hours] = parts.map(Option::unwrap_or_default);
        Some(Self {
            // parsed as 32 bits, so none of these can overflow
            months: years * 12 + months,
            days: weeks * 7 + days,
            hours,
        })
    }

    /// The time of this duration before `anchor_ms`, both in milliseconds since
    /// 1970-01-01T00:00:00Z; `None` when it is before the first year of the calendar.
    ///
    /// Months, then days are subtracted from the date in `zone`; a day that the month does not have
    /// becomes its last one. Then hours are subtracted. Of a time that occurs twice in the zone the
    /// first is used, and a time in a gap is moved past it by the same distance.
    pub(super) fn before(self, anchor_ms: i64, zone: &TimeZone) -> Option<i64> {
        let anchor = timestamp(anchor_ms);
        let civil = zone.to_offset(anchor).to_datetime(anchor);
        let months = i64::from(civil.year()) * 12 + i64::from(civil.month()) - 1 - self.months;
        let year = i16::try_from(months.div_euclid(12)).ok()?;
        let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
        let first = Date::new(year, month, 1).ok()?;
        let date = Date::new(year, month, civil.day().min(first.days_in_month())).ok()?;
        let moved = date
            .to_datetime(civil.time())
            .checked_sub(SignedDuration::from_hours(self.days * 24))
            .ok()?;
        let time = zone.to_timestamp(moved).ok()?;
        let cut = time.checked_sub(SignedDuration::from_hours(self.hours)).ok()?;
        Some(cut.as_millisecond())
    }
}

/// The time in the calendar, clamped to its years (-9999 to 9999).
pub(super) fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError { reason: reason.into() })
}

/// The time zone of that name in the bundled database. The database of the system is not used, so
/// that a policy keeps the same snapshots on every machine.
fn zone(name: &str) -> Result<TimeZone, PolicyError> {
    match TimeZoneDatabase::bundled().get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => refuse(format!("timeZone: there is no time zone {name:?}")),
    }
}

/// Parses `HH:MM`.
fn day_starts_after(text: &str) -> Result<SignedDuration, PolicyError> {
    let parts = |text: &str| -> Option<Time> {
        let (hour, minute) = text.split_once(':')?;
        let number = |digits: &str| {
            let two = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| two)
        };
        Time::new(number(hour)?, number(minute)?, 0, 0).ok()
    };
    match parts(text) {
        Some(time) => Ok(time.duration_since(Time::midnight())),
        None => refuse(format!(
            "dayStartsAt: {text:?} is not a time of day as HH:MM, 00:00 to 23:59"
        )),
    }
}

fn count(key: &str, value: &Value) -> Result<Keep, PolicyError> {
    if value == "all" {
        return Ok(Keep::All);
    }
    match value.as_u64().map(u32::try_from) {
        Some(Ok(count)) => Ok(Keep::Count(count)),
        Some(Err(_)) => refuse(format!(
            "{key}: {value} is more than {}; to keep all, use \"all\"",
            u32::MAX
        )),
        None => refuse(format!(
            "{key}: {value} is neither a whole number from 0 on nor \"all\""
        )),
    }
}

fn text(key: &str, value: &Value) -> Result<String, PolicyError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => refuse(format!("{key}: {other} is not a string")),
    }
}

fn list<T>(
    key: &str,
    value: &Value,
    entry: impl Fn(&str, &Value) -> Result<T, PolicyError>,
) -> Result<Vec<T>, PolicyError> {
    match value {
        Value::Array(entries) => entries.iter().map(|value| entry(key, value)).collect(),
        other => refuse(format!("{key}: {other} is not an array")),
    }
}

fn tag_map(key: &str, value: &Value) -> Result<BTreeMap<String, String>, PolicyError> {
    match value {
        Value::Object(tags) => tags
            .iter()
            .map(|(tag, value)| Ok((tag.clone(), text(key, value)?)))
            .collect(),
        other => refuse(format!("{key}: {other} is not an object of tags and their values")),
    }
}

fn whole_id(key: &str, value: &Value) -> Result<SnapshotId, PolicyError> {
    match value.as_str().and_then(SnapshotId::from_hex) {
        Some(id) => Ok(id),
        None => refuse(format!(
            "{key}: {value} is not a whole snapshot id of 32 lower-case hex digits"
        )),
    }
}

fn anchor(value: &Value) -> Result<Anchor, PolicyError> {
    match value.as_str() {
        Some("latest") => Ok(Anchor::Latest),
        Some("now") => Ok(Anchor::Now),
        _ => refuse(format!("anchor: {value} is neither \"latest\" nor \"now\"")),
    }
}

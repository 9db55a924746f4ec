//! Which snapshots a policy keeps, and why: a pure function of the list, the policy and the time.
//!
//! The snapshots are put into groups (`group_by`), and each group is walked from the newest to the oldest:
//!
//! ```text
//! the newest                        kept as "newest"
//! dated more than 5 minutes ahead   kept as "future"; the rest goes on as if it were not there
//! keepX: n                          the newest of each of the first n periods that have a snapshot, as "keepX 3/7";
//!                                   if less than n were found, the oldest of the group too, as "keepX oldest"
//! keepWithin: d                     everything from `anchor - d` on, that moment included
//! keepTags, keepIds                 whatever they name
//! ```
//!
//! Always true: the rules do not know each other, so adding one or raising a count never lets a snapshot go, and a list
//! that was pruned loses nothing more by the same policy. The order of the list does not matter: of two snapshots made in
//! the same millisecond the one with the greater id counts as newer. Periods are those of the calendar in the policy's zone, shifted
//! by `day_starts_at`; a period without a snapshot does not count, so that a job that stood still loses nothing.
//!
//! Deleting is left to the caller.

mod policy;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;

use super::order::{Recency, is_future};
use crate::id::SnapshotId;

pub use policy::{Anchor, Keep, PolicyError, RetentionPolicy, Rules};
use policy::{Period, timestamp};

/// The value in `keep_tags` that any value meets.
const ANY_VALUE: &str = "*";
/// The tag by which series are told apart; counting several of them together is worth a warning.
const SERIES_TAG: &str = "service";

/// What a policy looks at of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Which one.
    pub id: SnapshotId,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_at_ms: i64,
    /// Tells those of the same time apart: the greater one is the newer.
    pub sequence: u64,
    /// Its tags.
    pub tags: &'a BTreeMap<String, String>,
}

impl Candidate<'_> {
    fn recency(&self, now_ms: i64) -> Recency {
        Recency::new((self.created_at_ms, self.sequence, self.id), now_ms)
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotChoice {
    /// Which one.
    pub id: SnapshotId,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_at_ms: i64,
    /// Its group: the tags of `group_by`. One that the snapshot does not have is left out.
    pub group: BTreeMap<String, String>,
    /// Why it is kept, as `keepDays 1/7`; empty when it goes.
    pub reasons: Vec<String>,
}

impl SnapshotChoice {
    /// True when some rule keeps it.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What a policy decides about a list of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPlan {
    /// One for each snapshot, in the order of the list.
    pub choices: Vec<SnapshotChoice>,
    /// Name of the time zone that was used.
    pub time_zone: String,
    /// What looks as if it were not meant, in words; nothing is decided by it.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Decides about `list`, at the time `now_ms` (milliseconds since 1970-01-01T00:00:00Z).
    pub fn plan(&self, list: &[Candidate<'_>], now_ms: i64) -> RetentionPlan {
        let mut groups: BTreeMap<Vec<Option<&str>>, Vec<usize>> = BTreeMap::new();
        for (at, snapshot) in list.iter().enumerate() {
            groups.entry(self.group_of(snapshot)).or_default().push(at);
        }
        let mut warnings = self.warnings(list, now_ms);
        let mut reasons = vec![Vec::new(); list.len()];
        for members in groups.values_mut() {
            members.sort_unstable_by_key(|&at| std::cmp::Reverse(list[at].recency(now_ms)));
            warnings.extend(self.mixed_series(list, members));
            self.plan_group(list, members, now_ms, &mut reasons);
        }
        let choice = |(snapshot, reasons): (&Candidate<'_>, Vec<String>)| SnapshotChoice {
            id: snapshot.id,
            created_at_ms: snapshot.created_at_ms,
            group: self.group_tags(snapshot),
            reasons,
        };
        RetentionPlan {
            choices: list.iter().zip(reasons).map(choice).collect(),
            time_zone: self.time_zone().to_owned(),
            warnings,
        }
    }

    /// Values of the tags that tell groups apart. No value is another one than an empty value.
    fn group_of<'a>(&self, snapshot: &Candidate<'a>) -> Vec<Option<&'a str>> {
        let value = |tag: &String| snapshot.tags.get(tag).map(String::as_str);
        self.group_by.iter().map(value).collect()
    }

    fn group_tags(&self, snapshot: &Candidate<'_>) -> BTreeMap<String, String> {
        let pair = |tag: &String| Some((tag.clone(), snapshot.tags.get(tag)?.clone()));
        self.group_by.iter().filter_map(pair).collect()
    }

    /// Gives reasons to the snapshots of one group; `members` are places in `list`, the newest first.
    fn plan_group(&self, list: &[Candidate<'_>], members: &[usize], now_ms: i64, reasons: &mut [Vec<String>]) {
        let Some(&newest) = members.first() else { return };
        reasons[newest].push("newest".to_owned());
        let current_len = members.partition_point(|&at| list[at].recency(now_ms).is_current);
        let (current, future) = members.split_at(current_len);
        for &at in future {
            reasons[at].push("future".to_owned());
        }
        if current.is_empty() {
            return;
        }

        let moments: Vec<Moment> = if self.counts.is_empty() {
            Vec::new()
        } else {
            let moment = |&at: &usize| self.moment(list[at].created_at_ms);
            current.iter().map(moment).collect()
        };
        for &(period, keep) in &self.counts {
            self::count(period, keep, current, &moments, reasons);
        }
        if let Some((text, within)) = &self.within {
            let anchor = match self.anchor {
                Anchor::Latest => list[newest].created_at_ms,
                Anchor::Now => now_ms,
            };
            let cut = within.before(anchor, &self.zone);
            let young = current.partition_point(|&at| cut.is_none_or(|cut| list[at].created_at_ms >= cut));
            for &at in &current[..young] {
                reasons[at].push(format!("keepWithin {text}"));
            }
        }
        for &at in current {
            if self.keep_tags.iter().any(|wanted| has_tags(&list[at], wanted)) {
                reasons[at].push("keepTags".to_owned());
            }
            if self.keep_ids.contains(&list[at].id) {
                reasons[at].push("keepIds".to_owned());
            }
        }
    }

    /// What the clocks on the wall show at a time.
    fn moment(&self, ms: i64) -> Moment {
        let time = timestamp(ms);
        let offset = self.zone.to_offset(time);
        let clock = offset.to_datetime(time);
        Moment {
            clock,
            offset: offset.seconds(),
            // at the very begin of the calendar a day that starts late is cut short
            day: clock.checked_sub(self.day_starts_after).unwrap_or(DateTime::MIN),
        }
    }

    /// What is odd about the whole list.
    fn warnings(&self, list: &[Candidate<'_>], now_ms: i64) -> Vec<String> {
        let mut found = Vec::new();
        let future = list
            .iter()
            .filter(|snapshot| is_future(snapshot.created_at_ms, now_ms))
            .count();
        if future > 0 {
            found.push(format!(
                "{future} of {} snapshots are dated in the future; they are kept and count for no rule",
                list.len()
            ));
        }
        for wanted in &self.keep_tags {
            if !list.iter().any(|snapshot| has_tags(snapshot, wanted)) {
                let pairs: Vec<_> = wanted.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
                found.push(format!("keepTags: no snapshot has {}", pairs.join(", ")));
            }
        }
        if !self.keep_ids.is_empty() {
            let there: BTreeSet<_> = list.iter().map(|snapshot| snapshot.id).collect();
            for id in self.keep_ids.iter().filter(|id| !there.contains(id)) {
                found.push(format!(
                    "keepIds: there is no snapshot {id} among those that the policy is asked about"
                ));
            }
        }
        found
    }

    /// A warning when several series are counted as if they were one.
    fn mixed_series(&self, list: &[Candidate<'_>], members: &[usize]) -> Option<String> {
        let series: BTreeSet<_> = members.iter().filter_map(|&at| list[at].tags.get(SERIES_TAG)).collect();
        (series.len() > 1 && (!self.counts.is_empty() || self.within.is_some())).then(|| {
            format!(
                "snapshots with {} different values of the tag \"{SERIES_TAG}\" are counted together; groupBy counts them apart",
                series.len()
            )
        })
    }
}

/// A time as the clocks on the wall show it.
struct Moment {
    clock: DateTime,
    /// Distance from UTC, in seconds.
    offset: i32,
    /// The clock put back so that its date is the one of the policy's day.
    day: DateTime,
}

impl Moment {
    /// Names the period that the time is in. Only names of the same kind of period can be compared.
    fn period(&self, period: Period) -> (i16, i16, i32) {
        let date = self.day.date();
        match period {
            Period::Each => (0, 0, 0),
            // the offset tells the two hours apart that have the same name when clocks are put back
            Period::Hour => {
                let day = self.clock.date().day_of_year();
                (self.clock.year(), day * 24 + i16::from(self.clock.hour()), self.offset)
            }
            Period::Day => (date.year(), date.day_of_year(), 0),
            Period::Week => {
                let week = date.iso_week_date();
                (week.year(), i16::from(week.week()), 0)
            }
            Period::Month => (date.year(), i16::from(date.month()), 0),
            Period::Year => (date.year(), 0, 0),
        }
    }
}

/// Applies one counting rule to `current`, the newest first; `moments` are their times.
fn count(period: Period, keep: Keep, current: &[usize], moments: &[Moment], reasons: &mut [Vec<String>]) {
    let limit = match keep {
        Keep::Off => 0,
        Keep::Count(count) => u64::from(count),
        Keep::All => u64::MAX,
    };
    let rule = period.rule();
    let mut used = 0u64;
    let mut last = None;
    for (place, (&at, moment)) in current.iter().zip(moments).enumerate() {
        if used == limit {
            return;
        }
        let this = moment.period(period);
        if period == Period::Each || last != Some(this) {
            used += 1;
            last = Some(this);
            reasons[at].push(format!("{rule} {used}/{keep}"));
        } else if place + 1 == current.len() {
            reasons[at].push(format!("{rule} oldest"));
        }
    }
}

fn has_tags(snapshot: &Candidate<'_>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(tag, value)| {
        let has = snapshot.tags.get(tag);
        has.is_some_and(|has| has == value || value == ANY_VALUE)
    })
}

#[cfg(test)]
mod tests;

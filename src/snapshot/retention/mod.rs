//! The snapshots that a policy keeps, and why: a pure function of the list, the policy and the
//! time.
//!
//! The snapshots are divided into groups (`group_by`). In each group, from the newest to the
//! oldest:
//!
//! ```text
//! the newest                        kept as "newest"
//! dated more than 5 minutes ahead   kept as "future"; no rule below applies to it
//! keepX: n                          the newest of each of the first n periods that have a
//!                                   snapshot, as "keepX 3/7"; if there are fewer than n, the
//!                                   oldest of the group too, as "keepX oldest"
//! keepWithin: d                     all from `anchor - d` on, inclusive, as "keepWithin 7d"
//! keepTags, keepIds                 all that match
//! ```
//!
//! Invariants: the rules are independent, so adding one or raising a count never removes a
//! snapshot, and the same policy removes nothing from a list that it has pruned. The order of the
//! list does not matter: see [`Recency`]. Periods are those of the calendar in the time zone of the
//! policy, shifted by `day_starts_at`; a period without a snapshot does not count, so that a job
//! that was suspended loses nothing.
//!
//! Deleting is left to the caller.

mod policy;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::DateTime;

use super::order::{Recency, is_future};
use crate::id::SnapshotId;

pub use policy::{Anchor, Keep, PolicyError, RetentionPolicy, Rules};
use policy::{Period, timestamp};

/// The value in `keep_tags` that matches any value.
const ANY_VALUE: &str = "*";
/// The tag that distinguishes series; counting several of them together gives a warning.
const SERIES_TAG: &str = "service";

/// The values of a snapshot that a policy uses.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Which one.
    pub id: SnapshotId,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_at_ms: i64,
    /// Orders snapshots of the same time: the greater is the newer.
    pub sequence: u64,
    /// Its tags.
    pub tags: &'a BTreeMap<String, String>,
}

impl Candidate<'_> {
    fn recency(&self, now_ms: i64) -> Recency {
        Recency::new((self.created_at_ms, self.sequence, self.id), now_ms)
    }
}

/// The decision about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotChoice {
    /// Which one.
    pub id: SnapshotId,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_at_ms: i64,
    /// Its group: the tags of `group_by`, without those that it does not have.
    pub group: BTreeMap<String, String>,
    /// Why it is kept, such as `keepDays 1/7`; empty when it is removed.
    pub reasons: Vec<String>,
}

impl SnapshotChoice {
    /// True when any rule keeps it.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// The decisions of a policy about a list of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPlan {
    /// One for each snapshot, in the order of the list.
    pub choices: Vec<SnapshotChoice>,
    /// Name of the time zone of the policy.
    pub time_zone: String,
    /// Texts about probable mistakes; they do not change the decisions.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Applies the rules to `list` at the time `now_ms` (milliseconds since 1970-01-01T00:00:00Z).
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

    /// Values of the tags of `group_by`. A missing tag differs from an empty value.
    fn group_of<'a>(&self, snapshot: &Candidate<'a>) -> Vec<Option<&'a str>> {
        let value = |tag: &String| snapshot.tags.get(tag).map(String::as_str);
        self.group_by.iter().map(value).collect()
    }

    fn group_tags(&self, snapshot: &Candidate<'_>) -> BTreeMap<String, String> {
        let pair = |tag: &String| Some((tag.clone(), snapshot.tags.get(tag)?.clone()));
        self.group_by.iter().filter_map(pair).collect()
    }

    /// Adds the reasons for the snapshots of one group; `members` are positions in `list`, newest
    /// first.
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

    /// The local time of a moment.
    fn moment(&self, ms: i64) -> Moment {
        let time = timestamp(ms);
        let offset = self.zone.to_offset(time);
        let clock = offset.to_datetime(time);
        Moment {
            clock,
            offset: offset.seconds(),
            // at the start of the calendar, a day that starts after midnight is shortened
            day: clock.checked_sub(self.day_starts_after).unwrap_or(DateTime::MIN),
        }
    }

    /// Warnings about the whole list.
    fn warnings(&self, list: &[Candidate<'_>], now_ms: i64) -> Vec<String> {
        let mut found = Vec::new();
        let future = list
            .iter()
            .filter(|snapshot| is_future(snapshot.created_at_ms, now_ms))
            .count();
        if future > 0 {
            found.push(format!(
                "{future} of {} snapshots are dated in the future; they are kept, and no rule counts them",
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
                    "keepIds: the snapshot {id} is not among those that the policy is applied to"
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

/// A time in the time zone of the policy.
struct Moment {
    clock: DateTime,
    /// Distance from UTC, in seconds.
    offset: i32,
    /// The local time minus the start of the day, so that its date is that of the day of the
    /// policy.
    day: DateTime,
}

impl Moment {
    /// A key of the period that contains the time. Only keys of the same kind of period can be
    /// compared.
    fn period(&self, period: Period) -> (i16, i16, i32) {
        let date = self.day.date();
        match period {
            Period::Each => (0, 0, 0),
            // the offset distinguishes the two equal hours when clocks are set back
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

/// Applies one counting rule to `current`, newest first; `moments` are their times.
fn count(period: Period, keep: Keep, current: &[usize], moments: &[Moment], reasons: &mut [Vec<String>]) {
    let limit = match keep {
        Keep::Off => 0,
        Keep::Count(count) => u64::from(count),
        Keep::All => u64::MAX,
    };
    let rule = period.rule();
    let mut used = 0u64;
    let mut last = None;
    for (nth, (&at, moment)) in current.iter().zip(moments).enumerate() {
        if used == limit {
            return;
        }
        let this = moment.period(period);
        if period == Period::Each || last != Some(this) {
            used += 1;
            last = Some(this);
            reasons[at].push(format!("{rule} {used}/{keep}"));
        } else if nth + 1 == current.len() {
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

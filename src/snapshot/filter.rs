//! Selection of snapshots by tags and by date. Pure.

use std::collections::BTreeMap;

use super::model::Snapshot;

/// Conditions, all of which a snapshot must meet. Every snapshot meets the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Tags that it must have, with exactly these values. It may have others.
    pub tags: BTreeMap<String, String>,
    /// Made at or after this time, in milliseconds since 1970-01-01T00:00:00Z.
    pub after_ms: Option<i64>,
    /// Made before (not at) this time, in milliseconds since 1970-01-01T00:00:00Z.
    pub before_ms: Option<i64>,
}

impl SnapshotFilter {
    /// True when `snapshot` meets the conditions.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let made = snapshot.created_at_ms;
        self.after_ms.is_none_or(|after| made >= after)
            && self.before_ms.is_none_or(|before| made < before)
            && self
                .tags
                .iter()
                .all(|(name, value)| snapshot.tags.get(name) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use crate::id::SnapshotId;

    fn made_at(ms: i64, id: u8) -> Snapshot {
        Snapshot {
            created_at_ms: ms,
            id: SnapshotId([id; 16]),
            ..sample()
        }
    }

    #[test]
    fn after_is_inclusive_and_before_is_not() {
        let filter = SnapshotFilter {
            after_ms: Some(10),
            before_ms: Some(20),
            ..Default::default()
        };
        let hits: Vec<_> = [9, 10, 19, 20]
            .into_iter()
            .filter(|ms| filter.matches(&made_at(*ms, 0)))
            .collect();
        assert_eq!(hits, [10, 19]);
        assert!(SnapshotFilter::default().matches(&made_at(i64::MIN, 0)));
    }

    #[test]
    fn every_tag_of_the_filter_must_match() {
        let filter = |pairs: &[(&str, &str)]| SnapshotFilter {
            tags: pairs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            ..Default::default()
        };
        let snapshot = sample();
        assert!(filter(&[("service", "db")]).matches(&snapshot));
        assert!(filter(&[("service", "db"), ("__proto__", "x")]).matches(&snapshot));
        assert!(!filter(&[("service", "web")]).matches(&snapshot));
        assert!(!filter(&[("service", "db"), ("host", "")]).matches(&snapshot));
    }
}

//! Known answers, properties, and refused policies.
//!
//! `retention.json` contains chosen cases, each with the reason for it; `retention_random.json` was
//! written by `scripts/retention_vectors.py`, which implements the rules a second time on another
//! calendar library.

use proptest::prelude::*;
use proptest::sample::subsequence;
use serde_json::{Value, json};

use super::*;
use crate::clock;
use crate::snapshot::order::FUTURE_TOLERANCE_MS;

const CHOSEN: &str = include_str!("../../../tests/fixtures/vectors/retention.json");
const RANDOM: &str = include_str!("../../../tests/fixtures/vectors/retention_random.json");
const DAY_MS: i64 = 86_400_000;
const NOW: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

type Tags = BTreeMap<String, String>;

/// A snapshot of the tests: a candidate that owns its tags.
#[derive(Debug, Clone)]
struct One {
    id: SnapshotId,
    ms: i64,
    tags: Tags,
}

impl One {
    fn new(id: SnapshotId, ms: i64) -> Self {
        let tags = Tags::new();
        Self { id, ms, tags }
    }
}

/// The id for a short name of the vectors, in the same order.
fn id(name: &str) -> SnapshotId {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    SnapshotId(bytes)
}

fn tags(value: &Value) -> Tags {
    serde_json::from_value(value.clone()).unwrap_or_default()
}

fn rules(policy: &Value) -> Result<Rules, PolicyError> {
    Rules::new(&RetentionPolicy::from_json(&policy.to_string())?)
}

fn plan(rules: &Rules, list: &[One], now_ms: i64) -> RetentionPlan {
    let candidates: Vec<_> = list
        .iter()
        .map(|one| Candidate {
            id: one.id,
            created_at_ms: one.ms,
            sequence: 0,
            tags: &one.tags,
        })
        .collect();
    rules.plan(&candidates, now_ms)
}

fn kept(rules: &Rules, list: &[One]) -> BTreeSet<SnapshotId> {
    let choices = plan(rules, list, NOW).choices;
    choices
        .iter()
        .filter(|choice| choice.is_kept())
        .map(|choice| choice.id)
        .collect()
}

/// Names in `keepIds` of the vectors become whole ids.
fn with_whole_ids(policy: &Value) -> Value {
    let mut policy = policy.clone();
    if let Some(names) = policy.get_mut("keepIds").and_then(Value::as_array_mut) {
        for name in names {
            *name = json!(id(name.as_str().unwrap()).to_hex());
        }
    }
    policy
}

#[test]
fn the_chosen_cases_give_the_known_reasons() {
    let cases: Vec<Value> = serde_json::from_str(CHOSEN).unwrap();
    let (bad, good): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.get("error").is_some());
    assert_eq!((good.len(), bad.len()), (17, 6));
    for case in good {
        let name = &case["name"];
        let time = |value: &Value| clock::parse_time(value.as_str().unwrap()).unwrap();
        let listed = case["snapshots"].as_array().unwrap();
        let list: Vec<One> = listed
            .iter()
            .map(|one| One {
                id: id(one["id"].as_str().unwrap()),
                ms: time(&one["createdAt"]),
                tags: tags(&one["tags"]),
            })
            .collect();
        let plan = plan(&rules(&case["policy"]).unwrap(), &list, time(&case["now"]));
        let names = listed.iter().map(|one| one["id"].as_str().unwrap());
        let reasons: BTreeMap<_, _> = names
            .zip(&plan.choices)
            .filter(|(_, choice)| choice.is_kept())
            .map(|(name, choice)| (name, &choice.reasons))
            .collect();
        assert_eq!(json!(reasons), case["reasons"], "{name}");
        assert_eq!(json!(reasons.keys().collect::<Vec<_>>()), case["keep"], "{name}");
    }
    for case in bad {
        assert!(rules(&case["policy"]).is_err(), "{}", case["name"]);
    }
}

#[test]
fn the_random_cases_give_the_reasons_of_another_implementation() {
    let cases: Vec<Value> = serde_json::from_str(RANDOM).unwrap();
    assert_eq!(cases.len(), 350);
    for (number, case) in cases.iter().enumerate() {
        let listed = case["snapshots"].as_array().unwrap();
        let list: Vec<One> = listed
            .iter()
            .enumerate()
            .map(|(at, one)| One {
                id: id(&format!("s{at:03}")),
                ms: one[0].as_i64().unwrap(),
                tags: tags(&one[1]),
            })
            .collect();
        let rules = rules(&with_whole_ids(&case["policy"])).unwrap();
        let choices = plan(&rules, &list, case["now"].as_i64().unwrap()).choices;
        for (one, choice) in listed.iter().zip(choices) {
            assert_eq!(
                json!(choice.reasons),
                one[2],
                "case {number}: {} of {}",
                one[0],
                case["policy"]
            );
        }
    }
}

#[test]
fn an_invalid_policy_is_refused_with_the_reason() {
    let tag = json!([{ "env": 1 }]);
    let bad = [
        (json!({}), "keeps nothing"),
        (json!([]), "not a JSON object"),
        (
            json!({ "keepLast": 0, "keepYears": 0, "keepTags": [], "keepIds": [] }),
            "keeps nothing",
        ),
        (
            json!({ "keepLast": null, "timeZone": "UTC", "groupBy": ["service"] }),
            "keeps nothing",
        ),
        (json!({ "keepDay": 3 }), "\"keepDay\""),
        (json!({ "keepDays": 3, "keepOldest": true }), "\"keepOldest\""),
        (json!({ "keepDays": -1 }), "keepDays: -1"),
        (json!({ "keepDays": 1.5 }), "keepDays: 1.5"),
        (json!({ "keepDays": 1.0 }), "keepDays: 1.0"),
        (json!({ "keepDays": "7" }), "keepDays: \"7\""),
        (json!({ "keepDays": "ALL" }), "keepDays: \"ALL\""),
        (json!({ "keepDays": true }), "keepDays: true"),
        (json!({ "keepLast": 1u64 << 32 }), "4294967295"),
        (json!({ "keepWithin": 7 }), "keepWithin: 7"),
        (json!({ "keepTags": { "env": "prod" } }), "keepTags"),
        (json!({ "keepTags": ["env=prod"] }), "keepTags"),
        (json!({ "keepTags": tag }), "keepTags: 1"),
        (json!({ "keepIds": "latest" }), "keepIds"),
        (json!({ "keepIds": ["latest"] }), "keepIds: \"latest\""),
        (json!({ "keepIds": ["00112233"] }), "whole"),
        (json!({ "keepIds": ["A".repeat(32)] }), "lower-case"),
        (json!({ "keepLast": 1, "groupBy": "service" }), "groupBy"),
        (json!({ "keepLast": 1, "groupBy": [1] }), "groupBy: 1"),
        (json!({ "keepLast": 1, "anchor": "newest" }), "anchor: \"newest\""),
        (json!({ "keepLast": 1, "timeZone": 1 }), "timeZone: 1"),
    ];
    for (policy, part) in bad {
        let error = rules(&policy).expect_err(&policy.to_string());
        assert!(error.reason.contains(part), "{policy}: {error}");
    }
    assert!(RetentionPolicy::from_json("{").is_err());
    for within in [
        "",
        "2x",
        "7",
        "d",
        "7d ",
        "1d1w",
        "1w1w",
        "-1d",
        "1.5d",
        "P1Y",
        "٣d",
        "4294967296d",
    ] {
        let error = rules(&json!({ "keepLast": 1, "keepWithin": within })).expect_err(within);
        assert!(error.reason.contains("keepWithin"), "{error}");
    }
    for zone in [
        "",
        "Mars/Olympus",
        "Etc/Unknown",
        "+02:00",
        "EST5EDT4",
        "../../etc/passwd",
    ] {
        let error = rules(&json!({ "keepLast": 1, "timeZone": zone })).expect_err(zone);
        assert!(error.reason.contains("timeZone"), "{error}");
    }
    for time in ["", "6", "6:00", "06:0", "24:00", "06:60", "-1:00", "+6:00", "06:00:00"] {
        let error = rules(&json!({ "keepLast": 1, "dayStartsAt": time })).expect_err(time);
        assert!(error.reason.contains("dayStartsAt"), "{error}");
    }
}

#[test]
fn every_key_of_the_json_form_is_read() {
    let whole = id("s000");
    let text = json!({
        "keepLast": 1, "keepHours": 2, "keepDays": 3, "keepWeeks": 4, "keepMonths": "all", "keepYears": 0,
        "keepWithin": "1y2m3w4d5h", "keepTags": [{ "env": "*" }], "keepIds": [whole.to_hex()],
        "groupBy": ["service"], "timeZone": "Europe/Berlin", "dayStartsAt": "08:00", "anchor": "now",
    });
    let policy = RetentionPolicy {
        keep_last: Keep::Count(1),
        keep_hours: Keep::Count(2),
        keep_days: Keep::Count(3),
        keep_weeks: Keep::Count(4),
        keep_months: Keep::All,
        keep_years: Keep::Count(0),
        keep_within: Some("1y2m3w4d5h".to_owned()),
        keep_tags: vec![BTreeMap::from([("env".to_owned(), "*".to_owned())])],
        keep_ids: vec![whole],
        group_by: vec!["service".to_owned()],
        time_zone: Some("Europe/Berlin".to_owned()),
        day_starts_at: Some("08:00".to_owned()),
        anchor: Anchor::Now,
    };
    assert_eq!(RetentionPolicy::from_json(&text.to_string()), Ok(policy.clone()));
    assert_eq!(Rules::new(&policy).unwrap().time_zone(), "Europe/Berlin");
    let plain = rules(&json!({ "keepLast": 1 })).unwrap();
    assert_eq!(plan(&plain, &[], NOW).time_zone, "UTC");
}

#[test]
fn every_common_time_zone_is_bundled() {
    for zone in [
        "UTC",
        "Etc/UTC",
        "Europe/Kyiv",
        "America/Argentina/Buenos_Aires",
        "Asia/Calcutta",
        "Pacific/Apia",
    ] {
        assert_eq!(
            rules(&json!({ "keepDays": 1, "timeZone": zone })).unwrap().time_zone(),
            zone
        );
    }
}

#[test]
fn the_plan_has_the_group_of_each_snapshot_in_the_order_of_the_list() {
    let pair = |tag: &str, value: &str| BTreeMap::from([(tag.to_owned(), value.to_owned())]);
    let (db, none) = (pair("service", "db"), pair("other", "x"));
    let mut list = vec![
        One::new(id("a"), NOW - 5),
        One::new(id("b"), NOW - 9),
        One::new(id("c"), NOW - 7),
    ];
    list[0].tags = db.clone();
    list[2].tags = none;
    let rules = rules(&json!({ "keepLast": 1, "groupBy": ["service"] })).unwrap();
    let choices = plan(&rules, &list, NOW).choices;
    let short: Vec<_> = choices
        .iter()
        .map(|choice| (choice.id, &choice.group, choice.is_kept()))
        .collect();
    let no_group = Tags::new();
    let expected = [
        (id("a"), &db, true),
        (id("b"), &no_group, false),
        (id("c"), &no_group, true),
    ];
    assert_eq!(short, expected);
}

#[test]
fn a_missing_tag_is_another_group_than_an_empty_value() {
    let mut list = vec![One::new(id("a"), NOW - 5), One::new(id("b"), NOW - 9)];
    list[0].tags = BTreeMap::from([("service".to_owned(), String::new())]);
    let apart = rules(&json!({ "keepLast": 1, "groupBy": ["service"] })).unwrap();
    assert_eq!(kept(&apart, &list).len(), 2);
    assert_eq!(kept(&rules(&json!({ "keepLast": 1 })).unwrap(), &list).len(), 1);
}

#[test]
fn when_all_snapshots_are_dated_in_the_future_the_newest_has_that_reason() {
    let list = [One::new(id("a"), NOW + DAY_MS), One::new(id("b"), NOW + 2 * DAY_MS)];
    let plan = plan(&rules(&json!({ "keepLast": 1 })).unwrap(), &list, NOW);
    let reasons: Vec<_> = plan.choices.iter().map(|choice| choice.reasons.join(", ")).collect();
    assert_eq!(reasons, ["future", "newest, future"]);
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
}

#[test]
fn of_eight_snapshots_of_one_millisecond_the_one_committed_last_is_the_newest() {
    let no_tags = Tags::new();
    // ids in another order
    let list: Vec<Candidate<'_>> = (0..8u8)
        .map(|at| Candidate {
            id: SnapshotId([at.wrapping_mul(91); 16]),
            created_at_ms: NOW,
            sequence: u64::from(at) + 1,
            tags: &no_tags,
        })
        .collect();
    let plan = rules(&json!({ "keepLast": 1 })).unwrap().plan(&list, NOW);
    let kept: Vec<bool> = plan.choices.iter().map(SnapshotChoice::is_kept).collect();
    assert_eq!(kept, [false, false, false, false, false, false, false, true]);
}

#[test]
fn a_little_ahead_is_not_the_future() {
    let list = [
        One::new(id("a"), NOW + FUTURE_TOLERANCE_MS + 1),
        One::new(id("b"), NOW + FUTURE_TOLERANCE_MS),
        One::new(id("c"), NOW),
    ];
    let plan = plan(&rules(&json!({ "keepLast": 1 })).unwrap(), &list, NOW);
    let reasons: Vec<_> = plan.choices.iter().map(|choice| choice.reasons.join(", ")).collect();
    assert_eq!(reasons, ["future", "newest, keepLast 1/1", ""]);
    assert_eq!(plan.warnings.len(), 1, "{:?}", plan.warnings);
}

#[test]
fn times_outside_of_the_calendar_are_planned_too() {
    let list = [
        One::new(id("a"), i64::MIN),
        One::new(id("b"), i64::MIN + 1),
        One::new(id("c"), 0),
        One::new(id("d"), i64::MAX),
    ];
    let all = json!({
        "keepLast": 1, "keepHours": 1, "keepDays": 1, "keepWeeks": 1, "keepMonths": 1, "keepYears": 2,
        "keepWithin": "1d", "dayStartsAt": "23:59", "timeZone": "Pacific/Apia",
    });
    let rules_of_all = rules(&all).unwrap();
    assert_eq!(kept(&rules_of_all, &list), BTreeSet::from([id("b"), id("c"), id("d")]));
    assert_eq!(plan(&rules_of_all, &list, i64::MIN).choices.len(), 4);
    assert_eq!(plan(&rules_of_all, &list, i64::MAX).choices.len(), 4);
    // a duration that reaches before the first year of the calendar keeps everything
    for long in [
        "4294967295y",
        "4294967295m",
        "4294967295w",
        "4294967295d",
        "4294967295h",
    ] {
        let rules = rules(&json!({ "keepWithin": long })).unwrap();
        assert_eq!(kept(&rules, &list).len(), list.len(), "{long}");
    }
}

#[test]
fn a_probable_mistake_gives_a_warning() {
    let mut list = vec![One::new(id("a"), NOW), One::new(id("b"), NOW - DAY_MS)];
    list[0].tags = BTreeMap::from([("service".to_owned(), "db".to_owned())]);
    list[1].tags = BTreeMap::from([("service".to_owned(), "web".to_owned())]);
    let warnings = |policy: Value| plan(&rules(&policy).unwrap(), &list, NOW).warnings;
    assert_eq!(
        warnings(json!({ "keepTags": [{ "service": "*" }], "keepIds": [id("a").to_hex()] })),
        [""; 0]
    );
    assert_eq!(warnings(json!({ "keepDays": 1, "groupBy": ["service"] })), [""; 0]);
    for (policy, part) in [
        (json!({ "keepDays": 1 }), "groupBy"),
        (json!({ "keepWithin": "7d" }), "groupBy"),
        (
            json!({ "keepTags": [{ "service": "db", "env": "*" }] }),
            "env=*, service=db",
        ),
        (json!({ "keepIds": [id("c").to_hex()] }), "the snapshot 63"),
    ] {
        let warnings = warnings(policy);
        assert!(warnings.len() == 1 && warnings[0].contains(part), "{warnings:?}");
    }
}

#[test]
#[ignore = "deep: a large list"]
fn a_hundred_thousand_snapshots_are_planned() {
    plan_of(100_000);
}

#[test]
fn a_thousand_snapshots_are_planned() {
    plan_of(1000);
}

/// One snapshot an hour: each rule finds as many periods as its count.
fn plan_of(count: i64) {
    let list: Vec<One> = (0..count)
        .map(|at| One::new(SnapshotId((at as u128).to_be_bytes()), NOW - at * 3_600_000))
        .collect();
    let policy = json!({
        "keepLast": 3, "keepHours": 48, "keepDays": 7, "keepWeeks": 4, "keepMonths": "all", "keepYears": 100,
        "keepWithin": "36h", "keepTags": [{ "env": "prod" }], "timeZone": "America/New_York", "dayStartsAt": "06:00",
    });
    let plan = plan(&rules(&policy).unwrap(), &list, NOW);
    let found = |rule: &str| {
        let reasons = plan.choices.iter().flat_map(|choice| &choice.reasons);
        reasons
            .filter(|reason| reason.starts_with(rule) && !reason.ends_with("oldest"))
            .count()
    };
    assert_eq!(
        ["keepLast", "keepHours", "keepDays", "keepWeeks"].map(found),
        [3, 48, 7, 4]
    );
    let years = count / (24 * 365) + 1;
    assert_eq!(["keepYears", "keepWithin"].map(found), [years as usize, 37]);
}

/// A list over a span of hours to years, often with several snapshots in the same millisecond.
fn lists() -> impl Strategy<Value = Vec<One>> {
    let spans = prop::sample::select(vec![
        3,
        DAY_MS / 8,
        2 * DAY_MS,
        40 * DAY_MS,
        400 * DAY_MS,
        1500 * DAY_MS,
    ]);
    let one = (0..=1000i64, prop::option::of(prop::sample::select(vec!["db", "web"])));
    (spans, prop::collection::vec(one, 1..50)).prop_map(|(span, positions)| {
        let one = |(at, (position, service)): (usize, (i64, Option<&str>))| One {
            id: id(&format!("{:03}", (at * 7919) % 1000)),
            ms: NOW - span * position / 1000,
            tags: service
                .map(|name| ("service".to_owned(), name.to_owned()))
                .into_iter()
                .collect(),
        };
        positions.into_iter().enumerate().map(one).collect()
    })
}

/// Time zone, start of the day and groups; the same for all policies that are compared.
fn frames() -> impl Strategy<Value = Value> {
    let zones = prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia"]);
    let days = prop::sample::select(vec!["00:00", "08:00", "02:30"]);
    let groups = prop::sample::select(vec![json!([]), json!(["service"])]);
    (zones, days, groups)
        .prop_map(|(zone, day, group)| json!({ "timeZone": zone, "dayStartsAt": day, "groupBy": group }))
}

fn counts() -> impl Strategy<Value = BTreeMap<&'static str, u32>> {
    let names = [
        "keepLast",
        "keepHours",
        "keepDays",
        "keepWeeks",
        "keepMonths",
        "keepYears",
    ];
    let chosen = subsequence(names.to_vec(), 1..4);
    (chosen, prop::array::uniform6(1..9u32)).prop_map(|(names, counts)| names.into_iter().zip(counts).collect())
}

fn framed(frame: &Value, counts: &BTreeMap<&str, u32>) -> Rules {
    let mut policy = frame.clone();
    for (rule, count) in counts {
        policy[*rule] = json!(count);
    }
    rules(&policy).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn two_policies_in_one_keep_what_each_of_them_keeps(list in lists(), frame in frames(), a in counts(), b in counts()) {
        let mut both = a.clone();
        for (rule, count) in &b {
            let most = both.get(rule).copied().unwrap_or(0).max(*count);
            both.insert(rule, most);
        }
        let [a, b, both] = [a, b, both].map(|counts| kept(&framed(&frame, &counts), &list));
        prop_assert_eq!(both, &a | &b);
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        (list, shuffled) in lists().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        frame in frames(),
        counts in counts(),
    ) {
        let rules = framed(&frame, &counts);
        let by_id = |list: &[One]| -> BTreeMap<_, _> {
            plan(&rules, list, NOW).choices.into_iter().map(|choice| (choice.id, choice.reasons)).collect()
        };
        prop_assert_eq!(by_id(&list), by_id(&shuffled));
    }

    #[test]
    fn what_was_kept_once_is_kept_again(list in lists(), frame in frames(), counts in counts()) {
        let rules = framed(&frame, &counts);
        let first = kept(&rules, &list);
        let left: Vec<_> = list.into_iter().filter(|one| first.contains(&one.id)).collect();
        prop_assert_eq!(kept(&rules, &left), first);
    }

    #[test]
    fn the_newest_of_each_group_is_kept(list in lists(), frame in frames(), ahead in 0..3i64) {
        let now = NOW - ahead * DAY_MS;
        let mut policy = frame.clone();
        policy["keepTags"] = json!([{ "missing": "tag" }]);
        let choices = plan(&rules(&policy).unwrap(), &list, now).choices;
        let mut newest: BTreeMap<_, _> = BTreeMap::new();
        let order = |choice: &SnapshotChoice| {
            (choice.created_at_ms <= now + FUTURE_TOLERANCE_MS, choice.created_at_ms, choice.id)
        };
        for choice in &choices {
            let one = newest.entry(&choice.group).or_insert(choice);
            if order(choice) > order(one) {
                *one = choice;
            }
        }
        for choice in &choices {
            let future = choice.created_at_ms > now + FUTURE_TOLERANCE_MS;
            let is_newest = newest.get(&choice.group).is_some_and(|one| one.id == choice.id);
            prop_assert_eq!(choice.is_kept(), future || is_newest, "{:?}", choice);
            prop_assert_eq!(choice.reasons.iter().any(|reason| reason == "newest"), is_newest, "{:?}", choice);
        }
    }

    #[test]
    fn more_is_never_less(list in lists(), frame in frames(), counts in counts(), extra in "[0-9]{1,3}d") {
        let less = kept(&framed(&frame, &counts), &list);
        for rule in counts.keys() {
            let mut more = counts.clone();
            more.entry(rule).and_modify(|count| *count += 1);
            prop_assert!(kept(&framed(&frame, &more), &list).is_superset(&less), "{} + 1", rule);
            let mut all = frame.clone();
            all[*rule] = json!("all");
            prop_assert!(kept(&rules(&all).unwrap(), &list).is_superset(&kept(&framed(&frame, &BTreeMap::from([(*rule, counts[rule])])), &list)));
        }
        let mut with = frame.clone();
        for (rule, count) in &counts {
            with[*rule] = json!(count);
        }
        with["keepWithin"] = json!(extra);
        prop_assert!(kept(&rules(&with).unwrap(), &list).is_superset(&less));
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in "\\PC{0,60}", key in prop::sample::select(vec!["keepDays", "keepWithin", "timeZone", "dayStartsAt"])) {
        let _ = RetentionPolicy::from_json(&text).and_then(|policy| Rules::new(&policy));
        let _ = rules(&json!({ key: text, "keepLast": 1 }));
    }
}

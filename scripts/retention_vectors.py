#!/usr/bin/env python3
"""Random answers for the retention rules, computed without the engine: python3
scripts/retention_vectors.py

Implements the rules of `src/snapshot/retention/mod.rs` a second time, on Python's own calendar and the
system's time zones, and writes the results for a few hundred random lists and policies to
tests/fixtures/vectors/retention_random.json. The seed is fixed, so the file changes only with the
rules. Times cluster around changes of the clock, ends of years and months.
"""

import calendar
import json
import random
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

OUT = Path(__file__).parent.parent / "tests/fixtures/vectors/retention_random.json"
CASES = 350
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MS = timedelta(milliseconds=1)
PERIODS = {
    "keepLast": None,
    "keepHours": "%Y-%m-%dT%H%z",
    "keepDays": "%Y-%m-%d",
    "keepWeeks": "%G-W%V",
    "keepMonths": "%Y-%m",
    "keepYears": "%Y",
}


def cut(anchor, text):
    """`anchor` minus a duration: the date by the calendar, with the day clamped to the month, then hours."""
    years, months, weeks, days, hours = (
        int(part or 0)
        for part in re.fullmatch(r"(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?", text).groups()
    )
    year, month = divmod(anchor.year * 12 + anchor.month - 1 - years * 12 - months, 12)
    day = min(anchor.day, calendar.monthrange(year, month + 1)[1])
    moved = anchor.replace(year=year, month=month + 1, day=day) - timedelta(weeks=weeks, days=days)
    return moved.astimezone(timezone.utc) - timedelta(hours=hours)


def plan_group(group, policy, now, reasons):
    """`group` contains (time, id, tags); sets `reasons[id]`."""
    zone = ZoneInfo(policy.get("timeZone", "UTC"))
    hour, minute = policy.get("dayStartsAt", "00:00").split(":")
    late = timedelta(hours=int(hour), minutes=int(minute))
    group = sorted(group, key=lambda one: one[:2], reverse=True)
    for _, name, _ in group:
        reasons[name] = []
    future = [one for one in group if one[0] > now + timedelta(minutes=5)]
    if len(future) == len(group):
        reasons[group[0][1]].append("newest")
    for _, name, _ in future:
        reasons[name].append("future")
    group = group[len(future) :]
    if not group:
        return
    reasons[group[0][1]].append("newest")
    for rule, form in PERIODS.items():
        count = policy.get(rule, 0)
        limit = len(group) if count == "all" else count
        used, last = 0, None
        for position, (time, name, _) in enumerate(group):
            local = time.astimezone(zone)
            shifted = local if rule == "keepHours" else local.replace(tzinfo=None) - late
            period = position if form is None else shifted.strftime(form)
            if used < limit and period != last:
                used, last = used + 1, period
                reasons[name].append(f"{rule} {used}/{count}")
            elif used < limit and position == len(group) - 1:
                reasons[name].append(f"{rule} oldest")
    for time, name, tags in group:
        if "keepWithin" in policy:
            anchor = now if policy.get("anchor") == "now" else group[0][0]
            if time >= cut(anchor.astimezone(zone), policy["keepWithin"]):
                reasons[name].append(f"keepWithin {policy['keepWithin']}")
        for wanted in policy.get("keepTags", []):
            if all(tag in tags and value in ("*", tags[tag]) for tag, value in wanted.items()):
                reasons[name].append("keepTags")
                break
        if name in policy.get("keepIds", []):
            reasons[name].append("keepIds")


def plan(snapshots, policy, now):
    """Reasons by id."""
    groups, reasons = {}, {}
    for one in snapshots:
        groups.setdefault(tuple(one[2].get(tag) for tag in policy.get("groupBy", [])), []).append(one)
    for group in groups.values():
        plan_group(group, policy, now, reasons)
    return reasons


# Moments at which calendars have special cases, with their time zones.
AWKWARD = [
    ("2026-10-25T01:00", "Europe/Berlin"),
    ("2026-03-29T01:00", "Europe/Berlin"),
    ("2025-11-02T06:00", "America/New_York"),
    ("2025-03-09T07:00", "America/New_York"),
    ("2011-12-30T10:00", "Pacific/Apia"),
    ("2025-04-05T15:00", "Australia/Lord_Howe"),
    ("2010-11-07T02:31", "America/St_Johns"),
    ("2018-02-18T02:00", "America/Sao_Paulo"),
    ("2025-03-09T05:00", "America/Havana"),
    ("2026-01-01T00:00", "UTC"),
    ("2025-01-01T00:00", "Asia/Kathmandu"),
    ("2021-01-03T23:00", "Africa/Casablanca"),
    ("2024-02-29T12:00", "UTC"),
    ("1970-01-01T00:00", "America/Los_Angeles"),
    ("1883-11-18T17:00", "America/New_York"),
]


def random_case(rng):
    base, zone = rng.choice(AWKWARD)
    base = datetime.fromisoformat(base + "+00:00")
    spread = timedelta(hours=rng.choice([3, 6, 48, 24 * 40, 24 * 400, 24 * 1500]))
    step = rng.choice([timedelta(minutes=15), timedelta(hours=1), MS])
    snapshots = []
    for at in range(rng.randrange(1, 25)):
        time = base + (rng.random() * 2 - 1) * spread
        time = EPOCH + (time - EPOCH) // step * step
        tags = {tag: rng.choice(values) for tag, values in TAGS.items() if rng.random() < 0.5}
        snapshots.append((time, f"s{at:03d}", tags))
    newest = max(one[0] for one in snapshots)
    ahead = [-10 * spread / 100, timedelta(minutes=-5), timedelta(minutes=-5) - MS, timedelta(hours=3), 10 * spread]
    now = EPOCH + (newest + rng.choice(ahead) - EPOCH) // MS * MS
    return snapshots, random_policy(rng, zone, len(snapshots)), now


TAGS = {"service": ["db", "web", ""], "env": ["prod", "*"], "hold": ["yes"]}


def random_policy(rng, zone, count):
    rules = rng.sample(list(PERIODS), rng.randrange(1, 4))
    policy = {rule: rng.choice([0, 1, 2, 3, 5, 9, "all"]) for rule in rules}
    extras = {
        "keepWithin": rng.choice(["1m", "7d", "36h", "1y6m", "2w3d", "0d", "1m1h", "11m", "1d"]),
        "keepTags": [{tag: rng.choice([*values, "*"]) for tag, values in rng.sample(sorted(TAGS.items()), 2)}],
        "keepIds": [f"s{rng.randrange(count):03d}"],
        "groupBy": rng.choice([["service"], ["service", "env"], ["nothing"], []]),
        "dayStartsAt": rng.choice(["08:00", "02:30", "23:59", "00:00"]),
        "anchor": rng.choice(["now", "latest"]),
    }
    likely = {"keepWithin": 0.4, "groupBy": 0.3, "dayStartsAt": 0.4, "anchor": 0.4}
    policy |= {key: value for key, value in extras.items() if rng.random() < likely.get(key, 0.15)}
    if rng.random() < 0.9:
        policy["timeZone"] = zone
    counts = any(policy.get(rule) for rule in PERIODS)
    if not counts and not any(key in policy for key in ("keepWithin", "keepTags", "keepIds")):
        policy["keepLast"] = 1
    return policy


def case(rng):
    snapshots, policy, now = random_case(rng)
    reasons = plan(snapshots, policy, now)
    listed = [[(time - EPOCH) // MS, tags, reasons[name]] for time, name, tags in snapshots]
    return {"policy": policy, "now": (now - EPOCH) // MS, "snapshots": listed}


def main():
    rng = random.Random(20_261_123)
    lines = ",\n".join(json.dumps(case(rng), separators=(",", ":")) for _ in range(CASES))
    OUT.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

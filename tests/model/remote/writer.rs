//! An ingest to an object store: W1 to W5.

use super::marks::{self, Progress};
use super::pages;
use super::rules::{Blocking, Early, Left, Refresh, Rules, request};
use super::state::*;

pub fn step(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.writers[i].at.next() else { return };
    let mut turn = Turn {
        state,
        rules,
        i,
        who: Who::Writer(i),
        out,
    };
    match at {
        Write::PutLease => turn.put_lease(),
        Write::ListMarks => turn.list_marks(),
        Write::ListSegments => turn.list_segments(),
        Write::RefreshMarks | Write::RefreshSegments => turn.refresh(at),
        Write::PutMarksSeen => {
            let mut next = *state;
            next.marks_seen[i] = state.writers[i].seen;
            next.writers[i].seen = 0;
            turn.go(next, "W2: puts the file of the marks that it has seen", Write::PutPack);
        }
        Write::PutPack => turn.put_pack(),
        Write::PutSegment => turn.put_segment(),
        Write::PutManifest => turn.put_manifest(),
        Write::CheckRevoked => turn.check_revoked(),
        Write::Leave => turn.leave(At::Done),
        Write::LeaveRevoked => turn.leave(At::Failed),
    }
}

impl Turn<'_, '_> {
    fn writer(&self) -> &Writer {
        &self.state.writers[self.i]
    }

    fn go(&mut self, mut next: State, what: &'static str, to: Write) {
        next.writers[self.i].at = At::Next(to);
        self.tell(next, what, None);
    }

    fn end(&mut self, mut next: State, what: &'static str, at: At<Write>) {
        next.writers[self.i] = Writer::ended(at);
        self.tell(next, what, None);
    }

    /// A clean failure before the manifest was ever sent: the lease may be deleted (W5).
    fn quit(&mut self, what: &'static str) {
        if self.rules.quits {
            let mut next = *self.state;
            next.leases &= !(1 << self.i);
            self.end(next, what, At::Failed);
        }
    }

    /// W1. Where the rules say so, it has listed something before.
    fn put_lease(&mut self) {
        let (state, i) = (self.state, self.i);
        let mut next = *state;
        let me = &mut next.writers[i];
        let early = self.rules.lacks(Left::LeaseFirst);
        if !me.loaded {
            me.loaded = true;
            match self.rules.early {
                _ if early => return self.go(next, "W2: begins to list before its lease", Write::ListMarks),
                Early::Marks => {
                    me.marked = state.marked();
                    return self.go(next, "W2: lists marks before its lease", Write::PutLease);
                }
                Early::Segments => {
                    me.entries = state.entries();
                    return self.go(next, "W2: lists segments before its lease", Write::PutLease);
                }
                Early::Nothing => me.loaded = false,
            }
        }
        let then = match self.rules.early {
            _ if early => Write::PutPack,
            _ if self.continues() && self.rules.lacks(Left::NewSessionListsAgain) => Write::PutManifest,
            Early::Marks => Write::ListSegments,
            _ => Write::ListMarks,
        };
        if self.may_lose(request::LEASE) && !has(state.flight.leases, i) {
            let mut lost = next;
            lost.flight.sent += 1;
            lost.flight.leases |= 1 << i;
            if self.ignores_answer(request::LEASE) {
                lost.writers[i].at = At::Next(then);
            }
            self.tell(lost, "W1: PUT of the lease without an answer", None);
        }
        next.leases |= 1 << i;
        self.go(next, "W1: PUT of the lease", then);
    }

    /// Returns whether this session continues what a revoked one has begun.
    fn continues(&self) -> bool {
        self.rules.restarts && self.i == 1
    }

    /// W2. A session that continues another one keeps what no mark names.
    fn list_marks(&mut self) {
        let i = self.i;
        let state = self.state;
        marks::list(state, self.rules, state.writers[i].listing, |progress| match progress {
            Progress::Continues(listing, what) => {
                let mut next = *state;
                next.writers[i].listing = listing;
                self.tell(next, what, None);
            }
            Progress::Ends(marked) => self.use_marks(marked),
        });
    }

    fn use_marks(&mut self, marked: Set) {
        let (state, i) = (self.state, self.i);
        let mut next = *state;
        let me = &mut next.writers[i];
        me.listing = Listing::default();
        if !self.rules.lacks(Left::WritersReadMarks) {
            me.marked = marked;
        }
        me.seen = state.marks;
        if self.continues() {
            let marked = me.marked;
            me.relied = me.relied.map(|pack| {
                if pack != NONE && has(marked, pack as usize) {
                    NONE
                } else {
                    pack
                }
            });
        }
        if self.rules.early != Early::Segments {
            return self.go(next, "W2: lists marks", Write::ListSegments);
        }
        let entries = me.entries;
        let mut turn = Turn {
            state: &next,
            rules: self.rules,
            i,
            who: self.who,
            out: &mut *self.out,
        };
        turn.choose(entries, "W2, W3: lists marks, chooses packs");
    }

    /// W2, in two pages where the rules say so, and W3.
    fn list_segments(&mut self) {
        let (state, i) = (self.state, self.i);
        let first = self.writer().first_page;
        let what = "W2, W3: lists segments, chooses packs";
        match pages::first_pages(state, self.rules) {
            Some(firsts) if !self.writer().paged => {
                for first in firsts {
                    let mut next = *state;
                    (next.writers[i].first_page, next.writers[i].paged) = (first, true);
                    self.tell(next, "W2: lists one page of segments", None);
                }
            }
            Some(_) => self.choose(pages::entries_after(state, first), what),
            None => self.choose(state.entries(), what),
        }
    }

    /// W3, in the middle of a long ingest.
    fn refresh(&mut self, at: Write) {
        let (state, i) = (self.state, self.i);
        let mut next = *state;
        let me = &mut next.writers[i];
        let (what, is_last) = if at == Write::RefreshMarks {
            me.marked = state.marked();
            (
                "W3: refresh, lists marks",
                self.rules.refresh == Refresh::SegmentsThenMarks,
            )
        } else {
            me.entries = state.entries();
            (
                "W3: refresh, lists segments",
                self.rules.refresh != Refresh::SegmentsThenMarks,
            )
        };
        if self.rules.lacks(Left::RefreshHonoursMarks) {
            me.marked = 0;
        }
        if !is_last {
            let then = if at == Write::RefreshMarks {
                Write::RefreshSegments
            } else {
                Write::RefreshMarks
            };
            return self.go(next, what, then);
        }
        let entries = me.entries;
        let mut turn = Turn {
            state: &next,
            rules: self.rules,
            i,
            who: self.who,
            out: &mut *self.out,
        };
        turn.choose(entries, what);
    }

    /// W3: every choice of a pack in no mark for each chunk that has none. A long ingest looks up
    /// the second chunk after a refresh.
    fn choose(&mut self, entries: Entries, what: &'static str) {
        let i = self.i;
        let me = *self.writer();
        let later = self.rules.refresh != Refresh::Never && !me.refreshed;
        let want = match self.rules.wanted(i) {
            want if later => want & want.wrapping_neg(),
            want => want,
        };
        let options = |chunk: usize| -> Vec<u8> {
            let good = packs_of(entries, chunk) & !me.marked;
            match has(want, chunk) {
                _ if me.relied[chunk] != NONE => vec![me.relied[chunk]],
                true if good != 0 => members(good).map(|pack| pack as u8).collect(),
                _ => vec![NONE],
            }
        };
        for first in options(0) {
            for second in options(1) {
                let mut next = *self.state;
                let chosen = &mut next.writers[i];
                chosen.relied = [first, second];
                let missing = members(want).filter(|chunk| chosen.relied[*chunk] == NONE);
                chosen.new = missing.fold(0, |all, chunk| all | 1 << chunk);
                (chosen.entries, chosen.first_page, chosen.paged) = (0, 0, false);
                if !later || self.rules.refresh != Refresh::Segments {
                    chosen.marked = 0;
                }
                if self.rules.blocking != Blocking::Unseen {
                    chosen.seen = 0;
                }
                let then = match self.rules.blocking {
                    _ if self.rules.lacks(Left::LeaseFirst) => Write::PutLease,
                    Blocking::Unseen => Write::PutMarksSeen,
                    _ => Write::PutPack,
                };
                self.go(next, what, then);
            }
        }
    }

    fn put_pack(&mut self) {
        let (state, i) = (self.state, self.i);
        let mut next = *state;
        let me = *self.writer();
        if me.new == 0 {
            next.writers[i].at = At::Next(Write::PutManifest);
            return step(&next, i, self.rules, self.out);
        }
        let name = match me.pack {
            NONE => next.name_pack(self.rules, me.new, WRITTEN + i as u8),
            pack => Some(pack),
        };
        let Some(pack) = name else {
            next.leases &= !(1 << i);
            return self.end(next, "gives up (the model is full)", At::Failed);
        };
        next.writers[i].pack = pack;
        for chunk in members(me.new) {
            next.writers[i].relied[chunk] = pack;
        }
        if self.may_lose(request::PACK) && !has(state.flight.packs, pack as usize) {
            let mut lost = next;
            lost.flight.sent += 1;
            lost.flight.packs |= 1 << pack;
            if self.ignores_answer(request::PACK) {
                lost.writers[i].at = At::Next(Write::PutSegment);
            }
            self.tell(lost, "W3: PUT of a pack without an answer", None);
        }
        if me.pack != NONE {
            self.quit("W3: fails, the PUT of its pack is unanswered");
        }
        next.packs |= 1 << pack;
        self.go(next, "W3: PUT of a pack", Write::PutSegment);
    }

    fn put_segment(&mut self) {
        let (state, i) = (self.state, self.i);
        let mut next = *state;
        let me = *self.writer();
        let entries = members(me.new)
            .map(|chunk| entry(chunk, me.relied[chunk] as usize))
            .sum();
        let name = match me.segment {
            NONE => next.name_segment(self.rules, entries, 0),
            segment => Some(segment),
        };
        let Some(segment) = name else { return };
        next.writers[i].segment = segment;
        if self.may_lose(request::SEGMENT) && state.flight.segments >> segment & 1 == 0 {
            let mut lost = next;
            lost.flight.sent += 1;
            lost.flight.segments |= 1 << segment;
            if self.ignores_answer(request::SEGMENT) {
                let after = &mut lost.writers[i];
                after.at = At::Next(Write::PutManifest);
                (after.pack, after.segment) = (NONE, NONE);
            }
            self.tell(lost, "W3: PUT of a segment without an answer", None);
        }
        if me.segment != NONE {
            self.quit("W3: fails, the PUT of its segment is unanswered");
        }
        next.segments |= 1 << segment;
        let after = &mut next.writers[i];
        (after.pack, after.segment, after.new) = (NONE, NONE, 0);
        self.go(next, "W3: PUT of a segment", Write::PutManifest);
    }

    /// W4.
    fn put_manifest(&mut self) {
        let (state, i) = (self.state, self.i);
        let key = FIRST + i;
        if self.rules.refresh != Refresh::Never && !self.writer().refreshed {
            let mut next = *state;
            next.writers[i].refreshed = true;
            next.writers[i].at = At::Next(if self.rules.refresh == Refresh::MarksThenSegments {
                Write::RefreshMarks
            } else {
                Write::RefreshSegments
            });
            return step(&next, i, self.rules, self.out);
        }
        if self.writer().sent {
            let mut next = *state;
            if self.rules.lacks(Left::UnknownKeepsLease) {
                next.leases &= !(1 << i);
            }
            self.end(next, "W4: gives up, outcome unknown", At::Failed);
        } else {
            self.quit("W4: fails before the manifest is sent");
        }
        let mut next = *state;
        if self.may_lose(request::MANIFEST) && !has(state.flight.manifests, i) {
            let mut lost = next;
            lost.flight.sent += 1;
            lost.flight.manifests |= 1 << i;
            lost.writers[i].sent = true;
            if self.ignores_answer(request::MANIFEST) {
                lost.acknowledged |= 1 << key;
                lost.writers[i].at = At::Next(Write::Leave);
            }
            self.tell(lost, "W4: PUT of the manifest without an answer", None);
        }
        if state.snapshots[key] & TOMBSTONE != 0 && !self.rules.lacks(Left::ManifestIfAbsent) {
            return self.go(next, "W4: manifest exists, a tombstone: revoked", Write::LeaveRevoked);
        }
        let what = if state.snapshots[key] & MANIFEST != 0 {
            "W4: manifest exists, own bytes: COMMITTED"
        } else {
            "W4: PUT of the manifest: COMMITTED"
        };
        next.snapshots[key] = MANIFEST | self.rules.wanted(i);
        if self.rules.gathers_tombstones && !self.rules.lacks(Left::CommitChecksRevoked) {
            return self.go(next, "W4: PUT of the manifest", Write::CheckRevoked);
        }
        next.acknowledged |= 1 << key;
        self.go(next, what, Write::Leave);
    }

    /// W4: the tombstone that would have been in the way may have been merged into a record.
    fn check_revoked(&mut self) {
        let mut next = *self.state;
        if has(next.revoked_records, self.i) {
            return self.go(
                next,
                "W4: finds its session in the record: revoked",
                Write::LeaveRevoked,
            );
        }
        next.acknowledged |= 1 << (FIRST + self.i);
        self.go(next, "W4: finds its session in no record: COMMITTED", Write::Leave);
    }

    /// W5.
    fn leave(&mut self, at: At<Write>) {
        let (state, i) = (self.state, self.i);
        let mut next = *state;
        if self.may_lose(request::DELETE_LEASE) && !has(state.flight.lease_deletes, i) {
            let mut lost = next;
            lost.flight.sent += 1;
            lost.flight.lease_deletes |= 1 << i;
            self.tell(lost, "W5: DELETE of the lease without an answer", None);
        }
        next.leases &= !(1 << i);
        if self.rules.restarts && i == 0 && at == At::Failed {
            next.writers[1] = Writer {
                relied: self.writer().relied,
                ..Writer::ended(At::Next(Write::PutLease))
            };
        }
        self.end(next, "W5: DELETE of the lease", at);
    }
}

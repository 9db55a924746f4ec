//! Rebuilds lost bytes: rows of a member, whole packs, whole files of a group.
//!
//! The sum of a row alone decides whether it is good. A missing or short file, a read that the
//! device fails and a wrong sum are all erasures, and each row is solved by itself. Where that does
//! not succeed, [`Lost`] reports a read that failed: its bytes may be good. The work is done in
//! stripes of [`STRIPE_ROWS`] rows, one member after the other, on at most two threads, so the
//! memory besides the result is 2 × (shards + 2) MiB whatever the sizes. Each solved row is checked
//! against its sum, and a whole pack against its id.

use super::code::{coefficient, fold, solve};
use super::error::{Error, Lost, Refusal};
use super::format::{GroupRecord, Member, frame};
use super::shape::{Part, ROW_LEN, row_sum};
use crate::crypto::sha256;
use crate::id::PackId;
use crate::layout;
use crate::storage::{self, ErrorKind, FailedRead, Storage};
use crate::sync::lock;
use std::ops::Range;
use std::sync::Mutex;

/// Rows of a stripe: 1 MiB of each file.
const STRIPE_ROWS: u32 = 256;

/// A member (its position in the record) or a shard: it has rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Member(usize),
    Shard(u8),
}

impl From<Part> for Column {
    fn from(part: Part) -> Self {
        match part {
            Part::Shard(shard) => Self::Shard(shard),
            Part::Group => Self::Shard(u8::MAX), // has no rows
        }
    }
}

/// Reads rows and checks their sums.
pub(super) struct Reader<'a> {
    storage: &'a dyn Storage,
    record: &'a GroupRecord,
    shard_offset: u64,
    /// The first read that failed and was treated as an erasure.
    unreadable: Mutex<Option<storage::Error>>,
}

/// The stored rows of a column.
struct Stored<'a> {
    key: String,
    offset: u64,
    len: u64,
    sums: &'a [u64],
}

impl<'a> Reader<'a> {
    pub(super) fn new(storage: &'a dyn Storage, record: &'a GroupRecord) -> Self {
        let shard_offset = record.head.shard_offset();
        Self {
            storage,
            record,
            shard_offset,
            unreadable: Mutex::default(),
        }
    }

    /// True for a failed read that is an erasure. Records one that proves no damage.
    fn erases(&self, error: &storage::Error) -> bool {
        if let Some(unreadable) = error.unreadable() {
            let mut first = lock(&self.unreadable);
            first.get_or_insert_with(|| unreadable.clone());
        }
        error.kind.is_erasure()
    }

    /// The first read that failed so far, if any.
    pub(super) fn unreadable(&self) -> Option<storage::Error> {
        lock(&self.unreadable).clone()
    }

    fn stored(&self, column: Column) -> Stored<'a> {
        let head = &self.record.head;
        let (key, offset, len, sums) = match column {
            Column::Member(at) => {
                let member = head.members.get(at);
                let key = member.map(|member| layout::pack(&member.pack));
                let len = member.map_or(0, |member| member.len);
                (key.unwrap_or_default(), 0, len, self.record.member_sums.get(at))
            }
            Column::Shard(shard) => {
                let sums = self.record.shard_sums.get(usize::from(shard));
                (
                    layout::shard(&head.id, shard),
                    self.shard_offset,
                    head.stripe_len(),
                    sums,
                )
            }
        };
        let sums = sums.map_or(&[][..], Vec::as_slice);
        Stored { key, offset, len, sums }
    }

    /// Reads `rows` into `out` (whole rows; zeros past the end of the column) and returns the bad
    /// ones, as row numbers of the column. Rows past its end are good zeros.
    pub(super) fn read(&self, column: Column, rows: Range<u32>, out: &mut [u8]) -> Result<Vec<u32>, Error> {
        let stored = self.stored(column);
        let end = rows.end.min(u32::try_from(stored.sums.len()).unwrap_or(u32::MAX));
        let real = real_len(&(rows.start..end), stored.len);
        let (real_out, past_end) = out.split_at_mut(real.min(out.len()));
        past_end.fill(0);
        if real_out.is_empty() {
            return Ok(Vec::new());
        }
        let offset = stored.offset + u64::from(rows.start) * ROW_LEN as u64;
        let whole = self.storage.get_range(&stored.key, offset, real_out);
        let one_by_one = match whole {
            Ok(()) => false,
            Err(error) if error.kind == ErrorKind::NotFound => {
                real_out.fill(0);
                return Ok((rows.start..end).collect());
            }
            Err(error) if error.kind.is_erasure() => true,
            Err(error) => return Err(error.into()),
        };
        let mut bad = Vec::new();
        for (row, bytes) in (rows.start..end).zip(real_out.chunks_mut(ROW_LEN)) {
            if one_by_one {
                // one bad sector must not cost its neighbours
                let offset = stored.offset + u64::from(row) * ROW_LEN as u64;
                match self.storage.get_range(&stored.key, offset, bytes) {
                    Ok(()) => {}
                    Err(error) if self.erases(&error) => bytes.fill(0),
                    Err(error) => return Err(error.into()),
                }
            }
            if stored.sums.get(row as usize) != Some(&row_sum(bytes)) {
                bad.push(row);
            }
        }
        Ok(bad)
    }

    /// All bad rows of a column.
    pub(super) fn bad_rows(&self, column: Column) -> Result<Vec<u32>, Error> {
        let all = u32::try_from(self.stored(column).sums.len()).unwrap_or(u32::MAX);
        let mut buffer = vec![0; byte_len(&(0..all.min(STRIPE_ROWS)))];
        let mut bad = Vec::new();
        for start in (0..all).step_by(STRIPE_ROWS as usize) {
            bad.extend(self.read(column, start..all.min(start.saturating_add(STRIPE_ROWS)), &mut buffer)?);
        }
        Ok(bad)
    }

    /// Returns `rows` of a column, good rows as they are stored and the others rebuilt, and the
    /// numbers of those that could not be rebuilt. Several stripes are divided between two threads.
    fn healed(&self, column: Column, rows: Range<u32>) -> Result<(Vec<u8>, Vec<u32>), Error> {
        let mut out = zeros(byte_len(&rows))?;
        let starts = (rows.start..rows.end).step_by(STRIPE_ROWS as usize);
        let stripes = starts.map(|start| start..rows.end.min(start.saturating_add(STRIPE_ROWS)));
        let left = Mutex::new(stripes.zip(out.chunks_mut(STRIPE_ROWS as usize * ROW_LEN)));
        let next = || lock(&left).next();
        let run = || -> Result<Vec<u32>, Error> {
            let mut lost = Vec::new();
            while let Some((rows, bytes)) = next() {
                lost.extend(self.heal_stripe(column, rows, bytes)?);
            }
            Ok(lost)
        };
        let mut lost = if rows.len() <= STRIPE_ROWS as usize {
            run()?
        } else {
            std::thread::scope(|scope| {
                // sums and folding take longer than reading; if no thread starts, this one does all
                // the work
                let other = std::thread::Builder::new().spawn_scoped(scope, run).ok();
                let mut lost = run()?;
                if let Some(other) = other {
                    lost.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
                }
                Ok::<_, Error>(lost)
            })?
        };
        lost.sort_unstable();
        Ok((out, lost))
    }

    /// One stripe of [`healed`](Self::healed).
    fn heal_stripe(&self, column: Column, rows: Range<u32>, out: &mut [u8]) -> Result<Vec<u32>, Error> {
        let mut lost = Vec::new();
        for run in runs(&self.read(column, rows.clone(), out)?) {
            let first = byte_len(&(rows.start..run.start));
            if let Some(bytes) = out.get_mut(first..first + byte_len(&run)) {
                lost.extend(self.solve_run(column, run, bytes)?);
            }
        }
        Ok(lost)
    }

    /// Rebuilds `rows` of `wanted`, all of them bad, from all other columns; returns those that
    /// stay lost (zeros in `out`).
    ///
    /// Nearly always no other column is bad there: then one shard is enough for a member, and none
    /// for a shard. Only the rows that stay lost are read again with all shards, each of which
    /// costs as much as all members of the first attempt.
    fn solve_run(&self, wanted: Column, rows: Range<u32>, out: &mut [u8]) -> Result<Vec<u32>, Error> {
        let few = match wanted {
            Column::Member(_) => 0..1,
            Column::Shard(_) => 0..0,
        };
        let all = 0..self.record.head.shape.parity;
        let left = self.solve_rows(wanted, rows.clone(), few.clone(), out)?;
        if all == few {
            return Ok(left);
        }
        let mut lost = Vec::new();
        for run in runs(&left) {
            let first = byte_len(&(rows.start..run.start));
            if let Some(out) = out.get_mut(first..first + byte_len(&run)) {
                lost.extend(self.solve_rows(wanted, run, all.clone(), out)?);
            }
        }
        Ok(lost)
    }

    /// One attempt of [`solve_run`](Self::solve_run), with these shards.
    fn solve_rows(
        &self,
        wanted: Column,
        rows: Range<u32>,
        helpers: Range<u8>,
        out: &mut [u8],
    ) -> Result<Vec<u32>, Error> {
        out.fill(0);
        let mut stripe = Stripe::read_shards(self, wanted, &rows, helpers)?;
        let mut buffer = vec![0; out.len()];
        for (at, member) in self.record.head.members.iter().enumerate() {
            if member.rows() <= rows.start {
                continue; // only zeros here
            }
            let bad = if wanted == Column::Member(at) {
                (rows.start..rows.end.min(member.rows())).collect()
            } else {
                self.read(Column::Member(at), rows.clone(), &mut buffer)?
            };
            stripe.remove(at, member, &bad, &buffer);
        }
        let mut lost = Vec::new();
        for (row, bytes) in rows.zip(out.chunks_mut(ROW_LEN)) {
            match self.solve_row(&stripe, wanted, row) {
                Some(solved) => bytes.copy_from_slice(&solved),
                None => lost.push(row),
            }
        }
        Ok(lost)
    }

    /// Solves one row of `wanted`; `None` when too many columns are bad there, or the sum of the
    /// result is wrong.
    fn solve_row(&self, stripe: &Stripe, wanted: Column, row: u32) -> Option<Vec<u8>> {
        let members = &self.record.head.members;
        let erased = stripe.erased(row)?;
        let slots: Vec<u8> = erased.iter().filter_map(|at| Some(members.get(*at)?.slot)).collect();
        let missing = solve(&slots, &stripe.good_shards(row)?)?;
        let solved = match wanted {
            Column::Member(at) => {
                let nth = erased.iter().position(|erased| *erased == at)?;
                missing.into_iter().nth(nth)?
            }
            Column::Shard(shard) => {
                let mut sum = stripe.shard_row(shard, row)?.to_vec();
                for (slot, bytes) in slots.iter().zip(&missing) {
                    fold(&mut sum, coefficient(shard, *slot), bytes);
                }
                sum
            }
        };
        let stored = self.stored(wanted);
        let real = real_len(&(row..row.checked_add(1)?), stored.len);
        (stored.sums.get(row as usize) == Some(&row_sum(solved.get(..real)?))).then_some(solved)
    }
}

/// The shards at some rows without all known members: the sums of the unknown ones.
struct Stripe {
    first: u32,
    /// By shard; empty for one that is not used.
    sums: Vec<Vec<u8>>,
    /// By row, then shard.
    usable: Vec<Vec<bool>>,
    /// By row: positions of the members that are bad there.
    erased: Vec<Vec<usize>>,
}

impl Stripe {
    fn read_shards(reader: &Reader<'_>, wanted: Column, rows: &Range<u32>, helpers: Range<u8>) -> Result<Self, Error> {
        let parity = usize::from(reader.record.head.shape.parity);
        let mut stripe = Self {
            first: rows.start,
            sums: vec![Vec::new(); parity],
            usable: vec![vec![false; parity]; rows.len()],
            erased: vec![Vec::new(); rows.len()],
        };
        for (shard, sum) in (0..).zip(&mut stripe.sums) {
            if wanted == Column::Shard(shard) {
                // starts as zeros and becomes the sum of the known members
                *sum = vec![0; byte_len(rows)];
            } else if helpers.contains(&shard) {
                *sum = vec![0; byte_len(rows)];
                let bad = reader.read(Column::Shard(shard), rows.clone(), sum)?;
                for (row, usable) in rows.clone().zip(&mut stripe.usable) {
                    usable[usize::from(shard)] = bad.binary_search(&row).is_err();
                }
            }
        }
        Ok(stripe)
    }

    /// Removes the good rows of a member from all shards, and records the rows at which it is
    /// erased.
    fn remove(&mut self, at: usize, member: &Member, bad: &[u32], bytes: &[u8]) {
        for row in bad {
            if let Some(erased) = self.erased.get_mut((row - self.first) as usize) {
                erased.push(at);
            }
        }
        let present = bytes.chunks(ROW_LEN).zip(self.first..member.rows()).enumerate();
        for (nth, (data, row)) in present {
            if bad.binary_search(&row).is_ok() {
                continue;
            }
            let start = nth * ROW_LEN;
            for (shard, sum) in (0..).zip(&mut self.sums) {
                if let Some(sum) = sum.get_mut(start..start + ROW_LEN) {
                    fold(sum, coefficient(shard, member.slot), data);
                }
            }
        }
    }

    /// Positions of the members that are bad at `row`.
    fn erased(&self, row: u32) -> Option<&[usize]> {
        let nth = row.checked_sub(self.first)? as usize;
        self.erased.get(nth).map(Vec::as_slice)
    }

    /// The good shards at `row`.
    fn good_shards(&self, row: u32) -> Option<Vec<(u8, &[u8])>> {
        let usable = self.usable.get(row.checked_sub(self.first)? as usize)?;
        let shards = (0..).zip(usable).filter(|(_, usable)| **usable);
        Some(
            shards
                .filter_map(|(shard, _)| Some((shard, self.shard_row(shard, row)?)))
                .collect(),
        )
    }

    fn shard_row(&self, shard: u8, row: u32) -> Option<&[u8]> {
        let start = row.checked_sub(self.first)? as usize * ROW_LEN;
        self.sums.get(usize::from(shard))?.get(start..start + ROW_LEN)
    }
}

/// Length of `rows` in a buffer of whole rows, in bytes.
fn byte_len(rows: &Range<u32>) -> usize {
    rows.len().saturating_mul(ROW_LEN)
}

/// Length of `rows` in a column of `len` bytes, whose last row may be short.
fn real_len(rows: &Range<u32>, len: u64) -> usize {
    let row = ROW_LEN as u64;
    let end = (u64::from(rows.end) * row).min(len);
    usize::try_from(end.saturating_sub(u64::from(rows.start) * row)).unwrap_or(usize::MAX)
}

fn zeros(len: usize) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::new();
    out.try_reserve_exact(len).map_err(|_| Refusal::NoMemory)?;
    out.resize(len, 0);
    Ok(out)
}

/// Joins ascending row numbers into ranges.
fn runs(rows: &[u32]) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for row in rows {
        match runs.last_mut() {
            Some(run) if run.end == *row => run.end += 1,
            _ => runs.push(*row..row + 1),
        }
    }
    runs
}

/// The bad rows of a stored pack: missing or cut off, failing to be read, or with a wrong sum.
pub fn damaged_rows(storage: &dyn Storage, record: &GroupRecord, pack: &PackId) -> Result<Vec<Range<u32>>, Error> {
    let at = record.head.position(pack).ok_or(Refusal::NotAMember)?;
    Ok(runs(&Reader::new(storage, record).bad_rows(Column::Member(at))?))
}

/// Returns `rows` of a pack: the good ones from its own file, the others rebuilt from the rest of
/// the group. The last row is as short as the pack's. [`Error::Lost`], with the rows that are
/// known, when some cannot be rebuilt.
pub fn rebuild_rows(
    storage: &dyn Storage,
    record: &GroupRecord,
    pack: &PackId,
    rows: Range<u32>,
) -> Result<Vec<u8>, Error> {
    let at = record.head.position(pack).ok_or(Refusal::NotAMember)?;
    let member = record.head.members.get(at).ok_or(Refusal::NotAMember)?;
    if rows.start > rows.end || rows.end > member.rows() {
        return Err(Refusal::NotAMember.into());
    }
    let real = real_len(&rows, member.len);
    let first_row = rows.start;
    let reader = Reader::new(storage, record);
    let (mut bytes, lost) = reader.healed(Column::Member(at), rows)?;
    bytes.truncate(real);
    if lost.is_empty() {
        return Ok(bytes);
    }
    Err(Error::Lost(Box::new(Lost {
        group: record.head.id,
        pack: Some(*pack),
        rows: runs(&lost),
        first_row,
        bytes,
        unreadable: reader.unreadable(),
    })))
}

/// Returns a whole pack, with the good rows of its own file kept, proven by its id.
/// [`Error::Lost`], with the rows that are known, when it cannot be rebuilt.
pub fn rebuild_pack(storage: &dyn Storage, record: &GroupRecord, pack: &PackId) -> Result<Vec<u8>, Error> {
    let at = record.head.position(pack).ok_or(Refusal::NotAMember)?;
    let rows = 0..record.head.members.get(at).map_or(0, Member::rows);
    let bytes = rebuild_rows(storage, record, pack, rows.clone())?;
    if sha256(&[&bytes]) == pack.0 {
        return Ok(bytes);
    }
    Err(Error::Lost(Box::new(Lost {
        group: record.head.id,
        pack: Some(*pack),
        rows: vec![rows],
        first_row: 0,
        bytes,
        unreadable: None,
    })))
}

/// Returns a whole shard: its good rows kept, the others rebuilt from the members.
pub(super) fn rebuild_shard(storage: &dyn Storage, record: &GroupRecord, shard: u8) -> Result<Vec<u8>, Error> {
    let rows = 0..record.head.stripe_rows();
    let reader = Reader::new(storage, record);
    let (bytes, lost) = reader.healed(Column::Shard(shard), rows)?;
    if lost.is_empty() {
        return Ok(bytes);
    }
    Err(Error::Lost(Box::new(Lost {
        group: record.head.id,
        pack: None,
        rows: runs(&lost),
        first_row: 0,
        bytes,
        unreadable: reader.unreadable(),
    })))
}

/// Rebuilds a lost or damaged file of a group, byte for byte, from its record and the members.
pub fn rebuild_file(storage: &dyn Storage, record: &GroupRecord, part: Part) -> Result<Vec<u8>, Error> {
    let bytes = record.encode();
    match part {
        Part::Group => Ok([&record.head.prefix(part).encode()[..], &bytes].concat()),
        Part::Shard(shard) if shard < record.head.shape.parity => {
            let (front, back) = frame(&record.head, &bytes, shard);
            let rows = rebuild_shard(storage, record, shard)?;
            Ok([front.into_inner(), rows, back].concat())
        }
        Part::Shard(_) => Err(Refusal::NotAMember.into()),
    }
}

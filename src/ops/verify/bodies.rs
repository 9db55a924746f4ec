//! Reads every byte of every pack, on all workers: its SHA-256 must match its id, its `.idx` must
//! be a copy of its ends, and at `full` the hash of each decoded chunk must match the chunk's id.
//!
//! Each worker reads one pack from front to back in pieces of at most [`PIECE`] bytes (or one
//! chunk, if that is longer), in a buffer of the handle's pool. A piece that cannot be read is
//! tried twice, and reading continues after it.

use super::hits::Damage;
use super::packs::{Bad, Packs, is_missing};
use super::{Run, VerifyLevel};
use crate::base::{ChunkMeta, Prover, meta_of};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::layout;
use crate::pack::PackEntry;
use crate::pack::format::{FOOTER_LEN, HEADER_LEN, IndexParts};
use crate::panics;
use crate::repo::{Repository, read_any_index};
use crate::sha256::Stream;
use crate::storage::{self, FailedRead, Verdict};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Bytes read per call: large compared with the cost of a call, small enough to stay in a core's
/// cache until they are hashed.
const PIECE: usize = 512 << 10;
/// Largest `.idx` that is compared, in bytes.
const MAX_INDEX_LEN: u64 = 4 << 20;
/// Interval of progress reports while no pack is finished.
const TICK: Duration = Duration::from_millis(100);

/// Result of checking one pack.
#[derive(Default)]
struct Body {
    /// Why its bytes are bad, if they are.
    bad: Option<Bad>,
    /// A failed read of its `.idx`.
    unread: Option<storage::Error>,
    /// It does not exist any more.
    missing: bool,
    /// Its `.idx` differs from its ends.
    index_differs: bool,
    /// Number of decoded chunks.
    chunks: u64,
    /// Chunks that do not decode, with the reason.
    bad_chunks: Vec<(ChunkId, &'static str)>,
}

/// State that the workers share.
struct Shared {
    repo: Arc<Repository>,
    decode: bool,
    stop: AtomicBool,
    bytes: AtomicU64,
}

pub(super) fn check(run: &mut Run<'_>, packs: &mut Packs, damage: &mut Damage) -> Result<()> {
    let jobs: Vec<(PackId, u64, bool)> = packs
        .bodies(run)
        .map(|(pack, facts)| (*pack, facts.len.unwrap_or(0), facts.index_good))
        .collect();
    let shared = Arc::new(Shared {
        repo: Arc::clone(run.repo),
        decode: run.options.level == VerifyLevel::Full,
        stop: AtomicBool::new(false),
        bytes: AtomicU64::new(0),
    });
    let (sender, receiver) = channel();
    let most = run.repo.executor().threads() * 2;
    let mut waiting = jobs.into_iter();
    let mut under_way = 0usize;
    let mut outcome = Ok(());
    loop {
        while outcome.is_ok() && under_way < most {
            let Some((pack, len, index_good)) = waiting.next() else {
                break;
            };
            spawn(&shared, &sender, pack, len, index_good);
            under_way += 1;
        }
        if under_way == 0 {
            return outcome;
        }
        match next(&receiver, &mut under_way) {
            Some((pack, Some(body))) => take(run, packs, damage, pack, body),
            Some((_, None)) => {
                outcome = Err(Error::Panicked {
                    reason: "a worker panicked".to_owned(),
                });
            }
            None => {}
        }
        run.advance(shared.bytes.swap(0, Ordering::Relaxed), 0);
        outcome = outcome.and_then(|()| run.check_running());
        if outcome.is_err() {
            shared.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// A pack and its result; `None` when the worker panicked.
type Answered = (PackId, Option<Body>);

/// The next finished pack; `None` when none finishes within [`TICK`].
fn next(receiver: &Receiver<Answered>, under_way: &mut usize) -> Option<Answered> {
    match receiver.recv_timeout(TICK) {
        Ok(done) => {
            *under_way -= 1;
            Some(done)
        }
        Err(RecvTimeoutError::Timeout) => None,
        // cannot happen: the caller holds a sender too
        Err(RecvTimeoutError::Disconnected) => {
            *under_way = 0;
            None
        }
    }
}

/// Sends the result for a pack when dropped, whatever happens to the job.
struct Answer {
    sender: Sender<Answered>,
    pack: PackId,
    body: Option<Body>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // the receiver is dropped when the run was abandoned
        let _ = self.sender.send((self.pack, self.body.take()));
    }
}

fn spawn(shared: &Arc<Shared>, sender: &Sender<Answered>, pack: PackId, len: u64, index_good: bool) {
    let (job_shared, sender) = (Arc::clone(shared), sender.clone());
    shared.repo.executor().spawn(Box::new(move || {
        let mut answer = Answer {
            sender,
            pack,
            body: None,
        };
        panics::point("ca-checker");
        answer.body = Some(read_body(&job_shared, &pack, len, index_good));
        // release the handle first: the caller may close it as soon as it has the answer
        drop(job_shared);
        drop(answer);
    }));
}

fn take(run: &mut Run<'_>, packs: &mut Packs, damage: &mut Damage, pack: PackId, body: Body) {
    run.report.stats.packs_checked += 1;
    run.report.stats.chunks_checked += body.chunks;
    run.advance(0, 1);
    if let Some(error) = &body.unread {
        run.note_unread(error, true);
    }
    if body.missing {
        let lost = is_missing(run, &pack);
        if let Some(facts) = packs.table.get_mut(&pack) {
            facts.len = None;
            // it existed when the run began, so it is not a leftover that a power loss removed
            facts.bad = lost.then_some(Bad::Missing { committed: true });
        }
        return;
    }
    if let Some(reason) = body.bad {
        if let Some(facts) = packs.table.get_mut(&pack)
            && facts.bad.is_none()
        {
            facts.bad = Some(reason);
        }
        return;
    }
    for (chunk, reason) in body.bad_chunks {
        damage.add_bad_chunk(pack, chunk, reason);
    }
    let key = layout::pack_index(&pack);
    if body.index_differs && run.is_there(&key) {
        run.found(super::Problem {
            pack: Some(pack),
            text: format!("The .idx of pack {pack} is not a copy of its header, trailer and footer"),
            path: Some(key),
            healable: true,
            ..super::Problem::new("ERR_PACK_INDEX_CORRUPT")
        });
    }
}

/// Reads a pack from end to end.
fn read_body(shared: &Shared, pack: &PackId, len: u64, index_good: bool) -> Body {
    let repo = &shared.repo;
    let mut body = Body::default();
    let entries = match shared.decode {
        true => entries_of(repo, pack, &mut body),
        false => Vec::new(),
    };
    let mut hasher = Stream::default();
    let mut prover = Prover::default();
    let mut entries = entries.iter().peekable();
    let mut at = 0u64;
    while at < len && !shared.stop.load(Ordering::Relaxed) {
        let (end, inside) = next_piece(at, len, &mut entries);
        // bounded by PIECE or by a chunk, 16 MiB
        let size = usize::try_from(end - at).unwrap_or(PIECE);
        let no_memory = || storage::Error::no_memory(layout::pack(pack));
        let Ok(mut buffer) = repo.pool().take_now(size) else {
            body.bad.get_or_insert(Bad::Unreadable(no_memory()));
            return body;
        };
        let bytes = &mut buffer.as_mut_slice()[..size];
        let mut read = || repo.storage().get_range(&layout::pack(pack), at, bytes);
        let outcome = match read() {
            // a read that fails once is repeated
            Err(error) if error.unreadable().is_some() => read(),
            other => other,
        };
        match outcome {
            Ok(()) => {
                body.chunks += inside.len() as u64;
                let located: Vec<(ChunkMeta, &[u8])> = inside
                    .iter()
                    .map(|entry| {
                        let start = (u64::from(entry.offset) - at) as usize;
                        (meta_of(entry), &bytes[start..start + entry.payload_len as usize])
                    })
                    .collect();
                match prover.prove_each(repo.seal(), &located, (&mut hasher, bytes)) {
                    Ok(proven) => {
                        let bad = inside.iter().zip(proven);
                        let bad = bad.filter_map(|(entry, proven)| Some((entry.id, proven.err()?)));
                        body.bad_chunks.extend(bad);
                    }
                    Err(_) => drop(body.bad.get_or_insert(Bad::Unreadable(no_memory()))),
                }
            }
            Err(error) => match error.kind.verdict() {
                Verdict::Missing => {
                    body.missing = true;
                    return body;
                }
                Verdict::Wrong => body.bad = Some(Bad::Corrupt("it was truncated while it was read".to_owned())),
                Verdict::Unreadable => drop(body.bad.get_or_insert(Bad::Unreadable(error))),
            },
        }
        shared.bytes.fetch_add(end - at, Ordering::Relaxed);
        at = end;
    }
    if at < len {
        return body; // stopped
    }
    if body.bad.is_none() && hasher.finish() != pack.0 {
        body.bad = Some(Bad::Corrupt("its SHA-256 does not match its id".to_owned()));
    }
    if body.bad.is_none() && index_good {
        match index_is_copy(repo, pack, len) {
            Ok(same) => body.index_differs = !same,
            // a missing .idx was reported by an earlier step
            Err(error) => body.unread = error.unreadable().cloned(),
        }
    }
    body
}

/// The end of the piece that begins at `at`, and the chunks in it. Chunks are never split.
fn next_piece<'e>(
    at: u64,
    len: u64,
    entries: &mut std::iter::Peekable<std::slice::Iter<'e, PackEntry>>,
) -> (u64, Vec<&'e PackEntry>) {
    let most = at.saturating_add(PIECE as u64).min(len);
    let mut inside = Vec::new();
    let mut end = at;
    while let Some(entry) = entries.peek() {
        let (start, stop) = (
            u64::from(entry.offset),
            u64::from(entry.offset) + u64::from(entry.payload_len),
        );
        if start < at || stop > len {
            // contradicts the file: the hash check will report it
            entries.next();
            continue;
        }
        if start > most || stop > most && !(inside.is_empty() && start == at) {
            // before the first chunk, or no room for another one
            return (if end == at { start.min(most) } else { end }, inside);
        }
        end = stop;
        inside.push(*entry);
        entries.next();
    }
    (if end == at { most } else { end }, inside)
}

/// The entries of the pack; empty when neither the trailer nor the `.idx` is intact.
fn entries_of(repo: &Repository, pack: &PackId, body: &mut Body) -> Vec<PackEntry> {
    match read_any_index(repo, pack) {
        Ok(index) => index.entries,
        Err(error) => {
            body.unread = error.unreadable().cloned();
            Vec::new()
        }
    }
}

/// Compares the `.idx` with the ends of an intact pack.
fn index_is_copy(repo: &Repository, pack: &PackId, len: u64) -> storage::Result<bool> {
    let storage = repo.storage();
    let Ok(parts) = IndexParts::decode(&storage.get(&layout::pack_index(pack), MAX_INDEX_LEN)?) else {
        return Ok(false);
    };
    let expected = [&parts.header[..], &parts.trailer, &parts.footer];
    let tail = (parts.trailer.len() + FOOTER_LEN) as u64;
    let Some(trailer_at) = len.checked_sub(tail) else {
        return Ok(false);
    };
    let ranges: [Range<u64>; 3] = [
        0..HEADER_LEN as u64,
        trailer_at..len - FOOTER_LEN as u64,
        len - FOOTER_LEN as u64..len,
    ];
    for (range, expected) in ranges.into_iter().zip(expected) {
        let mut bytes = vec![0; expected.len()];
        storage.get_range(&layout::pack(pack), range.start, &mut bytes)?;
        if bytes != expected {
            return Ok(false);
        }
    }
    Ok(parts.pack == *pack && parts.pack_len == len)
}

//! An open global index: the view of the live segments, and look-ups in it.
//!
//! `known` has every segment in the folder: open, broken (damaged, unsupported or unreadable) or
//! foreign. The *view* is the open segments that no other open one supersedes; look-ups use it and
//! take no lock on `known`. A segment that vanished was merged: the view is listed again.

use crate::sync::lock;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::error::{BrokenSegment, Damage, Error};
use super::known::Known;
use super::merge::MergeSource;
use super::pages::{PageCache, PageReads};
use super::seal::SegmentContext;
use super::segment::{Segment, SegmentStats};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::layout;
use crate::pack::ChunkLocation;
use crate::storage::{self, Ask, ErrorKind, Storage, announced};

/// Number of times that a vanished segment makes a handle list again before it fails. Each round
/// needs another merge to finish in between, so more than one or two do not occur.
const LIST_ROUNDS: usize = 16;

/// The read of a segment as a whole, which a store with requests makes of a short one.
fn whole_segment(id: &SegmentId) -> Ask {
    Ask::Get {
        key: layout::segment(id),
        max_len: u64::MAX,
    }
}

type View = Arc<Vec<Arc<Segment>>>;

/// The global index of a handle. All methods may be called from any thread.
pub struct GlobalIndex {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) context: Arc<SegmentContext>,
    pub(super) cache: Arc<PageCache>,
    /// All files that were seen in the directory. Locked while the view changes, never during
    /// look-ups.
    known: Mutex<Known>,
    /// Live segments, smallest first: the newest are small until they are merged.
    view: RwLock<View>,
}

impl GlobalIndex {
    /// Lists and opens the segments, and returns those that do not open, which are left out.
    /// `cache_bytes` is the limit of the page cache in bytes.
    pub fn load(
        storage: Arc<dyn Storage>,
        context: Arc<SegmentContext>,
        cache_bytes: usize,
    ) -> Result<(Self, Vec<BrokenSegment>), Error> {
        let index = Self::unread(storage, context, cache_bytes);
        let broken = index.refresh()?;
        Ok((index, broken))
    }

    /// An index without any segment: nothing is listed before the first [`Self::refresh`].
    pub fn unread(storage: Arc<dyn Storage>, context: Arc<SegmentContext>, cache_bytes: usize) -> Self {
        Self {
            storage,
            context,
            cache: Arc::new(PageCache::new(cache_bytes)),
            known: Mutex::default(),
            view: RwLock::default(),
        }
    }

    /// Lists again and opens the segments that are new or could not be read before; cheap when
    /// there are none. Returns those that were not known to be broken. One that cannot be read is
    /// left out and not returned: see [`Self::check_read`].
    pub fn refresh(&self) -> Result<Vec<BrokenSegment>, Error> {
        self.list(&mut self.known())
    }

    /// All known locations of a chunk, those in small (new) segments first; empty when there are
    /// none. A location is a hint: the pack may be deleted or condemned. [`Error::Damaged`] names a
    /// segment with a bad page: see [`Self::set_aside`]. A segment that fails to be read twice is
    /// left out.
    pub fn locate(&self, id: &ChunkId) -> Result<Vec<ChunkLocation>, Error> {
        self.without_unreadable(|view| locate_in(view, id))
    }

    /// [`Self::locate`] for many ids, in the order of `ids`. Reads each page once while the cache
    /// holds it.
    pub fn locate_batch(&self, ids: &[ChunkId]) -> Result<Vec<Vec<ChunkLocation>>, Error> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|at| ids[*at]);
        self.without_unreadable(|view| {
            let mut found = vec![Vec::new(); ids.len()];
            // id order is page order in all sections but the pack section
            for at in &order {
                found[*at] = locate_in(view, &ids[*at])?;
            }
            Ok(found)
        })
    }

    /// Calls `look` with the live segments, and again without each one that cannot be read the
    /// second time either.
    fn without_unreadable<T>(&self, look: impl Fn(&[Arc<Segment>]) -> Result<T, Error>) -> Result<T, Error> {
        let mut failed = None;
        loop {
            match self.with_view(&look) {
                Err(error @ Error::Unreadable { segment, .. }) => {
                    if failed.replace(segment) == Some(segment) {
                        self.set_aside(segment, error);
                    }
                }
                other => return other,
            }
        }
    }

    /// Fails with [`Error::Unreadable`] when a segment is left out because it cannot be read: the
    /// others do not hold the whole index.
    pub fn check_read(&self) -> Result<(), Error> {
        let known = self.known();
        let mut unreadable = known.broken.values().filter(|error| error.is_unreadable());
        unreadable.next().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// True when a live segment names the pack.
    pub fn contains_pack(&self, pack: &PackId) -> Result<bool, Error> {
        let found = self.with_view(|view| {
            for segment in view {
                if segment.contains_pack(pack)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !found {
            self.check_read()?;
        }
        Ok(found)
    }

    /// The live segments that name any of `packs`.
    pub fn segments_naming(&self, packs: &HashSet<PackId>) -> Result<Vec<SegmentId>, Error> {
        self.check_read()?;
        self.with_view(|view| {
            let mut naming = Vec::new();
            for segment in view {
                let mut names = false;
                segment.for_each_pack(&mut |pack, _| names |= packs.contains(&pack))?;
                if names {
                    naming.push(segment.id());
                }
            }
            Ok(naming)
        })
    }

    /// All packs that live segments name, with their lengths in bytes. Takes at least 40 bytes of
    /// memory for each pack: for maintenance.
    pub fn packs(&self) -> Result<HashMap<PackId, u64>, Error> {
        self.check_read()?;
        self.readable_packs()
    }

    /// The same without the segments that cannot be read.
    pub fn readable_packs(&self) -> Result<HashMap<PackId, u64>, Error> {
        self.with_view(|view| {
            let mut packs = HashMap::new();
            for segment in view {
                segment.for_each_pack(&mut |pack, len| {
                    packs.entry(pack).or_insert(len);
                })?;
            }
            Ok(packs)
        })
    }

    /// The total length in bytes of the packs that live segments name. Estimated where they are
    /// many, so that the time does not grow with the repository.
    pub fn estimate_pack_bytes(&self) -> Result<u64, Error> {
        self.check_read()?;
        self.with_view(|view| {
            view.iter().try_fold(0, |sum: u64, segment| {
                Ok(sum.saturating_add(segment.estimate_pack_bytes()?))
            })
        })
    }

    /// All entries of all live segments in order of id, repeated pairs included, as a source.
    pub fn all_entries(&self) -> Result<MergeSource, Error> {
        self.check_read()?;
        self.readable_entries()
    }

    /// The same without the segments that cannot be read.
    pub fn readable_entries(&self) -> Result<MergeSource, Error> {
        self.with_view(|view| MergeSource::new(view.to_vec(), &HashSet::new()))
    }

    /// Sizes of the live segments, smallest first.
    pub fn live_segments(&self) -> Vec<SegmentStats> {
        self.view().iter().map(|segment| segment.stats()).collect()
    }

    /// The live segments, smallest first.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.view().to_vec()
    }

    /// Opens the segment again, without the pages that this handle has cached, and checks all of
    /// it. `go_on` is called every 64 pages; `Ok(false)` when it returned false. [`Error::Damaged`]
    /// or [`Error::Unsupported`] state what is wrong; [`Error::Storage`] with `NotFound` means that
    /// the segment was merged.
    pub fn check_segment(&self, id: SegmentId, go_on: &mut dyn FnMut() -> bool) -> Result<bool, Error> {
        Segment::open(&self.storage, &self.context, &self.cache, id)?.check(go_on)
    }

    /// All broken segments in the directory, as of the last listing.
    pub fn broken_segments(&self) -> Vec<BrokenSegment> {
        let known = self.known();
        known
            .broken
            .iter()
            .map(|(id, error)| BrokenSegment {
                id: *id,
                error: error.clone(),
            })
            .collect()
    }

    /// All segments in the directory that belong to another repository, as of the last listing.
    pub fn foreign_segments(&self) -> Vec<SegmentId> {
        self.known().foreign.iter().copied().collect()
    }

    /// Drops all segments and cached pages, after the directory was replaced. The next
    /// [`Self::refresh`] lists all of it.
    pub fn forget(&self) {
        let mut known = self.known();
        *known = Known::default();
        self.cache.clear();
        self.show(&known);
    }

    /// Number of pages read from storage so far.
    pub fn page_reads(&self) -> PageReads {
        self.cache.reads()
    }

    /// Leaves a segment out of all look-ups, because one failed with `error`; a segment that could
    /// not be read, only until that read succeeds. The segments that it superseded are live again
    /// if they still exist. The file stays until [`Self::supersede`] replaces it.
    pub fn set_aside(&self, id: SegmentId, error: Error) {
        let mut known = self.known();
        if known.open.remove(&id).is_some() {
            known.broken.insert(id, error);
            self.show(&known);
        }
    }

    pub(super) fn view(&self) -> View {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    pub(super) fn show(&self, known: &Known) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known.live());
    }

    /// Calls `action` with the view, and again with a fresh one while segments vanish during the
    /// call.
    fn with_view<T>(&self, action: impl Fn(&[Arc<Segment>]) -> Result<T, Error>) -> Result<T, Error> {
        let mut result = action(&self.view());
        for _ in 0..LIST_ROUNDS {
            match &result {
                Err(error) if error.is_not_found() => {
                    self.refresh()?;
                    result = action(&self.view());
                }
                _ => break,
            }
        }
        result
    }

    /// Opens a segment, with a second attempt if a read fails, and repeats the read for which it
    /// was left out.
    pub(super) fn open_again(&self, id: SegmentId, left_out: Option<&Error>) -> Result<Segment, Error> {
        let open = || Segment::open(&self.storage, &self.context, &self.cache, id);
        let segment = match open() {
            Err(Error::Unreadable { .. }) => open(),
            Err(Error::Damaged { .. }) if self.storage.is_remote() => {
                // its bytes may have been kept since an earlier read
                self.storage.forget_cached_of(&layout::segment(&id));
                open()
            }
            other => other,
        }?;
        if let Some(Error::Unreadable { offset, len, .. }) = left_out {
            segment.try_range(*offset, *len)?;
        }
        Ok(segment)
    }

    /// Updates `known` and the view from a listing of the directory.
    pub(super) fn list(&self, known: &mut Known) -> Result<Vec<BrokenSegment>, Error> {
        let mut newly_broken = Vec::new();
        for _ in 0..LIST_ROUNDS {
            let entries = self.storage.list(layout::INDEX)?;
            let listed: HashSet<SegmentId> = entries
                .iter()
                .filter_map(|entry| layout::id_of(&entry.key, ".seg").map(SegmentId))
                .collect();
            let before = known.open.len();
            known.open.retain(|id, _| listed.contains(id));
            known.broken.retain(|id, _| listed.contains(id));
            known.foreign.retain(|id| listed.contains(id));
            let mut changed = known.open.len() != before;
            let mut vanished = false;
            let listed: Vec<SegmentId> = listed.into_iter().collect();
            for id in announced(self.storage.as_ref(), &listed, whole_segment).copied() {
                let left_out = known.broken.get(&id);
                let is_known = known.open.contains_key(&id) || known.foreign.contains(&id);
                if is_known || left_out.is_some_and(|error| !error.is_unreadable()) {
                    continue;
                }
                match self.open_again(id, left_out) {
                    Ok(segment) => {
                        known.broken.remove(&id);
                        known.open.insert(id, Arc::new(segment));
                        changed = true;
                    }
                    Err(error) if error.is_not_found() => vanished = true,
                    Err(Error::Damaged {
                        reason: Damage::ForeignRepository,
                        ..
                    }) => {
                        known.foreign.insert(id);
                    }
                    Err(error @ Error::Unreadable { .. }) => {
                        known.broken.insert(id, error);
                    }
                    Err(error @ (Error::Damaged { .. } | Error::Unsupported { .. })) => {
                        known.broken.insert(id, error.clone());
                        newly_broken.push(BrokenSegment { id, error });
                    }
                    Err(error) => return Err(error),
                }
            }
            if changed {
                self.show(known);
            }
            if !vanished {
                return Ok(newly_broken);
            }
        }
        Err(storage::Error::new(ErrorKind::NotFound, "list", layout::INDEX).into())
    }
}

fn locate_in(view: &[Arc<Segment>], id: &ChunkId) -> Result<Vec<ChunkLocation>, Error> {
    let mut found: Vec<ChunkLocation> = Vec::new();
    for segment in view {
        let known = found.len();
        segment.locate(id, &mut found)?;
        // several segments may hold the same (id, pack) pair
        for at in (known..found.len()).rev() {
            if found[..known].iter().any(|earlier| earlier.pack == found[at].pack) {
                found.swap_remove(at);
            }
        }
    }
    Ok(found)
}

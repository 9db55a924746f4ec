//! The global index: chunk id → places, for the whole repository.
//!
//! It is a set of *segments*, immutable files of sorted pages (`docs/format.md` §9). There is no list of them: all
//! `index/*.seg` that open count, except those that another one names as superseded. Everybody may add segments at any
//! time; only the holder of the maintenance lock merges or deletes. Every entry can be found again in the pack indexes, so
//! a broken segment is left out, reported, and made again: nothing is lost with it.
//!
//! What always holds:
//! - Memory is the page cache plus 8 bytes for 43,350 entries, whatever the size of the index. Opening reads a few pages
//!   a segment. A look-up reads a filter page and, if that admits the id, a fence, a data and a pack page.
//! - No page is used before its tag was checked: a damaged page is [`Error::Damaged`], never a wrong place.
//! - A segment that vanishes was merged by somebody else: list again and go on.
//! - A segment that cannot be read is not damaged. It is left out of look-ups until that very read works again, and whatever
//!   needs the whole index (maintenance, verify) fails with [`Error::Unreadable`] as long as one is left out.
//!
//! It leaves to others: whether a pack that it names still exists or is condemned (a place is a hint until the pack was
//! looked at), when to merge, and making segments from pack indexes.

mod check;
mod error;
pub mod filter;
pub mod format;
mod merge;
mod pages;
mod seal;
mod segment;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{Damage, Error};
pub use format::SegmentEntry;
pub use merge::{MergeSource, plan_merge, plan_merge_within};
pub use pages::{DEFAULT_CACHE_BYTES, PageCache, PageReads};
pub use seal::{EpochKey, SegmentContext, SegmentSeal};
pub use segment::{Segment, SegmentScan, check_header};
pub use source::{EntryScan, EntrySource, MemorySource};
pub use writer::write_segment;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::entropy::Entropy;
use crate::id::{ChunkId, PackId, SegmentId};
use crate::layout;
use crate::pack::ChunkLocation;
use crate::storage::{self, ErrorKind, Storage};

/// How often a vanished segment makes a handle list again before it gives up. Each round needs another merge to finish
/// in between, so more than one or two are never seen.
const LIST_ROUNDS: usize = 16;

/// A segment that is left out.
#[derive(Debug, Clone)]
pub struct BrokenSegment {
    /// Which one.
    pub id: SegmentId,
    /// Why: [`Error::Damaged`], [`Error::Unsupported`], or [`Error::Unreadable`] for now.
    pub error: Error,
}

/// Size of a live segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStats {
    /// Which one.
    pub id: SegmentId,
    /// Number of entries.
    pub entries: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

type View = Arc<Vec<Arc<Segment>>>;

/// A handle's view of the global index. All methods may be called from any thread.
pub struct GlobalIndex {
    storage: Arc<dyn Storage>,
    context: Arc<SegmentContext>,
    cache: Arc<PageCache>,
    /// All files seen in the folder. Held while the view changes, never during look-ups.
    known: Mutex<Known>,
    /// Live segments, the smallest first: the newest are small until they are merged.
    view: RwLock<View>,
}

#[derive(Default)]
struct Known {
    open: HashMap<SegmentId, Arc<Segment>>,
    broken: HashMap<SegmentId, Error>,
    /// Whole segments of other repositories: left out, and left alone.
    foreign: HashSet<SegmentId>,
}

impl GlobalIndex {
    /// Lists and opens the segments. `cache_bytes` bounds the page cache. Segments that do not open are left out and
    /// returned.
    pub fn load(
        storage: Arc<dyn Storage>,
        context: Arc<SegmentContext>,
        cache_bytes: usize,
    ) -> Result<(Self, Vec<BrokenSegment>), Error> {
        let index = Self::unread(storage, context, cache_bytes);
        let broken = index.refresh()?;
        Ok((index, broken))
    }

    /// A view without any segment: nothing is listed until somebody asks for it.
    pub fn unread(storage: Arc<dyn Storage>, context: Arc<SegmentContext>, cache_bytes: usize) -> Self {
        Self {
            storage,
            context,
            cache: Arc::new(PageCache::new(cache_bytes)),
            known: Mutex::default(),
            view: RwLock::default(),
        }
    }

    /// Lists again and opens what is new, and what could not be read before; cheap when there is nothing of these. Returns
    /// segments that were not known to be broken; those that cannot be read are left out in silence: see [`Self::check_read`].
    pub fn refresh(&self) -> Result<Vec<BrokenSegment>, Error> {
        self.list(&mut self.known())
    }

    /// All known places of a chunk, those of small (new) segments first; empty when there is none. A place is a hint: the
    /// pack may be gone or condemned. [`Error::Damaged`] names a segment with a bad page: see [`Self::set_aside`]. One that
    /// cannot be read, the second time neither, is left out.
    pub fn locate(&self, id: &ChunkId) -> Result<Vec<ChunkLocation>, Error> {
        let mut failed = None;
        loop {
            match self.with_view(|view| locate_in(view, id)) {
                Err(error @ Error::Unreadable { segment, .. }) => {
                    if failed.replace(segment) == Some(segment) {
                        self.set_aside(segment, error);
                    }
                }
                other => return other,
            }
        }
    }

    /// [`Self::locate`] for many ids, in their order. Reads each page once as long as the cache holds it.
    pub fn locate_batch(&self, ids: &[ChunkId]) -> Result<Vec<Vec<ChunkLocation>>, Error> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|place| ids[*place]);
        self.with_view(|view| {
            let mut found = vec![Vec::new(); ids.len()];
            // id order is page order in all sections but the pack section
            for place in &order {
                found[*place] = locate_in(view, &ids[*place])?;
            }
            Ok(found)
        })
    }

    /// `Err` when a segment is left out because it cannot be read, so that what the others say is not all there is.
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

    /// All packs that live segments name, with their lengths in bytes. 40 bytes a pack and more: for maintenance.
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

    /// All entries of all live segments in order of id, repeated pairs included, as a source that can be walked.
    pub fn all_entries(&self) -> Result<MergeSource, Error> {
        self.check_read()?;
        self.readable_entries()
    }

    /// The same without the segments that cannot be read.
    pub fn readable_entries(&self) -> Result<MergeSource, Error> {
        self.with_view(|view| MergeSource::new(view.to_vec(), &HashSet::new()))
    }

    /// The live segments, the smallest first.
    pub fn live_segments(&self) -> Vec<SegmentStats> {
        let stats = |segment: &Arc<Segment>| SegmentStats {
            id: segment.id(),
            entries: segment.entries(),
            bytes: segment.file_len(),
        };
        self.view().iter().map(stats).collect()
    }

    /// All broken segments that lie in the folder, as far as this handle knows.
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

    /// All segments in the folder that belong to another repository, as far as this handle knows.
    pub fn foreign_segments(&self) -> Vec<SegmentId> {
        self.known().foreign.iter().copied().collect()
    }

    /// Forgets all segments and pages: the folder was replaced. The next [`Self::refresh`] lists it from the start.
    pub fn forget(&self) {
        let mut known = self.known();
        *known = Known::default();
        self.cache.clear();
        self.show(&known);
    }

    /// Pages read from storage so far.
    pub fn page_reads(&self) -> PageReads {
        self.cache.reads()
    }

    /// Leaves a segment out from now on, because a look-up found `error` in it; one that could not be read, until that read
    /// works. Look-ups then go on without it, and what it superseded counts again if it is still there. The file stays until
    /// [`Self::supersede`] replaces it.
    pub fn set_aside(&self, id: SegmentId, error: Error) {
        let mut known = self.known();
        if known.open.remove(&id).is_some() {
            known.broken.insert(id, error);
            self.show(&known);
        }
    }

    /// Publishes a segment of new entries, each with the length of its pack in bytes, and adds it to the view. Adds only,
    /// so no lock is needed; durable after the next barrier. `None` when there is nothing to publish.
    pub fn publish(
        &self,
        entropy: &dyn Entropy,
        entries: Vec<(ChunkLocation, u64)>,
    ) -> Result<Option<SegmentId>, Error> {
        if entries.is_empty() {
            return Ok(None);
        }
        self.publish_source(entropy, &MemorySource::new(entries)).map(Some)
    }

    /// [`Self::publish`] for any source.
    pub fn publish_source(&self, entropy: &dyn Entropy, source: &dyn EntrySource) -> Result<SegmentId, Error> {
        let id = write_segment(&*self.storage, &self.context, entropy, &[], source)?;
        match self.open_again(id, None) {
            Ok(segment) => {
                let mut known = self.known();
                known.open.insert(id, Arc::new(segment));
                self.show(&known);
            }
            // merged away already by somebody else
            Err(error) if error.is_not_found() => {
                self.refresh()?;
            }
            Err(error) => return Err(error),
        }
        Ok(id)
    }

    /// Merges those of `ids` that are live into one segment without the entries of `drop_packs`. `None` when none of them
    /// is live. **The caller holds the maintenance lock.**
    pub fn merge(
        &self,
        entropy: &dyn Entropy,
        ids: &[SegmentId],
        drop_packs: &HashSet<PackId>,
    ) -> Result<Option<SegmentId>, Error> {
        self.refresh()?;
        // one that is left out may supersede some of them
        self.check_read()?;
        let inputs: Vec<Arc<Segment>> = self
            .view()
            .iter()
            .filter(|segment| ids.contains(&segment.id()))
            .cloned()
            .collect();
        if inputs.is_empty() {
            return Ok(None);
        }
        let ids: Vec<SegmentId> = inputs.iter().map(|segment| segment.id()).collect();
        let source = MergeSource::new(inputs, drop_packs)?;
        self.supersede(entropy, &source, &ids).map(Some)
    }

    /// Publishes a segment of `source` that takes the place of `old` (live, superseded or broken ones; those that are gone
    /// are ignored), waits until it is durable, then deletes the old files. **The caller holds the maintenance lock.**
    ///
    /// The new segment also names every file that its inputs supersede and that is still there (an interrupted earlier
    /// deletion); files go in the order oldest first. So at every instant whatever is superseded is named by a segment
    /// that is there (rule R5 of protocol K).
    pub fn supersede(
        &self,
        entropy: &dyn Entropy,
        source: &dyn EntrySource,
        old: &[SegmentId],
    ) -> Result<SegmentId, Error> {
        let doomed = {
            let mut known = self.known();
            self.list(&mut known)?;
            known.with_predecessors(old)
        };
        // without the lock on `known`: the write may take minutes, and others go on adding
        let id = write_segment(&*self.storage, &self.context, entropy, &doomed, source)?;
        // reads header and footer back before anything is deleted
        let segment = self.open_again(id, None)?;
        self.storage.barrier()?;
        {
            let mut known = self.known();
            for gone in &doomed {
                known.open.remove(gone);
                known.broken.remove(gone);
            }
            known.open.insert(id, Arc::new(segment));
            self.show(&known);
        }
        for gone in &doomed {
            self.storage.delete(&layout::segment(gone))?;
        }
        Ok(id)
    }

    fn view(&self) -> View {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, known: &Known) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known.live());
    }

    /// Calls `action` with the view, and again with a fresh one as long as segments vanish under it.
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

    /// Opens a segment, twice if a read fails, and repeats the read for which it was left out.
    fn open_again(&self, id: SegmentId, left_out: Option<&Error>) -> Result<Segment, Error> {
        let open = || Segment::open(&self.storage, &self.context, &self.cache, id);
        let segment = match open() {
            Err(Error::Unreadable { .. }) => open(),
            other => other,
        }?;
        if let Some(Error::Unreadable { offset, len, .. }) = left_out {
            segment.try_range(*offset, *len)?;
        }
        Ok(segment)
    }

    /// Brings `known` and the view up to date with the folder.
    fn list(&self, known: &mut Known) -> Result<Vec<BrokenSegment>, Error> {
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
            for id in listed {
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

impl Known {
    /// All open segments that no other one supersedes, the smallest first.
    fn live(&self) -> Vec<Arc<Segment>> {
        let named: HashSet<SegmentId> = self.open.values().flat_map(|segment| self.names(segment)).collect();
        let mut live: Vec<Arc<Segment>> = self
            .open
            .values()
            .filter(|segment| !named.contains(&segment.id()))
            .cloned()
            .collect();
        live.sort_unstable_by_key(|segment| (segment.entries(), segment.id()));
        live
    }

    /// What a segment supersedes; its own name there means nothing.
    fn names<'s>(&self, segment: &'s Segment) -> impl Iterator<Item = SegmentId> + use<'s> {
        segment.superseded().iter().copied().filter(|id| *id != segment.id())
    }

    /// `old` and everything in the folder that these supersede, directly or not; the superseded before the superseding.
    fn with_predecessors(&self, old: &[SegmentId]) -> Vec<SegmentId> {
        let here = |id: &SegmentId| self.open.contains_key(id) || self.broken.contains_key(id);
        let mut left: Vec<SegmentId> = Vec::new();
        let mut seen: HashSet<SegmentId> = HashSet::new();
        let mut queue: Vec<SegmentId> = old.to_vec();
        while let Some(id) = queue.pop() {
            if here(&id) && seen.insert(id) {
                left.push(id);
                queue.extend(self.open.get(&id).into_iter().flat_map(|segment| self.names(segment)));
            }
        }
        left.sort_unstable();
        let mut ordered = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let waits = |id: &SegmentId| {
                let mut names = self.open.get(id).into_iter().flat_map(|segment| self.names(segment));
                names.any(|named| left.contains(&named))
            };
            let (later, mut free): (Vec<SegmentId>, Vec<SegmentId>) = left.iter().partition(|id| waits(id));
            if free.is_empty() {
                // a circle, which no writer makes: any order does
                ordered.extend(later);
                break;
            }
            ordered.append(&mut free);
            left = later;
        }
        ordered
    }
}

fn locate_in(view: &[Arc<Segment>], id: &ChunkId) -> Result<Vec<ChunkLocation>, Error> {
    let mut found: Vec<ChunkLocation> = Vec::new();
    for segment in view {
        let known = found.len();
        segment.locate(id, &mut found)?;
        // several segments may hold the same pair
        for place in (known..found.len()).rev() {
            if found[..known].iter().any(|earlier| earlier.pack == found[place].pack) {
                found.swap_remove(place);
            }
        }
    }
    Ok(found)
}

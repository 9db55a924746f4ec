//! The global index as a handle has it open: its view of the live segments, and look-ups in that.

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
use crate::storage::{self, ErrorKind, Storage};

/// How often a vanished segment makes a handle list again before it gives up. Each round needs another merge to finish
/// in between, so more than one or two are never seen.
const LIST_ROUNDS: usize = 16;

type View = Arc<Vec<Arc<Segment>>>;

/// A handle's view of the global index. All methods may be called from any thread.
pub struct GlobalIndex {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) context: Arc<SegmentContext>,
    pub(super) cache: Arc<PageCache>,
    /// All files seen in the folder. Held while the view changes, never during look-ups.
    known: Mutex<Known>,
    /// Live segments, the smallest first: the newest are small until they are merged.
    view: RwLock<View>,
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
        self.view().iter().map(|segment| segment.stats()).collect()
    }

    /// The live segments themselves, the smallest first.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.view().to_vec()
    }

    /// Opens the segment again, past everything this handle has read before, and checks all of it. `go_on` is asked now
    /// and then; `Ok(false)` when it said no. [`Error::Damaged`] or [`Error::Unsupported`] name what is wrong;
    /// [`Error::Storage`] with `NotFound` means that it was merged away.
    pub fn check_segment(&self, id: SegmentId, go_on: &mut dyn FnMut() -> bool) -> Result<bool, Error> {
        Segment::open(&self.storage, &self.context, &self.cache, id)?.check(go_on)
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

    pub(super) fn view(&self) -> View {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn show(&self, known: &Known) {
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
    pub(super) fn open_again(&self, id: SegmentId, left_out: Option<&Error>) -> Result<Segment, Error> {
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

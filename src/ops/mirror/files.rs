//! Copies the files of a listing, each proven as far as that needs no keys: packs by their ids,
//! `.idx` files and parity by the hashes in them, small files by their checksums.

use super::listing::{Files, Listing};
use super::pieces::{Failed, Pieces};
use super::{Done, MirrorReport, Run};
use crate::crypto::{KeyFile, MAX_KEY_FILE_LEN};
use crate::error::{Error, Result};
use crate::id::{PackId, SegmentId};
use crate::index;
use crate::layout;
use crate::pack::{IndexParts, read_parts};
use crate::parity::{self, Part};
use crate::snapshot::record::MAX_RECORD_LEN;
use crate::storage::{ErrorKind, FailedRead, judge, put_bytes};

/// Largest `.idx` that is read, in bytes.
const MAX_INDEX_LEN: u64 = 4 << 20;
/// Largest `README.txt` that is copied, in bytes.
const MAX_README_LEN: u64 = 64 << 10;

/// The keys of the source that the mirror lacks, or has with another length.
pub(super) fn missing<'a>(source: &'a Files, known: &'a Files) -> impl Iterator<Item = (&'a String, u64)> {
    let differs = |(key, len): &(&String, &u64)| known.get(*key) != Some(*len);
    source.iter().filter(differs).map(|(key, len)| (key, *len))
}

/// Whether an error is about more than one file of the source, so that the run ends.
fn concerns_more(error: &Error) -> bool {
    let failed_read = error.unreadable().is_some_and(|error| !error.kind.is_erasure());
    failed_read || matches!(error, Error::NoMemory)
}

impl Run<'_> {
    /// What a run would do.
    pub(super) fn plan(&self, source: &Listing, known: &Listing) -> Result<MirrorReport> {
        let mut report = MirrorReport {
            dry_run: true,
            copied_snapshots: source.snapshots().difference(&known.snapshots()).copied().collect(),
            ..MirrorReport::default()
        };
        for (theirs, ours) in source.all().into_iter().zip(known.all()) {
            for (_, len) in missing(theirs, ours) {
                report.copied_files += 1;
                report.copied_bytes += len;
            }
            if self.options.delete {
                for (_, len) in ours.iter().filter(|(key, _)| !theirs.contains_key(*key)) {
                    report.removed_files += 1;
                    report.removed_bytes += len;
                }
            }
        }
        if self.options.delete {
            report.removed_snapshots = known.snapshots().difference(&source.snapshots()).copied().collect();
        }
        let (ours, theirs) = (known.snapshots(), source.snapshots());
        report.snapshots = match self.options.delete {
            true => theirs.len() as u64,
            false => ours.union(&theirs).count() as u64,
        };
        Ok(report)
    }

    /// Copies everything but the manifests, and makes it durable.
    pub(super) fn copy_files(&self, source: &Listing, known: &Listing, done: &mut Done) -> Result<()> {
        let pairs = source.all().into_iter().zip(known.all());
        let left: u64 = pairs
            .flat_map(|(theirs, ours)| missing(theirs, ours))
            .map(|(_, len)| len)
            .sum();
        done.total_bytes = done.report.copied_bytes + left;
        done.bad_packs.clear();
        done.damage = None;
        self.report(done);
        self.copy_readme()?;
        let is_key = |bytes: &[u8]| KeyFile::decode(bytes).is_ok();
        let max_key = MAX_KEY_FILE_LEN as u64;
        // a copy alone is that of a lost key
        self.copy_small(&source.keys, &known.keys, max_key, &is_key, done)?;
        self.copy_small(&source.key_copies, &known.key_copies, max_key, &is_key, done)?;
        self.put_config()?;
        // before the packs with the copies of their manifests; a record counts whatever it contains
        self.copy_small(&source.records, &known.records, MAX_RECORD_LEN, &|_| true, done)?;
        self.copy_packs(source, known, done)?;
        if done.vanished {
            return Ok(());
        }
        self.copy_parity(source, known, done)?;
        for folder in [
            layout::DATA,
            layout::PARITY,
            layout::KEYS,
            layout::KEY_COPIES,
            layout::RECORDS,
            "",
        ] {
            self.storage().include_in_barrier(folder);
        }
        self.storage().barrier()?;
        if done.vanished {
            return Ok(());
        }
        self.copy_segments(source, known, done)?;
        for folder in [layout::INDEX, layout::SNAPSHOTS] {
            self.storage().include_in_barrier(folder);
        }
        self.storage().barrier()?;
        Ok(())
    }

    /// Before a file is put: whether the run goes on, and a file of another length out of the way.
    fn begin_file(&self, key: &str, known: &Files) -> Result<()> {
        self.check_running()?;
        self.target.check(self.repo)?;
        if known.contains_key(key) {
            self.storage().quarantine(key)?;
        }
        Ok(())
    }

    fn copied(&self, len: u64, done: &mut Done) {
        done.report.copied_files += 1;
        done.report.copied_bytes += len;
        self.report(done);
    }

    /// Makes the target a repository, once its keys are durable.
    fn put_config(&self) -> Result<()> {
        if self.storage().size(layout::CONFIG)?.is_some() {
            return Ok(());
        }
        self.target.check(self.repo)?;
        for folder in [layout::KEYS, layout::KEY_COPIES, ""] {
            self.storage().include_in_barrier(folder);
        }
        self.storage().barrier()?;
        put_bytes(self.storage(), layout::CONFIG, self.repo.config_bytes())?;
        self.storage().barrier()?;
        Ok(())
    }

    fn copy_readme(&self) -> Result<()> {
        if let Ok(bytes) = judge(self.repo.storage().get(layout::README, MAX_README_LEN))?
            && self.storage().size(layout::README)?.is_none()
        {
            put_bytes(self.storage(), layout::README, &bytes)?;
        }
        Ok(())
    }

    /// Copies small files that are `intact`. Others stay out: the source repairs them from what the
    /// mirror has too.
    fn copy_small(
        &self,
        source: &Files,
        known: &Files,
        max_len: u64,
        intact: &dyn Fn(&[u8]) -> bool,
        done: &mut Done,
    ) -> Result<()> {
        for (key, _) in missing(source, known) {
            let bytes = match judge(self.repo.storage().get(key, max_len))? {
                Ok(bytes) if intact(&bytes) => bytes,
                Err(error) if error.kind == ErrorKind::NotFound => {
                    done.vanished = true;
                    continue;
                }
                Ok(_) | Err(_) => continue,
            };
            if known.get(key) == Some(&(bytes.len() as u64)) {
                continue;
            }
            self.begin_file(key, known)?;
            put_bytes(self.storage(), key, &bytes)?;
            self.copied(bytes.len() as u64, done);
        }
        Ok(())
    }

    /// Packs, each before its `.idx`.
    fn copy_packs(&self, source: &Listing, known: &Listing, done: &mut Done) -> Result<()> {
        let packs = missing(&source.packs, &known.packs);
        let mut packs: Vec<(&String, u64)> = packs.collect();
        // by pack, `.pack` before `.idx`
        packs.sort_by(|(a, _), (b, _)| (a.split('.').next(), b).cmp(&(b.split('.').next(), a)));
        for (key, len) in packs {
            match layout::id_of(key, ".pack").map(PackId) {
                Some(pack) => self.copy_pack(&pack, key, len, &known.packs, done)?,
                None => self.copy_pack_index(key, &known.packs, done)?,
            }
        }
        Ok(())
    }

    fn copy_pack(&self, pack: &PackId, key: &str, len: u64, known: &Files, done: &mut Done) -> Result<()> {
        if known.get(key).is_some_and(|have| self.is_whole(key, *have, pack)) {
            // it is the source that has another length
            return Ok(());
        }
        self.begin_file(key, known)?;
        let failed = match len {
            0 => Failed::Wrong("it is empty".to_owned()),
            _ => {
                let mut pieces = Pieces::new(self, key, len, Some(pack.0));
                match self.storage().put_new(key, len, &mut pieces) {
                    Ok(_) => {
                        self.copied(len, done);
                        return Ok(());
                    }
                    Err(error) => pieces.failed.take().unwrap_or(Failed::Ended(error.into())),
                }
            }
        };
        match failed {
            Failed::Ended(error) => Err(error),
            Failed::Vanished => {
                done.vanished = true;
                Ok(())
            }
            Failed::Wrong(reason) => self.rebuild_pack(pack, key, reason, done),
        }
    }

    /// True when the mirror's file is the pack of this id.
    fn is_whole(&self, key: &str, len: u64, pack: &PackId) -> bool {
        let longest = self.repo.config().longest_pack();
        len <= longest
            && self
                .storage()
                .get(key, longest)
                .is_ok_and(|bytes| crate::crypto::sha256(&[&bytes]) == pack.0)
    }

    /// Copies a pack that is damaged in the source, as parity rebuilds it.
    fn rebuild_pack(&self, pack: &PackId, key: &str, reason: String, done: &mut Done) -> Result<()> {
        match self.repo.pack_through_parity(pack) {
            Ok(bytes) => {
                put_bytes(self.storage(), key, &bytes)?;
                self.repo.note_degraded(*pack);
                done.report.rebuilt_packs += 1;
                self.copied(bytes.len() as u64, done);
                Ok(())
            }
            Err(error) if concerns_more(&error) => Err(error),
            Err(_) => {
                let error = Error::PackCorrupt { pack: *pack, reason };
                done.bad_packs.push((*pack, error));
                Ok(())
            }
        }
    }

    /// An `.idx`; a damaged one is composed from its pack, which is in the mirror and proven.
    fn copy_pack_index(&self, key: &str, known: &Files, done: &mut Done) -> Result<()> {
        let Some(pack) = layout::id_of(key, ".idx").map(PackId) else {
            return Ok(());
        };
        let is_own = |bytes: &[u8]| IndexParts::decode(bytes).is_ok_and(|parts| parts.pack == pack);
        let bytes = match judge(self.repo.storage().get(key, MAX_INDEX_LEN))? {
            Ok(bytes) if is_own(&bytes) => bytes,
            Err(error) if error.kind == ErrorKind::NotFound => {
                done.vanished = true;
                return Ok(());
            }
            Ok(_) | Err(_) => match read_parts(self.storage(), &pack) {
                Ok(parts) => parts.encode(),
                // the pack is damaged or missing too
                Err(_) => return Ok(()),
            },
        };
        if known.get(key) == Some(&(bytes.len() as u64)) {
            return Ok(());
        }
        self.begin_file(key, known)?;
        put_bytes(self.storage(), key, &bytes)?;
        self.copied(bytes.len() as u64, done);
        Ok(())
    }

    /// The files of parity groups, of each group the shards first. Their members are in the mirror.
    fn copy_parity(&self, source: &Listing, known: &Listing, done: &mut Done) -> Result<()> {
        let mut files: Vec<_> = missing(&source.parity, &known.parity)
            .filter_map(|(key, len)| Some((parity::part_of(key)?, key, len)))
            .collect();
        files.sort_by_key(|((group, part), _, _)| (*group, matches!(part, Part::Group)));
        let mut record: Option<parity::GroupRecord> = None;
        for ((group, part), key, len) in files {
            self.check_running()?;
            if record.as_ref().is_none_or(|record| record.head.id != group) {
                record = match parity::read_record(self.repo.storage(), &group) {
                    Ok(record) => Some(record),
                    Err(error) => {
                        self.note_parity(error, key, done)?;
                        None
                    }
                };
            }
            let Some(record) = &record else { continue };
            match parity::check_part(self.repo.storage(), record, part) {
                Ok(state) if state.is_intact() => self.copy_part(key, len, &known.parity, done)?,
                Ok(state) if state.frame == Some(parity::Damage::Missing) => done.vanished = true,
                Ok(_) => match parity::rebuild_file(self.repo.storage(), record, part) {
                    Ok(bytes) => {
                        self.begin_file(key, &known.parity)?;
                        put_bytes(self.storage(), key, &bytes)?;
                        self.copied(bytes.len() as u64, done);
                    }
                    Err(error) => self.note_parity(error, key, done)?,
                },
                Err(error) => self.note_parity(error, key, done)?,
            }
        }
        Ok(())
    }

    fn copy_part(&self, key: &str, len: u64, known: &Files, done: &mut Done) -> Result<()> {
        self.begin_file(key, known)?;
        let mut pieces = Pieces::new(self, key, len, None);
        let put = self.storage().put_new(key, len, &mut pieces);
        match (put, pieces.failed.take()) {
            (Ok(_), _) => self.copied(len, done),
            (Err(_), Some(Failed::Ended(error))) => return Err(error),
            // superseded, or changed since it was checked
            (Err(_), Some(Failed::Vanished | Failed::Wrong(_))) => done.vanished = true,
            (Err(error), None) => return Err(error.into()),
        }
        Ok(())
    }

    /// A group of the source that cannot be copied: it was superseded and deleted, or is damaged.
    fn note_parity(&self, error: parity::Error, key: &str, done: &mut Done) -> Result<()> {
        let error = Error::from(error);
        if concerns_more(&error) {
            return Err(error);
        }
        match self.repo.storage().size(key)? {
            None => done.vanished = true,
            Some(_) => drop(done.damage.get_or_insert(error)),
        }
        Ok(())
    }

    fn copy_segments(&self, source: &Listing, known: &Listing, done: &mut Done) -> Result<()> {
        for (key, len) in missing(&source.segments, &known.segments) {
            let Some(id) = layout::id_of(key, ".seg").map(SegmentId) else {
                continue;
            };
            match index::check_header(self.repo.storage(), &self.repo.config().id, id) {
                Ok(()) => self.copy_part(key, len, &known.segments, done)?,
                Err(index::Error::Storage(error)) if error.kind == ErrorKind::NotFound => done.vanished = true,
                Err(index::Error::Damaged {
                    reason: index::Damage::ForeignRepository,
                    ..
                }) => {}
                Err(error) => {
                    let error = Error::from(error);
                    if concerns_more(&error) {
                        return Err(error);
                    }
                    done.damage.get_or_insert(error);
                }
            }
        }
        Ok(())
    }
}

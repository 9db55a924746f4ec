//! Manifests and short segments of the index, kept in a folder of this machine between processes.
//!
//! The folder is shared by all processes and repositories of a user, and can be deleted at any
//! time. A file has the bytes of an object as the service sent them: encrypted if the repository
//! is. Its name is a hash of the bucket, the key and the version that a listing showed, and its
//! bytes are followed by their SHA-256; so an object that was replaced, and a file that is damaged,
//! are requested again. Only what a listing has just shown is taken from here: an object that was
//! deleted does not come back.
//!
//! A file that cannot be read or written is no error: then the object is requested.
#![expect(
    clippy::disallowed_methods,
    reason = "this room does I/O; the folder is no repository"
)]

use super::super::key::random_hex;
use super::cache::{LONGEST, is_segment};
use super::transfer::Listed;
use crate::entropy::Entropy;
use crate::id::to_hex;
use crate::sync::lock;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// Most bytes of the folder; the oldest files are deleted, down to [`LEAST`].
const MOST: u64 = 256 << 20;
const LEAST: u64 = 192 << 20;
/// Longest manifest that is kept.
const LONGEST_MANIFEST: u64 = 1 << 20;
/// How often the folder is measured, by all processes together.
const MEASURED: Duration = Duration::from_secs(60 * 60);
/// Bytes of the hash after those of the object, and of the one that names a file.
const SUM: usize = 32;
/// Digits of the name of a file that are the folder it is in.
const SHELF: usize = 2;
/// How the name of a half-written file begins.
const TEMPORARY: &str = "tmp-";

/// Objects that are kept in a folder.
pub(super) struct Kept {
    /// `None`: nothing is kept.
    folder: Option<PathBuf>,
    bucket: String,
    entropy: Arc<dyn Entropy>,
    /// The length and version of each object, as last listed.
    listed: Mutex<HashMap<String, (u64, String)>>,
    /// When this handle has last looked whether the folder is to be measured.
    looked: Mutex<Option<Instant>>,
    is_bypassed: AtomicBool,
}

/// Whether an object of this key is kept, with this length.
fn may_keep(key: &str, len: u64) -> bool {
    is_segment(key) && len <= LONGEST || is_manifest(key) && len <= LONGEST_MANIFEST
}

fn is_manifest(key: &str) -> bool {
    key.starts_with("snapshots/") && key.ends_with(".json")
}

impl Kept {
    /// `bucket` names the repository: equal keys of others are other objects.
    pub(super) fn new(folder: Option<PathBuf>, bucket: &str, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            folder,
            bucket: bucket.to_owned(),
            entropy,
            listed: Mutex::default(),
            looked: Mutex::default(),
            is_bypassed: AtomicBool::new(false),
        }
    }

    /// Notes a listing of a folder of the repository.
    pub(super) fn listed(&self, prefix: &str, entries: &[Listed]) {
        if self.folder.is_none() || !matches!(prefix, super::TIMED | super::cache::FOLDER) {
            return;
        }
        let mut known = lock(&self.listed);
        known.retain(|key, _| super::super::key::folder_of(key) != prefix);
        for Listed { entry, version, .. } in entries {
            if let Some(version) = version
                && may_keep(&entry.key, entry.len)
            {
                known.insert(entry.key.clone(), (entry.len, version.clone()));
            }
        }
    }

    /// An object that the last listing has shown, if it is kept.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        if self.is_bypassed.load(Ordering::Relaxed) {
            return None;
        }
        let (file, len) = self.file(key)?;
        let mut bytes = read_regular(&file, len + SUM as u64).ok()?;
        let end = bytes.len().checked_sub(SUM)?;
        let is_whole = end as u64 == len && Sha256::digest(&bytes[..end])[..] == bytes[end..];
        bytes.truncate(end);
        is_whole.then_some(bytes)
    }

    /// Keeps an object that was requested.
    pub(super) fn put(&self, key: &str, bytes: &[u8]) {
        let Some((file, len)) = self.file(key) else { return };
        // one that was replaced since the listing may have another length
        if len == bytes.len() as u64 && self.write(&file, bytes).is_ok() {
            self.measure_now_and_then();
        }
    }

    /// Forgets one object: its bytes are wrong, or are about to change.
    pub(super) fn forget(&self, key: &str) {
        if let Some((file, _)) = self.file(key) {
            let _ = fs::remove_file(file);
        }
        lock(&self.listed).remove(key);
    }

    /// Takes nothing from the folder from now on: what is read is to be checked.
    pub(super) fn bypass(&self) {
        self.is_bypassed.store(true, Ordering::Relaxed);
    }

    /// The file of an object, and its length as listed.
    fn file(&self, key: &str) -> Option<(PathBuf, u64)> {
        let folder = self.folder.as_ref()?;
        let listed = lock(&self.listed);
        let (len, version) = listed.get(key)?;
        let mut hash = Sha256::new();
        for part in [&self.bucket, key, version] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name = to_hex(&hash.finalize());
        let (shelf, name) = name.split_at(SHELF);
        Some((folder.join(shelf).join(name), *len))
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let shelf = file.parent().unwrap_or(file);
        create_folder(shelf)?;
        let temporary = shelf.join(format!("{TEMPORARY}{}", random_hex::<8>(self.entropy.as_ref())?));
        let written = open_new(&temporary).and_then(|mut out| {
            out.write_all(bytes)?;
            out.write_all(&Sha256::digest(bytes))
        });
        let named = written.and_then(|()| fs::rename(&temporary, file));
        if named.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        named
    }

    fn measure_now_and_then(&self) {
        let Some(folder) = &self.folder else { return };
        {
            let mut looked = lock(&self.looked);
            if looked.is_some_and(|at| at.elapsed() < MEASURED) {
                return;
            }
            *looked = Some(Instant::now());
        }
        let stamp = folder.join("measured");
        let at = fs::metadata(&stamp).and_then(|found| found.modified()).ok();
        let is_recent = |at: SystemTime| at.elapsed().is_ok_and(|passed| passed < MEASURED);
        if !at.is_some_and(is_recent) {
            // a new file, so that no link is followed
            let _ = fs::remove_file(&stamp);
            let _ = open_new(&stamp);
            let _ = delete_oldest(folder, MOST, LEAST);
        }
    }
}

/// Deletes the oldest files of a folder when those with names of this file have more than `most`
/// bytes, until they have `least`.
fn delete_oldest(folder: &Path, most: u64, least: u64) -> io::Result<()> {
    let is_hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut files = Vec::new();
    for shelf in fs::read_dir(folder)? {
        let shelf = shelf?;
        // the folder may have other things in it
        if !shelf.file_name().to_str().is_some_and(|name| is_hex(name, SHELF)) || !shelf.file_type()?.is_dir() {
            continue;
        }
        // what cannot be read is of another user
        for file in fs::read_dir(shelf.path()).into_iter().flatten().flatten() {
            let is_ours = file
                .file_name()
                .to_str()
                .is_some_and(|name| match name.strip_prefix(TEMPORARY) {
                    Some(random) => is_hex(random, 16),
                    None => is_hex(name, 2 * SUM - SHELF),
                });
            // another process may have deleted it
            if let Ok(found) = file.metadata()
                && is_ours
                && found.is_file()
                && let Ok(at) = found.modified()
            {
                files.push((at, found.len(), file.path()));
            }
        }
    }
    let mut total: u64 = files.iter().map(|(_, len, _)| len).sum();
    if total <= most {
        return Ok(());
    }
    files.sort();
    for (_, len, path) in files {
        if total <= least {
            break;
        }
        if fs::remove_file(path).is_ok() {
            total -= len;
        }
    }
    Ok(())
}

/// Reads a regular file of exactly this length.
fn read_regular(path: &Path, len: u64) -> io::Result<Vec<u8>> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        // the flags of open are few, and positive
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() != len {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether no other user may write to a folder. Elsewhere than on Unix it is that of the user.
pub(super) fn is_private(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o022 == 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        true
    }
}

/// Creates a folder that only this user may read.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn open_new(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The folder by the rules of the platform: `CONTAINERARCHIVE_CACHE_DIR`, else one in the folder of
/// caches of the user, if that is known.
pub(super) fn usual_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    if std::env::var_os("CONTAINERARCHIVE_CACHE_DIR").is_some() {
        return absolute("CONTAINERARCHIVE_CACHE_DIR");
    }
    let caches = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        absolute("HOME").map(|home| home.join("Library/Caches"))
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
    };
    caches.map(|caches| caches.join("containerarchive"))
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;
    use crate::entropy::OsEntropy;

    fn listed(key: &str, len: u64, version: &str) -> Listed {
        Listed {
            entry: Entry {
                key: key.to_owned(),
                len,
            },
            put_at: 0,
            version: Some(version.to_owned()),
        }
    }

    fn kept(folder: &Path) -> Kept {
        Kept::new(Some(folder.to_owned()), "s3://bucket/x", Arc::new(OsEntropy))
    }

    const KEY: &str = "snapshots/a.json";

    #[test]
    fn an_object_is_kept_for_other_processes_by_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let one = kept(folder.path());
        one.put(KEY, b"bytes");
        assert_eq!(one.get(KEY), None, "it was not listed");
        one.listed("snapshots", &[listed(KEY, 5, "v1")]);
        assert_eq!(one.get(KEY), None);
        one.put(KEY, b"bytes");

        let two = kept(folder.path());
        assert_eq!(two.get(KEY), None, "it was not listed");
        two.listed("snapshots", &[listed(KEY, 5, "v2")]);
        assert_eq!(two.get(KEY), None, "it was replaced");
        two.listed("snapshots", &[listed(KEY, 5, "v1")]);
        assert_eq!(two.get(KEY).unwrap(), b"bytes");
        two.listed("snapshots", &[]);
        assert_eq!(two.get(KEY), None, "it was deleted");

        let other = Kept::new(Some(folder.path().to_owned()), "s3://bucket/y", Arc::new(OsEntropy));
        other.listed("snapshots", &[listed(KEY, 5, "v1")]);
        assert_eq!(other.get(KEY), None, "it is of another repository");
    }

    #[test]
    fn what_is_damaged_or_forgotten_is_not_returned() {
        let folder = tempfile::tempdir().unwrap();
        let one = kept(folder.path());
        one.listed("snapshots", &[listed(KEY, 5, "v1")]);
        one.put(KEY, b"longer");
        assert_eq!(one.get(KEY), None, "it has another length than was listed");
        one.put(KEY, b"bytes");
        let (file, _) = one.file(KEY).unwrap();
        let good = fs::read(&file).unwrap();
        for bad in [&good[..good.len() - 1], &[&b"bytez"[..], &good[5..]].concat(), b""] {
            fs::write(&file, bad).unwrap();
            assert_eq!(one.get(KEY), None);
        }
        one.put(KEY, b"bytes");
        assert_eq!(one.get(KEY).unwrap(), b"bytes");
        one.forget(KEY);
        assert!(!file.exists());
        one.listed("snapshots", &[listed(KEY, 5, "v1")]);
        one.put(KEY, b"bytes");
        one.bypass();
        assert_eq!(one.get(KEY), None);
    }

    #[test]
    fn the_oldest_files_are_deleted_when_there_are_too_many_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let one = kept(folder.path());
        let keys: Vec<String> = (0..10).map(|n| format!("snapshots/{n}.json")).collect();
        let entries: Vec<Listed> = keys.iter().map(|key| listed(key, 68, "v")).collect();
        one.listed("snapshots", &entries);
        for (age, key) in (1u64..).zip(keys.iter().rev()) {
            one.put(key, &[7; 68]);
            let (file, _) = one.file(key).unwrap();
            let file = fs::File::options().write(true).open(file).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 1000))
                .unwrap();
        }
        for foreign in ["toolchain", "ab"] {
            fs::create_dir_all(folder.path().join(foreign)).unwrap();
            fs::write(folder.path().join(foreign).join("file"), [0; 4096]).unwrap();
        }
        delete_oldest(folder.path(), 1000, 500).unwrap();
        assert!(keys.iter().all(|key| one.get(key).is_some()), "1000 bytes are allowed");
        delete_oldest(folder.path(), 999, 500).unwrap();
        let left: Vec<usize> = (0..10).filter(|n| one.get(&keys[*n]).is_some()).collect();
        assert_eq!(left, [5, 6, 7, 8, 9]);
        assert!(folder.path().join("toolchain/file").exists() && folder.path().join("ab/file").exists());
    }
}

//! Real file systems, each mounted for this test: the behaviour that `docs/file-systems.md` states.
//!
//! They are mounted in a separate namespace, so that no mount is left over. A file system that
//! cannot be mounted here (no root, no loop device, no FUSE, a missing program) is reported as
//! skipped.

use crate::support::*;
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, PruneOptions, ReaderItems, VerifyLevel, VerifyOptions};
use containerarchive::repo::{Environment, Repository};
use containerarchive::storage::{LocalStorage, conformance};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A file system, and the shell commands that mount it over `$m`; `$d` is a directory for its
/// files.
struct Kind {
    name: &'static str,
    mount: &'static str,
    /// The error code if the file system is refused for writing.
    refused: Option<&'static str>,
}

const fn works(name: &'static str, mount: &'static str) -> Kind {
    Kind {
        name,
        mount,
        refused: None,
    }
}

const KINDS: [Kind; 10] = [
    works("tmpfs", "mount -t tmpfs none $m"),
    works(
        "ext4",
        "truncate -s 64M $d/image; mkfs.ext4 -q $d/image; mount -o loop $d/image $m",
    ),
    works(
        "xfs",
        "truncate -s 320M $d/image; mkfs.xfs -q $d/image; mount -o loop $d/image $m",
    ),
    works(
        "btrfs",
        "truncate -s 160M $d/image; mkfs.btrfs -q $d/image; mount -o loop $d/image $m",
    ),
    works(
        "overlayfs",
        "mkdir $d/lower $d/all; mount -t tmpfs none $d/all; mkdir $d/all/upper $d/all/work; \
         mount -t overlay overlay -o lowerdir=$d/lower,upperdir=$d/all/upper,workdir=$d/all/work $m",
    ),
    works("bindfs", "mkdir $d/under; bindfs $d/under $m"),
    works(
        "ntfs-3g",
        "truncate -s 64M $d/image; mkfs.ntfs -q -F $d/image 2> /dev/null; ntfs-3g $d/image $m",
    ),
    works(
        "sshfs",
        "mkdir $d/under; printf '#!/bin/sh\\nexec /usr/lib/openssh/sftp-server\\n' > $d/server; chmod +x $d/server; \
         test -x /usr/lib/openssh/sftp-server; sshfs -o ssh_command=$d/server localhost:$d/under $m",
    ),
    Kind {
        name: "sshfs without hard links",
        mount: "mkdir $d/under; printf '#!/bin/sh\\nexec /usr/lib/openssh/sftp-server\\n' > $d/server; chmod +x $d/server; \
                test -x /usr/lib/openssh/sftp-server; \
                sshfs -o disable_hardlink -o ssh_command=$d/server localhost:$d/under $m",
        refused: Some("ERR_FILESYSTEM_UNSUPPORTED"),
    },
    Kind {
        name: "exfat-fuse",
        mount: "truncate -s 64M $d/image; mkfs.exfat $d/image > /dev/null; l=$(losetup -f --show $d/image); \
                mount.exfat-fuse $l $m 2> /dev/null; losetup -d $l",
        refused: Some("ERR_FILESYSTEM_UNSUPPORTED"),
    },
];

/// Set for the child process: the directory that it may use.
const DIRECTORY: &str = "CONTAINERARCHIVE_FILE_SYSTEM";
/// Set for the child process: the expected error code, if the file system is refused.
const REFUSED: &str = "CONTAINERARCHIVE_FILE_SYSTEM_REFUSED";
/// The exit code of the shell if nothing could be mounted.
const NOT_MOUNTED: i32 = 97;

#[test]
fn every_file_system_behaves_as_the_docs_state() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/file-systems.md")).unwrap();
    let mut tried = Vec::new();
    for kind in &KINDS {
        assert!(
            docs.contains(&format!("| {} |", kind.name)),
            "{}: not in the docs",
            kind.name
        );
        let directory = tempfile::tempdir().unwrap();
        let script = format!(
            "d={d}; m=$d/mounted; mkdir $m; (set -e; {mount}) || exit {NOT_MOUNTED}; \
             mountpoint -q $m || exit {NOT_MOUNTED}; \
             \"$0\" --exact file_systems::mounted_child --test-threads=1 --nocapture; ended=$?; umount $m; exit $ended",
            d = directory.path().display(),
            mount = kind.mount,
        );
        let child = Command::new("unshare")
            .args(["-m", "--", "bash", "-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(DIRECTORY, directory.path().join("mounted"))
            .env(REFUSED, kind.refused.unwrap_or_default())
            .output();
        let ended = child.as_ref().ok().and_then(|child| child.status.code());
        let text = child.map(|child| {
            let [out, err] = [child.stdout, child.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            format!("{out}{err}")
        });
        let text = text.unwrap_or_else(|error| error.to_string());
        match ended {
            Some(0) => {
                assert!(
                    text.contains("1 passed"),
                    "{}: the child ran no test: {text}",
                    kind.name
                );
                tried.push(kind.name);
            }
            Some(101) => panic!("{}: {text}", kind.name),
            _ => println!("SKIPPED: {} COULD NOT BE MOUNTED HERE: {}", kind.name, text.trim()),
        }
    }
    println!("tried: {}", tried.join(", "));
}

/// The entry point of the child on the mounted file system, not a test of its own.
#[test]
fn mounted_child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = PathBuf::from(directory);
    let refused = std::env::var(REFUSED).unwrap();
    if !refused.is_empty() {
        let error = init(on(&directory.join("repository")), Flavor::plain()).err().unwrap();
        assert_eq!(error.code(), refused, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("hard links") && text.contains("renames that replace nothing"),
            "{text}"
        );
        return;
    }
    conform(&directory);
    exercise(&directory.join("repository"));
}

fn on(root: &Path) -> Environment {
    Environment::local(root, 2, Arc::new(NullMonitor)).unwrap()
}

/// Runs the conformance tests of every store.
fn conform(directory: &Path) {
    let count = std::cell::Cell::new(0);
    conformance::run(|| {
        count.set(count.get() + 1);
        let root = directory.join(format!("stores/{}", count.get()));
        Arc::new(LocalStorage::open_path(&root, Arc::new(SeededEntropy::new(1))).unwrap())
    });
}

/// A source that checks on each read, through another handle, that its ingest is the only live one
/// and is not unlocked.
struct CheckedSource<'a> {
    rest: &'a [u8],
    other: &'a Arc<Repository>,
    seen: usize,
}

impl Read for CheckedSource<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let leases = ops::locks(self.other).unwrap();
        assert_eq!(leases.len(), 1, "a lease is missing: {leases:?}");
        assert!(leases[0].held, "a live ingest appears dead: {leases:?}");
        assert_eq!(
            ops::unlock(self.other, false).unwrap(),
            [],
            "the lease of a live ingest was removed"
        );
        self.seen += 1;
        self.rest.read(out)
    }
}

/// The life of a repository: every operation that renames, links, locks, flushes or deletes.
fn exercise(root: &Path) {
    let flavor = Flavor::sealed();
    let repo = init(on(root), flavor).unwrap();
    let other = open(on(root), flavor).unwrap();
    let mut days: Vec<(SnapshotId, Vec<u8>)> = Vec::new();
    for n in 0..5 {
        let mut data = random_bytes(1, 150_000);
        data.extend(random_bytes(10 + n, 90_000));
        let source = CheckedSource {
            rest: &data,
            other: &other,
            seen: 0,
        };
        let options = IngestOptions {
            created_at_ms: Some(1_700_000_000_000 + n as i64 * 86_400_000),
            ..IngestOptions::default()
        };
        let id = {
            let mut items = ReaderItems::one("data", "test", source);
            ops::ingest(&repo, &mut items, &options, &NullMonitor).unwrap().id
        };
        days.push((id, data));
    }
    assert_eq!(ops::locks(&other).unwrap(), []);
    // a damaged pack is rebuilt, and the damaged file is quarantined
    let pack = repo
        .storage()
        .list(layout::DATA)
        .unwrap()
        .into_iter()
        .find(|file| file.key.ends_with(".pack"));
    let pack = root.join(pack.unwrap().key);
    let whole = std::fs::read(&pack).unwrap();
    std::fs::write(&pack, &whole[1..]).unwrap();
    let report = ops::repair(&other, &NullMonitor).unwrap();
    assert_eq!((report.packs_repaired, report.quarantined.len()), (1, 1), "{report:?}");
    assert!(std::fs::read(&pack).unwrap() == whole);

    ops::forget(&repo, &[days.remove(0).0]).unwrap();
    let mut options = PruneOptions::keep_all();
    options.max_unused = 0.0;
    let pruned = ops::prune(&other, &options, &NullMonitor).unwrap();
    assert!(pruned.freed_bytes > 0, "{pruned:?}");
    drop((repo, other));
    let repo = open(on(root), flavor).unwrap();
    for (id, data) in &days {
        assert!(restore(&repo, &id.to_hex(), None).unwrap() == *data);
    }
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(&repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
    let left: Vec<_> = std::fs::read_dir(root.join(layout::DATA)).unwrap().flatten().collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with('.')),
        "{left:?}"
    );
}

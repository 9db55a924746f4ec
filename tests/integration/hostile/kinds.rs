//! Attacks with links, pipes, devices and directories in place of files.

use super::{Bare, Case, Plain, Scene, Sealed, case};
use containerarchive::layout;
use std::path::Path;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(
        Plain,
        "kinds: a link in place of config.json",
        "verify=ERR_CONFIG_CORRUPT",
        |at| {
            link(at, layout::CONFIG, "canary");
        },
    ),
    case(
        Bare,
        "kinds: a pipe in place of config.json",
        "verify=ERR_CONFIG_CORRUPT",
        |at| pipe(at, layout::CONFIG),
    ),
    case(
        Bare,
        "kinds: a directory in place of config.json",
        "verify=ERR_CONFIG_CORRUPT",
        |at| folder(at, layout::CONFIG),
    ),
    case(Plain, "kinds: a link in place of README.txt", "", |at| {
        link(at, layout::README, "canary");
    }),
    case(Sealed, "kinds: a pipe in place of README.txt", "", |at| {
        pipe(at, layout::README);
    }),
    case(Bare, "kinds: a folder in place of README.txt", "", |at| {
        folder(at, layout::README);
    }),
    case(
        Sealed,
        "kinds: a link in place of a key file",
        "verify=ERR_KEY_FILE_CORRUPT",
        |at| {
            link(at, &at.first(layout::KEYS, ".json"), "canary");
        },
    ),
    case(
        Sealed,
        "kinds: a pipe in place of a key file",
        "verify=ERR_KEY_FILE_CORRUPT",
        |at| {
            pipe(at, &at.first(layout::KEYS, ".json"));
        },
    ),
    case(
        Plain,
        "kinds: a link in place of a manifest",
        "get=ERR_STORAGE restore=ERR_STORAGE files=ERR_STORAGE verify=ERR_MANIFEST_MISSING prune=ERR_NOT_A_DIRECTORY",
        |at| {
            link(at, &at.first(layout::SNAPSHOTS, ".json"), "canary");
        },
    ),
    case(
        Plain,
        "kinds: a pipe in place of a manifest",
        "get=ERR_STORAGE restore=ERR_STORAGE files=ERR_STORAGE verify=ERR_MANIFEST_MISSING prune=ERR_NOT_A_DIRECTORY",
        |at| {
            pipe(at, &at.first(layout::SNAPSHOTS, ".json"));
        },
    ),
    case(
        Plain,
        "kinds: a directory in place of a manifest",
        "get=ERR_SNAPSHOT_NOT_FOUND restore=ERR_SNAPSHOT_NOT_FOUND files=ERR_SNAPSHOT_NOT_FOUND verify=ERR_MANIFEST_MISSING prune=ERR_NOT_A_DIRECTORY",
        |at| {
            folder(at, &at.first(layout::SNAPSHOTS, ".json"));
        },
    ),
    case(Plain, "kinds: a link in place of a pack", "", |at| {
        link(at, &at.first(layout::DATA, ".pack"), "canary");
    }),
    case(Plain, "kinds: a pipe in place of a pack", "", |at| {
        pipe(at, &at.first(layout::DATA, ".pack"))
    }),
    case(Plain, "kinds: a directory in place of a pack", "", |at| {
        folder(at, &at.first(layout::DATA, ".pack"))
    }),
    case(Plain, "kinds: a device in place of a pack", "", |at| {
        device(at, &at.first(layout::DATA, ".pack"));
    }),
    case(
        Plain,
        "kinds: a link in place of an .idx",
        "verify=ERR_PACK_INDEX_CORRUPT",
        |at| {
            link(at, &at.first(layout::DATA, ".idx"), "canary");
        },
    ),
    case(Plain, "kinds: a pipe in place of a segment", "", |at| {
        pipe(at, &at.first(layout::INDEX, ".seg"));
    }),
    case(Plain, "kinds: a link in place of a segment", "", |at| {
        link(at, &at.first(layout::INDEX, ".seg"), "canary");
    }),
    case(
        Plain,
        "kinds: links in place of parity",
        "verify=ERR_PACK_UNPROTECTED",
        |at| {
            for key in at.keys(layout::PARITY, ".par") {
                link(at, &key, "canary");
            }
            for key in at.keys(layout::PARITY, ".grp") {
                pipe(at, &key);
            }
        },
    ),
    case(
        Plain,
        "kinds: links in place of the lock files",
        "ingest=ERR_STORAGE",
        |at| {
            link(at, layout::COMMIT_LOCK, "commit");
            link(at, layout::MAINT_LOCK, "maint");
        },
    ),
    case(
        Plain,
        "kinds: directories in place of the lock files",
        "ingest=ERR_NOT_A_DIRECTORY",
        |at| {
            folder(at, layout::COMMIT_LOCK);
            folder(at, layout::MAINT_LOCK);
        },
    ),
    case(
        Plain,
        "kinds: pipes in place of the lock files",
        "ingest=ERR_STORAGE",
        |at| {
            pipe(at, layout::COMMIT_LOCK);
            pipe(at, layout::MAINT_LOCK);
        },
    ),
    case(
        Plain,
        "kinds: a link out of the repository in place of packs/data",
        "ingest=ERR_NOT_A_DIRECTORY repair=ERR_NOT_A_DIRECTORY last=reindex:ERR_NOT_A_DIRECTORY+sweep:ERR_NOT_A_DIRECTORY+unlock:ERR_NOT_A_DIRECTORY",
        |at| {
            link_folder(at, layout::DATA);
        },
    ),
    case(
        Plain,
        "kinds: a link out of the repository in place of snapshots",
        "ingest=ERR_NOT_A_DIRECTORY repair=ERR_NOT_A_DIRECTORY last=reindex:ERR_NOT_A_DIRECTORY+sweep:ERR_NOT_A_DIRECTORY+unlock:ERR_NOT_A_DIRECTORY",
        |at| {
            link_folder(at, layout::SNAPSHOTS);
        },
    ),
    case(
        Plain,
        "kinds: a link out of the repository in place of quarantine",
        "get=ERR_MANIFEST_CORRUPT restore=ERR_MANIFEST_CORRUPT files=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT ingest=ERR_NOT_A_DIRECTORY repair=ERR_NOT_A_DIRECTORY after=ERR_MANIFEST_CORRUPT last=reindex:ERR_NOT_A_DIRECTORY+sweep:ERR_NOT_A_DIRECTORY+unlock:ERR_NOT_A_DIRECTORY",
        |at| {
            link_folder(at, layout::QUARANTINE);
            // a file that a repair quarantines
            at.write(&at.first(layout::SNAPSHOTS, ".json"), "damaged");
        },
    ),
    case(
        Plain,
        "kinds: a link out of the repository in place of locks",
        "ingest=ERR_NOT_A_DIRECTORY repair=ERR_NOT_A_DIRECTORY last=reindex:ERR_NOT_A_DIRECTORY+sweep:ERR_NOT_A_DIRECTORY+unlock:ERR_NOT_A_DIRECTORY",
        |at| {
            link_folder(at, layout::LOCKS);
        },
    ),
    case(
        Plain,
        "kinds: a file in place of packs/data",
        "stats=ERR_NOT_A_DIRECTORY restore=ERR_NOT_A_DIRECTORY files=ERR_NOT_A_DIRECTORY verify=ERR_PACK_MISSING+ERR_STORAGE prune=ERR_NOT_A_DIRECTORY ingest=ERR_NOT_A_DIRECTORY repair=ERR_NOT_A_DIRECTORY after=ERR_NOT_A_DIRECTORY last=reindex:ERR_NOT_A_DIRECTORY+sweep:ERR_NOT_A_DIRECTORY",
        |at| {
            std::fs::remove_dir_all(at.path(layout::DATA)).unwrap();
            at.write(layout::DATA, "a file");
        },
    ),
    case(
        Plain,
        "kinds: half-written files that are links, pipes and directories",
        "",
        |at| {
            for folder in layout::FOLDERS {
                std::os::unix::fs::symlink(at.outside().join("canary"), at.path(folder).join(".tmp-1")).unwrap();
                make_pipe(&at.path(folder).join(".tmp-2"));
                std::fs::create_dir(at.path(folder).join(".tmp-3")).unwrap();
            }
        },
    ),
];

fn link(at: &Scene, key: &str, to: &str) {
    at.remove(key);
    std::os::unix::fs::symlink(at.outside().join(to), at.path(key)).unwrap();
}

fn link_folder(at: &Scene, folder: &str) {
    let moved = at.parent.path().join("moved");
    std::fs::rename(at.path(folder), &moved).unwrap();
    for entry in std::fs::read_dir(&moved).unwrap() {
        let entry = entry.unwrap();
        std::fs::rename(entry.path(), at.outside().join(entry.file_name())).unwrap();
    }
    std::os::unix::fs::symlink(at.outside(), at.path(folder)).unwrap();
}

fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn pipe(at: &Scene, key: &str) {
    at.remove(key);
    make_pipe(&at.path(key));
}

fn folder(at: &Scene, key: &str) {
    at.remove(key);
    std::fs::create_dir(at.path(key)).unwrap();
    at.write(&format!("{key}/inside"), "x");
}

/// Creates `/dev/zero` where the system allows it, else a socket.
fn device(at: &Scene, key: &str) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    at.remove(key);
    let made = mknodat(CWD, at.path(key), FileType::CharacterDevice, Mode::RUSR, makedev(1, 5));
    if made.is_err() {
        drop(std::os::unix::net::UnixListener::bind(at.path(key)).unwrap());
    }
}

//! Attacks on kill lists, records of forgotten snapshots, leases and lock files.

use super::forge::{kill_list, patch};
use super::{Bare, Case, Plain, case, many};
use containerarchive::id::{PackId, SnapshotId};
use containerarchive::layout;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(
        Bare,
        "kill lists: counts near 2^32",
        "verify=ERR_KILL_LIST_CORRUPT prune=ERR_KILL_LIST_CORRUPT ingest=ERR_KILL_LIST_CORRUPT",
        |at| {
            at.write(&mark(1), kill_list(at.repo_id(), 1, &[], Some((u32::MAX, u32::MAX)), 1));
        },
    ),
    case(
        Bare,
        "kill lists: 1 GB of zeros",
        "verify=ERR_KILL_LIST_CORRUPT prune=ERR_KILL_LIST_CORRUPT ingest=ERR_KILL_LIST_CORRUPT",
        |at| {
            at.sparse(&mark(1), 1 << 30);
        },
    ),
    case(
        Bare,
        "kill lists: 500 MB of zeros",
        "verify=ERR_KILL_LIST_CORRUPT prune=ERR_KILL_LIST_CORRUPT ingest=ERR_KILL_LIST_CORRUPT",
        |at| {
            at.sparse(&mark(1), 500 << 20);
        },
    ),
    case(
        Bare,
        "kill lists: out of order, and with a duplicate",
        "verify=ERR_KILL_LIST_CORRUPT prune=ERR_KILL_LIST_CORRUPT ingest=ERR_KILL_LIST_CORRUPT",
        |at| {
            at.write(
                &mark(1),
                kill_list(at.repo_id(), 1, &[PackId([2; 32]), PackId([1; 32])], None, 0),
            );
            at.write(
                &mark(2),
                kill_list(at.repo_id(), 2, &[PackId([1; 32]), PackId([1; 32])], None, 0),
            );
        },
    ),
    case(
        Bare,
        "kill lists: unknown flags",
        "verify=ERR_KILL_LIST_CORRUPT prune=ERR_KILL_LIST_CORRUPT ingest=ERR_KILL_LIST_CORRUPT",
        |at| {
            at.write(
                &mark(1),
                kill_list(at.repo_id(), 1, &[PackId([1; 32])], None, 0xffff_fffe),
            );
        },
    ),
    case(
        Bare,
        "kill lists: a future version",
        "verify=ERR_UNSUPPORTED_FORMAT prune=ERR_UNSUPPORTED_FORMAT ingest=ERR_UNSUPPORTED_FORMAT repair=ERR_UNSUPPORTED_FORMAT last=reindex:ERR_UNSUPPORTED_FORMAT+sweep:ERR_UNSUPPORTED_FORMAT",
        |at| {
            let mut list = kill_list(at.repo_id(), 1, &[], None, 0);
            patch(&mut list, 8, &3u32.to_le_bytes());
            super::forge::reseal_hash(&mut list);
            at.write(&mark(1), list);
        },
    ),
    case(Bare, "kill lists: every pack is condemned", "", |at| {
        let packs: Vec<PackId> = at
            .keys(layout::DATA, ".pack")
            .iter()
            .map(|key| PackId(layout::id_of(key, ".pack").unwrap()))
            .collect();
        at.write(&mark(1), kill_list(at.repo_id(), 1, &packs, None, 0));
    }),
    case(
        Bare,
        "kill lists: of another repository, with very many packs",
        "",
        |at| {
            let mut packs: Vec<PackId> = (0..many(250_000) as u32)
                .map(|n| PackId(containerarchive::crypto::sha256(&[&n.to_le_bytes()])))
                .collect();
            packs.sort();
            let mut repo = at.repo_id();
            repo.0 = [0x99; 16];
            at.write(&mark(1), kill_list(repo, 1, &packs, None, 0));
        },
    ),
    case(
        Plain,
        "records: a record for every snapshot",
        "verify=ERR_RECORD_CORRUPT",
        |at| {
            for id in at.snapshots() {
                at.write(&layout::forgot_record(&id), "{}");
            }
        },
    ),
    case(
        Plain,
        "records: a directory, a link, and 1 GB of zeros",
        "verify=ERR_RECORD_CORRUPT",
        |at| {
            std::fs::create_dir(at.path(&layout::forgot_record(&SnapshotId([1; 16])))).unwrap();
            let link = at.path(&layout::forgot_record(&SnapshotId([2; 16])));
            std::os::unix::fs::symlink(at.outside().join("canary"), link).unwrap();
            at.sparse(&layout::forgot_record(&SnapshotId([3; 16])), 1 << 30);
        },
    ),
    case(Plain, "records: very many of them", "verify=ERR_RECORD_CORRUPT", |at| {
        for number in 0..many(5000) as u128 {
            at.write(&layout::forgot_record(&SnapshotId(number.to_le_bytes())), "{}");
        }
    }),
    case(Plain, "leases: garbage, 1 GB of zeros, and false values", "", |at| {
        at.write(&layout::lease(&SnapshotId([1; 16])), "garbage");
        at.sparse(&layout::lease(&SnapshotId([2; 16])), 1 << 30);
        let other = containerarchive::checked_json::finish(
            r#"{"version":1,"session":"../../outside","operation":"prune","startedAt":"never"}"#.to_owned(),
        );
        at.write(&layout::lease(&SnapshotId([3; 16])), other);
        at.write(&layout::lease(&at.snapshots()[0]), "of a session that has committed");
    }),
    case(Plain, "leases: a link and a pipe", "", |at| {
        let path = |byte: u8| at.path(&layout::lease(&SnapshotId([byte; 16])));
        std::os::unix::fs::symlink(at.outside().join("canary"), path(1)).unwrap();
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, path(2), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }),
    case(Plain, "leases: very many of them", "", |at| {
        for number in 0..many(2000) as u128 {
            at.write(&layout::lease(&SnapshotId(number.to_le_bytes())), "{}");
        }
    }),
    case(Plain, "locks: the files are missing", "ingest=ERR_STORAGE", |at| {
        at.remove(layout::COMMIT_LOCK);
        at.remove(layout::MAINT_LOCK);
    }),
    case(Plain, "locks: the files have content", "", |at| {
        at.write(layout::COMMIT_LOCK, vec![b'x'; 1 << 20]);
        at.sparse(layout::MAINT_LOCK, 1 << 40);
    }),
];

fn mark(id: u8) -> String {
    format!("{}/{}.kill", layout::MARKS, format!("{id:02x}").repeat(16))
}

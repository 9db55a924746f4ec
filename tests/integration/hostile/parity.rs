//! Attacks on parity groups.

use super::forge::{empty_record, group, group_id, patch};
use super::{Case, Plain, Scene, Sealed, case};
use containerarchive::id::{GroupId, PackId};
use containerarchive::layout;
use containerarchive::parity::{GroupHead, Member, Shape};

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(
        Plain,
        "parity: groups of impossible shapes",
        "verify=ERR_PARITY_CORRUPT",
        |at| {
            for (number, shape) in (1u8..).zip([[0, 1], [255, 1], [1, 0], [1, 255], [225, 33]]) {
                plant(at, small_head(at, number), |record| patch(record, 56, &shape));
            }
        },
    ),
    case(Plain, "parity: 4 billion members", "verify=ERR_PARITY_CORRUPT", |at| {
        plant_small(at, |record| patch(record, 60, &u32::MAX.to_le_bytes()));
    }),
    case(
        Plain,
        "parity: 4 billion superseded groups",
        "verify=ERR_PARITY_CORRUPT",
        |at| {
            plant_small(at, |record| patch(record, 64, &u32::MAX.to_le_bytes()));
        },
    ),
    case(Plain, "parity: a config of 4 GiB", "verify=ERR_PARITY_CORRUPT", |at| {
        plant_small(at, |record| patch(record, 68, &u32::MAX.to_le_bytes()));
    }),
    case(
        Plain,
        "parity: members of 2^63 bytes",
        "verify=ERR_PARITY_CORRUPT",
        |at| {
            plant_small(at, |record| {
                patch(record, 48, &(1u64 << 63).to_le_bytes());
                patch(record, 80 + 4, &u32::MAX.to_le_bytes());
                patch(record, 80 + 40, &(1u64 << 63).to_le_bytes());
            });
        },
    ),
    case(
        Plain,
        "parity: slots that do not exist",
        "verify=ERR_PARITY_CORRUPT",
        |at| {
            plant_small(at, |record| patch(record, 80, &u16::MAX.to_le_bytes()));
        },
    ),
    case(
        Plain,
        "parity: a group that supersedes all others",
        "verify=ERR_PACK_UNPROTECTED+ERR_PARITY_CORRUPT",
        |at| {
            let mut head = small_head(at, 1);
            head.superseded = groups(at);
            plant(at, head, |_| ());
        },
    ),
    case(
        Plain,
        "parity: two groups that supersede each other, and everything",
        "verify=ERR_PACK_UNPROTECTED",
        |at| {
            for (own, other) in [(1, 2), (2, 1)] {
                let mut head = small_head(at, own);
                head.superseded = groups(at);
                head.superseded.push(group_id(other));
                plant(at, head, |_| ());
            }
        },
    ),
    case(
        Plain,
        "parity: sums of zero for every pack, and a lost pack",
        "restore=ERR_PACK_MISSING files=ERR_PACK_MISSING verify=ERR_PACK_MISSING+ERR_PARITY_CORRUPT prune=ERR_PACK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            at.parity_files().iter().for_each(|key| at.remove(key));
            let packs = at.keys(layout::DATA, ".pack");
            for (number, key) in (1u8..).zip(&packs) {
                let mut head = small_head(at, number);
                head.members = vec![member(at, key)];
                plant(at, head, |_| ());
            }
            at.remove(&packs[0]);
        },
    ),
    case(
        Plain,
        "parity: a lost member that is longer than any pack",
        "verify=ERR_PARITY_CORRUPT",
        |at| {
            let mut head = small_head(at, 1);
            head.class = 3;
            head.members = vec![Member {
                pack: PackId([1; 32]),
                len: 1 << 32,
                slot: 0,
            }];
            plant_sparse(at, head);
        },
    ),
    case(Plain, "parity: a record of 80 MB", "verify=ERR_PARITY_CORRUPT", |at| {
        let mut head = small_head(at, 1);
        head.class = 3;
        head.shape.data = 224;
        head.members = (0..38u8)
            .map(|slot| Member {
                pack: PackId([slot; 32]),
                len: 1 << 30,
                slot,
            })
            .collect();
        plant_sparse(at, head);
    }),
    case(
        Plain,
        "parity: a lost pack with a stated length of 4 GiB",
        "verify=ERR_PARITY_CORRUPT",
        |at| {
            let key = at.first(layout::DATA, ".pack");
            let mut head = small_head(at, 1);
            head.class = 3;
            head.members = vec![Member {
                len: 1 << 32,
                ..member(at, &key)
            }];
            plant_sparse(at, head);
            at.remove(&key);
        },
    ),
    case(Plain, "parity: a group of another repository", "", |at| {
        let mut head = small_head(at, 1);
        head.repo.0 = [0x99; 16];
        plant(at, head, |_| ());
    }),
    case(
        Plain,
        "parity: 1 GB of zeros in place of every file",
        "verify=ERR_PACK_UNPROTECTED+ERR_PARITY_CORRUPT",
        |at| {
            at.parity_files().iter().for_each(|key| at.sparse(key, 1 << 30));
        },
    ),
    case(
        Sealed,
        "parity: the files of two groups swapped",
        "verify=ERR_PACK_UNPROTECTED+ERR_PARITY_CORRUPT",
        |at| {
            let (pars, grps) = (at.keys(layout::PARITY, ".par"), at.keys(layout::PARITY, ".grp"));
            for keys in [pars, grps] {
                let (one, two) = (at.read(&keys[0]), at.read(keys.last().unwrap()));
                at.write(&keys[0], two);
                at.write(keys.last().unwrap(), one);
            }
        },
    ),
    case(
        Plain,
        "parity: a forged copy of the config, and the config is lost",
        "verify=ERR_CONFIG_CORRUPT+ERR_PACK_UNPROTECTED+ERR_PARITY_CORRUPT",
        |at| {
            at.parity_files().iter().for_each(|key| at.remove(key));
            let mut head = small_head(at, 1);
            head.config_len = 5000;
            plant(at, head, |_| ());
            at.remove(layout::CONFIG);
        },
    ),
];

fn groups(at: &Scene) -> Vec<GroupId> {
    let keys = at.keys(layout::PARITY, ".grp");
    keys.iter()
        .filter_map(|key| layout::id_of(key, ".grp").map(GroupId))
        .collect()
}

/// Returns a pack of the repository as a member.
fn member(at: &Scene, key: &str) -> Member {
    Member {
        pack: PackId(layout::id_of(key, ".pack").unwrap()),
        len: at.known.files[key].len() as u64,
        slot: 0,
    }
}

/// A group of one pack.
fn small_head(at: &Scene, id: u8) -> GroupHead {
    GroupHead {
        repo: at.repo_id(),
        id: group_id(id),
        shape: Shape { data: 4, parity: 1 },
        class: 0,
        superseded: Vec::new(),
        members: vec![member(at, &at.first(layout::DATA, ".pack"))],
        config_len: 0,
    }
}

/// Returns the files of a group with sums of zero; `edit` changes the record before its checksums
/// are computed.
fn plant(at: &Scene, head: GroupHead, edit: impl Fn(&mut Vec<u8>)) {
    let shard = vec![0; head.stripe_len() as usize];
    for (key, bytes) in group(&empty_record(head), &shard, edit) {
        at.write(&key, bytes);
    }
}

/// Returns the files of a small group.
fn plant_small(at: &Scene, edit: impl Fn(&mut Vec<u8>)) {
    plant(at, small_head(at, 1), edit);
}

/// The same with a sparse shard, for groups that would not fit on a disk.
fn plant_sparse(at: &Scene, head: GroupHead) {
    use std::io::{Seek, SeekFrom, Write};
    let stripe = head.stripe_len();
    let front_len = head.shard_offset();
    let [(grp_key, grp), (par_key, par)] = group(&empty_record(head), &[], |_| ());
    at.write(&grp_key, grp);
    let (front, back) = par.split_at(front_len as usize);
    let mut file = std::fs::File::create(at.path(&par_key)).unwrap();
    file.write_all(front).unwrap();
    file.set_len(front_len + stripe).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(back).unwrap();
}

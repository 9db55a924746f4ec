//! Known answers. If one changes, the format changed.

use super::*;
use crate::id::to_hex;

#[test]
fn the_files_of_a_group_of_three_unequal_packs_are_pinned() {
    let storage = MemoryStorage::new();
    let packs: Vec<_> = ([(5000u32, 3u32), (12_288, 5), (1, 7)].iter())
        .map(|(len, step)| (0..*len).map(|at| (at * step % 251) as u8).collect::<Vec<u8>>())
        .map(|bytes| (pack_id(&bytes), bytes))
        .collect();
    let mut group = accumulate(shape(20, 2), 222, &packs);
    assert_eq!(
        group.members().map(|member| member.slot).collect::<Vec<_>>(),
        [222, 223, 0]
    );
    assert_eq!(
        (group.held_bytes(), group.class(), group.is_empty()),
        (24_576, 0, false)
    );
    assert!(group.remove(&PackId([0; 32]), &[]).is_err());
    let group = group
        .finish(REPO, GroupId([0x11; 16]), vec![GroupId([0x22; 16])], CONFIG.to_vec())
        .unwrap();
    publish(&storage, &group).unwrap();
    let hash = |part: Part| to_hex(&sha256(&[&file(&storage, &part.key(&GroupId([0x11; 16])))]));
    assert_eq!(
        [hash(Part::Group), hash(Part::Shard(0)), hash(Part::Shard(1))],
        [
            "73d7b314df4074e4ded423ffbaa9777f251f2f67373d28d86fb233a7298fb4fe",
            "a6dba8dc5623d54141b5c0b0d5cbf9cb2949cdbbb524d8752b899ea74c498c65",
            "61c60b7f3dce8b182d4ffa01dba4e97f0feb84acecd89acdaf4ad205d0f9263b",
        ]
    );
}

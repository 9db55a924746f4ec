//! Files that are not ours, in every folder.

use super::{Case, Plain, case, many};
use containerarchive::layout;

/// The table.
pub(super) const CASES: &[Case] = &[
    case(Plain, "foreign: what sync tools and systems leave behind", "", |at| {
        for place in std::iter::once("").chain(layout::FOLDERS) {
            for name in [
                ".DS_Store",
                ".nfs0000000000000001",
                "Thumbs.db",
                "a (conflicted copy).pack",
                "x.json",
                "CON",
                &"n".repeat(255),
                "-rf",
                "new\nline",
            ] {
                std::fs::write(at.path(place).join(name), "not ours").unwrap();
            }
        }
    }),
    case(Plain, "foreign: names that are nearly right", "", |at| {
        for place in layout::FOLDERS {
            for end in ["pack", "idx", "seg", "json", "kill", "forgot", "grp", "0.par"] {
                for name in [
                    "ab".repeat(15),
                    "AB".repeat(16),
                    "ab".repeat(17),
                    "AB".repeat(32),
                    format!("{}g", "a".repeat(31)),
                ] {
                    std::fs::write(at.path(place).join(format!("{name}.{end}")), "not ours").unwrap();
                }
            }
            std::fs::write(at.path(place).join(format!("{}.01.par", "ab".repeat(16))), "not ours").unwrap();
            std::fs::write(at.path(place).join(format!("{}.+1.par", "ab".repeat(16))), "not ours").unwrap();
        }
    }),
    case(Plain, "foreign: names that are no UTF-8", "", |at| {
        use std::os::unix::ffi::OsStrExt;
        for place in std::iter::once("").chain(layout::FOLDERS) {
            let name = std::ffi::OsStr::from_bytes(b"\xff\xfe.json");
            std::fs::write(at.path(place).join(name), "not ours").unwrap();
        }
    }),
    case(Plain, "foreign: very many files in every folder", "", |at| {
        for place in [
            layout::DATA,
            layout::SNAPSHOTS,
            layout::INDEX,
            layout::PARITY,
            layout::LOCKS,
        ] {
            for number in 0..many(2000) {
                std::fs::write(at.path(place).join(format!("file {number}")), "").unwrap();
            }
        }
    }),
];

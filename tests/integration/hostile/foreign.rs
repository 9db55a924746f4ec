//! Foreign files in every directory.

use super::{Case, Plain, case, many};
use containerarchive::layout;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(Plain, "foreign: files of sync tools and operating systems", "", |at| {
        for folder in std::iter::once("").chain(layout::FOLDERS) {
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
                std::fs::write(at.path(folder).join(name), "not ours").unwrap();
            }
        }
    }),
    case(Plain, "foreign: names that are almost valid", "", |at| {
        for folder in layout::FOLDERS {
            for end in ["pack", "idx", "seg", "json", "kill", "forgot", "grp", "0.par"] {
                for name in [
                    "ab".repeat(15),
                    "AB".repeat(16),
                    "ab".repeat(17),
                    "AB".repeat(32),
                    format!("{}g", "a".repeat(31)),
                ] {
                    std::fs::write(at.path(folder).join(format!("{name}.{end}")), "not ours").unwrap();
                }
            }
            std::fs::write(at.path(folder).join(format!("{}.01.par", "ab".repeat(16))), "not ours").unwrap();
            std::fs::write(at.path(folder).join(format!("{}.+1.par", "ab".repeat(16))), "not ours").unwrap();
        }
    }),
    case(Plain, "foreign: names that are not UTF-8", "", |at| {
        use std::os::unix::ffi::OsStrExt;
        for folder in std::iter::once("").chain(layout::FOLDERS) {
            let name = std::ffi::OsStr::from_bytes(b"\xff\xfe.json");
            std::fs::write(at.path(folder).join(name), "not ours").unwrap();
        }
    }),
    case(Plain, "foreign: many files in every directory", "", |at| {
        for folder in [
            layout::DATA,
            layout::SNAPSHOTS,
            layout::INDEX,
            layout::PARITY,
            layout::LOCKS,
        ] {
            for number in 0..many(2000) {
                std::fs::write(at.path(folder).join(format!("file {number}")), "").unwrap();
            }
        }
    }),
];

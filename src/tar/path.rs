//! Paths of members, as the names between their slashes.

/// A path that no restore follows.
#[cfg(unix)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadPath {
    Absolute,
    Parent,
}

/// The names of a path; empty ones and `.` mean nothing. Of the directory that everything is
/// relative to, there are none.
#[cfg(unix)]
pub(super) fn names(path: &[u8]) -> Result<Vec<&[u8]>, BadPath> {
    if path.starts_with(b"/") {
        return Err(BadPath::Absolute);
    }
    let names: Vec<&[u8]> = parts(path).collect();
    if names.contains(&&b".."[..]) {
        return Err(BadPath::Parent);
    }
    Ok(names)
}

/// Whether a symbolic link in a directory of this depth can lead out of the top one. `..` is only
/// accepted in front: after a name that is a link itself, it does not lead back to where the name
/// was. If this holds for all links, following them, one through another, never leads out.
#[cfg(unix)]
pub(super) fn leads_out(target: &[u8], depth: usize) -> bool {
    let mut above = 0;
    let mut is_front = true;
    for part in parts(target) {
        if part != b".." {
            is_front = false;
        } else if is_front {
            above += 1;
        } else {
            return true;
        }
    }
    target.starts_with(b"/") || above > depth
}

/// The names of any path, `..` among them. A slash in front means nothing.
pub fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leads_up_is_no_path_of_a_member() {
        assert_eq!(names(b"./a//b/./c/"), Ok(vec![&b"a"[..], b"b", b"c"]));
        assert_eq!(names(b"./"), Ok(vec![]));
        assert_eq!(names(b"...a/.b/..c"), Ok(vec![&b"...a"[..], b".b", b"..c"]));
        assert_eq!(names(b"/a"), Err(BadPath::Absolute));
        for path in [&b".."[..], b"../a", b"a/..", b"a/../b", b"a/.//..//b"] {
            assert_eq!(names(path), Err(BadPath::Parent));
        }
    }

    #[test]
    fn a_link_leads_out_by_more_steps_up_than_its_depth() {
        for (target, depth, expected) in [
            ("b", 0, false),
            ("", 0, false),
            ("a/b/c", 0, false),
            ("..", 0, true),
            ("..", 1, false),
            ("../..", 1, true),
            (".././..//x", 2, false),
            ("../../../x", 2, true),
            ("a/..", 5, true),
            ("../a/../b", 5, true),
            ("/etc", 9, true),
            ("..a/...", 0, false),
        ] {
            assert_eq!(leads_out(target.as_bytes(), depth), expected, "{target} at {depth}");
        }
    }
}

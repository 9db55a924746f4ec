//! Whether a path leads into a repository, decided by the folders that it reaches and not by its
//! spelling.

use super::vfs::FileId;
use std::path::Path;

/// Returns the identity of a folder, where the system has one.
fn identity(path: &Path) -> Option<FileId> {
    let found = std::fs::metadata(path).ok()?;
    if found.is_dir() { FileId::of(&found) } else { None }
}

/// Returns `true` when `path` is `root` or one of its `folders`, or is below one of them. Links are
/// followed, and folders are compared by device and inode, so that a bind mount of any of them is
/// found too; where the system has no such numbers, by their real paths. A path that does not exist
/// or cannot be inspected counts as outside.
pub fn leads_into(path: &Path, root: &Path, folders: &[&str]) -> bool {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (path, root) = (absolute(path), absolute(root));
    if path.starts_with(&root) {
        return true;
    }
    let below = folders.iter().map(|folder| root.join(folder));
    let own: Vec<FileId> = below
        .chain([root.clone()])
        .filter_map(|folder| identity(&folder))
        .collect();
    let is_own = |folder: &Path| identity(folder).is_some_and(|found| own.contains(&found));
    // the file itself may be new, so its folder is resolved
    let Some(Ok(folder)) = path.parent().map(Path::canonicalize) else {
        return is_own(&path);
    };
    let is_below = root.canonicalize().is_ok_and(|root| folder.starts_with(root));
    is_below || is_own(&path) || folder.ancestors().any(is_own)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_followed_through_links_and_compared_by_the_folder_that_it_reaches() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("disk/repo/packs/data")).unwrap();
        std::fs::create_dir(at("elsewhere")).unwrap();
        symlink(at("disk"), at("backups")).unwrap();
        symlink(at("disk/repo/packs"), at("elsewhere/packs")).unwrap();
        symlink(at("elsewhere"), at("disk/repo/out")).unwrap();
        let inside = |path: &str| leads_into(&at(path), &at("disk/repo"), &["packs", "packs/data", "keys"]);
        for path in [
            "disk/repo",
            "disk/repo/config.json",
            "backups/repo",
            "backups/repo/config.json",
            "backups/repo/packs/data/x.pack",
            "elsewhere/packs/new",
            "elsewhere/packs/data/x.pack",
            "elsewhere/../backups/repo/x",
        ] {
            assert!(inside(path), "{path}");
        }
        for path in [
            "disk/file",
            "backups/file",
            "elsewhere/file",
            "repo/file",
            "missing/repo/file",
            "disk/repo2",
        ] {
            assert!(!inside(path), "{path}");
        }
        // the root is given through a link
        assert!(leads_into(&at("disk/repo/x"), &at("backups/repo"), &[]));
    }
}

//! Restores into a file, which appears complete and durable, or not at all.

use super::plan::RestorePlan;
use super::restore;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::storage::{Created, ExportFile};
use std::path::Path;
use std::sync::Arc;

/// Writes the planned bytes to a file at `path`, whose folder must exist. The file appears under
/// its name when it is complete and flushed (mode 0600); with `overwrite` it replaces an existing
/// file atomically. On failure no part of it is left, and an existing file is unchanged, with one
/// exception: when only the last step fails, the flush of the folder, the complete file exists, but
/// a power loss may still remove its name.
///
/// # Errors
/// `FileExists`, `InvalidArgument` (a path inside the repository), `NoSpace`, `Permission`,
/// `NotADirectory`, and those of [`restore`].
pub fn restore_to_file(
    repo: &Arc<Repository>,
    plan: &RestorePlan,
    path: &Path,
    overwrite: bool,
    monitor: &dyn Monitor,
) -> Result<()> {
    export(repo, path, overwrite, monitor, &mut |write| {
        restore(repo, plan, monitor, write)
    })
}

/// Writes bytes: the argument of what produces them.
pub(in crate::ops) type Write<'w> = dyn FnMut(&[u8]) -> Result<()> + 'w;

/// [`restore_to_file`] for bytes of any origin.
pub(in crate::ops) fn export(
    repo: &Arc<Repository>,
    path: &Path,
    overwrite: bool,
    monitor: &dyn Monitor,
    fill: &mut dyn FnMut(&mut Write<'_>) -> Result<()>,
) -> Result<()> {
    repo.check_running(monitor)?;
    let invalid = |what: &str| Error::InvalidArgument {
        reason: format!("{} {what}", path.display()),
    };
    if path.file_name().is_none() {
        return Err(invalid("is no file name"));
    }
    let check_outside = || match repo.contains_path(path) {
        true => Err(invalid("is inside the repository")),
        false => Ok(()),
    };
    check_outside()?;
    let exists = || Error::FileExists {
        path: path.display().to_string(),
        overwrite,
    };
    let mut file = ExportFile::create(path, overwrite, repo.entropy())?.ok_or_else(exists)?;
    fill(&mut |bytes| Ok(file.write(bytes)?))?;
    repo.check_running(monitor)?;
    file.flush()?;
    // a link or a mount may have changed in the meantime
    check_outside()?;
    // the last point at which the restore can be cancelled
    repo.check_running(monitor)?;
    if !monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    match file.finish()? {
        Created::Created => Ok(()),
        Created::Exists => Err(exists()),
    }
}

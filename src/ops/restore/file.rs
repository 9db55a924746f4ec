//! A restore into a file: complete and durable under its name, or nothing of it.

use super::plan::RestorePlan;
use super::restore;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::storage::{Created, ExportFile};
use std::path::Path;
use std::sync::Arc;

/// Gives the planned bytes to a file at `path`, whose folder exists. It appears under its name when
/// it is complete and flushed (mode 0600); with `overwrite` in the place of what was there, in one
/// step. When that fails nothing is left of it, and what was there is as it was; except when only
/// the flush of the folder fails, the last step: then the file is there, whole, and a power cut may
/// still take its name.
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
    repo.check_running(monitor)?;
    let invalid = |what: &str| Error::InvalidArgument {
        reason: format!("{} {what}", path.display()),
    };
    if path.file_name().is_none() {
        return Err(invalid("is no file name"));
    }
    let check_place = || match repo.contains_path(path) {
        true => Err(invalid("is inside the repository")),
        false => Ok(()),
    };
    check_place()?;
    let exists = || Error::FileExists {
        path: path.display().to_string(),
        overwrite,
    };
    let mut file = ExportFile::create(path, overwrite, repo.entropy())?.ok_or_else(exists)?;
    restore(repo, plan, monitor, &mut |bytes| Ok(file.write(bytes)?))?;
    repo.check_running(monitor)?;
    file.flush()?;
    // a link or a mount may have changed in the meantime
    check_place()?;
    // the last moment at which it can still be called off
    repo.check_running(monitor)?;
    if !monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    match file.finish()? {
        Created::Created => Ok(()),
        Created::Exists => Err(exists()),
    }
}

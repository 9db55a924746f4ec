//! Restores an item, or a part of it, into a directory.

use super::member::{MemberPlan, restore_member, subtree};
use super::pages::read_range;
use super::source::{Members, MembersOf, not_tar};
use crate::error::{Error, Result};
use crate::members::{Key, Unindexed};
use crate::monitor::Monitor;
use crate::ops::restore::{RestoreOptions, RestorePlan, plan_restore, restore};
use crate::repo::Repository;
use crate::repo::read::ReadScratch;
use crate::storage::tree::Tree;
use crate::tar::{BLOCK_LEN, ExtractOptions, Extractor, Form, Report, Verdict, recognise};
use std::path::Path;
use std::sync::Arc;

/// What a restore into a directory does.
#[derive(Debug, Clone, Default)]
pub struct DirectoryOptions {
    /// The member; everything if it is empty.
    pub member: Vec<u8>,
    /// Files that exist are replaced.
    pub overwrite: bool,
    /// What the members may be.
    pub extract: ExtractOptions,
}

/// What was written, and what was not.
#[derive(Debug, Clone)]
pub struct DirectoryReport {
    /// Per kind of member.
    pub report: Report,
    /// Hard links whose file is not in the item.
    pub lost_links: u64,
    /// The tar of the item has its end, also where a part of it was written. Otherwise members may
    /// be missing.
    pub is_complete: bool,
}

/// Writes the members of a tar below the directory `to`, which is created if it is missing.
///
/// # Errors
/// Those of [`Members::open`] and [`restore`], `NotTar`, `InvalidArgument` (a directory inside the
/// repository), `NoSpace`, `Permission`, `NotADirectory`. What was written before stays.
pub fn restore_to_directory(
    repo: &Arc<Repository>,
    of: &MembersOf,
    options: &DirectoryOptions,
    to: &Path,
    monitor: &dyn Monitor,
) -> Result<DirectoryReport> {
    repo.check_running(monitor)?;
    let key = Key::new(&options.member);
    let plan = Plan::make(repo, of, &key, &options.member, monitor)?;
    plan.check_start(repo)?;
    let inside = || Error::InvalidArgument {
        reason: format!("{} is inside the repository", to.display()),
    };
    if repo.contains_path(to) {
        return Err(inside());
    }
    let path = to.display().to_string();
    let failed = |error: std::io::Error| Error::from(crate::storage::Error::from_io("restore", path.as_str(), error));
    let mut tree = Tree::open(to, options.overwrite, repo.entropy()).map_err(failed)?;
    if repo.contains_path(to) {
        return Err(inside());
    }
    // it may be below the target, and a member may have its path
    if let Some(own) = repo.folder_path() {
        tree.avoid(own).map_err(failed)?;
    }
    let mut extractor = Extractor::new(tree, options.extract);
    plan.run(repo, monitor, &mut |bytes| extractor.feed(bytes).map_err(failed))?;
    repo.check_running(monitor)?;
    let report = extractor.finish().map_err(failed)?;
    if report.verdict == Verdict::NotTar && plan.lost_links() == 0 {
        return Err(plan.not_tar());
    }
    Ok(DirectoryReport {
        is_complete: plan.is_complete(&report),
        lost_links: plan.lost_links(),
        report,
    })
}

/// The bytes of the tar that is written out.
enum Plan {
    Whole(Box<RestorePlan>, String),
    /// With the name of the item, and whether its tar has its end.
    Part(Box<MemberPlan>, String, bool),
}

impl Plan {
    fn make(repo: &Arc<Repository>, of: &MembersOf, key: &Key, member: &[u8], monitor: &dyn Monitor) -> Result<Self> {
        if key.depth() == 0 {
            let (snapshot, number) = super::source::find_item(repo, of)?;
            let item = snapshot.items[number].name.clone();
            let options = RestoreOptions {
                item: Some(item.clone()),
                range: None,
            };
            let plan = plan_restore(repo, &snapshot.id.to_hex(), &options)?;
            return Ok(Self::Whole(Box::new(plan), item));
        }
        let mut members = Members::open(repo, of, monitor)?;
        let (parts, lost) = subtree(repo, &mut members, key, monitor)?;
        let parts = parts.ok_or_else(|| members.not_found(member))?;
        let (item, is_complete) = (members.item().name.clone(), members.tail().is_complete);
        let plan = MemberPlan::new(&members, parts, lost);
        Ok(Self::Part(Box::new(plan), item, is_complete))
    }

    fn run(
        &self,
        repo: &Arc<Repository>,
        monitor: &dyn Monitor,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Whole(plan, _) => restore(repo, plan, monitor, sink),
            Self::Part(plan, ..) => restore_member(repo, plan, monitor, &mut |piece| sink(&piece)),
        }
    }

    fn lost_links(&self) -> u64 {
        match self {
            Self::Whole(..) => 0,
            Self::Part(plan, ..) => plan.lost_links(),
        }
    }

    fn is_complete(&self, report: &Report) -> bool {
        match self {
            Self::Whole(..) => matches!(report.verdict, Verdict::Complete { .. }),
            Self::Part(_, _, is_complete) => *is_complete,
        }
    }

    /// Fails for an item whose first block is not that of a tar, before anything is created.
    fn check_start(&self, repo: &Repository) -> Result<()> {
        let Self::Whole(plan, item) = self else { return Ok(()) };
        let snapshot = &plan.snapshot;
        let Some(item) = snapshot.items.iter().find(|listed| listed.name == *item) else {
            return Ok(());
        };
        match recognise(&read_range(repo, item, &mut ReadScratch::default(), 0, BLOCK_LEN)?) {
            Form::Tar => Ok(()),
            Form::Wrapped(wrapper) => Err(not_tar(snapshot, &item.name, Unindexed::Wrapped(wrapper))),
            Form::Other => Err(not_tar(snapshot, &item.name, Unindexed::NotTar)),
        }
    }

    fn not_tar(&self) -> Error {
        match self {
            Self::Whole(plan, item) => not_tar(&plan.snapshot, item, Unindexed::NotTar),
            Self::Part(plan, item, _) => not_tar(&plan.snapshot, item, Unindexed::NotTar),
        }
    }
}

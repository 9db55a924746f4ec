//! The members of an item that is a tar: listed, looked up, restored one by one or as a directory,
//! and compared between snapshots.
//!
//! All of it reads the member index of the item (`members`). An item of a snapshot without one gets
//! it here, in memory: its headers are read, and the data between them are not.

mod compare;
mod diff;
#[cfg(unix)]
mod directory;
mod list;
mod member;
mod pages;
mod source;

pub(in crate::ops) use compare::index_fault;
pub use diff::{Change, Changed, Diff, diff};
#[cfg(unix)]
pub use directory::{DirectoryOptions, DirectoryReport, restore_to_directory};
pub use list::{FileList, FileListOptions, files, member_info};
pub use member::{MemberPlan, plan_member, restore_member, restore_member_to_file};
pub(in crate::ops) use source::pages_of_headers;
pub use source::{Members, MembersOf};

//! Members of tars: lists and comparisons that JavaScript reads page by page, one member, and
//! restores into a directory.

use super::archive::NativeRepository;
use super::handle::Handle;
use super::monitor::OperationMonitor;
use super::stop::NativeStop;
use super::types::{member_of, of, parse, to_json};
use crate::error::Result;
use crate::id;
use crate::members::Listed;
use crate::monitor::NullMonitor;
use crate::ops::files::{self, Change, Changed, Diff, FileList, FileListOptions};
use crate::repo::Repository;
use crate::sync::lock;
use crate::tar::Kind;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw};
use napi_derive::napi;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};

/// Entries of one page.
const PAGE: usize = 256;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FilesJson {
    item: Option<String>,
    /// The bytes of the path in hex.
    member: Option<String>,
    recursive: bool,
    all: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct DirectoryJson {
    item: Option<String>,
    member: Option<String>,
    to: String,
    overwrite: bool,
    strip_components: usize,
    owners: bool,
    setuid: bool,
    devices: bool,
    outside_links: bool,
}

/// A name: text, or the bytes of one that is no UTF-8, in hex.
#[derive(Serialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Bytes { hex: String },
}

impl Name {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { hex: id::to_hex(bytes) },
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson {
    path: Name,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<AttributesJson>,
    is_superseded: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttributesJson {
    raw_path: Name,
    mode: u32,
    uid: u64,
    gid: u64,
    user: Name,
    group: Name,
    mtime_ms: f64,
    link: Name,
    device: (u64, u64),
    header_offset: u64,
    data_offset: u64,
    stored_size: u64,
}

fn kind_of(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::HardLink => "hardlink",
        Kind::Symlink => "symlink",
        Kind::CharDevice => "characterDevice",
        Kind::BlockDevice => "blockDevice",
        Kind::Directory => "directory",
        Kind::Fifo => "fifo",
        Kind::Other(_) => "other",
    }
}

fn entry(listed: &Listed) -> EntryJson {
    let member = listed.entry.as_ref().map(|entry| &entry.member);
    EntryJson {
        path: Name::new(&listed.key.path()),
        kind: member.map_or("directory", |member| kind_of(member.kind)),
        size: member.map_or(0, |member| member.size),
        attributes: member.map(|member| AttributesJson {
            raw_path: Name::new(&member.path),
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            user: Name::new(&member.uname),
            group: Name::new(&member.gname),
            mtime_ms: member.mtime.seconds as f64 * 1000.0 + f64::from(member.mtime.nanos) / 1e6,
            link: Name::new(&member.link),
            device: member.device,
            header_offset: member.header_offset,
            data_offset: member.data_offset,
            stored_size: member.stored_len,
        }),
        is_superseded: listed.is_superseded,
    }
}

#[derive(Serialize)]
struct ChangeJson {
    change: &'static str,
    before: Option<EntryJson>,
    after: Option<EntryJson>,
}

fn change(changed: &Changed) -> ChangeJson {
    ChangeJson {
        change: match changed.change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        },
        before: changed.before.as_ref().map(entry),
        after: changed.after.as_ref().map(entry),
    }
}

fn optional_member(hex: Option<&str>) -> Result<Vec<u8>> {
    hex.map_or(Ok(Vec::new()), member_of)
}

enum Source {
    List(Box<FileList>),
    Diff(Box<Diff>),
}

impl Source {
    fn next(&mut self, repo: &Arc<Repository>) -> Result<String> {
        match self {
            Self::List(list) => to_json(&list.next(PAGE)?.iter().map(entry).collect::<Vec<_>>()),
            Self::Diff(diff) => {
                let found = diff.next(PAGE, &|| repo.check_open())?;
                to_json(&found.iter().map(change).collect::<Vec<_>>())
            }
        }
    }
}

/// Entries that are read page by page.
#[napi]
pub struct NativeFiles {
    handle: Arc<Handle>,
    source: Arc<Mutex<Source>>,
}

#[napi]
impl NativeFiles {
    /// Resolves to the next entries as JSON; to none at the end.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn next<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, String>> {
        let source = Arc::clone(&self.source);
        self.handle.spawn(env, "ca-files", move |repo| lock(&source).next(repo))
    }
}

#[napi]
impl NativeRepository {
    /// Begins a list of members.
    #[napi(ts_return_type = "Promise<NativeFiles>")]
    pub fn files<'env>(
        &self,
        env: &'env Env,
        id: String,
        options: String,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, NativeFiles>> {
        let monitor = OperationMonitor::new(None, stop)?;
        let handle = Arc::clone(self.handle());
        self.handle().spawn(env, "ca-files", move |repo| {
            let json: FilesJson = parse(&options)?;
            let options = FileListOptions {
                member: optional_member(json.member.as_deref())?,
                recursive: json.recursive,
                all: json.all,
            };
            let list = files::files(repo, &of(id, json.item), &options, &monitor)?;
            Ok(native(handle, Source::List(Box::new(list))))
        })
    }

    /// Begins a comparison of the members of two snapshots.
    #[napi(ts_return_type = "Promise<NativeFiles>")]
    pub fn diff<'env>(
        &self,
        env: &'env Env,
        before: String,
        after: String,
        options: String,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, NativeFiles>> {
        let monitor = OperationMonitor::new(None, stop)?;
        let handle = Arc::clone(self.handle());
        self.handle().spawn(env, "ca-files", move |repo| {
            let json: FilesJson = parse(&options)?;
            let (before, after) = (of(before, json.item.clone()), of(after, json.item));
            let diff = files::diff(repo, &before, &after, &monitor)?;
            Ok(native(handle, Source::Diff(Box::new(diff))))
        })
    }

    /// Resolves to one member as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn member_info<'env>(
        &self,
        env: &'env Env,
        id: String,
        options: String,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle().spawn(env, "ca-files", move |repo| {
            let json: FilesJson = parse(&options)?;
            let member = optional_member(json.member.as_deref())?;
            to_json(&entry(&files::member_info(
                repo,
                &of(id, json.item),
                &member,
                &NullMonitor,
            )?))
        })
    }

    /// Restores members into a directory; resolves to the report as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn restore_to_directory<'env>(
        &self,
        env: &'env Env,
        id: String,
        options: String,
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = OperationMonitor::new(on_progress, stop)?;
        self.handle().spawn(env, "ca-restore-to-directory", move |repo| {
            let json: DirectoryJson = parse(&options)?;
            to_directory(repo, id, &json, &monitor)
        })
    }
}

fn native(handle: Arc<Handle>, source: Source) -> NativeFiles {
    NativeFiles {
        handle,
        source: Arc::new(Mutex::new(source)),
    }
}

#[cfg(not(unix))]
fn to_directory(_: &Arc<Repository>, _: String, _: &DirectoryJson, _: &OperationMonitor) -> Result<String> {
    Err(crate::error::Error::UnsupportedPlatform {
        operation: "restoreToDirectory",
    })
}

#[cfg(unix)]
fn to_directory(
    repo: &Arc<Repository>,
    id: String,
    json: &DirectoryJson,
    monitor: &OperationMonitor,
) -> Result<String> {
    use crate::tar::{ExtractOptions, Notices};

    #[derive(Serialize)]
    struct NoticeJson {
        path: Name,
        reason: String,
    }
    #[derive(Serialize)]
    struct NoticesJson {
        count: u64,
        first: Vec<NoticeJson>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ReportJson {
        files: u64,
        directories: u64,
        hard_links: u64,
        symlinks: u64,
        special: u64,
        bytes: u64,
        stripped: u64,
        lost_links: u64,
        owners_not_kept: u64,
        changed: NoticesJson,
        skipped: NoticesJson,
        is_complete: bool,
    }
    let notices = |notices: &Notices| NoticesJson {
        count: notices.count,
        first: notices
            .first
            .iter()
            .map(|notice| NoticeJson {
                path: Name::new(&notice.path),
                reason: notice.reason.to_string(),
            })
            .collect(),
    };
    let options = files::DirectoryOptions {
        member: optional_member(json.member.as_deref())?,
        overwrite: json.overwrite,
        extract: ExtractOptions {
            strip_components: json.strip_components,
            owners: json.owners,
            setuid: json.setuid,
            devices: json.devices,
            outside_links: json.outside_links,
        },
    };
    let to = std::path::Path::new(&json.to);
    let done = files::restore_to_directory(repo, &of(id, json.item.clone()), &options, to, monitor)?;
    let report = &done.report;
    to_json(&ReportJson {
        files: report.files,
        directories: report.directories,
        hard_links: report.hard_links,
        symlinks: report.symlinks,
        special: report.special,
        bytes: report.bytes,
        stripped: report.stripped,
        lost_links: done.lost_links,
        owners_not_kept: report.owners_not_kept,
        changed: notices(&report.changed),
        skipped: notices(&report.skipped),
        is_complete: done.is_complete,
    })
}

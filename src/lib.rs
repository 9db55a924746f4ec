//! The backup engine of the Node addon: it stores streams as deduplicated, compressed and encrypted
//! snapshots.
//!
//! Reading order, from the bottom: [`id`], [`clock`], [`entropy`], [`monitor`], [`executor`],
//! [`budget`], [`buffer`], [`bytes`], [`sync`], [`panics`] and
//! [`checked_json`] are for all others; [`error`] and [`layout`] (each name on disk) come after the
//! pure rooms. [`chunk`],
//! [`codec`] and [`crypto`] are pure; [`storage`] is the only room that does I/O. [`pack`],
//! [`parity`], [`index`], [`snapshot`] and [`lock`] each know one kind of file, and [`tar`] knows a
//! kind of item, of which [`members`] is the index. [`base`] is a repository without its chunks,
//! and [`repo`] adds them; [`catalog`] answers what is in a repository; [`ops`] has the operations,
//! and `binding` is the boundary to Node.
//! `docs/architecture.md` describes the main path and which room may use which; `docs/format.md`
//! describes the bytes on disk.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use containerarchive::{ops, repo};
//! use containerarchive::monitor::NullMonitor;
//! use std::sync::Arc;
//!
//! let folder = std::env::temp_dir().join(format!("archive-doc-{}", std::process::id()));
//! let environment = repo::Environment::local(&folder, 2, Arc::new(NullMonitor))?;
//! let repository = Arc::new(repo::init(environment, None, &repo::InitOptions::default())?);
//!
//! let mut items = ops::ReaderItems::one("greeting.txt", "text", &b"hello"[..]);
//! let options = ops::IngestOptions::default();
//! let snapshot = ops::ingest(&repository, &mut items, &options, &NullMonitor)?;
//!
//! let options = ops::RestoreOptions::default();
//! let plan = ops::plan_restore(&repository, &snapshot.id.to_hex(), &options)?;
//! let mut out = Vec::new();
//! ops::restore(&repository, &plan, &NullMonitor, &mut |bytes| {
//!     out.extend_from_slice(bytes);
//!     Ok(())
//! })?;
//! assert_eq!(out, b"hello");
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok(())
//! # }
//! ```

pub mod base;
pub mod budget;
pub mod buffer;
pub mod bytes;
pub mod catalog;
pub mod checked_json;
pub mod chunk;
pub mod clock;
pub mod codec;
pub mod crypto;
pub mod entropy;
pub mod error;
pub mod executor;
pub mod id;
pub mod index;
pub mod layout;
pub mod lock;
pub mod members;
pub mod monitor;
pub mod ops;
pub mod pack;
pub mod panics;
pub mod parity;
pub mod repo;
pub mod sha256;
pub mod snapshot;
pub mod storage;
pub mod sync;
pub mod tar;

#[cfg(feature = "node")]
mod binding;

pub use error::{Error, Result};

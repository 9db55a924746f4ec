//! The boundary to Node: the only room that names the `napi` crate. It decides nothing.
//!
//! Every call has three parts: convert in, call one function of `ops` or `repo` on a separate
//! thread, convert out. The thread settles a promise ([`settle`]) in every case; a panic becomes a
//! rejection. Neither libuv's pool nor an async runtime is used: the first would starve `fs`, the
//! second gains nothing for a synchronous engine. Bytes cross through [`pipe`]: the JavaScript side
//! never blocks, the engine's side does. `index.js` wraps these classes in the public API.

// the compiler does not see the calls from JavaScript
#![allow(dead_code, reason = "exported to JavaScript")]

mod archive;
mod check;
mod copies;
#[cfg(unix)]
mod descriptor;
mod error;
mod files;
mod handle;
mod ingest;
mod items;
mod keys;
mod monitor;
mod pipe;
mod prune;
mod repair;
mod rest;
mod restore;
mod settle;
mod stats;
mod stop;
mod types;
mod version;

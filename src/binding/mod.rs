//! The Node side: the only room that names the `napi` crate, and no decision is made here.
//!
//! Every call has three parts: convert in, call one function of `ops` or `repo` on a thread of its own, convert out. The
//! thread settles a promise ([`settle`]), whatever happens; a panic becomes a rejection. Neither libuv's pool nor an
//! async runtime is used: the first would starve `fs`, the second buys nothing for a synchronous engine.
//! Bytes cross through [`pipe`]: the JS side never blocks, the engine's side does. `index.js` wraps all this for people.

// the functions here are called from JavaScript, which the compiler cannot see
#![allow(dead_code, reason = "exported to JavaScript")]

mod archive;
mod check;
mod error;
mod handle;
mod ingest;
mod items;
mod keys;
mod pipe;
mod prune;
mod repair;
mod restore;
mod settle;
mod stats;
mod stop;
mod types;
mod version;

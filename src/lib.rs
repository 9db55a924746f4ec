//! skeleton
#![warn(missing_docs)]
pub mod id;
pub mod clock;
pub mod entropy;
pub mod monitor;
pub mod layout;
pub mod storage;
pub mod chunk;
pub mod codec;
pub mod crypto;
pub mod index;
pub mod snapshot;
pub mod pack;

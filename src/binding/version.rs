//! The version of the native addon. The addon and the JavaScript code are two packages, and an
//! installation can mix versions.

use napi_derive::napi;

/// Returns the version of the crate that the addon was built from.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

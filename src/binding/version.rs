//! Which version this native part is of: the JS side and it are two packages, and an installation
//! can mix them up.

use napi_derive::napi;

/// The version of the package that this was built from.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

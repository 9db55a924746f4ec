//! The version of the native addon. The addon and the JavaScript code are two packages, and an
//! installation can mix versions.

use napi_derive::napi;

/// Returns the version of the crate that the addon was built from.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Returns how this processor hashes many chunks at once, for people.
#[napi(js_name = "sha256Kernel")]
pub fn sha256_kernel() -> &'static str {
    crate::crypto::kernel_name()
}

/// Returns how this processor computes AES, for people.
#[napi(js_name = "aesKernel")]
pub fn aes_kernel() -> &'static str {
    crate::crypto::aes_kernel_name()
}

//! Engine errors as JavaScript errors: the stable code, the text, the ids as properties, and a
//! brand that errors from the host's own code lack. `js/error.js` makes them instances of
//! `ContainerArchiveError`, with a stack.

use crate::error::Error;
use napi::bindgen_prelude::{JsObjectValue, Object, Symbol, ToNapiValue, Unknown};
use napi::{Env, JsError, JsValue};

/// Key of the registered symbol that marks an error of the engine. A code that begins with `ERR_`
/// proves nothing, because Node's errors have such codes too. `js/error.js` has the same key.
const BRAND: &str = "containerarchive.native-error";

/// The code of an error, in the form that napi expects.
#[derive(Debug, Clone, Copy)]
struct Code(&'static str);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0
    }
}

/// Makes an error object with all properties, for a rejection or a synchronous throw. Called on the
/// JavaScript thread.
pub fn js_error(env: &Env, error: &Error) -> napi::Error {
    let object = JsError::from(napi::Error::new(Code(error.code()), error.to_string())).into_unknown(*env);
    decorate(env, object, error).unwrap_or_else(|problem| problem)
}

fn decorate(env: &Env, unknown: Unknown<'_>, error: &Error) -> napi::Result<napi::Error> {
    // SAFETY: `napi_create_error` made `unknown` just before, so it is an object
    let mut object: Object<'_> = unsafe { unknown.cast()? };
    let brand = Symbol::for_desc(BRAND).into_js_symbol(env)?;
    object.set_property(brand, brand)?;
    object.set("retryable", error.retryable())?;
    set(&mut object, "hint", error.hint())?;
    match error {
        Error::RepositoryNotFound { path }
        | Error::NotARepository { path }
        | Error::RepositoryExists { path }
        | Error::NotEmpty { path }
        | Error::NotADirectory { path }
        | Error::FileExists { path, .. }
        | Error::KillListCorrupt { path, .. }
        | Error::KeyFileCorrupt { path, .. } => object.set("path", path.as_str())?,
        Error::Permission { source }
        | Error::NoSpace { source }
        | Error::FilesystemUnsupported { source }
        | Error::Unreadable { source }
        | Error::ObjectStorage { source, .. }
        | Error::Storage { source } => {
            set(
                &mut object,
                "path",
                Some(source.path.as_str()).filter(|path| !path.is_empty()),
            )?;
            set(
                &mut object,
                "causeMessage",
                source.source.as_ref().map(ToString::to_string),
            )?;
        }
        Error::RepositoryLocked { holders, .. } => object.set("holders", holders.clone())?,
        Error::ManifestCorrupt { snapshot, .. } => object.set("snapshotId", snapshot.to_hex())?,
        Error::SnapshotNotFound { id } | Error::SnapshotAmbiguous { id } => object.set("snapshotId", id.as_str())?,
        Error::ItemNotFound { snapshot, item } => {
            object.set("snapshotId", snapshot.to_hex())?;
            object.set("item", item.as_str())?;
        }
        Error::NotTar { snapshot, item, .. } | Error::MemberNotFound { snapshot, item, .. } => {
            object.set("snapshotId", snapshot.to_hex())?;
            object.set("item", item.as_str())?;
        }
        Error::SourceFailed { item, .. } => object.set("item", item.as_str())?,
        Error::PackCorrupt { pack, .. } => object.set("pack", pack.to_hex())?,
        Error::PackMissing { pack, chunk } => {
            object.set("pack", pack.to_hex())?;
            set(&mut object, "chunk", chunk.map(|chunk| chunk.to_hex()))?;
        }
        Error::ChunkCorrupt { pack, chunk, .. } => {
            object.set("pack", pack.to_hex())?;
            object.set("chunk", chunk.to_hex())?;
        }
        Error::ChunkMissing { chunk } => object.set("chunk", chunk.to_hex())?,
        _ => {}
    }
    Ok(napi::Error::from(object.to_unknown()))
}

/// Sets the property if there is a value; without one it is absent, not `null`.
fn set<T: ToNapiValue>(object: &mut Object<'_>, name: &str, value: Option<T>) -> napi::Result<()> {
    value.map_or(Ok(()), |value| object.set(name, value))
}

//! Whether a `config.json` that cannot be used is a damaged one of a repository, or that of another
//! program: many programs have a file of that name.
//!
//! It is foreign only when neither its text nor anything else in the folder is of a repository of
//! this software. What cannot be read counts as a sign of one, because damage is the finding that
//! leads to no new repository at the path.

use super::config::{CHUNKER_PLAIN, Config, FEATURE_COMMIT, FEATURE_COMMIT_BEFORE, MAX_CONFIG_LEN};
use super::{Environment, readme};
use crate::error::Error;
use crate::storage::{Entry, ErrorKind, Storage};
use crate::{checked_json, layout};

/// The error of a `config.json` that is damaged as `damage` states, with these `bytes` (`None` when
/// it is too long to be read): the same error, or `NotARepository`.
pub(super) fn damaged_or_foreign(env: &Environment, bytes: Option<&[u8]>, damage: Error) -> Error {
    match is_foreign(env, bytes) {
        true => Error::NotARepository { path: env.path.clone() },
        false => damage,
    }
}

/// True when the existing `config.json` is that of another program.
pub(super) fn has_foreign_config(env: &Environment) -> bool {
    match env.storage.get(layout::CONFIG, MAX_CONFIG_LEN) {
        Ok(bytes) => Config::decode(&bytes).is_err() && is_foreign(env, Some(&bytes)),
        Err(error) => error.kind == ErrorKind::TooLarge && is_foreign(env, None),
    }
}

fn is_foreign(env: &Environment, config: Option<&[u8]>) -> bool {
    let storage = env.storage.as_ref();
    !config.is_some_and(is_our_text) && !readme::is_ours(storage) && !has_our_files(storage)
}

/// True when a damaged text was a config of this software, also of a later version.
fn is_our_text(config: &[u8]) -> bool {
    let names = |word: &str| config.windows(word.len()).any(|window| window == word.as_bytes());
    checked_json::verify(config).is_some()
        || [FEATURE_COMMIT, FEATURE_COMMIT_BEFORE, CHUNKER_PLAIN]
            .into_iter()
            .any(names)
}

/// True when there is a file that only a repository has, by its path and name.
fn has_our_files(storage: &dyn Storage) -> bool {
    let exists = |key: &str| match storage.size(key) {
        Ok(len) => len.is_some(),
        Err(error) => error.kind != ErrorKind::NotADirectory,
    };
    let contains = |folder: &str, suffixes: &[&str]| {
        let is_ours = |file: &Entry| suffixes.iter().any(|suffix| is_our_name(&file.key, suffix));
        match storage.list(folder) {
            Ok(files) => files.iter().any(is_ours),
            Err(error) => error.kind != ErrorKind::NotADirectory,
        }
    };
    exists(layout::COMMIT_LOCK)
        || exists(layout::MAINT_LOCK)
        || contains(layout::SNAPSHOTS, &[".json"])
        || contains(layout::KEYS, &[".json"])
        || contains(layout::INDEX, &[".seg"])
        || contains(layout::PARITY, &[".grp", ".0.par"])
        || contains(layout::DATA, &[".pack", ".idx"])
}

/// True for an id of either length with this suffix.
fn is_our_name(key: &str, suffix: &str) -> bool {
    layout::id_of::<32>(key, suffix).is_some() || layout::id_of::<16>(key, suffix).is_some()
}

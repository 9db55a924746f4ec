//! Second copies of the files that are needed to open a repository, used when the first is missing
//! or damaged: of `config.json` in parity records and meta packs, of key files next to the parity.
//!
//! A copy counts only when its own checksum matches and it belongs to the repository that it was
//! found in; the MAC of a sealed config is checked by the caller that opens the repository. This
//! module writes nothing: `repair` restores the files.

use super::config::{Config, MAX_CONFIG_LEN};
use super::decode::{decode_stored, meta_of};
use super::foreign::damaged_or_foreign;
use super::keys::find_bundle;
use super::options::Secret;
use super::seal::{RepoSeal, Seals};
use super::{Environment, layout};
use crate::codec::Decoder;
use crate::crypto::Keys;
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId, RepoId};
use crate::monitor::Warning;
use crate::pack::format::HEADER_LEN;
use crate::pack::{KIND_CONFIG_COPY, PackHeader, PackIndex, read_index, read_index_from_pack};
use crate::parity;
use crate::storage::{self, ErrorKind, FailedRead, judge};
use std::collections::BTreeSet;

/// Reads `config.json`, or a copy of it when it is missing or damaged. Returns the exact bytes too.
pub(super) fn load_config(env: &Environment, secret: Option<&Secret>) -> Result<(Config, Vec<u8>)> {
    let failed = match env.storage.get(layout::CONFIG, MAX_CONFIG_LEN) {
        Ok(bytes) => match Config::decode(&bytes) {
            Ok(config) => return Ok((config, bytes)),
            Err(error @ Error::ConfigCorrupt { .. }) => damaged_or_foreign(env, Some(&bytes), error),
            Err(error) => return Err(error),
        },
        Err(error) => match error.kind {
            ErrorKind::NotFound => Error::RepositoryNotFound { path: env.path.clone() },
            ErrorKind::NotADirectory => Error::NotADirectory { path: env.path.clone() },
            ErrorKind::TooLarge => {
                let reason = "it is larger than 1 MiB".to_owned();
                damaged_or_foreign(env, None, Error::ConfigCorrupt { reason })
            }
            kind if kind.is_erasure() => error.into(),
            _ => return Err(error.into()),
        },
    };
    // without any copy, the error of config.json itself is the most specific; an error of the
    // secret takes precedence
    let Some(found) = config_in_copies(env, secret, None)? else {
        return Err(failed);
    };
    env.monitor.warning(Warning {
        code: "WARN_CONFIG_FROM_COPY",
        message: format!("A copy of config.json is used: {failed}"),
        pack: None,
    });
    Ok(found)
}

/// The first copy of a config, of any repository but `not`.
pub(super) fn config_in_copies(
    env: &Environment,
    secret: Option<&Secret>,
    not: Option<&RepoId>,
) -> Result<Option<(Config, Vec<u8>)>> {
    let mut unread = None;
    if let Some(found) = config_in_parity(env, not, &mut unread) {
        return Ok(Some(found));
    }
    match (config_in_packs(env, secret, not, &mut unread)?, unread) {
        (None, Some(unreadable)) => Err(unreadable.into()),
        (found, _) => Ok(found),
    }
}

/// The first read that failed: if no copy is found, one may exist all the same.
type Unread = Option<storage::Error>;

/// The value, if it was read; notes a read that failed.
fn noted<T, E: FailedRead>(result: std::result::Result<T, E>, unread: &mut Unread) -> Option<T> {
    match judge(result) {
        Ok(found) => found.ok(),
        Err(error) => {
            unread.get_or_insert(error);
            None
        }
    }
}

/// The copy in the record of any parity group.
fn config_in_parity(env: &Environment, not: Option<&RepoId>, unread: &mut Unread) -> Option<(Config, Vec<u8>)> {
    noted(listed_groups(env), unread)?.into_iter().find_map(|group| {
        let record = noted(parity::read_record(env.storage.as_ref(), &group), unread)?;
        let found = accept(record.config, &record.head.repo);
        found.filter(|(config, _)| Some(&config.id) != not)
    })
}

/// The repository that packs and parity groups name: `wanted` if any of them names it, otherwise
/// the first other one; `None` when there are no packs or groups. A file that cannot be read is
/// skipped.
pub(super) fn find_header(env: &Environment, wanted: &RepoId) -> Result<Option<RepoId>> {
    let storage = env.storage.as_ref();
    let mut other = None;
    for file in storage.list(layout::DATA)? {
        let mut bytes = [0; HEADER_LEN];
        if !file.key.ends_with(".pack") || storage.get_range(&file.key, 0, &mut bytes).is_err() {
            continue;
        }
        if let Ok(header) = PackHeader::decode(&bytes) {
            if header.repo == *wanted {
                return Ok(Some(header.repo));
            }
            other.get_or_insert(header.repo);
        }
    }
    for group in listed_groups(env)? {
        if let Ok(record) = parity::read_record(storage, &group) {
            if record.head.repo == *wanted {
                return Ok(Some(record.head.repo));
            }
            other.get_or_insert(record.head.repo);
        }
    }
    Ok(other)
}

/// The groups with at least one listed file.
fn listed_groups(env: &Environment) -> Result<BTreeSet<GroupId>> {
    let files = env.storage.list(layout::PARITY)?;
    let group_of = |key: &str| GroupId::from_hex(key.rsplit('/').next()?.split('.').next()?);
    Ok(files.iter().filter_map(|file| group_of(&file.key)).collect())
}

/// A config that is intact and of this repository.
fn accept(bytes: Vec<u8>, repo: &RepoId) -> Option<(Config, Vec<u8>)> {
    let config = Config::decode(&bytes).ok()?;
    (config.id == *repo).then_some((config, bytes))
}

/// The copy in any meta pack; for repositories without parity. A sealed pack is read with the keys
/// that the secret opens.
fn config_in_packs(
    env: &Environment,
    secret: Option<&Secret>,
    not: Option<&RepoId>,
    unread: &mut Unread,
) -> Result<Option<(Config, Vec<u8>)>> {
    let Some(files) = noted(env.storage.list(layout::DATA), unread) else {
        return Ok(None);
    };
    let mut seals: Option<RepoSeal> = None;
    for file in files {
        let Some(pack) = layout::id_of(&file.key, ".pack").map(PackId) else {
            continue;
        };
        let mut bytes = [0; HEADER_LEN];
        if noted(env.storage.get_range(&file.key, 0, &mut bytes), unread).is_none() {
            continue;
        }
        let Ok(header) = PackHeader::decode(&bytes) else {
            continue;
        };
        if !header.meta || Some(&header.repo) == not {
            continue;
        }
        let seal = match &mut seals {
            Some(seal) => seal,
            None => seals.insert(seal_of(env, &header, secret)?),
        };
        if let Some(found) = config_in_pack(env, seal, &header.repo, &pack, unread) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn seal_of(env: &Environment, header: &PackHeader, secret: Option<&Secret>) -> Result<RepoSeal> {
    let seals = match (header.sealed, secret) {
        (false, _) => Seals::Plain,
        (true, None) => return Err(Error::PassphraseRequired),
        (true, Some(secret)) => Seals::Sealed(Box::new(Keys::from_bundle(
            &find_bundle(env, &header.repo, secret)?.bundle,
        ))),
    };
    Ok(RepoSeal::new(header.repo, seals))
}

fn config_in_pack(
    env: &Environment,
    seal: &RepoSeal,
    repo: &RepoId,
    pack: &PackId,
    unread: &mut Unread,
) -> Option<(Config, Vec<u8>)> {
    let storage = env.storage.as_ref();
    let index: PackIndex = match noted(read_index(storage, repo, seal, pack), unread) {
        Some(index) => index,
        None => noted(read_index_from_pack(storage, repo, seal, pack), unread)?,
    };
    let copies = index.entries.iter().filter(|entry| entry.kind == KIND_CONFIG_COPY);
    copies.into_iter().find_map(|entry| {
        let mut stored = vec![0; entry.payload_len as usize];
        noted(
            storage.get_range(&layout::pack(pack), u64::from(entry.offset), &mut stored),
            unread,
        )?;
        let mut out = Vec::new();
        let decoded = decode_stored(seal, &meta_of(entry), &mut stored, &mut Decoder::default(), &mut out);
        // no evidence of damage, as with a failed read
        let decoded = decoded.map_err(|_| storage::Error::no_memory(layout::pack(pack)));
        noted(decoded, unread)?.ok()?;
        accept(out, repo)
    })
}

//! Creating and opening a repository, with and without a passphrase.
//!
//! `config.json` is written last and completes the repository: after an interrupted init, another
//! init accepts the folder. `open` reads the config, unwraps a key file, checks the config's MAC,
//! and loads the footers of the index segments; it lists no packs, unless a segment or the config
//! is broken.

use super::bugs::SeededBugs;
use super::config::{Config, PACK_SIZES, ParityParams, check_mac, config_read};
use super::copies::{config_in_copies, find_header, load_config};
use super::errors::of_derivation;
use super::foreign::has_foreign_config;
use super::keys::{Unlocked, find_bundle};
use super::options::{InitOptions, OpenOptions, Secret};
use super::root_folder::{Generations, RootFolder};
use super::seal::{RepoSeal, Seals};
use super::wait::in_slices;
use super::{Base, Environment, mirror, readme};
use crate::clock::format_time;
use crate::crypto::{self, KdfParams, KeyBundle, KeyFile, Keys, NewKey, Pin};
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::{KeyId, RepoId};
use crate::index::{BrokenSegment, EpochKey, GlobalIndex, SegmentContext, SegmentSeal};
use crate::layout;
use crate::lock::lock_files;
use crate::monitor::Warning;
use crate::storage::{Ask, Created, ErrorKind, LockMode, Storage, prefetch, put_bytes};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Default target length of a pack in bytes.
const DEFAULT_PACK_SIZE: u64 = 8 << 20;
/// The same on object storage, where each pack costs two requests.
const REMOTE_PACK_SIZE: u64 = 32 << 20;

/// Creates a repository and opens it.
///
/// # Errors
/// `RepositoryExists`, `NotEmpty`, `NotADirectory`, `Permission`, `LocksUnsupported`,
/// `RepositoryLocked` (another init is running), `InvalidArgument`, `Storage`, `NoSpace`,
/// `Cancelled` (by the monitor of `env`; nothing is created then). Existing files are never
/// changed.
pub fn init(env: Environment, secret: Option<&Secret>, options: &InitOptions) -> Result<Opened> {
    let storage = env.storage.as_ref();
    let (pack_size, parity) = check_init(options, storage.is_remote())?;
    let exists = |env: &Environment| Error::RepositoryExists { path: env.path.clone() };
    match storage.size(layout::CONFIG) {
        Ok(Some(_)) if has_foreign_config(&env) => return Err(Error::NotEmpty { path: env.path.clone() }),
        Ok(Some(_)) => return Err(exists(&env)),
        Ok(None) => {}
        Err(error) if error.kind == ErrorKind::NotADirectory => {
            return Err(Error::NotADirectory { path: env.path.clone() });
        }
        Err(error) => return Err(error.into()),
    }
    let config = Config {
        id: RepoId(random(env.entropy.as_ref())?),
        created_at: format_time(env.clock.now_ms()),
        chunking: options.chunking,
        compression: options.compression,
        encrypted: secret.is_some(),
        parity,
        pack_size,
    };
    // slow, so it comes before anything is created and locked
    let created = secret.map(|secret| make_keys(&env, &config, secret, &options.kdf));
    let (unlocked, key_file) = created.transpose()?.unzip();
    if !env.monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    // left over from an interrupted init; a name that ends with a slash allows every file directly
    // in that folder
    let (keys, copies) = (format!("{}/", layout::KEYS), format!("{}/", layout::KEY_COPIES));
    let allowed = [layout::README, layout::COMMIT_LOCK, layout::MAINT_LOCK, &keys, &copies];
    readme::check_free(&env)?;
    let is_empty = storage.create_folders(&layout::FOLDERS, &allowed);
    if !is_empty.map_err(|error| error.at_root(&env.path))? {
        return Err(Error::NotEmpty { path: env.path.clone() });
    }
    for name in lock_files(storage) {
        put_bytes(storage, name, &[])?;
    }
    storage.probe_locks(layout::MAINT_LOCK)?;
    // two inits at once: the second waits here, and then finds the config of the first
    let take = |wait| Ok(storage.lock(layout::MAINT_LOCK, LockMode::Exclusive, wait)?);
    let mut guard = take(Duration::ZERO)?;
    if guard.is_none() {
        guard = in_slices(options.open.lock_wait, take, &|| env.check_wanted())?;
    }
    let _guard = guard.ok_or_else(|| Error::RepositoryLocked {
        lock: layout::MAINT_LOCK.to_owned(),
        holders: Vec::new(),
    })?;
    if storage.size(layout::CONFIG)?.is_some() {
        return Err(exists(&env));
    }
    readme::put(&env)?;
    let own_keys: Vec<String> = unlocked.iter().flat_map(|unlocked| key_files(&unlocked.id)).collect();
    // on object storage the lock excludes no other machine: these files may be those of an init
    // that finishes now
    if !storage.is_remote() {
        delete_keys(storage, &[])?;
    }

    if let (Some(unlocked), Some(file)) = (&unlocked, &key_file) {
        for key in key_files(&unlocked.id) {
            put_bytes(storage, &key, file)?;
        }
    }
    let keys = unlocked.as_ref().map(|unlocked| Keys::from_bundle(&unlocked.bundle));
    let config_bytes = config.encode(keys.as_ref().map(|keys| &keys.current().1.config_mac))?;
    storage.barrier()?;
    if put_bytes(storage, layout::CONFIG, &config_bytes)? == Created::Exists {
        if storage.is_remote() {
            own_keys.iter().try_for_each(|key| storage.delete(key))?;
        }
        return Err(exists(&env));
    }
    if storage.is_remote() {
        // of inits that have lost against this one, or were interrupted
        delete_keys(storage, &own_keys)?;
    }
    storage.barrier()?;
    let folder = RootFolder::identify(&env)?;
    let parts = load_index(&env, config, config_bytes, unlocked, &options.open)?;
    let opened = assemble(env, folder, parts, &options.open);
    opened.base.config_durable.store(true, Ordering::Release);
    // left over from an earlier init that was interrupted
    opened.base.clean_half_written();
    Ok(opened)
}

/// The copy of a key file first, so that every key file has a copy.
fn key_files(id: &KeyId) -> [String; 2] {
    [layout::key_copy(id), layout::key(id)]
}

/// Deletes all key files and copies of key files but these.
fn delete_keys(storage: &dyn Storage, kept: &[String]) -> Result<()> {
    for folder in [layout::KEYS, layout::KEY_COPIES] {
        for entry in storage.list(folder)?.iter().filter(|entry| !kept.contains(&entry.key)) {
            storage.delete(&entry.key)?;
        }
    }
    Ok(())
}

/// Checks the options of a new repository; returns its pack size and parity.
fn check_init(options: &InitOptions, is_remote: bool) -> Result<(u64, Option<ParityParams>)> {
    let invalid = |reason: String| Error::InvalidArgument { reason };
    options
        .chunking
        .validate()
        .map_err(|reason| invalid(format!("chunking: {reason}")))?;
    options
        .kdf
        .check_create()
        .map_err(|reason| invalid(format!("kdf: {reason}")))?;
    if let Some(Some(shape)) = options.parity {
        shape
            .validate()
            .map_err(|reason| invalid(format!("parity: {reason}")))?;
    }
    if is_remote && options.parity.flatten().is_some() {
        return Err(invalid(
            "parity: not for object storage, which protects what it keeps by itself; omit the option".to_owned(),
        ));
    }
    let default_parity = (!is_remote).then(ParityParams::default);
    let default_pack_size = match is_remote {
        true => REMOTE_PACK_SIZE,
        false => DEFAULT_PACK_SIZE,
    };
    let pack_size = options.pack_size.unwrap_or(default_pack_size);
    if !PACK_SIZES.contains(&pack_size) {
        return Err(invalid(format!(
            "packSize: {pack_size} is not between {} and {} bytes",
            PACK_SIZES.start(),
            PACK_SIZES.end()
        )));
    }
    Ok((pack_size, options.parity.unwrap_or(default_parity)))
}

/// Generates the keys of a new repository and creates its first key file.
fn make_keys(env: &Environment, config: &Config, secret: &Secret, kdf: &KdfParams) -> Result<(Unlocked, Vec<u8>)> {
    let entropy = env.entropy.as_ref();
    let cannot = |error: crypto::Error| {
        of_derivation(error).unwrap_or_else(|| Error::Internal {
            reason: format!("the keys could not be created: {error}"),
        })
    };
    let wanted = || env.check_wanted().is_ok();
    let bundle = KeyBundle::generate(entropy, config.id, pin_of(config)).map_err(cannot)?;
    let id = KeyId(random(entropy)?);
    let new = NewKey {
        id,
        created_at: &config.created_at,
        label: None,
    };
    let file = KeyFile::wrap(&bundle, &secret.credential(), kdf, &new, entropy, &wanted).map_err(cannot)?;
    Ok((Unlocked { id, bundle }, file))
}

fn pin_of(config: &Config) -> Pin {
    Pin::new(config.chunking.min, config.chunking.avg, config.chunking.max)
}

/// Opens a repository.
///
/// # Errors
/// `RepositoryNotFound`, `NotARepository`, `NotADirectory`, `ConfigCorrupt`, `UnsupportedFormat`,
/// `PassphraseRequired`, `WrongPassphrase`, `NotEncrypted`, `KeyFileCorrupt`, `InvalidArgument` (a
/// secret and `keyless`), `RepositoryChanged` (it is not `options.repository_id`), `Permission`,
/// `Storage`, `Cancelled` (by the monitor of `env`); `RepositoryLocked` with `promote`, while a
/// mirroring writes into the folder. A failed open changes nothing on disk.
pub fn open(env: Environment, secret: Option<&Secret>, options: &OpenOptions) -> Result<Opened> {
    let invalid = |reason: &str| {
        let reason = reason.to_owned();
        Err(Error::InvalidArgument { reason })
    };
    if options.keyless && secret.is_some() {
        return invalid("keyless: cannot be combined with a passphrase or key");
    }
    if options.promote && (options.read_only || options.keyless) {
        return invalid("promote: cannot be combined with a handle that does not write");
    }
    // before anything is read: the data may then be of a folder that replaced this one, but never
    // the other way round
    let folder = RootFolder::identify(&env)?;
    let storage = Arc::clone(&env.storage);
    let _ahead = prefetch(storage.as_ref(), first_reads);
    let (config, bytes) = load_config(&env, secret)?;
    let id = config.id;
    let parts = match open_with(&env, config, bytes, secret, options) {
        Ok(parts) if !parts.is_foreign() => parts,
        Err(error) if !may_be_foreign(&error) => return Err(error),
        // a stray file of another repository is no evidence against a config that the packs agree
        // with
        first if find_header(&env, &id)?.is_none_or(|found| found == id) => first?,
        first => match open_with_copy(&env, &id, secret, options) {
            Some(parts) => parts,
            None => first?,
        },
    };
    if options.repository_id.is_some_and(|wanted| wanted != parts.config.id) {
        return Err(Error::RepositoryChanged {
            path: env.path.clone(),
            expected: options.repository_id.unwrap_or(id),
            found: Some(parts.config.id),
        });
    }
    env.check_wanted()?;
    if options.promote {
        mirror::promote(&env)?;
    }
    Ok(assemble(env, folder, parts, options))
}

/// The reads of an open that need no answer of another one. The key files are listed after their
/// copies, see [`key_names`](super::keys::key_names).
fn first_reads() -> [Ask; 4] {
    [
        config_read(),
        Ask::List(layout::KEY_COPIES.to_owned()),
        Ask::List(layout::INDEX.to_owned()),
        Ask::Size(layout::MIRROR.to_owned()),
    ]
}

/// An open repository, and its index as it was found.
pub struct Opened {
    /// Everything except the index.
    pub base: Base,
    /// The live segments.
    pub index: GlobalIndex,
    /// Segments that cannot be used.
    pub broken: Vec<BrokenSegment>,
}

/// The parts of a repository that an open reads.
struct Parts {
    config: Config,
    config_bytes: Vec<u8>,
    unlocked: Option<Unlocked>,
    seals: Seals,
    index: GlobalIndex,
    broken: Vec<BrokenSegment>,
}

impl Parts {
    /// True when the whole index belongs to another repository: then it may be the config that
    /// does.
    fn is_foreign(&self) -> bool {
        self.index.live_segments().is_empty() && !self.index.foreign_segments().is_empty()
    }
}

/// True for an error that an intact config of another repository can cause.
fn may_be_foreign(error: &Error) -> bool {
    matches!(
        error,
        Error::NotEncrypted | Error::PassphraseRequired | Error::KeyFileCorrupt { .. } | Error::ConfigCorrupt { .. }
    )
}

/// Opens with a copy of the config that is of another repository than `id`, if everything else
/// matches that copy.
fn open_with_copy(env: &Environment, id: &RepoId, secret: Option<&Secret>, options: &OpenOptions) -> Option<Parts> {
    let (config, bytes) = config_in_copies(env, secret, Some(id)).ok()??;
    let opened = open_with(env, config, bytes, secret, options).ok()?;
    if opened.is_foreign() {
        return None;
    }
    env.monitor.warning(Warning {
        code: "WARN_CONFIG_FROM_COPY",
        message: "A copy of config.json is used: the file belongs to another repository".to_owned(),
        pack: None,
    });
    Some(opened)
}

fn open_with(
    env: &Environment,
    config: Config,
    config_bytes: Vec<u8>,
    secret: Option<&Secret>,
    options: &OpenOptions,
) -> Result<Parts> {
    let unlocked = match (config.encrypted, secret) {
        (false, None) => None,
        (false, Some(_)) => return Err(Error::NotEncrypted),
        (true, None) if options.keyless => return Ok(without_keys(env, config, config_bytes)),
        (true, None) => return Err(Error::PassphraseRequired),
        (true, Some(secret)) => Some(unlock(env, &config, &config_bytes, secret)?),
    };
    load_index(env, config, config_bytes, unlocked, options)
}

fn load_index(
    env: &Environment,
    config: Config,
    config_bytes: Vec<u8>,
    unlocked: Option<Unlocked>,
    options: &OpenOptions,
) -> Result<Parts> {
    let keys = unlocked.as_ref().map(|unlocked| Keys::from_bundle(&unlocked.bundle));
    let context = segment_context(&config, keys.as_ref());
    let cache = usize::try_from(options.memory_limit / 8)
        .unwrap_or(usize::MAX)
        .clamp(1 << 20, 32 << 20);
    let (index, broken) = GlobalIndex::load(Arc::clone(&env.storage), context, cache)?;
    Ok(Parts {
        config,
        config_bytes,
        unlocked,
        seals: keys.map_or(Seals::Plain, |keys| Seals::Sealed(Box::new(keys))),
        index,
        broken,
    })
}

/// For an encrypted repository without its keys: the index is not read, because none of its pages
/// can be opened.
fn without_keys(env: &Environment, config: Config, config_bytes: Vec<u8>) -> Parts {
    let context = segment_context(&config, None);
    Parts {
        config,
        config_bytes,
        unlocked: None,
        seals: Seals::Keyless,
        index: GlobalIndex::unread(Arc::clone(&env.storage), context, 0),
        broken: Vec::new(),
    }
}

/// Finds the key file that the secret opens, and checks the config against the keys in it.
fn unlock(env: &Environment, config: &Config, config_bytes: &[u8], secret: &Secret) -> Result<Unlocked> {
    let unlocked = find_bundle(env, &config.id, secret)?;
    let keys = Keys::from_bundle(&unlocked.bundle);
    // written once, at init, and so under the first epoch
    let first = keys.oldest_first().next();
    if !first.is_some_and(|(_, epoch)| check_mac(config_bytes, &epoch.config_mac)) {
        return Err(Error::ConfigCorrupt {
            reason: "its MAC does not match the key".to_owned(),
        });
    }
    if unlocked.bundle.pin != pin_of(config) {
        return Err(Error::ConfigCorrupt {
            reason: "it contradicts the key file".to_owned(),
        });
    }
    Ok(unlocked)
}

fn assemble(env: Environment, folder: RootFolder, parts: Parts, options: &OpenOptions) -> Opened {
    let write_refused = write_refused(&env, &parts.seals, options);
    let (current_key, bundle) = parts.unlocked.map(|unlocked| (unlocked.id, unlocked.bundle)).unzip();
    let base = Base {
        seal: Arc::new(RepoSeal::new(parts.config.id, parts.seals)),
        env,
        config: parts.config,
        config_bytes: parts.config_bytes,
        bundle,
        current_key: Mutex::new(current_key),
        lock_wait: options.lock_wait,
        write_refused: Mutex::new(write_refused),
        config_durable: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        folder: Mutex::new(folder),
        generation: Generations::default(),
        bugs: SeededBugs::default(),
    };
    Opened {
        base,
        index: parts.index,
        broken: parts.broken,
    }
}

/// The reason why a handle with these options must not write, if there is one.
fn write_refused(env: &Environment, seals: &Seals, options: &OpenOptions) -> Option<Error> {
    if matches!(seals, Seals::Keyless) {
        return Some(Error::PassphraseRequired);
    }
    if options.read_only {
        return Some(Error::ReadOnly);
    }
    // reading needs no lock; a later write reports why it is refused
    check_folder_writable(env).err()
}

/// `Err` when the folder must not be written to, or when that could not be determined.
pub(super) fn check_folder_writable(env: &Environment) -> Result<()> {
    mirror::refuse_mirror(env)?;
    env.storage.check_folders(&layout::FOLDERS)?;
    Ok(env.storage.probe_locks(layout::MAINT_LOCK)?)
}

fn segment_context(config: &Config, keys: Option<&Keys>) -> Arc<SegmentContext> {
    Arc::new(SegmentContext {
        repo: config.id,
        seal: segment_seal(keys),
    })
}

/// The seal of index segments with these keys.
fn segment_seal(keys: Option<&Keys>) -> SegmentSeal {
    let Some(keys) = keys else {
        return SegmentSeal::Plain;
    };
    let epochs = keys
        .oldest_first()
        .map(|(epoch, keys)| EpochKey {
            epoch,
            key: keys.index_segment.duplicate(),
        })
        .collect();
    SegmentSeal::Sealed {
        epochs,
        hedge: keys.current().1.hedge.duplicate(),
    }
}

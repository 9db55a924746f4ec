//! An open repository with its chunks: stored by a [`Session`], read by [`read`], also through
//! parity (`degraded.rs`), located by the index, which repairs itself (`index.rs`), and protected
//! by parity groups (`protect.rs`, `dissolve.rs`).
//!
//! A repository without its chunks (folder, settings, keys, locks) is its [`Base`]. The order of
//! steps in an operation belongs to `ops`. This room is independent of the verbs.

mod degraded;
pub mod dissolve;
mod index;
mod memory;
mod pack_sink;
mod per_folder;
mod protect;
pub mod read;
pub mod rescue;
mod reserve;
mod sequence;
mod session;
mod suspect;
mod written;

pub use crate::base::{
    ConditionalPut, Config, DEFAULT_MEMORY_LIMIT, Environment, Generation, InitOptions, KeyInfo, KeyNames, MAX_KEYS,
    OpenOptions, ParityParams, Secret, SeededBug, key_names,
};
#[cfg(feature = "remote")]
pub use crate::base::{RemoteOptions, is_url};
pub use index::{REBUILD_RUN, find_any_index, read_any_index};
pub use memory::OperationGuard;
pub use protect::{packs_without_parity, protect_packs, protect_spared};
pub use session::Session;

use crate::base::{self, Base, Opened, Seals};
use crate::buffer::BufferPool;
use crate::chunk::{Cutter, Gear};
use crate::error::{Error, Result};
use crate::index::GlobalIndex;
use per_folder::PerFolder;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// An open repository. Shared by all operations of a handle; dropped when the last of them ends.
///
/// It dereferences to its [`Base`]. State that was read from the folder is dropped when
/// [`Base::check_folder`] finds another folder with the same repository (`per_folder.rs`).
pub struct Repository {
    base: Base,
    global_index: GlobalIndex,
    /// The folder that `global_index` was read from.
    index_folder: Mutex<Generation>,
    cutter: Cutter,
    pool: Arc<BufferPool>,
    memory: memory::Memory,
    verify_writes: bool,
    /// Whether a read may heal the packs that it finds damaged.
    heal: bool,
    /// A part of the index was lost or damaged and has been rebuilt.
    index_rebuilt: AtomicBool,
    /// Locations found by a handle that may not publish them.
    overlay: PerFolder<index::Overlay>,
    /// State from the reads of damaged packs.
    degraded: PerFolder<degraded::Degraded>,
    /// Held while a suspect pack is read again.
    recheck: Mutex<()>,
    /// The known sequences of the snapshots.
    sequences: PerFolder<sequence::Sequences>,
}

impl Deref for Repository {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

/// Creates a repository and opens it.
///
/// # Errors
/// See [`base::init`].
pub fn init(env: Environment, secret: Option<&Secret>, options: &InitOptions) -> Result<Repository> {
    let repo = Repository::assemble(base::init(env, secret, options)?, &options.open)?;
    repo.keep_reserve();
    Ok(repo)
}

/// Opens a repository.
///
/// # Errors
/// See [`base::open`].
pub fn open(env: Environment, secret: Option<&Secret>, options: &OpenOptions) -> Result<Repository> {
    let repo = Repository::assemble(base::open(env, secret, options)?, options)?;
    repo.copy_uncopied_keys();
    Ok(repo)
}

impl Repository {
    fn assemble(opened: Opened, options: &OpenOptions) -> Result<Self> {
        let Opened { base, index, broken } = opened;
        let config = base.config();
        let gear = match base.seal().seals() {
            Seals::Sealed(keys) => Gear::keyed(&keys.chunker),
            Seals::Plain | Seals::Keyless => Gear::default_table(),
        };
        let cutter = Cutter::new(config.chunking, Arc::new(gear)).map_err(|reason| Error::ConfigCorrupt {
            reason: reason.to_string(),
        })?;
        let pool = BufferPool::new(usize::try_from(options.memory_limit / 2).unwrap_or(usize::MAX));
        let repo = Self {
            memory: memory::Memory::new(options.memory_limit, config.chunking.max),
            index_folder: Mutex::new(base.generation()),
            base,
            global_index: index,
            cutter,
            pool: Arc::new(pool),
            verify_writes: options.verify_writes,
            heal: options.heal,
            index_rebuilt: AtomicBool::new(false),
            overlay: PerFolder::default(),
            degraded: PerFolder::default(),
            recheck: Mutex::default(),
            sequences: PerFolder::default(),
        };
        if !broken.is_empty() {
            index::index_unnamed_packs(&repo, &broken)?;
        }
        Ok(repo)
    }

    /// Cuts streams with the settings of this repository.
    pub fn cutter(&self) -> &Cutter {
        &self.cutter
    }

    /// Large buffers of this handle.
    pub fn pool(&self) -> &Arc<BufferPool> {
        &self.pool
    }

    /// True when each new chunk is proven before it is stored.
    pub fn verify_writes(&self) -> bool {
        self.verify_writes
    }

    /// True when reads may heal the packs that they find damaged.
    pub fn may_heal(&self) -> bool {
        self.heal
    }

    /// True when this handle has rebuilt a lost or damaged part of the index since the last call.
    pub fn take_index_rebuilt(&self) -> bool {
        self.index_rebuilt.swap(false, Ordering::Relaxed)
    }
}

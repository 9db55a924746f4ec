//! A file of the source as a stream, proven before its last bytes are passed on: a put of a wrong
//! file fails, and leaves nothing.

use super::Run;
use crate::error::Error;
use crate::storage::Verdict;
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// Bytes that are read at a time.
const PIECE_LEN: u64 = 1 << 20;

/// The reason why a file was not copied.
pub(super) enum Failed {
    /// The source has deleted it.
    Vanished,
    /// The source has other bytes under this name.
    Wrong(String),
    /// A read failed, or the operation is to stop.
    Ended(Error),
}

/// A file that is read in pieces.
pub(super) struct Pieces<'a> {
    run: &'a Run<'a>,
    key: &'a str,
    len: u64,
    at: u64,
    piece: Vec<u8>,
    /// Bytes of `piece` that were passed on.
    passed: usize,
    /// The state, and the hash that the file must have.
    proof: Option<(Sha256, [u8; 32])>,
    /// Set when a read has failed.
    pub failed: Option<Failed>,
}

impl<'a> Pieces<'a> {
    /// The file `key` of `len` bytes; `sha256` is its hash, where its name contains that.
    pub fn new(run: &'a Run<'a>, key: &'a str, len: u64, sha256: Option<[u8; 32]>) -> Self {
        Self {
            run,
            key,
            len,
            at: 0,
            piece: Vec::new(),
            passed: 0,
            proof: sha256.map(|hash| (Sha256::new(), hash)),
            failed: None,
        }
    }

    fn next_piece(&mut self) -> Result<(), Failed> {
        self.run.check_running().map_err(Failed::Ended)?;
        let len = (self.len - self.at).min(PIECE_LEN) as usize;
        self.piece.resize(len, 0);
        self.passed = 0;
        let read = self.run.repo.storage().get_range(self.key, self.at, &mut self.piece);
        read.map_err(|error| match error.kind.verdict() {
            Verdict::Missing => Failed::Vanished,
            Verdict::Wrong => Failed::Wrong(error.to_string()),
            // the device cannot read a part of it: parity may
            Verdict::Unreadable if error.kind.is_erasure() => Failed::Wrong(error.to_string()),
            Verdict::Unreadable => Failed::Ended(error.into()),
        })?;
        self.at += len as u64;
        if let Some((hash, wanted)) = &mut self.proof {
            hash.update(&self.piece);
            if self.at == self.len && hash.clone().finalize().as_slice() != wanted {
                return Err(Failed::Wrong("its hash does not match its id".to_owned()));
            }
        }
        Ok(())
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.passed == self.piece.len() {
            if self.at == self.len {
                return Ok(0);
            }
            if let Err(failed) = self.next_piece() {
                self.failed = Some(failed);
                return Err(io::Error::other("the source failed"));
            }
        }
        let rest = self.piece.get(self.passed..).unwrap_or_default();
        let len = rest.len().min(out.len());
        out.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.passed += len;
        Ok(len)
    }
}

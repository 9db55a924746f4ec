//! `README.txt`: explains the folder to a person who finds it.
//!
//! Init writes it before `config.json`. Nothing reads it later: a file that is missing or edited is
//! neither an error nor a note, and no repair restores it. The text is the same in every
//! repository, so that an init can distinguish the file of an interrupted init from a file of the
//! user, which it neither accepts nor overwrites.

use super::Environment;
use crate::error::{Error, Result};
use crate::layout;
use crate::storage::{Created, ErrorKind, FailedRead, Storage, judge, put_bytes};

/// The whole file: ASCII, lines of at most 80 characters that end with LF.
const TEXT: &str = "\
This folder is a backup repository: format version 1 of containerarchive, the
npm package @serve.zone/containerarchive.

Do not edit, rename, move or delete anything in this folder. The names of the
files are part of the format, and a single changed byte counts as damage. To
list, restore or verify what is in it, use the package.

Where the package does not run: its page docs/format.md, which is also in its
source, describes every file, so that a program to restore from this folder can
be written in any language.

If \"encryption\" in config.json is not null, the passphrase or the key of the
repository is needed as well. It is not in this folder.

No program needs this file.
";

/// The begin of this text in every version of the format.
const BEGIN: &str = "This folder is a backup repository: format version ";
/// Largest file that may be one, in bytes.
const MAX_LEN: u64 = 16 << 10;

/// Checks that `README.txt` is missing, or left over from an interrupted init.
///
/// # Errors
/// `NotEmpty` when it is anything else, also a folder or a link. `Permission`, `Storage`.
pub(super) fn check_free(env: &Environment) -> Result<()> {
    if is_free(env.storage.as_ref())? {
        return Ok(());
    }
    Err(Error::NotEmpty { path: env.path.clone() })
}

/// True when the folder has a `README.txt` of a repository of this software, of any version of the
/// format, or one that cannot be read.
pub(super) fn is_ours(storage: &dyn Storage) -> bool {
    match storage.get(layout::README, MAX_LEN) {
        Ok(bytes) => bytes.starts_with(BEGIN.as_bytes()),
        Err(error) => error.unreadable().is_some(),
    }
}

fn is_free(storage: &dyn Storage) -> Result<bool> {
    let len = TEXT.len() as u64;
    // the length first: a foreign file need not be readable, and a socket cannot be opened
    match judge(storage.size(layout::README))? {
        Ok(None) => return Ok(true),
        Ok(Some(found)) if found == len => {}
        Ok(Some(_)) | Err(_) => return Ok(false),
    }
    match judge(storage.get(layout::README, len))? {
        Ok(bytes) => Ok(bytes == TEXT.as_bytes()),
        Err(error) => Ok(error.kind == ErrorKind::NotFound),
    }
}

/// Puts `README.txt`, unless an interrupted init has.
///
/// # Errors
/// `NotEmpty` when another file of that name was created in the meantime, `Storage`, `NoSpace`.
pub(super) fn put(env: &Environment) -> Result<()> {
    match put_bytes(env.storage.as_ref(), layout::README, TEXT.as_bytes())? {
        Created::Created => Ok(()),
        Created::Exists => check_free(env),
    }
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, MAX_LEN, TEXT};

    #[test]
    fn readme_is_ascii_in_short_lines_and_names_the_package() {
        assert!(TEXT.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
        assert!(TEXT.ends_with("\n") && TEXT.lines().all(|line| line.len() <= 80 && line.trim_end() == line));
        let package = include_str!("../../package.json");
        let package: serde_json::Value = serde_json::from_str(package).unwrap();
        assert!(TEXT.contains(package["name"].as_str().unwrap()));
        assert!(TEXT.starts_with(BEGIN) && TEXT.len() as u64 <= MAX_LEN);
        assert!(TEXT.contains("docs/format.md") && TEXT.contains("format version 1"));
    }
}

//! Keys: list, add, change, remove. Secrets come in as bytes and are wiped; facts about keys go out
//! as JSON.

use super::archive::NativeRepository;
use super::monitor::OperationMonitor;
use super::stop::NativeStop;
use super::types::{self, to_json};
use crate::error::{Error, Result};
use crate::id::KeyId;
use crate::ops::{self, KeyOptions};
use crate::repo::{KeyInfo, Secret};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, PromiseRaw};
use napi_derive::napi;
use serde::{Deserialize, Serialize};

#[napi]
impl NativeRepository {
    /// Returns all keys, the oldest first, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn list_keys<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle().spawn(env, "ca-keys", move |repo| {
            let keys = ops::list_keys(repo)?;
            to_json(&keys.iter().map(KeyJson::from).collect::<Vec<_>>())
        })
    }

    /// Adds a key; resolves to it as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn add_key<'env>(
        &self,
        env: &'env Env,
        options: String,
        passphrase: Option<&[u8]>,
        raw_key: Option<&[u8]>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let secret = new_secret(passphrase, raw_key);
        let monitor = OperationMonitor::new(None, stop)?;
        self.handle().spawn(env, "ca-keys", move |repo| {
            let (options, _) = key_options(&options)?;
            to_json(&KeyJson::from(&ops::add_key(repo, &secret?, &options, &monitor)?))
        })
    }

    /// Replaces a key with a new one; resolves to the new one as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn change_key<'env>(
        &self,
        env: &'env Env,
        options: String,
        passphrase: Option<&[u8]>,
        raw_key: Option<&[u8]>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let secret = new_secret(passphrase, raw_key);
        let monitor = OperationMonitor::new(None, stop)?;
        self.handle().spawn(env, "ca-keys", move |repo| {
            let (options, replaced) = key_options(&options)?;
            let changed = ops::change_key(repo, replaced.as_ref(), &secret?, &options, &monitor)?;
            to_json(&KeyJson::from(&changed))
        })
    }

    /// Removes a key.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn remove_key<'env>(&self, env: &'env Env, id: String) -> napi::Result<PromiseRaw<'env, ()>> {
        self.handle()
            .spawn(env, "ca-keys", move |repo| ops::remove_key(repo, &key_id(id)?))
    }
}

fn new_secret(passphrase: Option<&[u8]>, raw_key: Option<&[u8]>) -> Result<Secret> {
    types::secret(passphrase, raw_key)?.ok_or_else(|| Error::InvalidArgument {
        reason: "A passphrase or a key is required".to_owned(),
    })
}

/// Parses a key id. Text that has not the form of an id is the id of no key.
fn key_id(id: String) -> Result<KeyId> {
    KeyId::from_hex(&id).ok_or(Error::KeyNotFound { id })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsJson {
    kdf: Option<types::KdfJson>,
    label: Option<String>,
    id: Option<String>,
}

/// Parses the options of a new key, and the id of the key that it replaces if one is given.
fn key_options(json: &str) -> Result<(KeyOptions, Option<KeyId>)> {
    let json: OptionsJson = types::parse(json)?;
    let options = KeyOptions {
        kdf: json.kdf.unwrap_or_default().into(),
        label: json.label,
    };
    Ok((options, json.id.map(key_id).transpose()?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyJson<'a> {
    id: String,
    r#type: &'static str,
    created_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    kdf: Option<KdfInfoJson>,
    current: bool,
}

#[derive(Serialize)]
struct KdfInfoJson {
    memory: u32,
    time: u32,
    lanes: u32,
}

impl<'a> From<&'a KeyInfo> for KeyJson<'a> {
    fn from(key: &'a KeyInfo) -> Self {
        Self {
            id: key.id.to_hex(),
            r#type: key.kind.as_str(),
            created_at: &key.created_at,
            label: key.label.as_deref(),
            kdf: key.kdf.map(|kdf| KdfInfoJson {
                memory: kdf.memory_kib,
                time: kdf.time,
                lanes: kdf.lanes,
            }),
            current: key.current,
        }
    }
}

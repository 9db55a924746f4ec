//! Puts, reads and deletes of objects.

use super::super::key::{check_key, folder_of};
use super::super::{ConditionalPut, Created, Entry, Error, ErrorKind, RemoteFault, Result};
use super::{Bucket, runtime};
use futures_util::{StreamExt, TryStreamExt};
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, WriteMultipart,
};
use std::io::Read;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Longest object that is put by one request, in bytes.
const LONGEST_SINGLE: u64 = 16 << 20;
/// Length of a part. Services take at most 10,000 parts, of at least 5 MiB each.
const PART: u64 = 8 << 20;
const MAX_PARTS: u64 = 9_000;
/// Parts of one object that are sent concurrently.
const PARTS_IN_FLIGHT: usize = 2;
/// Folders whose names are used once, or always with the same bytes, so that an object of two
/// writers is the same: their long files may be sent in parts, which no condition protects.
const UNCONTENDED: [&str; 2] = ["packs/", "index/"];
/// Conditional puts that conflict are repeated this often.
const CONFLICTS: usize = 20;
/// Conditional puts without an answer are repeated this often, after pauses that double. Requests
/// that were not sent, or were refused, are repeated by `object_store` already.
const UNANSWERED: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
/// A read that fails within this time was answered, and the answer was cut off.
const SOON: Duration = Duration::from_secs(5);

/// See [`Storage::put_new`](super::Storage::put_new).
pub(super) fn put_new(
    bucket: &Bucket,
    how: ConditionalPut,
    key: &str,
    len: u64,
    reader: &mut dyn Read,
) -> Result<Created> {
    let in_parts = len > LONGEST_SINGLE && UNCONTENDED.iter().any(|folder| key.starts_with(folder));
    // without a condition, or in parts, looking first is all that can be done
    if (in_parts || how != ConditionalPut::Honoured) && size(bucket, key)?.is_some() {
        return Ok(Created::Exists);
    }
    if in_parts {
        put_parts(bucket, key, len, reader)?;
        return Ok(Created::Created);
    }
    let payload = PutPayload::from(read_whole(key, len, reader)?);
    match how {
        ConditionalPut::Honoured => put_single(bucket, key, &payload),
        ConditionalPut::Ignored | ConditionalPut::Refused => {
            put_over(bucket, "put", key, payload)?;
            Ok(Created::Created)
        }
    }
}

/// Puts `bytes` under a key that may be taken.
pub(super) fn overwrite(bucket: &Bucket, key: &str, bytes: &[u8]) -> Result<()> {
    put_over(bucket, "replace", key, PutPayload::from(bytes.to_vec()))
}

fn put_over(bucket: &Bucket, op: &'static str, key: &str, payload: PutPayload) -> Result<()> {
    let put = runtime::block_on(bucket.store.put(&bucket.path(key), payload))?;
    put.map(|_| ()).map_err(|error| bucket.error(op, key, error))
}

/// A put that gets no answer may have been carried out, or may be later: it is repeated with the
/// same bytes, which settles it.
fn put_single(bucket: &Bucket, key: &str, payload: &PutPayload) -> Result<Created> {
    use object_store::Error as Store;
    let path = bucket.path(key);
    let (mut conflict, mut unanswered) = (None, 0);
    for _ in 0..CONFLICTS {
        let put = bucket.store.put_opts(&path, payload.clone(), PutMode::Create.into());
        match runtime::block_on(put)? {
            Ok(_) => return Ok(Created::Created),
            Err(error @ (Store::AlreadyExists { .. } | Store::Precondition { .. })) => {
                match get(bucket, key, payload.content_length() as u64) {
                    Ok(found) if is_equal(&found, payload) => return Ok(Created::Created),
                    Ok(_) => return Ok(Created::Exists),
                    Err(error) if error.kind == ErrorKind::TooLarge => return Ok(Created::Exists),
                    // another put is under way, and may fail
                    Err(missing) if missing.kind == ErrorKind::NotFound => conflict = Some(error),
                    Err(error) => return Err(error),
                }
            }
            Err(error) => {
                let error = bucket.error("put", key, error);
                let passing = matches!(
                    error.kind,
                    ErrorKind::Remote(RemoteFault::Unreachable | RemoteFault::Busy)
                );
                if !passing || unanswered == UNANSWERED {
                    return Err(error);
                }
                runtime::block_on(async { tokio::time::sleep(PAUSE * 2_u32.pow(unanswered)).await })?;
                unanswered += 1;
            }
        }
    }
    let conflict = conflict.map(|error| bucket.error("put", key, error));
    Err(conflict.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "put", key)))
}

fn is_equal(found: &[u8], payload: &PutPayload) -> bool {
    let mut rest = found;
    payload.iter().all(|part| {
        let same = rest.starts_with(part);
        rest = rest.get(part.len()..).unwrap_or_default();
        same
    }) && rest.is_empty()
}

/// Sends an object in parts. A failure leaves nothing under `key`.
fn put_parts(bucket: &Bucket, key: &str, len: u64, reader: &mut dyn Read) -> Result<()> {
    let of_store = |error| bucket.error("put", key, error);
    let upload = runtime::block_on(bucket.store.put_multipart(&bucket.path(key)))?.map_err(of_store)?;
    let part = PART.max(len.div_ceil(MAX_PARTS));
    let mut upload = WriteMultipart::new_with_chunk_size(upload, usize::try_from(part).unwrap_or(usize::MAX));
    match send_parts(bucket, key, (len, part), reader, &mut upload) {
        Ok(()) => match runtime::block_on(upload.finish())? {
            Ok(_) => Ok(()),
            // its answer may be what was lost
            Err(_) if size(bucket, key)? == Some(len) => Ok(()),
            Err(error) => Err(match of_store(error) {
                error if error.kind == ErrorKind::NotFound => Error::new(ErrorKind::Unavailable, "put", key),
                error => error,
            }),
        },
        Err(error) => {
            // a part that stays is removed by the lifecycle rule of the bucket
            let _ = runtime::block_on(upload.abort());
            Err(error)
        }
    }
}

fn send_parts(
    bucket: &Bucket,
    key: &str,
    (len, part): (u64, u64),
    reader: &mut dyn Read,
    upload: &mut WriteMultipart,
) -> Result<()> {
    // parts are sent by tasks
    let handle = runtime::handle()?;
    let mut sent = 0;
    while sent < len {
        let bytes = read_up_to(key, part.min(len - sent), reader)?;
        if bytes.is_empty() {
            break;
        }
        sent += bytes.len() as u64;
        // waits until fewer than that are in flight
        runtime::block_on(upload.wait_for_capacity(PARTS_IN_FLIGHT))?
            .map_err(|error| bucket.error("put", key, error))?;
        let _inside = handle.enter();
        upload.put(bytes.into());
    }
    check_length(key, len, sent, reader)
}

/// Reads `len` bytes, or fewer where the reader ends.
fn read_up_to(key: &str, len: u64, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    usize::try_from(len)
        .ok()
        .and_then(|len| bytes.try_reserve_exact(len).ok())
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, "put", key))?;
    reader
        .take(len)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::of_source("put", key, error))?;
    Ok(bytes)
}

/// Reads a reader that must have exactly `len` bytes.
pub(super) fn read_whole(key: &str, len: u64, reader: &mut dyn Read) -> Result<Vec<u8>> {
    let bytes = read_up_to(key, len, reader)?;
    check_length(key, len, bytes.len() as u64, reader)?;
    Ok(bytes)
}

/// `Source` unless the reader had exactly the stated length and has ended.
fn check_length(key: &str, stated: u64, got: u64, reader: &mut dyn Read) -> Result<()> {
    let mut more = [0];
    let ended = got == stated
        && reader
            .read(&mut more)
            .map_err(|error| Error::of_source("put", key, error))?
            == 0;
    match ended {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Source, "put", key)),
    }
}

/// What the service knows of an object; `None` where there is none.
pub(super) fn head(bucket: &Bucket, key: &str) -> Result<Option<ObjectMeta>> {
    runtime::block_on(find(bucket, key))?
}

/// The request of [`head`].
pub(super) async fn find(bucket: &Bucket, key: &str) -> Result<Option<ObjectMeta>> {
    // there is no answer that tells a missing bucket: that is found by the first read
    unless_missing(bucket, "size", key, bucket.store.head(&bucket.path(key)).await)
}

/// An object of a listing.
pub(super) struct Listed {
    pub entry: Entry,
    /// When it was put, in microseconds since 1970 by the clock of the service.
    pub put_at: i64,
    /// Its ETag: another one after each put of the key.
    pub version: Option<String>,
}

/// See [`Storage::list`](super::Storage::list).
pub(super) async fn list(bucket: &Bucket, prefix: &str) -> Result<Vec<Listed>> {
    unless_cut_off(|| list_once(bucket, prefix)).await
}

async fn list_once(bucket: &Bucket, prefix: &str) -> Result<Vec<Listed>> {
    let listed = bucket.store.list_with_delimiter(Some(&bucket.path(prefix))).await;
    let listed = listed.map_err(|error| bucket.error("list", prefix, error))?;
    let inside = |key: &str| folder_of(key) == prefix && check_key("list", key).is_ok();
    let mut found: Vec<Listed> = listed
        .objects
        .into_iter()
        .filter_map(|meta| {
            let entry = Entry {
                key: bucket.key(&meta.location).filter(|key| inside(key))?,
                len: meta.size,
            };
            let put_at = meta.last_modified.timestamp_micros();
            Some(Listed {
                entry,
                put_at,
                version: meta.e_tag,
            })
        })
        .collect();
    found.sort_by(|a, b| a.entry.key.cmp(&b.entry.key));
    Ok(found)
}

/// `None` where the answer is that there is no such object.
fn unless_missing<T>(
    bucket: &Bucket,
    op: &'static str,
    key: &str,
    answer: object_store::Result<T>,
) -> Result<Option<T>> {
    match answer.map_err(|error| bucket.error(op, key, error)) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// See [`Storage::size`](super::Storage::size).
pub(super) fn size(bucket: &Bucket, key: &str) -> Result<Option<u64>> {
    Ok(head(bucket, key)?.map(|meta| meta.size))
}

/// See [`Storage::get`](super::Storage::get).
pub(super) fn get(bucket: &Bucket, key: &str, max_len: u64) -> Result<Vec<u8>> {
    runtime::block_on(fetch(bucket, key, max_len))?
}

/// The request of [`get`].
pub(super) async fn fetch(bucket: &Bucket, key: &str, max_len: u64) -> Result<Vec<u8>> {
    let fetched = unless_cut_off(|| fetch_once(bucket, key, max_len, &|_| true)).await;
    // every length is wanted
    fetched.map(Option::unwrap_or_default)
}

/// The same, unless the file is not wanted when its length is known: `None`. Not repeated.
pub(super) async fn fetch_if(
    bucket: &Bucket,
    key: &str,
    max_len: u64,
    wanted: &(dyn Fn(u64) -> bool + Sync),
) -> Option<Result<Vec<u8>>> {
    fetch_once(bucket, key, max_len, wanted).await.transpose()
}

/// Repeats a read whose answer was cut off. Requests that get no answer are repeated by
/// `object_store`, for so long that once more is of no use.
async fn unless_cut_off<T, F: Future<Output = Result<T>>>(request: impl Fn() -> F) -> Result<T> {
    let began = Instant::now();
    match request().await {
        Err(error)
            if matches!(
                error.kind,
                ErrorKind::Unavailable | ErrorKind::Remote(RemoteFault::Unreachable)
            ) && began.elapsed() < SOON =>
        {
            request().await
        }
        other => other,
    }
}

async fn fetch_once(
    bucket: &Bucket,
    key: &str,
    max_len: u64,
    wanted: &(dyn Fn(u64) -> bool + Sync),
) -> Result<Option<Vec<u8>>> {
    let of_store = |error| bucket.error("get", key, error);
    let found = bucket.store.get(&bucket.path(key)).await.map_err(of_store)?;
    if found.meta.size > max_len {
        return Err(Error::new(ErrorKind::TooLarge, "get", key));
    }
    let len = found.meta.size;
    if !wanted(len) {
        return Ok(None);
    }
    let bytes = found.bytes().await.map_err(of_store)?;
    match bytes.len() as u64 == len {
        true => Ok(Some(bytes.into())),
        // the answer was cut off, which says nothing about the object
        false => Err(Error::new(ErrorKind::Unavailable, "get", key)),
    }
}

/// See [`Storage::get_range`](super::Storage::get_range).
pub(super) fn get_range(bucket: &Bucket, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
    let ends_early = || Error::new(ErrorKind::UnexpectedEnd, "get", key);
    let end = offset.checked_add(out.len() as u64).ok_or_else(ends_early)?;
    if out.is_empty() {
        return match size(bucket, key)? {
            Some(_) => Ok(()),
            None => Err(Error::new(ErrorKind::NotFound, "get", key)),
        };
    }
    match read_range(bucket, key, offset..end, out) {
        Ok(()) => Ok(()),
        // services answer with different errors when a range begins after the end
        Err(error) if error.kind != ErrorKind::NotFound => match size(bucket, key)? {
            Some(size) if size < end => Err(ends_early()),
            Some(_) if error.kind == ErrorKind::UnexpectedEnd => Err(Error::new(ErrorKind::Unavailable, "get", key)),
            Some(_) => Err(error),
            None => Err(Error::new(ErrorKind::NotFound, "get", key)),
        },
        Err(error) => Err(error),
    }
}

fn read_range(bucket: &Bucket, key: &str, range: Range<u64>, out: &mut [u8]) -> Result<()> {
    let path = bucket.path(key);
    let options = GetOptions {
        range: Some(GetRange::Bounded(range)),
        ..GetOptions::default()
    };
    runtime::block_on(async {
        let of_store = |error| bucket.error("get", key, error);
        let cut_off = || Error::new(ErrorKind::Unavailable, "get", key);
        let found = bucket.store.get_opts(&path, options).await.map_err(of_store)?;
        let mut filled = 0;
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await.map_err(of_store)? {
            let target = out.get_mut(filled..filled + piece.len()).ok_or_else(cut_off)?;
            target.copy_from_slice(&piece);
            filled += piece.len();
        }
        match filled == out.len() {
            true => Ok(()),
            false => Err(cut_off()),
        }
    })?
}

/// See [`Storage::delete`](super::Storage::delete).
pub(super) fn delete(bucket: &Bucket, key: &str) -> Result<()> {
    let deleted = runtime::block_on(bucket.store.delete(&bucket.path(key)))?;
    unless_missing(bucket, "delete", key, deleted).map(|_| ())
}

/// See [`Storage::delete_all`](super::Storage::delete_all).
pub(super) fn delete_all(bucket: &Bucket, keys: &[String]) -> Result<()> {
    let paths: Vec<_> = keys.iter().map(|key| Ok(bucket.path(key))).collect();
    runtime::block_on(async {
        let mut deleted = bucket.store.delete_stream(futures_util::stream::iter(paths).boxed());
        let mut failed = Ok(());
        while let Some(answer) = deleted.next().await {
            // all of them are tried, and an answer does not always name its object
            let folder = keys.first().map_or("", |key| folder_of(key));
            failed = failed.and(unless_missing(bucket, "delete", folder, answer).map(|_| ()));
        }
        failed
    })?
}

/// Whether every object below the root has an expected key. Ends at the first that has not.
pub(super) fn every_key(bucket: &Bucket, expected: impl Fn(&str) -> bool) -> Result<bool> {
    runtime::block_on(async {
        let mut objects = bucket.store.list(Some(&bucket.path("")));
        while let Some(meta) = objects
            .try_next()
            .await
            .map_err(|error| bucket.error("list", "", error))?
        {
            if bucket.key(&meta.location).is_some_and(|key| !expected(&key)) {
                return Ok(false);
            }
        }
        Ok(true)
    })?
}

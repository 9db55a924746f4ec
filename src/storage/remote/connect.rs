//! From a URL and options to a connected bucket.

use super::super::{Error, ErrorKind, RemoteFault};
use super::patient::PatientConnector;
use super::{kept, runtime};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Why a bucket cannot be used.
#[derive(Debug)]
pub enum ConnectError {
    /// The URL or an option is not valid.
    Invalid(String),
    /// A call failed.
    Storage(Error),
}

type Result<T> = std::result::Result<T, ConnectError>;

/// How a bucket is reached. What is absent is taken from the environment and from the identity of
/// the machine, by the rules of each service.
#[derive(Deserialize, Default, Clone)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RemoteOptions {
    /// URL of the service, for all but the large clouds.
    pub endpoint: Option<String>,
    /// Profile of the AWS command line, for S3.
    pub profile: Option<String>,
    /// Region of an S3 bucket.
    pub region: Option<String>,
    /// Access key of S3, or account of Azure.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<String>,
    /// Token of temporary credentials of S3.
    pub session_token: Option<String>,
    /// Path of a service account file of GCS.
    pub service_account_file: Option<String>,
    /// Whether an S3 bucket is part of the path (default) or of the host name.
    pub path_style: Option<bool>,
    /// Path of a file of PEM certificates that are trusted in addition to those of the system.
    pub ca_file: Option<String>,
    /// Whether an endpoint without TLS is accepted.
    pub allow_http: Option<bool>,
    /// Longest time in which nothing of a request moves, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Longest duration of a connection attempt, in milliseconds.
    pub connect_timeout_ms: Option<u64>,
    /// How often a request is repeated that failed for a passing reason.
    pub retries: Option<usize>,
    /// Where objects are kept between processes; `false` for nowhere, absent for the usual folder.
    pub cache_dir: Option<CacheDir>,
}

/// The folder of objects that are kept.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub enum CacheDir {
    /// `false`: none.
    Off(bool),
    /// Its path.
    Path(String),
}

impl RemoteOptions {
    /// The texts that no message may contain.
    pub(super) fn secrets(&self) -> Vec<String> {
        let given = [&self.secret_access_key, &self.session_token];
        let given = given.into_iter().flatten().cloned();
        let environment = [
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_KEY",
        ];
        let inherited = environment.iter().filter_map(|name| std::env::var(name).ok());
        given.chain(inherited).filter(|secret| secret.len() >= 4).collect()
    }
}

/// Whether `location` is a URL, and no path.
pub fn is_url(location: &str) -> bool {
    location.split_once("://").is_some_and(|(scheme, _)| {
        let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        // one letter is a drive of Windows
        scheme.len() > 1 && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(letters)
    })
}

/// A connected bucket.
pub(super) struct Connected {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) root: Path,
    pub(super) name: String,
    /// Where objects are kept between processes.
    pub(super) kept: Option<PathBuf>,
}

fn invalid(reason: String) -> ConnectError {
    ConnectError::Invalid(reason)
}

/// Prepares access; makes no request.
pub(super) fn connect(url: &str, options: &RemoteOptions) -> Result<Connected> {
    // the first user of the process decides; a library that chose another one is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (scheme, bucket, prefix) = parts_of(url)?;
    let endpoint = effective_endpoint(scheme, options);
    if endpoint.contains('@') {
        return Err(invalid("storage.endpoint must not contain credentials".to_owned()));
    }
    if endpoint.starts_with("http:") && !allows_http(options) {
        return Err(invalid(
            "storage.endpoint has no TLS: use https://, or set storage.allowHttp".to_owned(),
        ));
    }
    let (client, connector) = client(url, &endpoint, options)?;
    let retry = retry(options);
    // clients are made where their timers run
    let _inside = runtime::handle().map_err(ConnectError::Storage)?.enter();
    let store: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
        "s3" => s3(bucket, options)
            .with_client_options(client)
            .with_http_connector(connector)
            .with_retry(retry)
            .build()
            .map(|s| Arc::new(s) as _),
        "gs" => gcs(bucket, options)
            .with_client_options(client)
            .with_http_connector(connector)
            .with_retry(retry)
            .build()
            .map(|s| Arc::new(s) as _),
        "az" => azure(bucket, options)
            .with_client_options(client)
            .with_http_connector(connector)
            .with_retry(retry)
            .build()
            .map(|s| Arc::new(s) as _),
        _ => {
            return Err(invalid(format!(
                "{scheme}:// is not supported: use s3://, gs:// or az://"
            )));
        }
    };
    let store = store.map_err(|error| {
        invalid(super::error::redacted(
            format!("{url} cannot be used: {error}"),
            &options.secrets(),
        ))
    })?;
    let endpoint = endpoint.trim_end_matches('/').to_ascii_lowercase();
    let endpoint = endpoint.as_str();
    Ok(Connected {
        store,
        root: Path::from(prefix),
        name: match endpoint {
            "" => format!("{scheme}://{bucket}/{prefix}"),
            _ => format!("{scheme}://{bucket}/{prefix} at {endpoint}"),
        },
        kept: cache_folder(options)?,
    })
}

/// The folder of objects that are kept. One that is given must be usable.
fn cache_folder(options: &RemoteOptions) -> Result<Option<PathBuf>> {
    match &options.cache_dir {
        None | Some(CacheDir::Off(true)) => {
            let usual = kept::usual_folder();
            Ok(usual.filter(|path| !path.exists() || kept::is_private(path)))
        }
        Some(CacheDir::Off(false)) => Ok(None),
        Some(CacheDir::Path(path)) => {
            let cannot = |error| invalid(format!("storage.cacheDir cannot be created: {path}: {error}"));
            // the working directory may change
            let absolute = std::path::absolute(path).map_err(cannot)?;
            kept::create_folder(&absolute).map_err(cannot)?;
            match kept::is_private(&absolute) {
                true => Ok(Some(absolute)),
                false => Err(invalid(format!(
                    "storage.cacheDir may be written to by other users, who could put wrong objects there: {path}"
                ))),
            }
        }
    }
}

/// Splits `scheme://bucket/prefix`.
fn parts_of(url: &str) -> Result<(&str, &str, &str)> {
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| invalid(format!("{url} is not a URL")))?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    if bucket.is_empty() || bucket.contains(['?', '#', '@', ':']) {
        return Err(invalid(format!(
            "The URL must be {scheme}://bucket/prefix, without credentials, port or query"
        )));
    }
    let plain = |part: &str| {
        let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(sign)
    };
    if !prefix.is_empty() && !prefix.split('/').all(plain) {
        return Err(invalid(
            "The prefix may consist of letters, digits and - _ . = + between single slashes, and no part may begin \
             with a dot"
                .to_owned(),
        ));
    }
    Ok((scheme, bucket, prefix))
}

fn s3(bucket: &str, options: &RemoteOptions) -> AmazonS3Builder {
    // not all services that speak the protocol have the call that deletes many objects, or answer
    // it alike
    let mut builder = s3_of_environment(options.access_key_id.is_none())
        .with_disable_bulk_delete(true)
        .with_bucket_name(bucket);
    if let Some(endpoint) = &options.endpoint {
        // the payload is protected by TLS; without it, the signature covers it too
        builder = builder
            .with_unsigned_payload(endpoint.starts_with("https:"))
            // that of the environment would win otherwise
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint.trim_end_matches('/'))
            .with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(id) = &options.access_key_id {
        builder = builder.with_access_key_id(id);
    }
    if let Some(secret) = &options.secret_access_key {
        builder = builder.with_secret_access_key(secret);
    }
    if let Some(token) = &options.session_token {
        builder = builder.with_token(token);
    }
    if let Some(path_style) = options.path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    }
    builder
}

/// As `AmazonS3Builder::from_env`; a session token belongs to the keys that are there.
fn s3_of_environment(with_token: bool) -> AmazonS3Builder {
    let all =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    all.fold(AmazonS3Builder::new(), |builder, (name, value)| {
        match name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            Ok(AmazonS3ConfigKey::Token) if !with_token => builder,
            Ok(key) if name.starts_with("AWS_") => builder.with_config(key, value),
            Ok(_) | Err(_) => builder,
        }
    })
}

fn gcs(bucket: &str, options: &RemoteOptions) -> GoogleCloudStorageBuilder {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_base_url(endpoint.trim_end_matches('/'));
    }
    if let Some(path) = &options.service_account_file {
        builder = builder.with_service_account_path(path);
    }
    builder
}

fn azure(container: &str, options: &RemoteOptions) -> MicrosoftAzureBuilder {
    let mut builder = MicrosoftAzureBuilder::from_env().with_container_name(container);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    if let Some(account) = &options.access_key_id {
        builder = builder.with_account(account);
    }
    if let Some(key) = &options.secret_access_key {
        builder = builder.with_access_key(key);
    }
    builder
}

/// The client of all requests, and its options as the stores want to know them.
fn client(url: &str, endpoint: &str, options: &RemoteOptions) -> Result<(ClientOptions, PatientConnector)> {
    let patience = patience(options);
    let connect_timeout = Duration::from_millis(options.connect_timeout_ms.unwrap_or(5_000));
    let mut known = ClientOptions::new()
        .with_timeout(patience)
        .with_connect_timeout(connect_timeout)
        .with_allow_http(allows_http(options));
    let mut trusted = Vec::new();
    if let Some(path) = &options.ca_file {
        let pem = read_certificates(path)?;
        let none = || invalid(format!("{path} contains no PEM certificates"));
        trusted = reqwest::Certificate::from_pem_bundle(&pem).map_err(|_| none())?;
        if trusted.is_empty() {
            return Err(none());
        }
        // for the services that give credentials
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|_| none())? {
            known = known.with_root_certificate(certificate);
        }
    }
    let build = |of_system: bool| {
        let client = reqwest::Client::builder()
            .user_agent(concat!("containerarchive/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connect_timeout)
            .https_only(!allows_http(options))
            // many requests side by side are faster on connections of their own
            .http1_only();
        match of_system {
            true => client.tls_certs_merge(trusted.clone()),
            false => client.tls_certs_only(trusted.clone()),
        }
        .build()
    };
    let client = match build(true) {
        // a system without certificates, as small containers are: none is needed without TLS
        Err(_) if endpoint.starts_with("http:") => build(false),
        built => built,
    };
    let client = client.map_err(|error| {
        let why = super::error::chain_of(&error);
        let text = format!("{why}: install the CA certificates of the system, or set storage.caFile");
        let kind = ErrorKind::Remote(RemoteFault::Certificate);
        ConnectError::Storage(Error {
            source: Some(Arc::new(std::io::Error::other(text))),
            ..Error::new(kind, "connect to", url)
        })
    })?;
    let connector = PatientConnector::new(client, patience, &known);
    Ok((known, connector))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this room does I/O; read once, when connecting"
)]
fn read_certificates(path: &str) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| invalid(format!("storage.caFile cannot be read: {path}: {error}")))
}

/// The URL of the service, as given or from the environment; empty for that of a cloud.
fn effective_endpoint(scheme: &str, options: &RemoteOptions) -> String {
    let names: &[&str] = match scheme {
        "s3" => &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"],
        _ => &[],
    };
    let inherited = || names.iter().find_map(|name| std::env::var(name).ok());
    options.endpoint.clone().or_else(inherited).unwrap_or_default()
}

/// As the crate does for its own options.
fn allows_http(options: &RemoteOptions) -> bool {
    let inherited = || std::env::var("AWS_ALLOW_HTTP").is_ok_and(|text| text == "true" || text == "1");
    options.allow_http.unwrap_or_else(inherited)
}

/// How long nothing of a request may move.
fn patience(options: &RemoteOptions) -> Duration {
    Duration::from_millis(options.timeout_ms.unwrap_or(60_000))
}

fn retry(options: &RemoteOptions) -> RetryConfig {
    RetryConfig {
        // with jitter; the services ask for this
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            base: 2.0,
        },
        max_retries: options.retries.unwrap_or(6),
        // long enough that the last answer of a long body may be lost once, see `patient.rs`
        retry_timeout: patience(options).saturating_mul(10).max(Duration::from_secs(120)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_service_bucket_and_prefix() {
        assert_eq!(parts_of("s3://b").unwrap(), ("s3", "b", ""));
        assert_eq!(parts_of("gs://b/a/c/").unwrap(), ("gs", "b", "a/c"));
        for bad in [
            "s3://",
            "s3:///x",
            "s3://b//x",
            "s3://b/../x",
            "s3://b/.x",
            "s3://u:p@b/x",
            "s3://b/x?y=1",
            "s3://b/ü",
        ] {
            assert!(parts_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_no_urls() {
        for path in ["/srv/a", "C://a", "a/b", "s3:/b", "./s3://b", "://", "1a://b"] {
            assert!(!is_url(path), "{path}");
        }
        for url in ["s3://b", "gs://b/x", "az://c", "ftp://h"] {
            assert!(is_url(url), "{url}");
        }
    }
}

//! What the answers of services mean.
//!
//! The crate `object_store` has few kinds of errors; what is wrong with a bucket, its region, the
//! credentials or the clock is in the code of the service's answer, in the text of a source.

use super::super::{Error, ErrorKind, RemoteFault};
use std::error::Error as StdError;
use std::fmt::Write;
use std::sync::Arc;

/// Codes of S3, GCS and Azure, and what they mean. A code is found as `<Code>…</Code>` (or, for
/// GCS, anywhere in the answer), the first one that matches counts.
const CODES: [(&str, ErrorKind); 24] = [
    ("NoSuchBucket", ErrorKind::Remote(RemoteFault::Bucket)),
    ("InvalidBucketName", ErrorKind::Remote(RemoteFault::Bucket)),
    ("ContainerNotFound", ErrorKind::Remote(RemoteFault::Bucket)),
    (
        "The specified bucket does not exist",
        ErrorKind::Remote(RemoteFault::Bucket),
    ),
    ("AuthorizationHeaderMalformed", ErrorKind::Remote(RemoteFault::Region)),
    ("PermanentRedirect", ErrorKind::Remote(RemoteFault::Region)),
    (
        "IllegalLocationConstraintException",
        ErrorKind::Remote(RemoteFault::Region),
    ),
    ("incorrectly configured region", ErrorKind::Remote(RemoteFault::Region)),
    ("RequestTimeTooSkewed", ErrorKind::Remote(RemoteFault::Clock)),
    ("RequestExpired", ErrorKind::Remote(RemoteFault::Clock)),
    ("InvalidAccessKeyId", ErrorKind::Remote(RemoteFault::Credentials)),
    ("SignatureDoesNotMatch", ErrorKind::Remote(RemoteFault::Credentials)),
    ("InvalidToken", ErrorKind::Remote(RemoteFault::Credentials)),
    ("ExpiredToken", ErrorKind::Remote(RemoteFault::Credentials)),
    ("AuthenticationFailed", ErrorKind::Remote(RemoteFault::Credentials)),
    ("AuthorizationFailure", ErrorKind::Remote(RemoteFault::Credentials)),
    ("AccessDenied", ErrorKind::PermissionDenied),
    ("AllAccessDisabled", ErrorKind::PermissionDenied),
    ("QuotaExceeded", ErrorKind::NoSpace),
    ("XMinioStorageFull", ErrorKind::NoSpace),
    ("SlowDown", ErrorKind::Remote(RemoteFault::Busy)),
    ("ServerBusy", ErrorKind::Remote(RemoteFault::Busy)),
    ("TooManyRequests", ErrorKind::Remote(RemoteFault::Busy)),
    ("NotImplemented", ErrorKind::FilesystemUnsupported),
];

/// Texts of the sources of an error that has no answer of the service.
const TEXTS: [(&str, ErrorKind); 10] = [
    ("invalid peer certificate", ErrorKind::Remote(RemoteFault::Certificate)),
    ("CertificateRequired", ErrorKind::Remote(RemoteFault::Certificate)),
    ("received corrupt message", ErrorKind::Remote(RemoteFault::Certificate)),
    ("status: 501", ErrorKind::FilesystemUnsupported),
    ("status code: 501", ErrorKind::FilesystemUnsupported),
    ("status code: 429", ErrorKind::Remote(RemoteFault::Busy)),
    ("status code: 5", ErrorKind::Remote(RemoteFault::Busy)),
    ("status code: 416", ErrorKind::UnexpectedEnd),
    ("InvalidRange", ErrorKind::UnexpectedEnd),
    // the machine has no identity to get credentials from
    ("169.254.169.254", ErrorKind::Remote(RemoteFault::Credentials)),
];

/// Makes the error of a failed request. Secrets are removed from its text.
pub(super) fn of_store(op: &'static str, key: &str, error: object_store::Error, secrets: &[String]) -> Error {
    let text = chain_of(&error);
    Error {
        kind: kind_of(&error, &text),
        op,
        path: key.to_owned(),
        source: Some(Arc::new(std::io::Error::other(short(&redacted(brief(text), secrets))))),
    }
}

fn kind_of(error: &object_store::Error, text: &str) -> ErrorKind {
    use object_store::Error as Store;
    let listed = |list: &[(&str, ErrorKind)]| {
        let found = list.iter().find(|(part, _)| text.contains(part));
        found.map(|(_, kind)| *kind)
    };
    let by_code = listed(&CODES);
    match error {
        // a missing bucket answers like a missing object
        Store::NotFound { .. } => match by_code {
            Some(ErrorKind::Remote(RemoteFault::Bucket)) => ErrorKind::Remote(RemoteFault::Bucket),
            // the page of a proxy, or of another server, says nothing about the object
            _ if is_page(text) => ErrorKind::Remote(RemoteFault::Unreachable),
            _ => ErrorKind::NotFound,
        },
        Store::PermissionDenied { .. } => by_code.unwrap_or(ErrorKind::PermissionDenied),
        Store::Unauthenticated { .. } => by_code.unwrap_or(ErrorKind::Remote(RemoteFault::Credentials)),
        Store::NotImplemented { .. } | Store::NotSupported { .. } => ErrorKind::FilesystemUnsupported,
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => ErrorKind::Io,
        _ => by_code
            .or_else(|| listed(&TEXTS))
            .unwrap_or(ErrorKind::Remote(RemoteFault::Unreachable)),
    }
}

fn is_page(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains("<html") || lower.contains("<!doctype html")
}

/// The text of an error with those of its sources, each once.
pub(super) fn chain_of(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            let _ = write!(text, ": {more}");
        }
        source = inner.source();
    }
    text
}

/// The answer of a service in XML, replaced by its code and message.
fn brief(text: String) -> String {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>"))
            .map(|(value, _)| value.to_owned())
    };
    match (text.find("<?xml").or_else(|| text.find("<Error")), element("Code")) {
        (Some(at), Some(code)) => {
            let message = element("Message").unwrap_or_default();
            format!("{}{code}: {message}", &text[..at])
        }
        _ => text,
    }
}

/// Removes secrets, and the queries of URLs, which may contain a signature.
pub(super) fn redacted(mut text: String, secrets: &[String]) -> String {
    for secret in secrets {
        text = text.replace(secret.as_str(), "…");
    }
    let mut out = String::with_capacity(text.len());
    let mut in_query = false;
    for c in text.chars() {
        in_query = match in_query {
            true => !(c.is_whitespace() || matches!(c, '"' | ')' | '>')),
            false => {
                c == '?'
                    && out
                        .rsplit(char::is_whitespace)
                        .next()
                        .is_some_and(|word| word.contains("://"))
            }
        };
        if !in_query {
            out.push(c);
        }
    }
    out
}

/// One line of at most 600 characters.
fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(600) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: text.into(),
        }
    }

    #[test]
    fn the_code_of_the_answer_decides() {
        for (text, kind) in [
            (
                "<Code>RequestTimeTooSkewed</Code>",
                ErrorKind::Remote(RemoteFault::Clock),
            ),
            ("status code: 503: SlowDown", ErrorKind::Remote(RemoteFault::Busy)),
            ("status code: 500: ", ErrorKind::Remote(RemoteFault::Busy)),
            ("connection refused", ErrorKind::Remote(RemoteFault::Unreachable)),
            (
                "invalid peer certificate: UnknownIssuer",
                ErrorKind::Remote(RemoteFault::Certificate),
            ),
            ("status code: 416", ErrorKind::UnexpectedEnd),
        ] {
            assert_eq!(of_store("get", "k", generic(text), &[]).kind, kind, "{text}");
        }
        let missing = |text: &str| object_store::Error::NotFound {
            path: "k".to_owned(),
            source: text.into(),
        };
        let kind = |text| of_store("get", "k", missing(text), &[]).kind;
        assert_eq!(kind("<Code>NoSuchKey</Code>"), ErrorKind::NotFound);
        assert_eq!(
            kind("<!DOCTYPE html><title>404</title>"),
            ErrorKind::Remote(RemoteFault::Unreachable)
        );
        assert_eq!(
            kind("<Code>NoSuchBucket</Code>"),
            ErrorKind::Remote(RemoteFault::Bucket)
        );
    }

    #[test]
    fn secrets_and_queries_are_in_no_message() {
        let error = generic("sending to (https://a.example/b?sig=abc&se=1) as KEY9: refused");
        let text = of_store("get", "k", error, &["KEY9".to_owned()]).to_string();
        assert!(
            text.contains("https://a.example/b)") && text.contains("refused"),
            "{text}"
        );
        assert!(!text.contains("abc") && !text.contains("KEY9"), "{text}");
    }
}

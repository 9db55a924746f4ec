//! HTTP requests that end when nothing moves, however long they take.
//!
//! A limit for whole requests would end every upload over a slow link: six parts of 8 MiB that
//! share 5 Mbit/s take 80 seconds. So the patience is for the time without progress: until the
//! next bytes of a body are sent or received, or the answer begins.

use crate::sync::lock;
use hyper::body::{Body, Frame, SizeHint};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, Error};
use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, timeout_at};

/// Bytes that are sent at once: short, so that progress shows.
const PIECE: usize = 64 << 10;
/// Bytes of a body that the system may still have to send when all were passed to it. For each MiB
/// of them, the answer may take as long as the patience once more.
const MOST_BUFFERED: u64 = 2 << 20;

type Data = <HttpRequestBody as Body>::Data;

/// Makes the clients of a bucket.
#[derive(Debug)]
pub(super) struct PatientConnector {
    client: reqwest::Client,
    patience: Duration,
    /// Of the options that the client was made for.
    made_for: [Option<String>; 2],
}

impl PatientConnector {
    /// `options` are those that the store gets, and `client` is made of the same settings.
    pub(super) fn new(client: reqwest::Client, patience: Duration, options: &ClientOptions) -> Self {
        Self {
            client,
            patience,
            made_for: settings(options),
        }
    }
}

/// The settings that the store changes for the services that give a machine its identity.
fn settings(options: &ClientOptions) -> [Option<String>; 2] {
    [ClientConfigKey::ConnectTimeout, ClientConfigKey::AllowHttp].map(|key| options.get_config_value(&key))
}

impl HttpConnector for PatientConnector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient, Error> {
        // the services that give a machine its identity may have no TLS, and are asked with less
        // patience
        if settings(options) != self.made_for {
            return ReqwestConnector::default().connect(options);
        }
        Ok(HttpClient::new(Patient {
            client: self.client.clone(),
            patience: self.patience,
        }))
    }
}

#[derive(Debug)]
struct Patient {
    client: reqwest::Client,
    patience: Duration,
}

#[async_trait::async_trait]
impl HttpService for Patient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse();
        let url = url.map_err(|error| HttpError::new(HttpErrorKind::Request, InvalidUrl(error)))?;
        let len = body.content_length() as u64;
        let deadline = Arc::new(Deadline::new(self.patience, len));
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(match len {
            0 => reqwest::Body::from(Vec::new()),
            _ => reqwest::Body::wrap(Sending {
                body,
                rest: None,
                left: len,
                deadline: Arc::clone(&deadline),
            }),
        });
        let mut answer = pin!(self.client.execute(request));
        let mut answer = loop {
            let until = deadline.get();
            match timeout_at(until, &mut answer).await {
                Ok(answer) => break answer.map_err(of_reqwest)?,
                // bytes were sent since
                Err(_) if deadline.get() > until => {}
                Err(_) => return Err(stalled(self.patience)),
            }
        };
        let (status, version) = (answer.status(), answer.version());
        let headers = std::mem::take(answer.headers_mut());
        let mut response = HttpResponse::new(HttpResponseBody::new(Receiving {
            body: answer.into(),
            timer: Box::pin(sleep(self.patience)),
            patience: self.patience,
        }));
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// When a request has stalled.
struct Deadline {
    patience: Duration,
    /// More time for what the system has yet to send when all bytes were passed to it.
    at_end: Duration,
    at: Mutex<Instant>,
}

impl Deadline {
    fn new(patience: Duration, len: u64) -> Self {
        let buffered = u32::try_from(len.min(MOST_BUFFERED) >> 20).unwrap_or(0);
        Self {
            patience,
            at_end: patience * buffered,
            at: Mutex::new(Instant::now() + patience),
        }
    }

    fn get(&self) -> Instant {
        *lock(&self.at)
    }

    fn moved(&self, is_end: bool) {
        let more = if is_end { self.at_end } else { Duration::ZERO };
        *lock(&self.at) = Instant::now() + self.patience + more;
    }
}

/// A body that is sent piece by piece.
struct Sending {
    body: HttpRequestBody,
    /// What is left of the current buffer of the body.
    rest: Option<Data>,
    /// Bytes that are left.
    left: u64,
    deadline: Arc<Deadline>,
}

impl Body for Sending {
    type Data = Data;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Data>, HttpError>>> {
        let this = &mut *self;
        let mut rest = match this.rest.take() {
            Some(rest) => rest,
            None => match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return other,
            },
        };
        let piece = rest.split_to(rest.len().min(PIECE));
        this.rest = (!rest.is_empty()).then_some(rest);
        this.left = this.left.saturating_sub(piece.len() as u64);
        this.deadline.moved(this.left == 0);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body that is received.
struct Receiving {
    body: reqwest::Body,
    timer: Pin<Box<Sleep>>,
    patience: Duration,
}

impl Body for Receiving {
    type Data = Data;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Data>, HttpError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                this.timer.as_mut().reset(Instant::now() + this.patience);
                Poll::Ready(frame.map(|frame| frame.map_err(of_reqwest)))
            }
            Poll::Pending => this
                .timer
                .as_mut()
                .poll(context)
                .map(|()| Some(Err(stalled(this.patience)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Nothing was sent or received for so long.
#[derive(Debug)]
struct Stalled(Duration);

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing moved for {} ms", self.0.as_millis())
    }
}

impl std::error::Error for Stalled {}

fn stalled(patience: Duration) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, Stalled(patience))
}

/// A URL that cannot be requested.
#[derive(Debug)]
struct InvalidUrl<E>(E);

impl<E: fmt::Display> fmt::Display for InvalidUrl<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the URL is not valid: {}", self.0)
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for InvalidUrl<E> {}

/// The kind decides whether the request is repeated.
fn of_reqwest(error: reqwest::Error) -> HttpError {
    let kind = match () {
        // the next attempt meets the same certificate
        () if super::error::chain_of(&error).contains("invalid peer certificate") => HttpErrorKind::Unknown,
        () if error.is_timeout() => HttpErrorKind::Timeout,
        () if error.is_connect() => HttpErrorKind::Connect,
        () if error.is_decode() => HttpErrorKind::Decode,
        () => kind_of_source(&error).unwrap_or(HttpErrorKind::Unknown),
    };
    HttpError::new(kind, error.without_url())
}

/// What the first source says that is known.
fn kind_of_source(error: &dyn std::error::Error) -> Option<HttpErrorKind> {
    let source = error.source()?;
    let kind = if let Some(error) = source.downcast_ref::<hyper::Error>() {
        match () {
            () if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() => {
                Some(HttpErrorKind::Request)
            }
            () if error.is_timeout() => Some(HttpErrorKind::Timeout),
            () => None,
        }
    } else {
        source.downcast_ref::<io::Error>().and_then(|error| match error.kind() {
            io::ErrorKind::TimedOut => Some(HttpErrorKind::Timeout),
            io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(HttpErrorKind::Interrupted),
            _ => None,
        })
    };
    kind.or_else(|| kind_of_source(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_the_identity_of_a_machine_have_a_client_of_their_own() {
        let options = ClientOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_allow_http(false);
        let made_for = settings(&options);
        assert_eq!(
            settings(&options.clone().with_timeout(Duration::from_secs(1))),
            made_for
        );
        // task roles of ECS, and IMDS
        for other in [
            options.clone().with_allow_http(true),
            options.clone().with_connect_timeout(Duration::from_secs(1)),
        ] {
            assert_ne!(settings(&other), made_for);
        }
    }

    #[test]
    fn the_end_of_a_long_body_has_more_time() {
        let second = Duration::from_secs(1);
        for (len, more) in [(0, 0), (1 << 19, 0), (1 << 20, 1), (8 << 20, 2)] {
            assert_eq!(Deadline::new(second, len).at_end, second * more, "{len}");
        }
    }
}

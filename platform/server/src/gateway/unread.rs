//! What a sender still sends although its answer is known: taken and thrown away, within bounds.
//!
//! A server closes a connection on which part of a request is unread. A client that is still sending then sees a broken
//! connection instead of the answer, and one that keeps the connection for its next request loses that.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

/// How much is taken at most, bytes; a little more than the largest upload.
const UNREAD_MAX_BYTES: usize = 128 << 20;

/// For how long.
const UNREAD_WITHIN: Duration = Duration::from_secs(10);

/// Takes what is left of a body. Nothing where the sender asked first whether to send at all.
pub async fn read_away(mut body: Body, headers: &HeaderMap) {
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let mut left = UNREAD_MAX_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(UNREAD_WITHIN, reading).await;
}

/// A body that its owner can take back, whatever was read of it.
#[derive(Clone)]
pub struct LentBody(Arc<Mutex<Option<Body>>>);

impl LentBody {
    /// Lends `body`; the clone is for the borrower.
    pub fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// Takes it back: to the borrower it has ended.
    pub fn take(&self) -> Option<Body> {
        self.0.lock().take()
    }
}

impl HttpBody for LentBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.0.lock().as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

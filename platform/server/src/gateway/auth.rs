//! From a bearer key to a principal, in memory only.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};

use super::problem::Problem;
use crate::app::App;
use crate::routing::{KeyHash, Principal, Scope};

/// The length of a key's random part, bytes.
const KEY_RANDOM_BYTES: usize = 32;

/// What every key begins with, so that a leaked one can be recognised.
const KEY_PREFIX: &str = "raas_";

/// How much of a key is kept and shown, to tell keys apart.
const KEY_SHOWN_CHARS: usize = 12;

/// A new key: its text, which is shown once, what of it may be shown later, and the hash that is kept.
pub struct FreshKey {
    /// The whole key.
    pub text: String,
    /// Its beginning.
    pub shown: String,
    /// What the database keeps.
    pub hash: KeyHash,
}

impl FreshKey {
    /// Draws a key.
    ///
    /// # Errors
    /// The system's source of randomness fails.
    pub fn generate() -> Result<Self, getrandom::Error> {
        use base64::Engine;
        let mut random = [0u8; KEY_RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        let text = format!("{KEY_PREFIX}{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random));
        let hash = hash_key(&text);
        Ok(Self { shown: text.chars().take(KEY_SHOWN_CHARS).collect(), text, hash })
    }
}

/// The hash of a key's text.
pub fn hash_key(text: &str) -> KeyHash {
    *blake3::hash(text.as_bytes()).as_bytes()
}

/// Finds out who asks.
///
/// # Errors
/// 401 where there is no key, or none that is known.
pub fn authenticate(app: &App, headers: &HeaderMap) -> Result<Arc<Principal>, Problem> {
    let unauthorized = |title: &str| Problem::caller(StatusCode::UNAUTHORIZED, "unauthorized", title);
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(unauthorized("send your key as `Authorization: Bearer KEY`"));
    };
    let key = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim())
        .ok_or_else(|| unauthorized("the Authorization header must be `Bearer KEY`"))?;
    app.routing
        .load()
        .principal(&hash_key(key))
        .cloned()
        .ok_or_else(|| unauthorized("this key is not known, or was revoked"))
}

/// The caller of a request. Had only by presenting a key; what the key allows is asked with [`Caller::require`].
pub struct Caller(pub Arc<Principal>);

impl Caller {
    /// Goes on only if the key allows `scope`.
    ///
    /// # Errors
    /// 403 naming the scope that is missing.
    pub fn require(&self, scope: Scope) -> Result<&Principal, Problem> {
        require(&self.0, scope)?;
        Ok(&self.0)
    }
}

/// Goes on only if the key allows `scope`.
///
/// # Errors
/// 403 naming the scope that is missing.
pub fn require(principal: &Principal, scope: Scope) -> Result<(), Problem> {
    if principal.scopes.allow(scope) {
        return Ok(());
    }
    let title = format!("this key does not allow this: it lacks the scope `{}`", scope.as_str());
    Err(Problem::caller(StatusCode::FORBIDDEN, "forbidden", title))
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        authenticate(app, &parts.headers).map(Self)
    }
}

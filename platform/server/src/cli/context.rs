//! Which platform is meant and with which key: the environment, else what the last local `raas up` or `raas login` wrote.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure::{Failure, Outcome};
use crate::platform::write_private;

/// A platform and a key for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Where the platform is reached, without a slash at the end.
    pub url: String,
    /// The key, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Where the context is kept.
///
/// # Errors
/// Neither `RAAS_CONTEXT`, `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn context_path() -> Outcome<PathBuf> {
    path_from(|variable| std::env::var(variable).ok().filter(|value| !value.is_empty())).ok_or_else(|| {
        Failure::local(
            "no-context",
            "there is no home folder to keep the context in; set RAAS_CONTEXT to a file's path",
        )
    })
}

fn path_from(environment: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(path) = environment("RAAS_CONTEXT") {
        return Some(path.into());
    }
    let configuration = match environment("XDG_CONFIG_HOME") {
        Some(path) => PathBuf::from(path),
        None => Path::new(&environment("HOME")?).join(".config"),
    };
    Some(configuration.join("raas").join("context.json"))
}

/// Keeps a context, readable by its owner only, whole or not at all. Returns where.
///
/// # Errors
/// It cannot be written.
pub fn write_context(context: &Context) -> Outcome<PathBuf> {
    let path = context_path()?;
    let failed = |error: io::Error| {
        Failure::local("no-context", format!("the context cannot be kept in {}: {error}", path.display()))
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(context).map_err(|error| failed(error.into()))?;
    write_private(&path, &text).map_err(failed)?;
    Ok(path)
}

/// The platform and key that commands use.
///
/// # Errors
/// None is known, or the context cannot be read.
pub fn resolve() -> Outcome<Context> {
    let environment = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
    let kept = match context_path() {
        Ok(path) => read(&path)?,
        Err(_) => None,
    };
    choose(environment("RAAS_URL"), environment("RAAS_API_KEY"), kept)
}

fn read(path: &Path) -> Outcome<Option<Context>> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::local("no-context", format!("the context in {} cannot be used: {error}", path.display()))
    };
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|error| unusable(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(&error)),
    }
}

fn choose(url: Option<String>, key: Option<String>, kept: Option<Context>) -> Outcome<Context> {
    let Some(url) = url else {
        let Some(kept) = kept else {
            return Err(Failure::local(
                "no-context",
                "no platform is known: start one with `raas up`, or name one with RAAS_URL and RAAS_API_KEY or `raas login URL`",
            ));
        };
        return Ok(Context { key: key.or(kept.key), url: kept.url });
    };
    let url = clean_url(&url).map_err(|message| Failure::Usage(format!("RAAS_URL: {message}")))?;
    // A kept key is sent to the platform it belongs to and nowhere else.
    let key = key.or_else(|| kept.filter(|kept| kept.url == url).and_then(|kept| kept.key));
    Ok(Context { url, key })
}

/// A platform's address without a slash at the end.
///
/// # Errors
/// It is not an address; the message says what one looks like.
pub fn clean_url(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('/');
    let parsed: Result<http::Uri, _> = text.parse();
    match parsed {
        Ok(uri)
            if matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("`{text}` is not an address such as http://127.0.0.1:8080")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn kept() -> Option<Context> {
        Some(Context { url: "http://a:1".into(), key: Some("kept".into()) })
    }

    fn chosen(url: Option<&str>, key: Option<&str>, kept: Option<Context>) -> (String, Option<String>) {
        let context = choose(url.map(Into::into), key.map(Into::into), kept).unwrap();
        (context.url, context.key)
    }

    #[test]
    fn the_environment_comes_before_the_context() {
        assert_eq!(chosen(None, None, kept()), ("http://a:1".into(), Some("kept".into())));
        assert_eq!(chosen(None, Some("k"), kept()), ("http://a:1".into(), Some("k".into())));
        assert_eq!(chosen(Some("http://b:2/"), Some("k"), kept()), ("http://b:2".into(), Some("k".into())));
        assert_eq!(chosen(Some("http://a:1/"), None, kept()), ("http://a:1".into(), Some("kept".into())));
        assert!(choose(None, Some("k".into()), None).is_err());
    }

    #[test]
    fn a_kept_key_goes_to_its_own_platform_only() {
        assert_eq!(chosen(Some("http://b:2"), None, kept()), ("http://b:2".into(), None));
    }

    #[test]
    fn addresses_are_checked() {
        for refused in ["", "localhost:8080", "ftp://a", "http://", "http:// a"] {
            assert!(clean_url(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_place_of_the_context_follows_the_environment() {
        let with = |pairs: &'static [(&'static str, &'static str)]| {
            path_from(move |wanted| {
                pairs.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(&[("RAAS_CONTEXT", "/x.json"), ("HOME", "/h")]), Some("/x.json".into()));
        assert_eq!(with(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]), Some("/c/raas/context.json".into()));
        assert_eq!(with(&[("HOME", "/h")]), Some("/h/.config/raas/context.json".into()));
        assert_eq!(with(&[]), None);
    }
}

//! Where the hub is, where its cache is, and who asks: the environment variables of `huggingface_hub`.

use crate::error::{HubError, Result};
use crate::token::Token;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The public hub.
const PUBLIC: &str = "https://huggingface.co";
/// How long a server may keep silent, as in `huggingface_hub`.
const SILENCE: Duration = Duration::from_secs(10);

/// How a [`Hub`](crate::Hub) works. [`from_env`](Self::from_env) makes one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme, host, port and perhaps a path, without a slash at the end (`HF_ENDPOINT`).
    pub endpoint: String,
    /// The folder of the cache (`HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `$HF_HOME/hub`).
    pub cache: PathBuf,
    /// Who asks (`HF_TOKEN`, else `HUGGING_FACE_HUB_TOKEN`, else the file `HF_TOKEN_PATH` or `$HF_HOME/token`).
    pub token: Option<Token>,
    /// Use no network (`HF_HUB_OFFLINE`, else `TRANSFORMERS_OFFLINE`).
    pub offline: bool,
    /// How long the server may keep silent when asked about files (`HF_HUB_ETAG_TIMEOUT`, seconds).
    pub metadata_timeout: Duration,
    /// How long it may keep silent in the middle of a file (`HF_HUB_DOWNLOAD_TIMEOUT`, seconds).
    pub download_timeout: Duration,
    /// How often in a row a request may fail before fetching gives up.
    pub retries: u32,
    /// The wait before the first retry; each further one waits twice as long.
    pub backoff: Duration,
    /// Certificates to trust instead of those built in, in PEM (`SSL_CERT_FILE`).
    pub certificates: Option<PathBuf>,
    /// Whether to point to blobs by symbolic links where the system has them (not with `HF_HUB_DISABLE_SYMLINKS`).
    pub symlinks: bool,
}

impl Settings {
    /// Settings for a cache folder, with the defaults of everything else, and no token.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: PUBLIC.into(),
            cache: cache.into(),
            token: None,
            offline: false,
            metadata_timeout: SILENCE,
            download_timeout: SILENCE,
            retries: 5,
            backoff: Duration::from_millis(500),
            certificates: None,
            symlinks: true,
        }
    }

    /// The settings that the environment of this process describes.
    ///
    /// # Errors
    /// [`HubError::Request`] where there is no home for the cache, a number is none, or the token cannot be one.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(&|name| std::env::var_os(name), std::env::home_dir())
    }

    fn from_variables(
        variable: &dyn Fn(&str) -> Option<OsString>,
        user: Option<PathBuf>,
    ) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(|value| expand(Path::new(&value), user.as_deref()));
        let text = |name: &str| Some(set(name)?.to_string_lossy().into_owned());
        let truth = |name: &str| text(name).map(|value| is_true(&value));
        let home = || {
            path("HF_HOME")
                .or_else(|| Some(path("XDG_CACHE_HOME")?.join("huggingface")))
                .or_else(|| Some(user.as_deref()?.join(".cache").join("huggingface")))
        };
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(home()?.join("hub")))
            .ok_or_else(|| {
                HubError::Request(
                    "there is no place for the hub's cache: set HF_HOME to a folder".into(),
                )
            })?;
        let seconds = |name: &str| match text(name).map(|value| value.trim().parse::<u32>()) {
            None => Ok(SILENCE),
            Some(Ok(n @ 1..)) => Ok(Duration::from_secs(n.into())),
            Some(_) => Err(HubError::Request(format!(
                "{name}: expected a number of seconds"
            ))),
        };
        let mut settings = Self::new(cache);
        if let Some(endpoint) = text("HF_ENDPOINT") {
            settings.endpoint = endpoint.trim().trim_end_matches('/').into();
        }
        settings.offline = truth("HF_HUB_OFFLINE")
            .or_else(|| truth("TRANSFORMERS_OFFLINE"))
            .unwrap_or(false);
        settings.metadata_timeout = seconds("HF_HUB_ETAG_TIMEOUT")?;
        settings.download_timeout = seconds("HF_HUB_DOWNLOAD_TIMEOUT")?;
        settings.certificates = path("SSL_CERT_FILE");
        settings.symlinks = truth("HF_HUB_DISABLE_SYMLINKS") != Some(true);
        if truth("HF_HUB_DISABLE_IMPLICIT_TOKEN") != Some(true) {
            let file = path("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token")));
            let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
            let token = token.or_else(|| std::fs::read_to_string(file?).ok());
            settings.token = token.map_or(Ok(None), |token| Token::new(&token))?;
        }
        Ok(settings)
    }
}

/// What `huggingface_hub` takes for yes.
fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"]
        .iter()
        .any(|yes| value.eq_ignore_ascii_case(yes))
}

/// A path with `~` at its beginning replaced by the user's home.
fn expand(path: &Path, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Settings::from_variables(&lookup, Some("/home/u".into()))
    }

    #[test]
    fn the_cache_is_where_python_looks() {
        for (variables, cache) in [
            (&[][..], "/home/u/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HF_HOME", "~/h")], "/home/u/h/hub"),
            (
                &[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/old",
            ),
            (
                &[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/new",
            ),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")], "/h/hub"),
        ] {
            assert_eq!(
                settings(variables).unwrap().cache,
                Path::new(cache),
                "{variables:?}"
            );
        }
        let homeless = Settings::from_variables(&|_| None, None).unwrap_err();
        assert!(homeless.to_string().contains("HF_HOME"));
    }

    #[test]
    fn endpoints_switches_and_numbers_are_read() {
        let plain = settings(&[]).unwrap();
        assert_eq!((plain.endpoint.as_str(), plain.offline), (PUBLIC, false));
        let changed = settings(&[
            ("HF_ENDPOINT", "http://127.0.0.1:9/"),
            ("HF_HUB_OFFLINE", "yes"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "3"),
        ])
        .unwrap();
        assert_eq!(changed.endpoint, "http://127.0.0.1:9");
        assert!(changed.offline);
        assert_eq!(changed.download_timeout, Duration::from_secs(3));
        assert!(settings(&[("TRANSFORMERS_OFFLINE", "1")]).unwrap().offline);
        assert!(!settings(&[("HF_HUB_OFFLINE", "0")]).unwrap().offline);
        for wrong in ["0", "-1", "soon"] {
            let error = settings(&[("HF_HUB_ETAG_TIMEOUT", wrong)]).unwrap_err();
            assert!(error.to_string().contains("HF_HUB_ETAG_TIMEOUT"));
        }
    }

    #[test]
    fn the_token_comes_from_the_environment_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).unwrap().token, None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        let token = |text| Token::new(text).unwrap();
        assert_eq!(
            settings(&[("HF_HOME", home)]).unwrap().token,
            token("hf_file")
        );
        let other = folder.path().join("other");
        std::fs::write(&other, "hf_other").unwrap();
        let other = ("HF_TOKEN_PATH", other.to_str().unwrap());
        assert_eq!(
            settings(&[("HF_HOME", home), other]).unwrap().token,
            token("hf_other")
        );
        assert_eq!(
            settings(&[other, ("HF_TOKEN", "hf_env")]).unwrap().token,
            token("hf_env")
        );
        let disabled = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        assert_eq!(
            settings(&[other, ("HF_TOKEN", "hf_env"), disabled])
                .unwrap()
                .token,
            None
        );
    }
}

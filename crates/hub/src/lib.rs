//! Fetches the files of a model from the Hugging Face Hub into the cache that `huggingface_hub` uses.
//!
//! ```no_run
//! use onebit_hub::{Hub, Revision, Settings, Want};
//!
//! let hub = Hub::new(Settings::from_env()?)?;
//! let repo = "microsoft/bitnet-b1.58-2B-4T".parse()?;
//! let commit = hub.resolve(&repo, &Revision::default(), &mut ())?;
//! let snapshot = hub.fetch(&commit, Want::Model, &mut ())?;
//! println!("{} files in {}", snapshot.files.len(), snapshot.folder.display());
//! # Ok::<(), onebit_hub::HubError>(())
//! ```
//!
//! What happens on the way:
//!
//! 1. The hub says which commit a branch or tag means, and which files it has. A full commit hash needs no question,
//!    and no network at all once the cache is complete.
//! 2. Of those files the ones that a model is made of are fetched: configs, tokenizer, `model.safetensors` or the
//!    index and its shards. Names never come from the list, only from a table here and from the index, where they
//!    are checked.
//! 3. `HEAD` tells a file's hash and size. Its content goes into `blobs/<etag>.incomplete`, is resumed where it was
//!    cut, compared with its SHA-256 where the hub knows it, and then gets its name.
//! 4. `snapshots/<commit>/<file>` links to it, exactly where Python looks; and what Python has fetched is found.
//!
//! The token goes to the endpoint's own scheme, host and port, and nowhere else: redirects are followed here, one
//! request at a time, and each request decides anew.
//!
//! # Why not hf-hub
//!
//! The crate `hf-hub` is the obvious candidate. Version 1.0 is built on tokio, reqwest and aws-lc (236 crates, CMake
//! and a C compiler to build them) and begins a file anew after a cut; the synchronous variant of 0.5 (58 crates)
//! goes on from a part under a name of its own. Neither compares a file with its SHA-256 or knows `HF_HUB_OFFLINE`,
//! and a synchronous caller cannot stop either in the middle of a file. What is left is
//! small: a list, a `HEAD` and a ranged `GET`. It is written on `ureq` 3 with rustls, ring and Mozilla's roots: 25
//! crates under MIT, Apache-2.0, ISC and CDLA-Permissive-2.0, years old and widely used, synchronous, with a timeout
//! for each read. `ring` needs a C compiler, and no C++. `ureq`'s own redirects are switched off, because the rules
//! for the token, for `Range` and for the metadata of the first answer are the point of this crate.

mod api;
mod cache;
mod client;
mod download;
mod error;
mod exchange;
mod hub;
mod lock;
mod names;
mod part;
mod progress;
mod repo;
mod settings;
mod snapshot;
mod space;
mod token;
mod url;
mod wanted;

pub use error::{ErrorKind, HubError, Result};
pub use hub::Hub;
pub use progress::Progress;
pub use repo::{RepoId, Revision};
pub use settings::Settings;
pub use snapshot::{Resolved, Snapshot, SnapshotFile};
pub use token::Token;
pub use wanted::Want;

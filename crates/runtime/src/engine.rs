//! What every session of a model shares.

use std::path::Path;
use std::sync::Arc;

use onebit_kernels::Kernels;
use onebit_model::{Activations, Model};

use crate::error::RuntimeError;
use crate::os::default_threads;
use crate::pool::Pool;
use crate::session::{Session, SessionOptions};

/// A model with the kernels and the threads that run it. Clones share all three, so that one loaded
/// model serves any number of sessions, on any number of threads.
#[derive(Clone, Debug)]
pub struct Engine {
    model: Arc<Model>,
    kernels: &'static Kernels,
    pool: Arc<Pool>,
}

impl Engine {
    /// Brings the three together.
    pub fn new(model: Arc<Model>, kernels: &'static Kernels, pool: Arc<Pool>) -> Self {
        Self {
            model,
            kernels,
            pool,
        }
    }

    /// Maps a packed file, to be run with the best kernels of this machine on
    /// [`default_threads`] threads, and with [`Activations::Auto`].
    ///
    /// # Errors
    /// [`RuntimeError::Model`] where the file is not a model, [`RuntimeError::Threads`] where the
    /// system has no threads left.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RuntimeError> {
        let model = Model::open(path)?.with_activations(Activations::Auto)?;
        let model = Arc::new(model);
        let pool = Pool::new(default_threads()).map_err(RuntimeError::Threads)?;
        Ok(Self::new(model, Kernels::best(), Arc::new(pool)))
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The kernels.
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// The threads.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// A new session with an empty context.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn session(&self, options: SessionOptions) -> Result<Session, RuntimeError> {
        Session::new(self.clone(), options)
    }
}

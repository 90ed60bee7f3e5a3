//! Sessions in files: `docs/state.md` describes the bytes.

mod checked;
mod error;
mod header;

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use onebit_model::KvCache;

use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::session::{Session, SessionOptions};
use crate::whole_file::WholeFile;
use checked::{CHECKSUM_BYTES, Hashed};
pub use error::StateError;
use header::{HEADER_BYTES, Header};

/// What a file of a session says beside the session itself.
pub type Label = [u8; 32];

impl Session {
    /// Writes tokens, keys and values to the file `path`, for [`Session::load`]. `label` is the caller's own: 32 bytes that come back
    /// as they are. The file appears under its name when it is whole; what had the name stays until then, and after an error.
    ///
    /// # Errors
    /// [`RuntimeError::State`] with [`StateError::Write`] where the disk is full or fails, and with [`StateError::NotAFile`] where the
    /// path is a folder, a device or a pipe.
    pub fn save(&self, path: &Path, label: &Label) -> Result<(), RuntimeError> {
        self.save_file(path, label)
            .map_err(|error| error.in_file(path))
    }

    fn save_file(&self, path: &Path, label: &Label) -> Result<(), StateError> {
        let mut file = WholeFile::create(path).map_err(StateError::of_write)?;
        self.write_state(&mut file, label)
            .and_then(|()| file.finish())
            .map_err(StateError::of_write)
    }

    /// Writes the bytes of such a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_state(&self, out: &mut impl Write, label: &Label) -> io::Result<()> {
        let mark = self.cache().mark();
        let header = Header {
            model: self.engine().model().fingerprint(),
            label: *label,
            kv: *self.cache().options(),
            mark,
            rows_bytes: self.cache().rows_bytes(mark.top),
        };
        let mut out = Hashed::new(out);
        out.write_all(&header.to_bytes())?;
        for id in self.tokens() {
            out.write_all(&id.to_le_bytes())?;
        }
        self.cache().write_rows(&mut out)?;
        let (out, checksum) = out.finish();
        out.write_all(&checksum)?;
        out.flush()
    }

    /// The session that [`Session::save`] wrote to a file, and its label. It goes on with the same bits as the one that was saved. The
    /// model and the options of the cache must be the same; the context may be another one where no ring of the cache has begun to
    /// replace rows, and where the tokens fit in it.
    ///
    /// # Errors
    /// [`RuntimeError::State`], which says why not; else as [`Session::new`].
    pub fn load(
        engine: Engine,
        options: SessionOptions,
        path: &Path,
    ) -> Result<(Self, Label), RuntimeError> {
        let in_file = |error: StateError| error.in_file(path);
        let file = File::open(path).map_err(|e| in_file(StateError::Read(e)))?;
        let meta = file.metadata().map_err(|e| in_file(StateError::Read(e)))?;
        if !meta.is_file() {
            return Err(in_file(StateError::NotAFile));
        }
        Self::read_state(engine, options, BufReader::new(file), meta.len()).map_err(|error| {
            match error {
                ReadError::State(error) => in_file(error),
                ReadError::Session(error) => error,
            }
        })
    }

    /// The same from the `bytes` bytes of `input`. Nothing is allocated for what the header says before it is known to be true.
    ///
    /// # Errors
    /// As [`Session::load`], without the name of a file.
    pub fn read_state(
        engine: Engine,
        options: SessionOptions,
        input: impl Read,
        bytes: u64,
    ) -> Result<(Self, Label), ReadError> {
        let mut input = Hashed::new(input);
        let header = Header::read(&mut input, bytes)?;
        header.check_model(&engine.model().fingerprint())?;
        header.check_options(&options)?;
        let spec = engine.model().spec();
        let mut cache = KvCache::new(spec, options.kv, options.context).map_err(failed)?;
        cache
            .check_mark(spec, &header.mark)
            .map_err(StateError::from)?;
        if header.rows_bytes != cache.rows_bytes(header.mark.top) {
            return Err(StateError::Malformed("number of bytes of its rows").into());
        }
        let tokens = read_tokens(&mut input, header.mark.len, spec.vocab)?;
        cache
            .read_rows(spec, &header.mark, &mut input)
            .map_err(StateError::from)?;
        let (mut input, expected) = input.finish();
        let mut found = [0; CHECKSUM_BYTES];
        input.read_exact(&mut found).map_err(StateError::of_read)?;
        if found != expected {
            return Err(StateError::Checksum.into());
        }
        let session =
            Self::with_cache(engine, options, cache, &tokens).map_err(ReadError::Session)?;
        Ok((session, header.label))
    }
}

/// Why bytes are no session.
#[derive(Debug)]
pub enum ReadError {
    /// It is the bytes.
    State(StateError),
    /// There is no such session, whatever the bytes.
    Session(RuntimeError),
}

impl From<StateError> for ReadError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

fn failed(error: onebit_model::ModelError) -> ReadError {
    ReadError::Session(error.into())
}

/// `len` tokens, which the length of the file has been checked to hold.
fn read_tokens(input: &mut impl Read, len: usize, vocab: usize) -> Result<Vec<u32>, StateError> {
    let mut tokens = Vec::with_capacity(len);
    for _ in 0..len {
        let mut id = [0; 4];
        input.read_exact(&mut id).map_err(StateError::of_read)?;
        let id = u32::from_le_bytes(id);
        if id as usize >= vocab {
            return Err(StateError::Malformed("token id"));
        }
        tokens.push(id);
    }
    Ok(tokens)
}

const _: () = assert!(HEADER_BYTES.is_multiple_of(8));

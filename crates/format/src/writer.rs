//! Writing a packed file.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use tempfile::NamedTempFile;

use crate::blocks::Blocks;
use crate::container::MAX_HEADER_BYTES;
use crate::contents::Content;
use crate::error::FormatError;
use crate::file::PackedFile;
use crate::index::{check_group_scales, check_values};
use crate::layout::{ATOM_BYTES, Layout};
use crate::matrix::{Scales, check_scales};
use crate::meta::{METADATA_KEY, Meta, Provenance, SCALES_TENSOR};
use crate::place;
use crate::plan::{Plan, Planned};
use crate::sink::Sink;

/// Bytes the header may grow between the plan and the end, for provenance completed later.
const HEADER_SLACK: usize = 1024;
/// The same for each source file: its hash and its size.
const HEADER_SLACK_PER_FILE: usize = 128;

/// Writes a packed file tensor by tensor in the order of its [`Plan`], in memory that does not
/// depend on the size of the model.
///
/// The bytes go to a temporary file beside the output, named `.onebit-*.tmp`, which
/// [`finish`](Writer::finish) makes durable and moves into place. Dropping the writer before that
/// removes it. A process that is killed leaves it behind, without a header unless it was
/// [sealed](Writer::seal); nothing ever appears at the output's path but a complete file.
pub struct Writer {
    path: PathBuf,
    force: bool,
    temp: NamedTempFile,
    sink: Sink<Blocks<File>>,
    meta: Meta,
    planned: Vec<(String, Planned)>,
    stored: Vec<(String, Content)>,
    /// Tensors of the plan that are complete.
    done: usize,
    /// The tensor that was begun and not ended.
    unfinished: Option<String>,
    gathered: Vec<f32>,
}

impl Writer {
    /// Starts the file that will appear at `path` when it is [finished](Writer::finish).
    ///
    /// # Errors
    /// When `path` exists and the plan does not say [`force`](Plan::force), when it is a directory,
    /// when no file can be created beside it, and when the plan is not a valid file.
    pub fn create(path: &Path, plan: Plan) -> Result<Self, FormatError> {
        place::check_vacant(path, plan.force)?;
        let mut meta = plan.meta()?;
        let stored = plan.stored(&meta)?;
        let hash = "0".repeat(64);
        meta.sha256 = stored
            .iter()
            .map(|(name, _)| (name.clone(), hash.clone()))
            .collect();
        let slack = HEADER_SLACK + HEADER_SLACK_PER_FILE * meta.provenance.files.len();
        let room = header(&meta, &stored)?.len() + slack;
        if room > MAX_HEADER_BYTES {
            let expected = format!("a header of at most {MAX_HEADER_BYTES} bytes");
            return Err(FormatError::plan(expected, room));
        }
        let error = FormatError::io("create", path);
        let start = || -> io::Result<_> {
            let temp = place::temporary_beside(path)?;
            let out = Blocks::new(temp.as_file().try_clone()?);
            Ok((temp, Sink::new(out, room)?))
        };
        let (temp, sink) = start().map_err(error)?;
        Ok(Self {
            path: path.to_path_buf(),
            force: plan.force,
            temp,
            sink,
            meta,
            planned: plan.tensors,
            stored,
            done: 0,
            unfinished: None,
            gathered: Vec::new(),
        })
    }

    /// Provenance, which may be completed until the file is finished: the header has room for a
    /// kilobyte more than the plan had, and for the hash and the size of each file it listed.
    pub fn provenance_mut(&mut self) -> &mut Provenance {
        &mut self.meta.provenance
    }

    /// Starts the next tensor of the plan, which must be the matrix `name`.
    ///
    /// # Errors
    /// When another tensor is next, or the one before is not finished.
    pub fn write_matrix(&mut self, name: &str) -> Result<MatrixWriter<'_>, FormatError> {
        match self.begin(name, "matrix")? {
            Planned::Matrix {
                layout,
                rows,
                cols,
                grouped,
                ..
            } => {
                let band_bytes = layout.stored_band_bytes(cols, grouped).unwrap_or(0);
                let name = name.to_owned();
                Ok(MatrixWriter {
                    writer: self,
                    name,
                    layout,
                    rows,
                    grouped,
                    band_bytes,
                    written: 0,
                })
            }
            other => Err(FormatError::plan(other.kind(), "matrix")),
        }
    }

    /// Writes the next tensor of the plan, which must be the vector `name`.
    ///
    /// # Errors
    /// When another tensor is next, the length is another one, or the file cannot be written.
    pub fn write_vector(&mut self, name: &str, values: &[f32]) -> Result<(), FormatError> {
        let planned = self.begin(name, "vector")?;
        expect_len(name, &planned, &Planned::Vector { len: values.len() })?;
        self.put(bytemuck::cast_slice(values))?;
        self.end(name)?;
        self.complete();
        Ok(())
    }

    /// Writes the next tensor of the plan, which must be the byte string `name`.
    ///
    /// # Errors
    /// When another tensor is next, the length is another one, or the file cannot be written.
    pub fn write_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let planned = self.begin(name, "blob")?;
        expect_len(name, &planned, &Planned::Blob { len: bytes.len() })?;
        self.put(bytes)?;
        self.end(name)?;
        self.complete();
        Ok(())
    }

    /// Completes the file and moves it to its path: [`seal`](Writer::seal), then
    /// [`publish`](Sealed::publish). Returns its length in bytes.
    ///
    /// # Errors
    /// Those of the two.
    pub fn finish(self) -> Result<u64, FormatError> {
        self.seal()?.publish()
    }

    /// Completes the header, makes the file durable and reads it back as a [`PackedFile`], but leaves
    /// it where it is, for checks that decide whether it may appear at its path.
    ///
    /// # Errors
    /// When tensors of the plan are missing, or the file cannot be written. Nothing is left then.
    pub fn seal(mut self) -> Result<Sealed, FormatError> {
        self.expect_finished("the end")?;
        if let Some((name, planned)) = self.planned.get(self.done) {
            return Err(FormatError::plan(
                format!("{} `{name}`", planned.kind()),
                "the end",
            ));
        }
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            self.put(bytemuck::cast_slice(&gathered))?;
            self.end(SCALES_TENSOR)?;
        }
        let header = header(&self.meta, &self.stored)?;
        let room = self.sink.header_room();
        if header.len() > room {
            let expected = format!("provenance that fits a header of {room} bytes");
            return Err(FormatError::plan(expected, header.len()));
        }
        let write = self
            .sink
            .write_header(&header)
            .and_then(|_| self.temp.as_file().sync_all());
        write.map_err(FormatError::io("write", &self.path))?;
        let len = PackedFile::open(self.temp.path())?.file_len();
        Ok(Sealed {
            path: self.path,
            force: self.force,
            temp: self.temp,
            len,
        })
    }

    /// Checks that `name` is next and of this kind.
    fn begin(&mut self, name: &str, kind: &'static str) -> Result<Planned, FormatError> {
        let found = format!("{kind} `{name}`");
        self.expect_finished(&found)?;
        match self.planned.get(self.done) {
            None => Err(FormatError::plan("the end", found)),
            Some((next, planned)) if next == name && planned.kind() == kind => {
                self.unfinished = Some(found);
                Ok(*planned)
            }
            Some((next, planned)) => Err(FormatError::plan(
                format!("{} `{next}`", planned.kind()),
                found,
            )),
        }
    }

    fn expect_finished(&self, found: &str) -> Result<(), FormatError> {
        match &self.unfinished {
            None => Ok(()),
            Some(name) => Err(FormatError::plan(format!("the rest of {name}"), found)),
        }
    }

    fn complete(&mut self) {
        self.unfinished = None;
        self.done += 1;
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.sink
            .put(bytes)
            .map_err(FormatError::io("write", &self.path))
    }

    fn end(&mut self, tensor: &str) -> Result<(), FormatError> {
        let hash = self
            .sink
            .end()
            .map_err(FormatError::io("write", &self.path))?;
        self.meta.sha256.insert(tensor.to_owned(), hash);
        Ok(())
    }
}

/// A complete packed file under its temporary name; see [`Writer::seal`]. Dropping it removes the file.
#[derive(Debug)]
#[must_use = "a sealed file is removed unless it is published"]
pub struct Sealed {
    path: PathBuf,
    force: bool,
    temp: NamedTempFile,
    len: u64,
}

impl Sealed {
    /// Where the file is for now, to be opened and read. Some systems do not move a file that is mapped.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// Moves the file to the path it was created for. Returns its length in bytes.
    ///
    /// # Errors
    /// When the file cannot be moved, or the output has come into existence meanwhile. Nothing is left at
    /// the path then, or what was there before.
    pub fn publish(self) -> Result<u64, FormatError> {
        place::persist(self.temp, &self.path, self.force)?;
        Ok(self.len)
    }
}

/// Takes the rows of one matrix; see [`Writer::write_matrix`].
///
/// Dropping it before [`finish`](MatrixWriter::finish) leaves the file incomplete, which the writer
/// then reports.
#[must_use = "a matrix is complete only when it is finished"]
pub struct MatrixWriter<'w> {
    writer: &'w mut Writer,
    name: String,
    layout: Layout,
    rows: usize,
    grouped: bool,
    band_bytes: usize,
    written: usize,
}

impl MatrixWriter<'_> {
    /// Writes one or more whole packed rows; where rows share their bytes, whole bands of them. Scales of groups are among them: see
    /// [`with_scales`](crate::pack::with_scales).
    ///
    /// # Errors
    /// When these are not whole rows or bands, or more than planned, when scales of groups are not finite or negative, or the file cannot be
    /// written.
    pub fn rows(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let bands = bytes.len() / self.band_bytes.max(1);
        let (per_band, left) = (self.layout.atom_rows(), self.rows - self.written);
        if bands * self.band_bytes != bytes.len() || bands > left.div_ceil(per_band) {
            let each = match per_band {
                1 => "rows".to_owned(),
                rows => format!("rows in bands of {rows}"),
            };
            let expected = format!(
                "at most {left} {each} of {} in `{}`",
                self.band_bytes, self.name
            );
            return Err(FormatError::plan(
                expected,
                format!("{} bytes", bytes.len()),
            ));
        }
        self.check_scales(bytes)?;
        self.writer.put(bytes)?;
        self.written += left.min(bands * per_band);
        Ok(())
    }

    /// Refuses scales of groups that are not finite.
    fn check_scales(&self, bytes: &[u8]) -> Result<(), FormatError> {
        let packs = self.layout.packs(self.grouped);
        if packs.scale_lines == 0 {
            return Ok(());
        }
        let bands_before = self.written / self.layout.atom_rows();
        for (b, band) in bytes.chunks(self.band_bytes).enumerate() {
            for (p, pack) in band.chunks(packs.bytes()).enumerate() {
                let start = (bands_before + b) * self.band_bytes + p * packs.bytes();
                let scales = &pack[..packs.scale_lines * ATOM_BYTES];
                check_group_scales(&self.name, scales, start)?;
            }
        }
        Ok(())
    }

    /// Ends the matrix with its scales, but those of groups, which are among its rows.
    ///
    /// # Errors
    /// When rows are missing, when the scales are of another kind or number than the layout
    /// demands, not finite, or negative (or zero, for a single one), and when the file cannot be
    /// written.
    pub fn finish(self, scales: Scales<'_>) -> Result<(), FormatError> {
        let Self {
            writer,
            name,
            layout,
            rows,
            grouped,
            written,
            ..
        } = self;
        if written != rows {
            let expected = format!("{rows} rows of `{name}`");
            return Err(FormatError::plan(expected, written));
        }
        check_scales(layout, rows, &scales).map_err(|source| FormatError::Shape {
            tensor: name.clone(),
            source,
        })?;
        if grouped != matches!(scales, Scales::Groups { .. }) {
            let expected = if grouped { "group scales" } else { "one scale" };
            return Err(FormatError::plan(
                format!("{expected} of `{name}`"),
                scales.kind(),
            ));
        }
        writer.end(&name)?;
        match scales {
            Scales::None | Scales::Groups { .. } => {}
            Scales::Tensor(scale) => {
                check_values(&name, [scale].into_iter(), true)?;
                writer.gathered.push(scale);
            }
            Scales::Rows(values) => {
                let tensor = format!("{name}.row_scales");
                check_values(&tensor, values.iter().copied(), false)?;
                writer.put(bytemuck::cast_slice(values))?;
                writer.end(&tensor)?;
            }
        }
        writer.complete();
        Ok(())
    }
}

fn expect_len(name: &str, planned: &Planned, given: &Planned) -> Result<(), FormatError> {
    if planned == given {
        return Ok(());
    }
    Err(FormatError::plan(
        format!("`{name}` as {planned:?}"),
        format!("{given:?}"),
    ))
}

/// The container's header as JSON.
fn header(meta: &Meta, stored: &[(String, Content)]) -> Result<String, FormatError> {
    let wrong = |error| FormatError::metadata("onebit", "values that JSON can express", error);
    let text = serde_json::to_string(meta).map_err(wrong)?;
    let mut end = 0usize;
    let mut tensors = Vec::with_capacity(stored.len());
    for (name, content) in stored {
        let start = end;
        let bytes = content.bytes().and_then(|bytes| start.checked_add(bytes));
        end = bytes
            .ok_or_else(|| FormatError::tensor(name, "a size that can be addressed", "more"))?;
        let info = TensorInfo {
            dtype: content.dtype,
            shape: content.shape.clone(),
            data_offsets: (start, end),
        };
        tensors.push((name.clone(), info));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), text)]);
    let container = Metadata::new(Some(metadata), tensors);
    let container = container
        .map_err(|error| FormatError::plan("tensors that a safetensors file can hold", error))?;
    serde_json::to_string(&container).map_err(wrong)
}

//! The driver: plan, then stream tensor by tensor.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use onebit_format::{Plan as FilePlan, Provenance, Scales, SourceFile, Writer};

use crate::blocks::{banded, in_order};
use crate::config::fields::Fields;
use crate::config::{self, generation};
use crate::encode::Encoder;
use crate::error::{ConvertError, Result};
use crate::family::{self, Family};
use crate::floats;
use crate::linear::float_layout;
use crate::options::Options;
use crate::plan::{Item, Matrix, Plan};
use crate::progress::Progress;
use crate::report::{MatrixReport, Report};
use crate::source::file::exists_regular;
use crate::source::shard::{Shard, TensorInfo};
use crate::source::{self, Checkpoint};
use crate::tokenizer::{self, Text};
use crate::verify;

/// How often a wait looks whether it was cancelled.
const POLL: Duration = Duration::from_millis(2);
/// What messages put before the fields of the config.
const CONFIG: &str = "config.json: ";
/// The same for the generation config.
const GENERATION_CONFIG: &str = "generation_config.json: ";

/// Converts the checkpoint folder `source` into the packed file `output`.
///
/// Every ternary or binary weight is decoded again after packing and compared with its source. The output
/// appears under its name only when it is complete; nothing is left beside it on failure.
///
/// # Errors
/// See [`ConvertError`]; [`ConvertError::kind`] classifies it.
pub fn convert(
    source: &Path,
    output: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report> {
    let mut checkpoint = Checkpoint::open(source)?;
    let fields = Fields::new(&checkpoint.config, CONFIG);
    let family = family::find(fields)?;
    let mut config = config::parse(fields, family)?;
    checkpoint.open_shards()?;
    let dense_note = config.settle(&checkpoint.tensors);
    refuse_overwriting_source(&checkpoint, output)?;
    let text = tokenizer::read(&checkpoint, family.architecture)?;
    let plan = Plan::new(&checkpoint, &config, family, options)?;
    options.verify.check(&config.spec)?;
    let file_plan = file_plan(&checkpoint, &plan, &text, family, options)?;
    let generation = file_plan.generation.clone();
    let mut writer = Writer::create(output, file_plan)?;
    let mut report = Report {
        output: output.to_path_buf(),
        architecture: family.architecture.into(),
        matrices: Vec::new(),
        source_bytes: checkpoint.shards.iter().map(|shard| shard.bytes).sum(),
        file_bytes: 0,
        notes: (plan.notes.iter().chain(&text.notes))
            .chain(&dense_note)
            .cloned()
            .collect(),
        verify: None,
    };
    let hashes = while_hashing(&checkpoint.shards, progress, |progress| {
        write_items(&checkpoint, &plan, &mut writer, &mut report, progress)
    })?;
    for (name, bytes) in &text.blobs {
        writer.write_blob(name, bytes)?;
    }
    for (file, sha256) in writer.provenance_mut().files.iter_mut().zip(hashes) {
        file.sha256 = sha256;
    }
    let sealed = writer.seal()?;
    if options.verify.tokens > 0 {
        let source = verify::Source {
            checkpoint: &checkpoint,
            config: &config,
            family,
            text: &text,
            generation: &generation,
        };
        report.verify = Some(source.compare(sealed.path(), &options.verify, progress)?);
    }
    report.file_bytes = sealed.publish()?;
    Ok(report)
}

/// Reads only the configuration of a checkpoint folder, which decides whether its kind of model can be converted: to
/// be asked before the weights are fetched.
///
/// # Errors
/// Those that [`convert`] would have because of the configuration.
pub fn check_config(source: &Path) -> Result<()> {
    let checkpoint = Checkpoint::open(source)?;
    let fields = Fields::new(&checkpoint.config, CONFIG);
    config::parse(fields, family::find(fields)?)?;
    Ok(())
}

/// The files of a checkpoint folder that [`convert`] reads, as paths relative to it in ascending order: those of the
/// configuration and the tokenizer that there are, and the shards, which may lie in folders below. Only the index of
/// the shards is read.
///
/// # Errors
/// For an index that is broken or leads out of the folder, and for what is there but is no regular file.
pub fn source_files(source: &Path) -> Result<Vec<PathBuf>> {
    source::check_folder(source)?;
    let shards = source::shard_names(source)?;
    let names = source::FILES.iter().chain(&tokenizer::FILES).copied();
    let mut files = Vec::new();
    for name in names.chain(shards.iter().map(String::as_str)) {
        if exists_regular(&source.join(name))? {
            files.push(PathBuf::from(name));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// Refuses to replace a file of the source by the output, even if asked to.
fn refuse_overwriting_source(checkpoint: &Checkpoint, output: &Path) -> Result<()> {
    let Ok(output_file) = fs::canonicalize(output) else {
        return Ok(());
    };
    let is_output = |name: &&str| {
        fs::canonicalize(checkpoint.dir.join(name)).is_ok_and(|path| path == output_file)
    };
    let shards = checkpoint.shards.iter().map(|shard| shard.name.as_str());
    let others = source::FILES.iter().chain(&tokenizer::FILES).copied();
    match shards.chain(others).find(is_output) {
        None => Ok(()),
        Some(_) => Err(ConvertError::Request(format!(
            "{} is a file of the source",
            output.display()
        ))),
    }
}

fn file_plan(
    checkpoint: &Checkpoint,
    plan: &Plan<'_>,
    text: &Text,
    family: &'static Family,
    options: &Options,
) -> Result<FilePlan> {
    let spec = serde_json::to_value(plan.spec()).expect("a specification is plain data");
    let mut file = FilePlan::new(spec, provenance(checkpoint, options));
    file.generation = generation::parse(
        Fields::new(&checkpoint.config, CONFIG),
        Fields::new(&checkpoint.generation, GENERATION_CONFIG),
        family,
    )?;
    file.chat_template = text.chat_template.clone();
    file.force = options.force;
    for item in &plan.items {
        match item {
            Item::Vector { name, tensor, .. } => file.vector(name, tensor.shape[0]),
            Item::Matrix(m) if m.transposed => {
                file.transposed_matrix(&m.name, m.cols, m.rows, m.activation())
            }
            Item::Matrix(m) if m.is_grouped() => {
                file.grouped_matrix(&m.name, m.layout, m.rows, m.cols, m.activation())
            }
            Item::Matrix(m) => file.matrix(&m.name, m.layout, m.rows, m.cols, m.activation()),
        };
    }
    for (name, bytes) in &text.blobs {
        file.blob(*name, bytes.len());
    }
    Ok(file)
}

fn provenance(checkpoint: &Checkpoint, options: &Options) -> Provenance {
    let folder = || {
        fs::canonicalize(&checkpoint.dir)
            .ok()?
            .file_name()?
            .to_str()
            .map(str::to_owned)
    };
    let source_file = |shard: &Shard| SourceFile {
        name: shard.name.clone(),
        sha256: String::new(),
        bytes: shard.bytes,
    };
    Provenance {
        source: options.source.clone().or_else(folder).unwrap_or_default(),
        revision: options.revision.clone(),
        converter: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).into(),
        files: checkpoint.shards.iter().map(source_file).collect(),
    }
}

/// Runs `work` while another thread hashes the shards, and returns the hashes. A failure of either
/// stops the hashing, and so does whoever cancels.
fn while_hashing(
    shards: &[Shard],
    progress: &mut dyn Progress,
    work: impl FnOnce(&mut dyn Progress) -> Result<()>,
) -> Result<Vec<String>> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let hashing = scope.spawn(|| shards.iter().map(|shard| shard.sha256(&stop)).collect());
        let mut worked = work(progress);
        while worked.is_ok() && !hashing.is_finished() {
            if progress.is_cancelled() {
                worked = Err(ConvertError::Cancelled);
            }
            thread::sleep(POLL);
        }
        stop.store(worked.is_err(), Ordering::Relaxed);
        let hashes: Result<Vec<String>> = hashing.join().expect("hashing does not panic");
        worked.and(hashes)
    })
}

fn write_items(
    checkpoint: &Checkpoint,
    plan: &Plan<'_>,
    writer: &mut Writer,
    report: &mut Report,
    progress: &mut dyn Progress,
) -> Result<()> {
    let bytes = plan.items.iter().map(|item| item.tensor().bytes).sum();
    progress.begin(plan.items.len(), bytes);
    for item in &plan.items {
        match item {
            Item::Vector {
                name,
                tensor,
                factor,
            } => {
                let mut values = read_vector(checkpoint, tensor)?;
                values.iter_mut().for_each(|value| *value *= factor);
                writer.write_vector(name, &values)?;
                progress.advance(name, tensor.bytes);
            }
            Item::Matrix(matrix) => report
                .matrices
                .push(write_matrix(checkpoint, matrix, writer, progress)?),
        }
    }
    Ok(())
}

fn read_vector(checkpoint: &Checkpoint, tensor: &TensorInfo) -> Result<Vec<f32>> {
    let mut bytes = vec![0; tensor.bytes as usize];
    checkpoint.read(tensor, 0, &mut bytes)?;
    let mut values = vec![0.0; tensor.shape[0]];
    floats::decode(float_layout(tensor)?, &bytes, &mut values);
    floats::check_finite(&tensor.name, &values, 0, values.len())?;
    Ok(values)
}

fn write_matrix(
    checkpoint: &Checkpoint,
    matrix: &Matrix<'_>,
    writer: &mut Writer,
    progress: &mut dyn Progress,
) -> Result<MatrixReport> {
    let encoder = Encoder::new(checkpoint, matrix)?;
    let source = matrix.weights.tensor();
    let mut out = writer.write_matrix(&matrix.name)?;
    let mut row_scales = Vec::<f32>::new();
    let (mut bytes, mut counts) = (0, [0; 3]);
    let [rows, cols] = matrix.stored();
    in_order(
        banded(rows, cols, matrix.layout.atom_rows()),
        |rows| encoder.block(rows),
        |block| {
            out.rows(&block.bytes)?;
            bytes += block.bytes.len() as u64;
            row_scales.extend(block.row_scales);
            for (sum, count) in counts.iter_mut().zip(block.counts) {
                *sum += count;
            }
            progress.advance(&matrix.name, source.bytes * block.rows as u64 / rows as u64);
            match progress.is_cancelled() {
                true => Err(ConvertError::Cancelled),
                false => Ok(()),
            }
        },
    )?;
    tracing::debug!(matrix = matrix.name, layout = %matrix.layout, rows = matrix.rows, cols = matrix.cols, "packed");
    bytes += row_scales.len() as u64 * 4;
    out.finish(match encoder.multiplier() {
        Some(multiplier) => Scales::Tensor(multiplier),
        None if !row_scales.is_empty() => Scales::Rows(&row_scales),
        None => match matrix.layout.group() {
            Some(size) => Scales::Groups { size },
            None => Scales::None,
        },
    })?;
    Ok(MatrixReport {
        name: matrix.name.clone(),
        source: source.name.clone(),
        rows: matrix.rows,
        cols: matrix.cols,
        layout: matrix.layout,
        transposed: matrix.transposed,
        bytes,
        counts: encoder.counts().then_some(counts),
    })
}

//! The rows of the table: real shapes with random weights, kept as files between runs, or files that are given.

use crate::process::root;
use anyhow::Context;
use onebit::exit;
use onebit_format::Layout;
use onebit_model::{Model, ModelSpec};
use onebit_runtime::{Encoding, MemoryParts, SessionOptions, Shape, headroom};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Counts when what `synth` writes changes, so that older files are not used.
const VERSION: u32 = 2;
/// Seed of the weights.
const SEED: u32 = 1;
/// Memory and disk that must stay free beside a model.
const SPARE: u64 = 1 << 30;

/// A model of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standard {
    /// The row's name.
    pub(super) name: &'static str,
    /// What its weights are.
    pub(super) format: &'static str,
    shape: &'static str,
    weights: &'static str,
    /// Encoding of embedding and head, where `--head` does not decide.
    head: Option<&'static str>,
    activations: Option<&'static str>,
    /// Whether `--quick` runs it.
    pub(super) quick: bool,
}

/// Every row.
pub(super) const STANDARD: [Standard; 8] = [
    Standard::new("TinyLlama-1.1B FP16", "f16", "tinyllama", "f16").head("f16"),
    Standard::new("TinyLlama-1.1B 4-bit", "q4", "tinyllama", "q4")
        .head("q4")
        .quick(),
    Standard::new("bitnet-b1.58 1.3B (xl)", "t2", "xl", "t2").quick(),
    Standard::new(
        "1.1B pure 1-bit (int8 activations)",
        "b1",
        "tinyllama",
        "b1",
    )
    .activations("int8")
    .quick(),
    Standard::new(
        "1.1B pure 1-bit (1-bit activations)",
        "b1",
        "tinyllama",
        "b1",
    )
    .activations("binary")
    .quick(),
    Standard::new("2B-4T", "t2", "2b4t", "t2"),
    Standard::new("3B ternary", "t2", "3b", "t2"),
    Standard::new("3B FP16", "f16", "3b", "f16").head("f16"),
];

impl Standard {
    const fn new(
        name: &'static str,
        format: &'static str,
        shape: &'static str,
        weights: &'static str,
    ) -> Self {
        Self {
            name,
            format,
            shape,
            weights,
            head: None,
            activations: None,
            quick: false,
        }
    }

    const fn head(self, head: &'static str) -> Self {
        Self {
            head: Some(head),
            ..self
        }
    }

    const fn activations(self, how: &'static str) -> Self {
        Self {
            activations: Some(how),
            ..self
        }
    }

    const fn quick(self) -> Self {
        Self {
            quick: true,
            ..self
        }
    }

    /// The encoding of embedding and head, with that of `--head`.
    fn head_of<'a>(&'a self, asked: &'a str) -> &'a str {
        self.head.unwrap_or(asked)
    }

    /// The name of its file; everything that decides the content is in it.
    fn file_name(&self, head: &str) -> String {
        let Self {
            shape,
            weights,
            activations,
            ..
        } = self;
        format!(
            "{shape}-{weights}-head_{}-{}-s{SEED}-v{VERSION}-{}.onebit",
            self.head_of(head),
            activations.unwrap_or("keep"),
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn shape(&self) -> anyhow::Result<Shape> {
        Shape::named(self.shape).context("a shape of the table")
    }

    /// What a run will take, in bytes, all of it in memory and the file on disk.
    fn sizes(&self, head: &str, context: usize) -> anyhow::Result<[u64; 2]> {
        let shape = self.shape()?;
        let layout = |name| Layout::from_name(name).context("a layout of the table");
        let table = match self.head_of(head) {
            "keep" => shape.keep,
            name => layout(name)?,
        };
        let encoding = Encoding {
            grouped: shape.grouped && self.activations.is_none(),
            ..shape.encoding(layout(self.weights)?, table)
        };
        let options = SessionOptions::new(&shape.spec).context(context, &shape.spec);
        let plan = MemoryParts::of_shape(&shape, &encoding)?.plan(&options)?;
        let weights = ["layers", "embeddings", "head"];
        let file = weights.iter().map(|item| plan.bytes(item)).sum();
        Ok([plan.total(), file])
    }

    /// Its file in `folder`, else that of the workspace, made where it is not there yet; or why it cannot be run here.
    pub(super) fn file(
        &self,
        folder: Option<&Path>,
        head: &str,
        context: usize,
    ) -> anyhow::Result<Result<PathBuf, String>> {
        let folder = folder.map_or_else(|| root().join("target/bench-models"), Path::to_owned);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let path = folder.join(self.file_name(head));
        let [memory, disk] = self.sizes(head, context)?;
        let room = headroom();
        let free = [room.machine, room.cgroup];
        if let Some(free) = free.into_iter().flatten().min()
            && memory + SPARE > free
        {
            return Ok(Err(lacks("memory", memory, free)));
        }
        if path.is_file() {
            return Ok(Ok(path));
        }
        if let Some(free) = free_space(&folder)
            && disk + SPARE > free
        {
            return Ok(Err(lacks("disk", disk, free)));
        }
        self.synthesise(head, &path)?;
        Ok(Ok(path))
    }

    /// Writes the file with a child that stops, and cleans up, when this process ends.
    fn synthesise(&self, head: &str, path: &Path) -> anyhow::Result<()> {
        let own = std::env::current_exe().context("the running program is not found")?;
        let mut command = Command::new(own);
        command
            .args(["synth", "--shape", self.shape, "--weights", self.weights])
            .args(["--head", self.head_of(head), "--seed", &SEED.to_string()])
            .args(["--until-stdin-ends", "--force", "-o"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null());
        if let Some(how) = self.activations {
            command.args(["--activations", how]);
        }
        let mut child = command.spawn().context("cannot start the synthesis")?;
        // Held until the child has ended.
        let held = child.stdin.take();
        let status = child.wait()?;
        drop(held);
        anyhow::ensure!(
            status.success(),
            "{}: the synthesis failed: {status}",
            self.name
        );
        Ok(())
    }
}

fn lacks(what: &str, needed: u64, free: u64) -> String {
    format!(
        "not run: needs {:.1} GB of {what} and {:.1} GB beside it, {:.1} GB are free",
        needed as f64 / 1e9,
        SPARE as f64 / 1e9,
        free as f64 / 1e9
    )
}

#[cfg(unix)]
fn free_space(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_space(_folder: &Path) -> Option<u64> {
    None
}

/// The file given, else that of the smallest row, made where it is not there.
pub(super) fn file_or_standard(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    match given {
        Some(path) if path.is_file() => Ok(std::path::absolute(path)?),
        Some(path) => Err(exit::bad_model(format!("{} is no file", path.display()))),
        None => STANDARD[3]
            .file(None, "keep", 192)?
            .map_err(exit::too_large),
    }
}

/// What tells models of different sizes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dimensions {
    pub(super) hidden: u64,
    pub(super) layers: u64,
    pub(super) ffn: u64,
}

impl std::fmt::Display for Dimensions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            hidden,
            layers,
            ffn,
        } = self;
        write!(f, "{layers} layers of {hidden}, MLP of {ffn}")
    }
}

/// What is known of a file before it is run.
#[derive(Clone, Debug)]
pub(super) struct FileFacts {
    /// Its size.
    pub(super) bytes: u64,
    /// Of the whole file.
    pub(super) sha256: String,
    /// The network, in files of this project.
    pub(super) spec: Option<ModelSpec>,
    /// Memory that the same shape takes with FP16 weights, by the plan, in bytes.
    pub(super) fp16: Option<u64>,
}

impl FileFacts {
    /// Those of a file of this project.
    pub(super) fn dimensions(&self) -> Option<Dimensions> {
        let spec = self.spec.as_ref()?;
        Some(Dimensions {
            hidden: spec.hidden as u64,
            layers: spec.layers as u64,
            ffn: spec.ffn as u64,
        })
    }

    /// Reads the file, which brings it into the page cache as well.
    pub(super) fn read(
        path: &Path,
        options: &dyn Fn(&ModelSpec) -> SessionOptions,
    ) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let model = Model::open(path).with_context(name)?;
        let spec = model.spec().clone();
        let shape = Shape {
            spec: spec.clone(),
            keep: Layout::F16,
            linear: Layout::F16,
            grouped: true,
        };
        let encoding = shape.encoding(Layout::F16, Layout::F16);
        let fp16 = MemoryParts::of_shape(&shape, &encoding)?.plan(&options(&spec))?;
        Ok(Self {
            bytes: std::fs::metadata(path).with_context(name)?.len(),
            sha256: sha256(path).with_context(name)?,
            spec: Some(spec),
            fp16: Some(fp16.total()),
        })
    }
}

/// The hash of a file, read in pieces.
pub(super) fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            n => hash.update(&piece[..n]),
        }
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The `onebit` program to measure: the one given, else that beside this program, else that of this workspace, which is
/// built where it is not there.
pub(super) fn program(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let name = format!("onebit{}", std::env::consts::EXE_SUFFIX);
    if let Some(path) = given {
        return match path.is_file() {
            true => Ok(std::path::absolute(path)?),
            false => Err(exit::request(format!(
                "--onebit: {} is no file",
                path.display()
            ))),
        };
    }
    let own = std::env::current_exe().context("the running program is not found")?;
    let beside = own.with_file_name(&name);
    if own
        .parent()
        .is_some_and(|folder| folder.ends_with("release"))
        && beside.is_file()
    {
        return Ok(beside);
    }
    crate::process::run(crate::process::cargo(&[
        "build",
        "--release",
        "-p",
        "onebit",
    ]))?;
    Ok(root().join("target/release").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_shape_and_a_file_of_its_own() {
        let mut names: Vec<String> = STANDARD.iter().map(|row| row.file_name("q8")).collect();
        for row in STANDARD {
            let [memory, file] = row.sizes("q8", 192).unwrap();
            assert!(memory > 100 << 20 && file > 100 << 20, "{row:?}");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), STANDARD.len());
        assert_ne!(STANDARD[5].file_name("q8"), STANDARD[5].file_name("q4"));
        // FP16 stays FP16.
        assert_eq!(STANDARD[0].file_name("q8"), STANDARD[0].file_name("q4"));
    }

    #[test]
    fn a_hash_is_that_of_the_whole_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(file.path()).unwrap(), abc);
        let long = vec![7; (1 << 20) + 5];
        std::fs::write(file.path(), &long).unwrap();
        let hash = Sha256::digest(&long);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sha256(file.path()).unwrap(), hex);
    }
}

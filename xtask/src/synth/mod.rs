//! `cargo xtask synth`: a packed file of a real shape with seeded random weights, to measure speed and memory with.
//!
//! Speed and memory do not depend on what the weights say, only on their layouts and, where rows are skipped, on how
//! many inputs are zero. The text such a model writes is noise.

mod random;
mod tokenizer;
mod weights;

use anyhow::Context;
use clap::Args;
use onebit::exit;
use onebit::interrupt;
use onebit_format::{
    ActivationMode, GenerationDefaults, Layout, Plan, Provenance, Writer, blob_sha256,
};
use onebit_model::{Activation, ModelSpec};
use onebit_runtime::{Encoding, Shape, ShapeTensor, TensorShape};
use onebit_tokenizer::Origin;
pub(crate) use random::Random;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use weights::{Ballast, Fill, Matrix, write_matrix};

/// Flags of `cargo xtask synth`.
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// The shape: 2b4t, 3b, xl, large, tinyllama, falcon3-1b, llama3-8b, bonsai-1.7b, bonsai-8b
    #[arg(long, value_name = "NAME", hide_possible_values = true, value_parser = clap::builder::PossibleValuesParser::new(Shape::NAMES))]
    shape: String,
    /// The packed file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Encoding of the decoder's matrices: t2, dense, b1, f16, q8, q4 [default: f16 for tinyllama, b1 for bonsai, else t2]
    #[arg(long, value_name = "HOW", value_parser = ["t2", "dense", "b1", "f16", "q8", "q4"], hide_possible_values = true)]
    weights: Option<String>,
    /// Encoding of embedding and head: keep, f16, q8, q4
    #[arg(long, value_name = "HOW", default_value = "keep", value_parser = ["keep", "f16", "q8", "q4"], hide_possible_values = true)]
    head: String,
    /// Order of ternary down projections: rows, columns (inputs of zero need not be read)
    #[arg(long, value_name = "HOW", default_value = "rows", value_parser = ["rows", "columns"], hide_possible_values = true)]
    down: String,
    /// Percent of gate rows that are not needed, in shapes with squared ReLU [default: 50]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    zeros: Option<u8>,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// What binary and ternary matrices with one scale were trained with, instead of groups of 128: int8, binary
    #[arg(long, value_name = "HOW", value_parser = ["int8", "binary"], hide_possible_values = true)]
    activations: Option<String>,
    /// Write over an existing file
    #[arg(long)]
    force: bool,
    /// Stop, and leave nothing, when stdin ends: it is held by a program that wants the file
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

/// Writes the file.
pub(crate) fn run(args: &SynthArgs) -> anyhow::Result<()> {
    let shape = Shape::named(&args.shape).context("a shape of the command line")?;
    let relu2 = shape.spec.activation == Activation::Relu2;
    if args.zeros.is_some() && !relu2 {
        return Err(exit::request(format!(
            "--zeros: {} has no squared ReLU",
            args.shape
        )));
    }
    let layout = |name: &str| match name {
        "dense" => Ok(Layout::T5),
        name => Layout::from_name(name).context("a layout of the command line"),
    };
    let linear = args.weights.as_deref().map_or(Ok(shape.linear), layout)?;
    let table = match args.head.as_str() {
        "keep" => shape.keep,
        name => layout(name)?,
    };
    let activation = args.activations.as_deref().map(|name| match name {
        "binary" => ActivationMode::SignToken,
        _ => ActivationMode::I8Token,
    });
    if activation.is_some() && !matches!(linear, Layout::T2 | Layout::B1) {
        return Err(exit::request("--activations is for --weights t2 and b1"));
    }
    let interrupt = interrupt::install()?;
    if args.until_stdin_ends {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            interrupt.store(true, Ordering::Relaxed);
        });
    }
    let by_default = shape.encoding(linear, table);
    let synth = Synth {
        encoding: Encoding {
            by_columns: args.down == "columns",
            grouped: by_default.grouped && activation.is_none(),
            trained: activation.unwrap_or(by_default.trained),
            ..by_default
        },
        interrupt,
        ballast: relu2.then(|| Ballast::new(args.zeros.unwrap_or(50))),
        spec: shape.spec,
    };
    let Encoding {
        grouped,
        by_columns,
        ..
    } = synth.encoding;
    if linear == Layout::T5 && grouped {
        return Err(exit::request(format!(
            "--weights dense: {} has scales per 128 columns, dense weights one per matrix",
            args.shape
        )));
    }
    if by_columns && (!linear.is_ternary() || grouped) {
        return Err(exit::request(
            "--down columns is for ternary matrices with one scale",
        ));
    }
    let bytes = synth.write(args)?;
    onebit::stdout::line(&format!(
        "{}: {bytes} bytes, {} with random weights",
        args.output.display(),
        args.shape
    ))?;
    Ok(())
}

/// What will be written.
struct Synth {
    spec: ModelSpec,
    encoding: Encoding,
    ballast: Option<Ballast>,
    interrupt: &'static AtomicBool,
}

impl Synth {
    fn write(&self, args: &SynthArgs) -> anyhow::Result<u64> {
        let tokenizer = tokenizer::json(self.spec.vocab, args.seed)?;
        let origin = Origin {
            tokenizer: blob_sha256(&tokenizer),
            ..Origin::default()
        };
        let compact = onebit_tokenizer::build(&tokenizer, &Default::default(), &origin)?;
        let blobs = [("tokenizer.json", tokenizer), ("tokenizer.bpe", compact)];
        let tensors = ShapeTensor::all(&self.spec);
        let mut writer = Writer::create(&args.output, self.plan(args, &tensors, &blobs)?)?;
        let mut random = Random::new(args.seed);
        for tensor in &tensors {
            match tensor.shape {
                TensorShape::Vector(len) => {
                    writer.write_vector(&tensor.name, &self.vector(&tensor.name, len))?;
                }
                TensorShape::Matrix { rows, cols } => write_matrix(
                    &mut writer,
                    &tensor.name,
                    Matrix::new(self.encoding.stored(&tensor.name, rows, cols), rows, cols),
                    Fill::of(&tensor.name),
                    self.ballast.as_ref(),
                    &mut random,
                    self.interrupt,
                )?,
            }
        }
        for (name, bytes) in &blobs {
            writer.write_blob(name, bytes)?;
        }
        Ok(writer.finish()?)
    }

    /// Ones, but for the ballast in the norms of the residual stream: those before attention and the head ignore it.
    fn vector(&self, name: &str, len: usize) -> Vec<f32> {
        let mut values = vec![1.0; len];
        let weight = match name.rsplit('.').next() {
            Some("attn_norm" | "norm") => 0.0,
            Some("ffn_norm") => Ballast::WEIGHT,
            _ => return values,
        };
        if let Some(ballast) = &self.ballast {
            values[ballast.channels()].fill(weight);
        }
        values
    }

    fn plan(
        &self,
        args: &SynthArgs,
        tensors: &[ShapeTensor],
        blobs: &[(&str, Vec<u8>)],
    ) -> anyhow::Result<Plan> {
        let provenance = Provenance {
            source: format!("synthetic {} (random weights)", args.shape),
            converter: concat!("onebit xtask ", env!("CARGO_PKG_VERSION")).into(),
            ..Provenance::default()
        };
        let mut plan = Plan::new(serde_json::to_value(&self.spec)?, provenance);
        plan.force = args.force;
        plan.generation = GenerationDefaults {
            eos: vec![tokenizer::eos(self.spec.vocab)],
            ..Default::default()
        };
        for tensor in tensors {
            self.encoding.add(&mut plan, tensor);
        }
        for (name, bytes) in blobs {
            plan.blob(*name, bytes.len());
        }
        Ok(plan)
    }
}

//! `cargo xtask synth`: a packed file of a real shape with seeded random weights, to measure speed and memory with.
//!
//! Speed and memory do not depend on what the weights say, only on their layouts and, where rows are skipped, on how
//! many inputs are zero. The text such a model writes is noise.

mod random;
mod shapes;
mod tokenizer;
mod weights;

use anyhow::Context;
use clap::Args;
use onebit::exit;
use onebit_format::{
    ActivationMode, GenerationDefaults, Layout, Plan, Provenance, Writer, blob_sha256,
};
use onebit_model::{Activation, ModelSpec};
use onebit_tokenizer::Origin;
pub(crate) use random::Random;
use std::path::PathBuf;
use weights::{Ballast, Encoding, Fill, write_matrix};

/// Flags of `cargo xtask synth`.
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// The shape: 2b4t, 3b, xl, large, tinyllama, falcon3-1b, llama3-8b, bonsai-1.7b, bonsai-8b
    #[arg(long, value_name = "NAME", hide_possible_values = true, value_parser = clap::builder::PossibleValuesParser::new(shapes::NAMES))]
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
    /// Write over an existing file
    #[arg(long)]
    force: bool,
}

/// Writes the file.
pub(crate) fn run(args: &SynthArgs) -> anyhow::Result<()> {
    let shape = shapes::find(&args.shape).context("a shape of the command line")?;
    let relu2 = shape.spec.activation == Activation::Relu2;
    if args.zeros.is_some() && !relu2 {
        return Err(exit::request(format!(
            "--zeros: {} has no squared ReLU",
            args.shape
        )));
    }
    let weights = args.weights.as_deref().unwrap_or(shape.weights);
    let synth = Synth {
        linear: match weights {
            "dense" => Layout::T5,
            name => Layout::from_name(name).context("a layout of the command line")?,
        },
        table: match args.head.as_str() {
            "keep" => shape.keep,
            name => Layout::from_name(name).context("a layout of the command line")?,
        },
        ballast: relu2.then(|| Ballast::new(args.zeros.unwrap_or(50))),
        grouped: shape.grouped,
        by_columns: args.down == "columns",
        spec: shape.spec,
    };
    if synth.linear == Layout::T5 && synth.grouped {
        return Err(exit::request(format!(
            "--weights dense: {} has scales per 128 columns, dense weights one per matrix",
            args.shape
        )));
    }
    if synth.by_columns && (!synth.linear.is_ternary() || synth.grouped) {
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
    linear: Layout,
    table: Layout,
    ballast: Option<Ballast>,
    grouped: bool,
    /// Whether down projections are stored transposed.
    by_columns: bool,
}

/// A tensor of the file.
enum Tensor {
    Vector {
        name: String,
        len: usize,
        ballast: f32,
    },
    Matrix {
        name: String,
        rows: usize,
        cols: usize,
        fill: Fill,
    },
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
        let tensors = self.tensors();
        let mut writer = Writer::create(&args.output, self.plan(args, &tensors, &blobs)?)?;
        let mut random = Random::new(args.seed);
        for tensor in &tensors {
            match tensor {
                Tensor::Vector { name, len, ballast } => {
                    let mut values = vec![1.0; *len];
                    if let (true, Some(b)) = (*len == self.spec.hidden, &self.ballast) {
                        values[b.channels()].fill(*ballast);
                    }
                    writer.write_vector(name, &values)?;
                }
                Tensor::Matrix {
                    name,
                    rows,
                    cols,
                    fill,
                } => {
                    let layout = self.layout(name);
                    let transposed = self.is_transposed(name);
                    let [rows, cols] = if transposed {
                        [*cols, *rows]
                    } else {
                        [*rows, *cols]
                    };
                    let encoding = Encoding {
                        layout,
                        rows,
                        cols,
                        grouped: self.is_grouped(layout),
                        transposed,
                    };
                    write_matrix(
                        &mut writer,
                        name,
                        encoding,
                        *fill,
                        self.ballast.as_ref(),
                        &mut random,
                    )?;
                }
            }
        }
        for (name, bytes) in &blobs {
            writer.write_blob(name, bytes)?;
        }
        Ok(writer.finish()?)
    }

    fn plan(
        &self,
        args: &SynthArgs,
        tensors: &[Tensor],
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
            match tensor {
                Tensor::Vector { name, len, .. } => plan.vector(name, *len),
                Tensor::Matrix {
                    name, rows, cols, ..
                } => {
                    let layout = self.layout(name);
                    if self.is_transposed(name) {
                        plan.transposed_matrix(name, *cols, *rows, ActivationMode::I8Token);
                        continue;
                    }
                    if self.is_grouped(layout) {
                        plan.grouped_matrix(name, layout, *rows, *cols, ActivationMode::F32);
                        continue;
                    }
                    let activation = if layout.is_float() {
                        ActivationMode::F32
                    } else {
                        ActivationMode::I8Token
                    };
                    plan.matrix(name, layout, *rows, *cols, activation)
                }
            };
        }
        for (name, bytes) in blobs {
            plan.blob(*name, bytes.len());
        }
        Ok(plan)
    }

    /// Whether a matrix of that layout has group scales by choice.
    fn is_grouped(&self, layout: Layout) -> bool {
        self.grouped && matches!(layout, Layout::T2 | Layout::B1)
    }

    fn is_transposed(&self, name: &str) -> bool {
        self.by_columns && name.ends_with(".down")
    }

    fn layout(&self, name: &str) -> Layout {
        if matches!(name, "embed" | "head") {
            self.table
        } else if self.is_transposed(name) {
            Layout::T2
        } else {
            self.linear
        }
    }

    /// All tensors in execution order.
    fn tensors(&self) -> Vec<Tensor> {
        let spec = &self.spec;
        let (hidden, ffn, q, kv) = (spec.hidden, spec.ffn, spec.q_width(), spec.kv_width());
        let vector = |name: String, len, ballast| Tensor::Vector { name, len, ballast };
        let matrix = |name: String, rows, cols, fill| Tensor::Matrix {
            name,
            rows,
            cols,
            fill,
        };
        let mut all = vec![matrix("embed".into(), spec.vocab, hidden, Fill::Table)];
        for layer in 0..spec.layers {
            let name = |part: &str| format!("layers.{layer}.{part}");
            all.push(vector(name("attn_norm"), hidden, 0.0));
            all.extend(
                [("q", q), ("k", kv), ("v", kv)]
                    .map(|(part, rows)| matrix(name(part), rows, hidden, Fill::Random)),
            );
            let heads = [("q_norm", spec.head_dim), ("k_norm", spec.head_dim)];
            let heads = heads.into_iter().filter(|_| spec.qk_norm);
            all.extend(heads.map(|(part, len)| vector(name(part), len, 1.0)));
            all.extend(
                spec.attn_sub_norm
                    .then(|| vector(name("attn_sub_norm"), q, 1.0)),
            );
            all.push(matrix(name("o"), hidden, q, Fill::Output));
            all.push(vector(name("ffn_norm"), hidden, Ballast::WEIGHT));
            all.push(matrix(name("gate"), ffn, hidden, Fill::Gate));
            all.push(matrix(name("up"), ffn, hidden, Fill::Random));
            all.extend(
                spec.ffn_sub_norm
                    .then(|| vector(name("ffn_sub_norm"), ffn, 1.0)),
            );
            all.push(matrix(name("down"), hidden, ffn, Fill::Output));
        }
        all.push(vector("norm".into(), hidden, 0.0));
        all.extend(
            (!spec.tied_head).then(|| matrix("head".into(), spec.vocab, hidden, Fill::Table)),
        );
        all
    }
}

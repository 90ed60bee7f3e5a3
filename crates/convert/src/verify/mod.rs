//! Comparing a packed file with its source by what both compute.
//!
//! Packing is checked weight by weight in any case. This looks at the whole: the source is evaluated once more by
//! [`reference`], from its own tensors, and the packed file by the decoder that will run it; their logits must agree.

mod compare;
mod limits;
mod packed;
mod reference;
mod report;
mod tokens;
mod work;

pub use limits::{Limits, Precision};
pub use report::Verification;
pub use tokens::TokenSource;

use std::ops::Range;
use std::path::Path;

use onebit_format::GenerationDefaults;
use onebit_model::ModelSpec;

use crate::config::fields::Fields;
use crate::config::{self, Config, generation};
use crate::error::{ConvertError, Result};
use crate::family::{self, Family};
use crate::progress::Progress;
use crate::source::Checkpoint;
use crate::tokenizer::{self, Text};
use compare::Comparison;
use packed::Packed;
use reference::Reference;
use work::Work;

/// Positions whose logits are in memory at a time.
const STEP: usize = 32;

/// What to verify, and how strictly.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Verify {
    /// Tokens of the sequence; 0 verifies nothing.
    pub tokens: usize,
    /// Largest mean divergence from the source, in nats, in place of the limit for its precision.
    pub max_kl: Option<f64>,
}

impl Verify {
    /// Verifies over a sequence of `tokens`.
    pub fn new(tokens: usize) -> Self {
        Self {
            tokens,
            max_kl: None,
        }
    }

    /// Refuses numbers that make no sense for a model.
    pub(crate) fn check(&self, spec: &ModelSpec) -> Result<()> {
        let (tokens, positions) = (self.tokens, spec.max_positions);
        if tokens > positions {
            let reason =
                format!("cannot verify {tokens} tokens: the model has {positions} positions");
            return Err(ConvertError::Request(reason));
        }
        match self.max_kl {
            Some(kl) if kl.is_nan() || kl < 0.0 => Err(ConvertError::Request(format!(
                "the largest divergence is {kl}, expected a number that is not negative"
            ))),
            _ => Ok(()),
        }
    }
}

/// Compares the packed file `packed` with the checkpoint folder `source`.
///
/// Memory: the tokens' activations (`tokens` times a few widths of the network), blocks of about 8 MiB of weights for
/// each thread, and the logits of 32 positions on either side. The packed file is mapped.
///
/// # Errors
/// [`ConvertError::Verification`] when they are further apart than [`Precision::limits`] allow; else why the source or the
/// packed file could not be evaluated.
pub fn verify(
    source: &Path,
    packed: &Path,
    options: &Verify,
    progress: &mut dyn Progress,
) -> Result<Verification> {
    let mut checkpoint = Checkpoint::open(source)?;
    let fields = Fields::new(&checkpoint.config, "config.json: ");
    let family = family::find(fields)?;
    let mut config = config::parse(fields, family)?;
    checkpoint.open_shards()?;
    config.settle(&checkpoint.tensors);
    let source = Source {
        text: &tokenizer::read(&checkpoint, family.architecture)?,
        generation: &generation::parse(
            Fields::new(&checkpoint.config, "config.json: "),
            Fields::new(&checkpoint.generation, "generation_config.json: "),
            family,
        )?,
        checkpoint: &checkpoint,
        config: &config,
        family,
    };
    source.compare(packed, options, progress)
}

/// A checkpoint as the converter reads it.
pub(crate) struct Source<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) config: &'a Config,
    pub(crate) family: &'static Family,
    pub(crate) text: &'a Text,
    pub(crate) generation: &'a GenerationDefaults,
}

impl Source<'_> {
    /// Compares a packed file with this source; see [`verify`].
    pub(crate) fn compare(
        &self,
        packed: &Path,
        options: &Verify,
        progress: &mut dyn Progress,
    ) -> Result<Verification> {
        options.check(&self.config.spec)?;
        let reference = Reference::new(self.checkpoint, self.config, self.family)?;
        let steps: Vec<Range<usize>> = (0..options.tokens)
            .step_by(STEP)
            .map(|start| start..options.tokens.min(start + STEP))
            .collect();
        let mut packed = Packed::open(packed, options.tokens, STEP.min(options.tokens))?;
        same_vocabulary(&self.config.spec, packed.model.spec())?;
        let (token_source, tokens) = self.tokens(options.tokens);
        progress.begin_verify(options.tokens, reference.bytes(steps.len()));
        tracing::debug!(tokens = options.tokens, "comparing with the source");
        let mut work = Work::new(progress);
        let hidden = reference.hidden(&tokens, &mut work)?;
        let mut comparison = Comparison::default();
        for step in steps {
            let expected = reference.logits(&hidden, step.clone(), &mut work)?;
            let found = packed.logits(&tokens, step)?;
            let vocab = self.config.spec.vocab;
            for (expected, found) in expected.chunks(vocab).zip(found.chunks(vocab)) {
                comparison.add(expected, found);
            }
            work.check()?;
        }
        let precision = Precision::of(&packed.model, &reference)?;
        let verification =
            Verification::new(&comparison, token_source, packed.kernels(), precision);
        verification.judged(options.max_kl)
    }

    fn tokens(&self, count: usize) -> (TokenSource, Vec<u32>) {
        let choice = tokens::Choice {
            text: self.text,
            vocab: self.config.spec.vocab,
            bos: self.generation.bos,
            eos: &self.generation.eos,
        };
        choice.tokens(count)
    }
}

/// Logits can be compared when there are as many.
fn same_vocabulary(source: &ModelSpec, packed: &ModelSpec) -> Result<()> {
    if source.vocab == packed.vocab {
        return Ok(());
    }
    let reason = format!(
        "vocab is {}, the source's is {}",
        packed.vocab, source.vocab
    );
    Err(ConvertError::malformed("the packed file", reason))
}

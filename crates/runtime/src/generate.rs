//! The generation loop.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::RuntimeError;
use crate::sampling::{Sampler, SamplingOptions};
use crate::session::{Session, WeightReads};
use crate::stop::StopStrings;
use crate::stream::StreamDecoder;
use crate::timings::{Clock, Timings};
use crate::tokenizer::Tokenizer;

/// When to stop and how to choose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate; `None` goes on until something else stops it.
    pub predict: Option<usize>,
    /// Tokens that end the text.
    pub eos: Vec<u32>,
    /// Go on after such a token.
    pub ignore_eos: bool,
    /// Texts that end the text; they are cut off.
    pub stop: Vec<String>,
    /// How the next token is chosen.
    pub sampling: SamplingOptions,
    /// The text continues the prompt's, rather than to begin anew: with tokenizers that drop a
    /// leading space, the first word keeps its own.
    pub continue_text: bool,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StopReason {
    /// A token that ends the text.
    Eos,
    /// A stop string.
    Stop,
    /// The number of tokens asked for, or a full context.
    Length,
    /// The interrupt flag.
    Interrupted,
}

/// One step of a generation as it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'t> {
    /// The token generated; `None` for text that was held back until the end.
    pub id: Option<u32>,
    /// The text that is certain now; empty while it depends on what follows.
    pub text: &'t str,
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The tokens, the one that ended the text included.
    pub ids: Vec<u32>,
    /// Their text without special tokens, without what ended it, cut before the stop string.
    pub text: String,
    /// Why it ended.
    pub stop: StopReason,
    /// Tokens of the prompt given, all of which run through the model.
    pub prefilled: usize,
    /// How long it took.
    pub timings: Timings,
    /// Share of the weight bytes that the steps after the prompt did not read, because what they
    /// are multiplied with is zero; 0 without such steps.
    pub weights_skipped: f64,
}

/// What a generation talks to while it runs.
pub struct Output<'a> {
    /// Is called for every token, and once more where text was held back.
    pub on_piece: &'a mut dyn FnMut(Piece<'_>),
    /// Ends the generation when set, after the token or batch in progress.
    pub interrupt: &'a AtomicBool,
}

/// Appends `prompt` to the session and generates what follows. The last token generated is not part
/// of the session yet. Without a tokenizer there are tokens but no text, and no stop strings.
///
/// # Errors
/// Whatever [`Session::prefill`], [`Sampler::new`], [`StopStrings::new`] and the tokenizer refuse.
pub fn generate(
    session: &mut Session,
    tokenizer: Option<&Tokenizer>,
    prompt: &[u32],
    options: &GenerateOptions,
    output: Output<'_>,
) -> Result<Generation, RuntimeError> {
    generate_in_phases(session, tokenizer, prompt, options, output, &mut || ())
}

/// The same, calling `on_prefilled` once the first token is chosen, between the two sections whose times are taken.
///
/// # Errors
/// As [`generate()`].
pub fn generate_in_phases(
    session: &mut Session,
    tokenizer: Option<&Tokenizer>,
    prompt: &[u32],
    options: &GenerateOptions,
    output: Output<'_>,
    on_prefilled: &mut dyn FnMut(),
) -> Result<Generation, RuntimeError> {
    let vocab = session.engine().model().spec().vocab;
    let mut sampler = Sampler::new(options.sampling.clone(), vocab)?;
    let stops = StopStrings::new(&options.stop)?;
    let before = if options.continue_text { prompt } else { &[] };
    let decoder = tokenizer
        .map(|t| StreamDecoder::after(t, true, before))
        .transpose()?;
    let limit = options.predict.unwrap_or(usize::MAX);
    let room = limit.min(session.remaining().saturating_sub(prompt.len()) + 1);
    let mut run = Run {
        options,
        decoder,
        stops,
        output,
        ids: Vec::with_capacity(room),
        text: String::new(),
    };
    let before = session.weight_reads();
    let mut clock = Clock::start(prompt.len(), room);
    let stop = run.tokens(session, prompt, &mut sampler, &mut clock, on_prefilled)?;
    let stop = run.finish(stop)?;
    Ok(Generation {
        ids: run.ids,
        text: run.text,
        stop,
        prefilled: prompt.len(),
        timings: clock.timings(),
        weights_skipped: skipped(session, before),
    })
}

/// Share of the weight bytes not read in steps of one token since `before`.
fn skipped(session: &Session, before: WeightReads) -> f64 {
    let now = session.weight_reads();
    let steps = (now.steps - before.steps) as f64;
    let all = steps * session.engine().model().bytes_per_token() as f64;
    let skipped = (now.skipped_bytes - before.skipped_bytes) as f64;
    if all > 0.0 { skipped / all } else { 0.0 }
}

/// A generation in progress.
struct Run<'a, 'o> {
    options: &'a GenerateOptions,
    decoder: Option<StreamDecoder<'a>>,
    stops: StopStrings,
    output: Output<'o>,
    ids: Vec<u32>,
    text: String,
}

impl Run<'_, '_> {
    /// Generates until something stops it.
    fn tokens(
        &mut self,
        session: &mut Session,
        prompt: &[u32],
        sampler: &mut Sampler,
        clock: &mut Clock,
        on_prefilled: &mut dyn FnMut(),
    ) -> Result<StopReason, RuntimeError> {
        let interrupt = self.output.interrupt;
        let proceed = |_| match interrupt.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let Some(position) = session.prefill_while(prompt, proceed)? else {
            return Ok(StopReason::Interrupted);
        };
        clock.prefilled();
        if self.options.predict == Some(0) {
            return Ok(StopReason::Length);
        }
        let mut id = sampler.sample(position.logits, position.tokens)?;
        clock.token();
        on_prefilled();
        loop {
            if let Some(stop) = self.take(id)? {
                return Ok(stop);
            }
            if self.options.predict == Some(self.ids.len()) || session.remaining() == 0 {
                return Ok(StopReason::Length);
            }
            if interrupt.load(Ordering::Relaxed) {
                return Ok(StopReason::Interrupted);
            }
            clock.step();
            let position = session.step(id)?;
            id = sampler.sample(position.logits, position.tokens)?;
            clock.token();
        }
    }

    /// Takes a token in; the reason if the text ends with it.
    fn take(&mut self, id: u32) -> Result<Option<StopReason>, RuntimeError> {
        self.ids.push(id);
        if !self.options.ignore_eos && self.options.eos.contains(&id) {
            (self.output.on_piece)(Piece {
                id: Some(id),
                text: "",
            });
            return Ok(Some(StopReason::Eos));
        }
        let text = self
            .decoder
            .as_mut()
            .map_or(Ok(String::new()), |d| d.push(id))?;
        let (text, ended) = self.stops.push(&text);
        self.emit(Some(id), &text);
        Ok(ended.then_some(StopReason::Stop))
    }

    /// Lets go of what is held back, which may complete a stop string.
    fn finish(&mut self, stop: StopReason) -> Result<StopReason, RuntimeError> {
        if stop == StopReason::Stop {
            return Ok(stop);
        }
        let text = self
            .decoder
            .as_mut()
            .map_or(Ok(String::new()), StreamDecoder::finish)?;
        let (mut text, ended) = self.stops.push(&text);
        if !ended {
            text.push_str(&self.stops.finish());
        }
        if !text.is_empty() {
            self.emit(None, &text);
        }
        Ok(if ended { StopReason::Stop } else { stop })
    }

    fn emit(&mut self, id: Option<u32>, text: &str) {
        self.text.push_str(text);
        (self.output.on_piece)(Piece { id, text });
    }
}

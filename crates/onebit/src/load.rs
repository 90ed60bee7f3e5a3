//! From the engine flags to a model that is ready to run.

use crate::cli::{Activations, EngineArgs, Load};
use crate::exit;
use crate::fit;
use crate::note;
use crate::placement::Threads;
use crate::source::Source;
use anyhow::Context;
use onebit_format::ActivationMode;
use onebit_kernels::{Executor, KernelError, Kernels};
use onebit_model::Model;
use onebit_runtime::{
    ChatTemplate, Engine, Mapper, MemoryLog, MemoryPlan, Room, RuntimeError, SessionOptions,
    Streamer, TextFiles, Tokenizer, lock_weights,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// A model with its tokenizer, ready to run.
pub struct Loaded {
    /// Model, kernels and threads.
    pub engine: Engine,
    /// Context, batch and cache types asked for.
    pub session: SessionOptions,
    /// Seconds from the open to here.
    pub load_s: f64,
    /// What each phase took, where that was asked for.
    pub memory: MemoryLog,
    text: Option<(Tokenizer, Option<ChatTemplate>)>,
    /// Whether weights pass through memory.
    streams: bool,
    /// Whether keys and values are given up after each layer.
    one_pass: bool,
}

impl Loaded {
    /// Loads MODEL as the flags say.
    ///
    /// # Errors
    /// What is wrong with the flags or the model.
    pub fn new(model: Option<&Path>, args: &EngineArgs) -> anyhow::Result<Self> {
        Self::measured(model, args, MemoryLog::off())
    }

    /// The same, and records the phase `open` in the log.
    ///
    /// # Errors
    /// As [`Loaded::new`].
    pub fn measured(
        model: Option<&Path>,
        args: &EngineArgs,
        mut memory: MemoryLog,
    ) -> anyhow::Result<Self> {
        args.check()?;
        let kernels = kernels(args.kernels.as_deref())?;
        let threads = Threads::place(&args.threads, args.load())?;
        let source = Source::find(model, &args.hub)?;
        fit::check_heap(&source, args.load(), &args.memory.budget())?;
        let start = Instant::now();
        let model = Model::from_file(Arc::new(source.open(args.load())?))
            .with_context(|| source.to_string())?;
        let model = model.with_activations(args.activations.into())?;
        note_fixed_activations(&model, args.activations);
        let opened = start.elapsed();
        memory.end("open");
        let start = Instant::now();
        let session = fit::session(&model, args, kernels, &args.memory.budget())?;
        let text = text_parts(&model)?;
        warn_beyond_training(&model, &session);
        let model = Arc::new(resident(model, args, &session)?);
        Ok(Self {
            engine: Engine::new(model, kernels, Arc::new(threads.start()?)),
            session,
            load_s: (opened + start.elapsed()).as_secs_f64(),
            memory,
            text,
            streams: args.stream(),
            one_pass: args.one_pass,
        })
    }

    /// The tokenizer, if the model has one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.text.as_ref().map(|(tokenizer, _)| tokenizer)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Exit code 2 for a model that has none.
    pub fn need_tokenizer(&self) -> anyhow::Result<&Tokenizer> {
        self.tokenizer()
            .ok_or_else(|| exit::request("the model has no tokenizer: give token ids with --ids"))
    }

    /// The chat template.
    ///
    /// # Errors
    /// Exit code 2 for a model that has none.
    pub fn need_template(&self) -> anyhow::Result<&ChatTemplate> {
        self.need_tokenizer()?;
        let template = self
            .text
            .as_ref()
            .and_then(|(_, template)| template.as_ref());
        Ok(template.ok_or(RuntimeError::NoChatTemplate)?)
    }

    /// Refuses token ids that the model cannot take.
    ///
    /// # Errors
    /// Exit code 2, with the id and the size of the vocabulary, or with the numbers of tokens and of positions.
    pub fn check_ids(&self, ids: &[u32]) -> anyhow::Result<()> {
        let (vocab, context) = (self.engine.model().spec().vocab, self.session.context);
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(exit::request(format!(
                "token id {id} is out of range: the vocabulary has {vocab} entries"
            )));
        }
        if ids.len() > context {
            return Err(exit::request(format!(
                "the prompt has {} tokens, but the context has room for {context} (-c)",
                ids.len()
            )));
        }
        Ok(())
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.engine.pool().threads()
    }

    /// What the model and a session will take with everything in use.
    ///
    /// # Errors
    /// Exit code 5 where that is more than can be addressed.
    pub fn plan(&self) -> Result<MemoryPlan, RuntimeError> {
        let parts = fit::parts(self.engine.model(), self.streams, self.one_pass);
        parts.plan(&self.session)
    }

    /// The type of the key/value cache as `--kv` names it; keys and values where they differ.
    pub fn kv_name(&self) -> String {
        let (keys, values) = (self.session.kv.keys, self.session.kv.values);
        if keys == values {
            keys.name().to_owned()
        } else {
            format!("{}/{}", keys.name(), values.name())
        }
    }
}

fn kernels(name: Option<&str>) -> Result<&'static Kernels, KernelError> {
    name.map_or_else(|| Ok(Kernels::best()), Kernels::by_name)
}

/// Locks the weights, or lets them pass through memory, as the flags say.
fn resident(model: Model, args: &EngineArgs, session: &SessionOptions) -> anyhow::Result<Model> {
    if args.load() == Load::Mlock {
        lock_weights(model.file())?;
    }
    if !args.stream() {
        let mapper = Mapper::new(&model);
        return Ok(model.with_residency(Arc::new(mapper)));
    }
    let Some(room) = Room::beside(&model, session, &args.memory.budget()) else {
        return Err(exit::unsupported(
            "--stream is not supported on this system, which does not say how much memory there is",
        ));
    };
    let streamer = Streamer::new(&model, room)?;
    tracing::info!(
        streamed = streamer.streamed_bytes(),
        "weights pass through memory"
    );
    Ok(model.with_residency(Arc::new(streamer)))
}

fn text_parts(model: &Model) -> anyhow::Result<Option<(Tokenizer, Option<ChatTemplate>)>> {
    match TextFiles::from_packed(model.file()) {
        Ok(files) => Ok(Some((
            Tokenizer::new(&files)?,
            ChatTemplate::from_files(&files)?,
        ))),
        Err(RuntimeError::NoTokenizer { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Says that a model trained with int8 activations has no others.
fn note_fixed_activations(model: &Model, asked: Activations) {
    let matrices = &model.file().meta().matrices;
    let int8 = matrices.iter().any(|(name, matrix)| {
        name.starts_with("layers.") && matrix.activation == ActivationMode::I8Token
    });
    if int8 && asked == Activations::F32 {
        note!(
            "note: this model was trained with int8 activations and has no other mode: --activations f32 changes nothing"
        );
    }
}

fn warn_beyond_training(model: &Model, session: &SessionOptions) {
    let trained = model.spec().max_positions;
    if session.context > trained {
        note!(
            "note: the context of {} is longer than the {trained} positions the model was made for",
            session.context
        );
    }
}

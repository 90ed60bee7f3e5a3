//! Runs onebit models: sessions, threads, text, sampling and memory accounting.
//!
//! The layers below know bytes, arithmetic and the network; this crate makes a running program of
//! them. An [`Engine`] is a loaded model with its kernels and threads, shared by any number of
//! [`Session`]s; a session is one sequence of tokens. Text is the business of a [`Tokenizer`] and,
//! for chats, of a [`ChatTemplate`]; [`generate()`] brings all together.
//!
//! # From a file to a story
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//! use onebit_runtime::{
//!     Engine, GenerateOptions, Output, SamplingOptions, SessionOptions, Tokenizer, generate,
//! };
//!
//! let engine = Engine::open("model.onebit")?;
//! let tokenizer = Tokenizer::from_packed(engine.model().file())?;
//! let mut session = engine.session(SessionOptions::new(engine.model().spec()))?;
//!
//! let prompt = tokenizer.encode("Once upon a time", true)?;
//! let options = GenerateOptions {
//!     predict: Some(64),
//!     sampling: SamplingOptions::greedy(),
//!     continue_text: true,
//!     ..GenerateOptions::default()
//! };
//! let output = Output {
//!     on_piece: &mut |piece| print!("{}", piece.text),
//!     interrupt: &AtomicBool::new(false),
//! };
//! let story = generate(&mut session, Some(&tokenizer), &prompt, &options, output)?;
//! eprintln!("{:.1} tokens per second", story.timings.decode_tok_s);
//! # Ok::<(), onebit_runtime::RuntimeError>(())
//! ```
//!
//! # Step by step
//!
//! Those who want the numbers themselves call [`Session::prefill`] and [`Session::step`]: both
//! return the [`Position`] reached, with the logits of the token that comes next. The logits are
//! bit-identical for every number of threads, every kernel set, and every way to cut the tokens into
//! calls, and [`Sampler`] is deterministic, so that a seed gives the same text on every machine.
//!
//! ```no_run
//! # use onebit_runtime::{Engine, Sampler, SamplingOptions, SessionOptions};
//! # let engine = Engine::open("model.onebit")?;
//! # let mut session = engine.session(SessionOptions::new(engine.model().spec()))?;
//! let mut sampler = Sampler::new(SamplingOptions::default(), engine.model().spec().vocab)?;
//! let mut position = session.prefill(&[1, 2, 3])?;
//! for _ in 0..10 {
//!     let id = sampler.sample(position.logits, position.tokens)?;
//!     position = session.step(id)?;
//! }
//! # Ok::<(), onebit_runtime::RuntimeError>(())
//! ```
//!
//! # What is guaranteed
//!
//! - Nothing is allocated per token once a session and a sampler exist.
//! - Text comes out whole: no piece ends inside of a character, and the pieces add up to what
//!   decoding all tokens at once gives.
//! - Prompts are those of `transformers`: token ids, special tokens and chat templates.
//! - `unsafe` is confined to the pool and to the calls into the operating system.

#![deny(unsafe_code)]

mod chat;
mod conversation;
mod defaults;
mod engine;
mod error;
mod generate;
mod guard;
mod memory;
mod memory_log;
mod one_pass;
#[allow(unsafe_code, reason = "calls into the operating system")]
mod os;
#[allow(unsafe_code, reason = "lends a job to threads that outlive it")]
mod pool;
#[allow(unsafe_code, reason = "calls into the operating system")]
mod residency;
mod rng;
pub mod sampling;
mod session;
mod shapes;
mod state;
mod stop;
mod stream;
mod text_files;
mod timings;
mod tokenizer;
mod tokenizer_bytes;
mod tokenizer_parts;
mod whole_file;

pub use chat::{ChatTemplate, Message, RenderOptions, TemplateValue};
pub use conversation::Conversation;
pub use defaults::{SamplingOverrides, eos_tokens};
pub use engine::Engine;
pub use error::{ErrorKind, RuntimeError};
pub use generate::{
    GenerateOptions, Generation, Output, Piece, StopReason, generate, generate_in_phases,
};
pub use guard::in_guard;
pub use memory::{
    Budget, BudgetSource, DoesNotFit, MemoryItem, MemoryKind, MemoryParts, MemoryPlan, Open, fit,
    format_size, largest_contexts, parse_size,
};
pub use memory_log::{MemoryLog, PhaseMemory};
pub use one_pass::OnePass;
pub use os::{
    CgroupMemory, CpuList, Headroom, NumaNode, ProcessMemory, ProcessReading, allowed_cpus,
    default_threads, end_with_parent, headroom, process_memory, read_process, reset_peak, run_on,
    survive_file_size_limit,
};
pub use pool::{MAX_THREADS, Pool};
pub use residency::{Mapper, Room, Streamer, lock_weights};
pub use rng::random_seed;
pub use sampling::{Sampler, SamplingOptions};
pub use session::{Position, Session, SessionOptions, WeightReads};
pub use shapes::{Encoding, Shape, ShapeTensor, Stored, TensorShape};
pub use state::{Label, ReadError, StateError};
pub use stop::StopStrings;
pub use stream::StreamDecoder;
pub use text_files::TextFiles;
pub use timings::Timings;
pub use tokenizer::Tokenizer;
pub use whole_file::WholeFile;

//! Sessions, thread pool, tokenizer, chat templates, sampling and memory accounting for onebit models.

mod chat;
mod error;
mod os;
mod pool;
mod rng;
pub mod sampling;
mod stop;
mod stream;
mod text_files;
mod tokenizer;

pub use chat::{ChatTemplate, Message, RenderOptions, TemplateValue};
pub use error::{ErrorKind, RuntimeError};
pub use os::{ProcessMemory, default_threads, process_memory, reset_peak};
pub use pool::{MAX_THREADS, Pool};
pub use rng::random_seed;
pub use sampling::{Sampler, SamplingOptions};
pub use stop::StopStrings;
pub use stream::StreamDecoder;
pub use text_files::TextFiles;
pub use tokenizer::Tokenizer;

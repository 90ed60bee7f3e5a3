//! Converts Hugging Face safetensors checkpoints into packed onebit files.

mod blocks;
mod config;
mod convert;
mod encode;
mod error;
mod family;
mod floats;
mod linear;
mod options;
mod plan;
mod progress;
mod report;
mod source;
mod ternary;
mod tokenizer;

pub use convert::convert;
pub use error::{ConvertError, ErrorKind};
pub use options::{FloatType, Options, WeightType};
pub use progress::Progress;
pub use report::{MatrixReport, Report};

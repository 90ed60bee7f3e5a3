//! Converts Hugging Face safetensors checkpoints into packed onebit files.
//!
//! A checkpoint is a folder with `config.json` and `model.safetensors` (or shards with an index),
//! and usually a tokenizer. [`convert()`] turns it into one file that carries the weights, the
//! configuration, the tokenizer, the chat template, the generation defaults and the provenance:
//!
//! ```no_run
//! use std::path::Path;
//! use onebit_convert::{ErrorKind, Options, convert};
//!
//! let report = convert(
//!     Path::new("bitnet-b1.58-2B-4T"),
//!     Path::new("bitnet.onebit"),
//!     &Options::default(),
//!     &mut (), // or something that implements `Progress`
//! );
//! match report {
//!     Ok(report) => println!("{report}"),
//!     Err(error) if error.kind() == ErrorKind::Unsupported => println!("not yet: {error}"),
//!     Err(error) => println!("{error}"),
//! }
//! ```
//!
//! What happens on the way:
//!
//! 1. The config is matched with one row of a table of families. The row says which defaults
//!    absent fields have and what the tensors are called; nothing else distinguishes families. A
//!    config that says something no row covers is refused, naming the field.
//! 2. Every tensor is looked up and its type and shape compared with the config, before anything is
//!    written. How a linear is stored follows from both together: packed weights are `U8` and have
//!    a scale, whose direction `linear_class` decides; float masters of online-quantized models
//!    become ternary or binary here by the arithmetic they were trained with; dense weights keep their values, and are
//!    packed where those are -d, d (and 0) in groups of 128 columns.
//!    A tensor that nothing uses is an error, not a surprise.
//! 3. Tensors are read, packed and written in blocks of rows, so memory does not grow with the
//!    model. Each packed ternary weight is decoded again and compared with its source.
//! 4. Where [`Options::verify`] asks for it, the packed file's logits are compared with those of an independent
//!    evaluation of the source.
//! 5. The output appears under its name when it is complete, and not before.
//!
//! Types are changed only when asked for:
//!
//! ```
//! use onebit_convert::{FloatType, Options};
//!
//! # fn main() -> Result<(), onebit_convert::ConvertError> {
//! let mut options = Options::default();
//! options.weights = "auto".parse()?; // ternary weights in two bits, dense ones as they are
//! options.head = Some(FloatType::Q8); // the output head in 8 bits
//! assert!("q3".parse::<onebit_convert::WeightType>().is_err());
//! # Ok(())
//! # }
//! ```

mod blocks;
mod config;
mod convert;
mod encode;
mod error;
mod family;
mod few_bits;
mod floats;
#[doc(hidden)]
pub mod fuzz;
mod linear;
mod options;
mod plan;
mod progress;
mod report;
mod signs;
mod source;
mod ternary;
mod tokenizer;
mod verify;

pub use convert::{check_config, convert, source_files};
pub use error::{ConvertError, ErrorKind};
pub use options::{DownType, FloatType, Options, WeightType};
pub use progress::Progress;
pub use report::{MatrixReport, Report};
pub use verify::{Limits, Precision, TokenSource, Verification, Verify, verify};

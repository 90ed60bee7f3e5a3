//! Sorts errors into exit codes.

use crate::exit::{Code, Failure};
use onebit_convert::ConvertError;
use onebit_format::FormatError;
use onebit_kernels::KernelError;
use onebit_model::ModelError;
use onebit_runtime::RuntimeError;

/// The exit code for an error: that of the first cause that knows one, else [`Code::Failure`].
pub fn code_of(error: &anyhow::Error) -> Code {
    error.chain().find_map(known_code).unwrap_or(Code::Failure)
}

fn known_code(cause: &(dyn std::error::Error + 'static)) -> Option<Code> {
    None.or_else(|| cause.downcast_ref().map(Failure::code))
        .or_else(|| cause.downcast_ref().map(of_format))
        .or_else(|| cause.downcast_ref().map(of_model))
        .or_else(|| cause.downcast_ref().map(of_convert))
        .or_else(|| cause.downcast_ref().map(of_runtime))
        .or_else(|| cause.downcast_ref().map(|_: &KernelError| Code::Request))
        .or_else(|| of_hub(cause))
}

#[cfg(feature = "hub")]
fn of_hub(cause: &(dyn std::error::Error + 'static)) -> Option<Code> {
    use onebit_hub::{ErrorKind, HubError};
    Some(match cause.downcast_ref::<HubError>()?.kind() {
        ErrorKind::Request => Code::Request,
        ErrorKind::Missing | ErrorKind::Malformed => Code::Model,
        ErrorKind::Unsupported => Code::Unsupported,
        ErrorKind::Cancelled => Code::Interrupted,
        _ => Code::Failure,
    })
}

#[cfg(not(feature = "hub"))]
fn of_hub(_cause: &(dyn std::error::Error + 'static)) -> Option<Code> {
    None
}

/// A packed file is only ever read here, so that failing to read it is the model's fault.
fn of_format(error: &FormatError) -> Code {
    match error.kind() {
        onebit_format::ErrorKind::Io | onebit_format::ErrorKind::Malformed => Code::Model,
        onebit_format::ErrorKind::Unsupported => Code::Unsupported,
        onebit_format::ErrorKind::Request => Code::Request,
        _ => Code::Failure,
    }
}

fn of_model(error: &ModelError) -> Code {
    match error.kind() {
        onebit_model::ErrorKind::Request => Code::Request,
        onebit_model::ErrorKind::Malformed => Code::Model,
        onebit_model::ErrorKind::Unsupported => Code::Unsupported,
        onebit_model::ErrorKind::Memory => Code::Memory,
        _ => Code::Failure,
    }
}

fn of_runtime(error: &RuntimeError) -> Code {
    match error.kind() {
        onebit_runtime::ErrorKind::Request => Code::Request,
        onebit_runtime::ErrorKind::Malformed => Code::Model,
        onebit_runtime::ErrorKind::Unsupported => Code::Unsupported,
        onebit_runtime::ErrorKind::Memory => Code::Memory,
        _ => Code::Failure,
    }
}

/// Writing, in contrast, fails because of the disk.
fn of_convert(error: &ConvertError) -> Code {
    match error.kind() {
        onebit_convert::ErrorKind::Request => Code::Request,
        onebit_convert::ErrorKind::Malformed => Code::Model,
        onebit_convert::ErrorKind::Unsupported => Code::Unsupported,
        onebit_convert::ErrorKind::Cancelled => Code::Interrupted,
        _ => Code::Failure,
    }
}

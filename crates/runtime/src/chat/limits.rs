//! Bounds on what a template may do: it comes with the model, and nobody has vouched for it.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use crate::error::RuntimeError;
use crate::guard::guarded;

/// Steps that a template may take before it is stopped, each also worth 64 bytes of text or lists that it makes; real
/// ones take a few thousand.
pub(super) const FUEL: u64 = 1_000_000;
/// Bytes of text that cost as much as a step.
const BYTES_PER_FUEL: usize = 64;
/// Longest source accepted, in bytes: ten times the longest that are published.
pub(super) const MAX_SOURCE: usize = 128 << 10;
/// Longest text rendered, in bytes.
const MAX_TEXT: usize = 8 << 20;
/// Bytes of stack for compiling and rendering, of which only those in use take memory. Expressions nest as deep as the
/// source is long, with about a kilobyte for each level.
const STACK: usize = 512 << 20;
/// How long a template may take. What the fuel does not count ends here: comparing lists that share their parts, say.
const DEADLINE: Duration = Duration::from_secs(5);
/// How deep lists and dictionaries may nest where a template could go on nesting them.
pub(super) const MAX_DEPTH: usize = 64;

/// Runs `work` on a thread with a deep stack, for as long as a template may take.
///
/// # Errors
/// That of `work`; [`RuntimeError::TemplateLimit`] when it takes too long: the thread is left alone then.
pub(super) fn bounded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    let (sender, receiver) = channel();
    let thread = thread::Builder::new()
        .name("chat template".into())
        .stack_size(STACK)
        .spawn(move || {
            let done = guarded(work);
            let failed = |reason| {
                Err(RuntimeError::TemplateLimit(format!(
                    "the engine fails: {reason}"
                )))
            };
            drop(sender.send(done.unwrap_or_else(failed)));
        })
        .map_err(RuntimeError::Threads)?;
    let Ok(done) = receiver.recv_timeout(DEADLINE) else {
        return Err(RuntimeError::TemplateLimit("it takes too long".into()));
    };
    // All it has left to do is end: its stack is given back, and no phase counts it.
    drop(thread.join());
    done
}

/// Refuses a source that is longer than any template.
pub(super) fn check_source(source: &str) -> Result<(), RuntimeError> {
    match source.len() {
        len if len > MAX_SOURCE => Err(RuntimeError::TemplateLimit(format!(
            "{len} bytes, more than the {MAX_SOURCE} accepted"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a text that no model has a context for.
pub(super) fn check_text(text: String) -> Result<String, RuntimeError> {
    match text.len() {
        len if len > MAX_TEXT => Err(RuntimeError::TemplateLimit(format!(
            "a text of {len} bytes, more than the {MAX_TEXT} accepted"
        ))),
        _ => Ok(text),
    }
}

/// Pays for making `bytes` of text.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes.div_ceil(BYTES_PER_FUEL) as u64)
}

/// The filter that every value passes before a namespace keeps it. Namespaces are all that a template can change, so
/// without one inside another, and without ever deeper lists, no value contains itself or nests without bound.
pub(super) fn kept_in_namespace(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::Iterable {
        let mut items = Vec::new();
        for item in value.try_iter()? {
            state.consume_fuel(1)?;
            check_kept(state, &item, 1)?;
            items.push(item);
        }
        return Ok(items.into());
    }
    check_kept(state, &value, 0)?;
    Ok(value)
}

fn check_kept(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    let invalid = |reason: String| Err(Error::new(ErrorKind::InvalidOperation, reason));
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(());
    }
    let changes = |name: &str| name.ends_with("::Namespace") || name.ends_with("::Loop");
    if value
        .as_object()
        .is_some_and(|object| changes(object.type_name()))
    {
        return invalid("a namespace cannot keep a namespace or a loop".into());
    }
    if depth > MAX_DEPTH {
        return invalid(format!("lists nested more than {MAX_DEPTH} deep"));
    }
    for item in value.try_iter()? {
        state.consume_fuel(1)?;
        let item = if is_map { value.get_item(&item)? } else { item };
        check_kept(state, &item, depth + 1)?;
    }
    Ok(())
}

//! What templates use of Python that the template engine does otherwise or not at all.

use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::limits::charge;

/// `is sequence`: strings and mappings are sequences to Jinja.
pub(super) fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), Seq | String | Map | Undefined)
}

/// `is iterable`: so are strings.
pub(super) fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// `is number`: booleans are numbers to Python.
pub(super) fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

/// The methods of Python's strings, lists and dictionaries.
pub(super) fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        charge_method(state, text, name, args)?;
        if let Some(result) = string_method(text, name, args) {
            return result;
        }
    }
    if value.kind() == ValueKind::Map && name == "copy" {
        return Ok(value.clone());
    }
    unknown_method_callback(state, value, name, args)
}

/// Pays ahead for methods whose result can be much longer than the text.
fn charge_method(
    state: &State<'_, '_>,
    text: &str,
    name: &str,
    args: &[Value],
) -> Result<(), Error> {
    let length = |index: usize| args.get(index).and_then(Value::as_str).map_or(0, str::len);
    let bytes = match name {
        "replace" => {
            let found = match args.first().and_then(Value::as_str) {
                Some("") => text.len() + 1,
                Some(what) => text.matches(what).count(),
                None => 0,
            };
            found.saturating_mul(length(1))
        }
        // Each piece is a value of its own.
        "split" | "rsplit" | "splitlines" => text.len().saturating_mul(16),
        "format"
            if text
                .split(|c: char| !c.is_ascii_digit())
                .any(|n| n.len() > 4) =>
        {
            return Err(invalid("format: the width is too large"));
        }
        _ => 0,
    };
    charge(state, bytes)
}

/// String methods by name; `None` for those that the pycompat module has right.
fn string_method(text: &str, name: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match name {
        "removeprefix" => from_args::<(&str,)>(args)
            .map(|(affix,)| text.strip_prefix(affix).unwrap_or(text).into()),
        "removesuffix" => from_args::<(&str,)>(args)
            .map(|(affix,)| text.strip_suffix(affix).unwrap_or(text).into()),
        "partition" => from_args::<(&str,)>(args).and_then(|(separator,)| {
            let found = nonempty(separator)?.and_then(|s| text.split_once(s));
            let (head, tail) = found.unwrap_or((text, ""));
            Ok(list(&[
                head,
                if found.is_some() { separator } else { "" },
                tail,
            ]))
        }),
        "rpartition" => from_args::<(&str,)>(args).and_then(|(separator,)| {
            let found = nonempty(separator)?.and_then(|s| text.rsplit_once(s));
            let (head, tail) = found.unwrap_or(("", text));
            Ok(list(&[
                head,
                if found.is_some() { separator } else { "" },
                tail,
            ]))
        }),
        "split" => split(text, args, false),
        "rsplit" => split(text, args, true),
        "index" => from_args::<(&str,)>(args).and_then(|(what,)| {
            let at = text
                .find(what)
                .ok_or_else(|| invalid("substring not found"))?;
            Ok(text[..at].chars().count().into())
        }),
        _ => return None,
    })
}

/// `split(sep=None, maxsplit=-1)` from the left or from the right.
fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, limit, kwargs): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get::<Option<&str>>("sep")?);
    let limit = limit.or(kwargs.get::<Option<i64>>("maxsplit")?);
    kwargs.assert_all_used()?;
    let limit = limit
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    let pieces = match separator {
        Some(separator) => {
            nonempty(separator)?;
            split_at(text, limit, from_right, |t| {
                if from_right {
                    t.rsplit_once(separator)
                } else {
                    t.split_once(separator)
                }
            })
        }
        None if from_right => split_at(text.trim(), limit, true, |t| {
            t.rsplit_once(char::is_whitespace)
                .map(|(a, b)| (a.trim_end(), b))
        }),
        None => split_at(text.trim(), limit, false, |t| {
            t.split_once(char::is_whitespace)
                .map(|(a, b)| (a, b.trim_start()))
        }),
    };
    let blank = separator.is_none() && text.trim().is_empty();
    Ok(list(if blank { &[] } else { &pieces }))
}

/// Cuts at most `limit` pieces off one end of a text.
fn split_at<'t>(
    mut text: &'t str,
    limit: usize,
    from_right: bool,
    cut: impl Fn(&'t str) -> Option<(&'t str, &'t str)>,
) -> Vec<&'t str> {
    let mut pieces = Vec::new();
    while pieces.len() < limit {
        let Some((head, tail)) = cut(text) else { break };
        pieces.push(if from_right { tail } else { head });
        text = if from_right { head } else { tail };
    }
    pieces.push(text);
    if from_right {
        pieces.reverse();
    }
    pieces
}

fn list(pieces: &[&str]) -> Value {
    pieces.iter().map(|&piece| Value::from(piece)).collect()
}

fn nonempty(separator: &str) -> Result<Option<&str>, Error> {
    if separator.is_empty() {
        Err(invalid("empty separator"))
    } else {
        Ok(Some(separator))
    }
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

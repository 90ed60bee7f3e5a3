//! The filter `tojson` with the arguments and the output of Python's `json.dumps`.

use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::limits::{MAX_DEPTH, charge};

/// `tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    args: Rest<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let argument = |index: usize, name: &str| -> Result<Value, Error> {
        let named = kwargs.get::<Option<Value>>(name)?;
        Ok(named
            .or_else(|| args.get(index).cloned())
            .unwrap_or_default())
    };
    let indent = indentation(&argument(1, "indent")?)?;
    let separators = argument(2, "separators")?;
    let (item, key) = if separators.is_none() || separators.is_undefined() {
        (
            if indent.is_some() { "," } else { ", " }.to_owned(),
            ": ".to_owned(),
        )
    } else {
        (
            separators.get_item_by_index(0)?.to_string(),
            separators.get_item_by_index(1)?.to_string(),
        )
    };
    let mut writer = Writer {
        state,
        out: String::new(),
        ascii: argument(0, "ensure_ascii")?.is_true(),
        indent,
        item,
        key,
        sort: argument(3, "sort_keys")?.is_true(),
        depth: 0,
    };
    kwargs.assert_all_used()?;
    writer.value(value)?;
    Ok(writer.out.into())
}

fn indentation(indent: &Value) -> Result<Option<String>, Error> {
    if indent.is_none() || indent.is_undefined() {
        return Ok(None);
    }
    if let Some(text) = indent.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let width = indent
        .as_i64()
        .filter(|&width| width <= 1000)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson: indent {indent} is no small number"),
            )
        })?;
    Ok(Some(" ".repeat(usize::try_from(width).unwrap_or(0))))
}

struct Writer<'a> {
    state: &'a State<'a, 'a>,
    out: String,
    ascii: bool,
    indent: Option<String>,
    item: String,
    key: String,
    sort: bool,
    depth: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value),
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                charge(self.state, text.len())?;
                self.string(text);
            }
            ValueKind::Seq | ValueKind::Iterable => {
                self.list('[', ']', value.try_iter()?, |writer, item| {
                    writer.value(item)
                })?;
            }
            ValueKind::Map => self.map(value)?,
            kind => {
                let reason = format!("{kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::BadSerialization, reason));
            }
        }
        Ok(())
    }

    fn map(&mut self, value: &Value) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort {
            keys.sort();
        }
        self.list('{', '}', keys, |writer, key| {
            match key.kind() {
                ValueKind::String => writer.value(key)?,
                ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                    writer.out.push('"');
                    writer.value(key)?;
                    writer.out.push('"');
                }
                kind => {
                    let reason = format!("keys must be str, int, float, bool or None, not {kind}");
                    return Err(Error::new(ErrorKind::BadSerialization, reason));
                }
            }
            writer.text(&writer.key.clone())?;
            writer.value(&value.get_item(key)?)
        })
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        items: impl IntoIterator<Item = Value>,
        mut write: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        self.depth += 1;
        if self.depth > 2 * MAX_DEPTH {
            let reason = "tojson: nested too deep";
            return Err(Error::new(ErrorKind::InvalidOperation, reason));
        }
        let mut empty = true;
        for item in items {
            self.state.consume_fuel(1)?;
            if !empty {
                self.text(&self.item.clone())?;
            }
            empty = false;
            self.line()?;
            write(self, &item)?;
        }
        self.depth -= 1;
        if !empty {
            self.line()?;
        }
        self.out.push(close);
        Ok(())
    }

    /// Writes what the template gave.
    fn text(&mut self, text: &str) -> Result<(), Error> {
        charge(self.state, text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    /// Starts an indented line.
    fn line(&mut self) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            charge(self.state, indent.len().saturating_mul(self.depth))?;
            self.out.push('\n');
            self.out.push_str(&indent.repeat(self.depth));
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) {
        match f64::try_from(value.clone()) {
            Ok(float) if !value.is_integer() => self.out.push_str(&float_repr(float)),
            _ => self.out.push_str(&value.to_string()),
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !matches!(c, ' '..='~')) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

/// A float as Python prints it: the shortest digits that read back the same, in exponential form
/// below 1e-4 and from 1e16 on.
fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "NaN".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let exponential = format!("{x:e}");
    let (digits, exponent) = exponential.split_once('e').unwrap_or((&exponential, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x == 0.0 || (-4..16).contains(&exponent) {
        format!("{x:?}")
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}e{sign}{:02}", exponent.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::float_repr;

    #[test]
    fn floats_print_as_in_python() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (1e-4, "0.0001"),
            (1.25e-5, "1.25e-05"),
            (123456.789, "123456.789"),
            (-2.5e-9, "-2.5e-09"),
        ];
        for (x, text) in cases {
            assert_eq!(float_repr(x), text);
        }
    }
}

//! Rewriting what the template engine does not know, or what it leaves unbounded.

/// The filter that [`prepare`] puts before assignments to namespaces.
pub(super) const KEPT: &str = "kept_in_namespace";

/// Rewrites a template: other line ends become `\n`; the `generation` blocks, which only mark text, become blocks that
/// are always rendered; and `{% set name.field = value %}` passes the value through the filter [`KEPT`].
pub(super) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = rest.find('{') {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let end = match tag.as_bytes().get(1) {
            Some(b'#') => tag.find("#}").map(|at| at + 2),
            Some(b'{') => end_of_tag(tag, "}}"),
            Some(b'%') => end_of_tag(tag, "%}"),
            _ => Some(1),
        };
        let (tag, after) = tag.split_at(end.unwrap_or(tag.len()));
        match tag
            .strip_prefix("{%")
            .and_then(|tag| tag.strip_suffix("%}"))
        {
            Some(body) => push_block(body, &mut out),
            None => out.push_str(tag),
        }
        rest = after;
        if word(tag) == "raw" {
            let (raw, after) = rest.split_at(end_of_raw(rest));
            out.push_str(raw);
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Where a tag that begins `text` ends; `close` inside a string does not count.
fn end_of_tag(text: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    let mut skip = false;
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            _ if skip => skip = false,
            Some(_) if c == '\\' => skip = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(close) => return Some(at + close.len()),
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None => {}
        }
    }
    None
}

/// Where the block that ends a raw text begins.
fn end_of_raw(text: &str) -> usize {
    let ends = text.match_indices("{%").map(|(at, _)| at);
    let mut ends = ends.filter(|at| word(&text[*at..]) == "endraw");
    ends.next().unwrap_or(text.len())
}

/// The name of the block that begins `text`.
fn word(text: &str) -> &str {
    let Some(body) = text.strip_prefix("{%") else {
        return "";
    };
    let body = body.trim_start_matches(['-', '+']).trim_start();
    let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &body[..end.unwrap_or(body.len())]
}

/// Writes a block, given what is between its delimiters.
fn push_block(body: &str, out: &mut String) {
    let inner = body.trim_start_matches(['-', '+']);
    let inner = inner.strip_suffix(['-', '+']).unwrap_or(inner);
    let start = body.len() - body.trim_start_matches(['-', '+']).len();
    let (open, close) = (&body[..start], &body[start + inner.len()..]);
    out.push_str("{%");
    out.push_str(open);
    match inner.trim() {
        "generation" => out.push_str(" if true "),
        "endgeneration" => out.push_str(" endif "),
        text => match text.strip_prefix("set").and_then(assignment_to_field) {
            Some((target, value)) => {
                out.push_str(&format!(" set {target} = ({value})|{KEPT} "));
                // Line numbers in messages stay right.
                let lines = |text: &str| text.matches('\n').count();
                let lost = lines(inner).saturating_sub(lines(target) + lines(value));
                out.extend(std::iter::repeat_n('\n', lost));
            }
            None => out.push_str(inner),
        },
    }
    out.push_str(close);
    out.push_str("%}");
}

/// `name.field` and the value of `name.field = value`, `None` for anything else.
fn assignment_to_field(text: &str) -> Option<(&str, &str)> {
    let (target, value) = text.split_once('=')?;
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c.is_whitespace();
    let (name, field) = target.split_once('.')?;
    let both = [name, field]
        .into_iter()
        .all(|part| part.chars().all(plain));
    let parts = [name, field]
        .into_iter()
        .all(|part| !part.trim().is_empty());
    (both && parts && target.starts_with(char::is_whitespace))
        .then(|| (target.trim(), value.trim()))
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn only_what_must_change_changes() {
        let cases = [
            ("a\r\nb\rc", "a\nb\nc"),
            (
                "{%- generation %}x{% endgeneration -%}",
                "{%- if true %}x{% endif -%}",
            ),
            (
                "{% set ns.a = [1, '%}'] -%}x",
                "{% set ns.a = ([1, '%}'])|kept_in_namespace -%}x",
            ),
            ("{%set ns.a=1%}", "{% set ns.a = (1)|kept_in_namespace %}"),
            ("{% set a = b.c == 1 %}", "{% set a = b.c == 1 %}"),
            ("{% set ns.a %}x{% endset %}", "{% set ns.a %}x{% endset %}"),
            (
                "{# {% set ns.a = 1 %} #}{{ '{% set n.a = 1 %}' }}",
                "{# {% set ns.a = 1 %} #}{{ '{% set n.a = 1 %}' }}",
            ),
            (
                "{% raw %}{% set n.a = 1 %}{%- endraw %}{",
                "{% raw %}{% set n.a = 1 %}{%- endraw %}{",
            ),
            ("{% if x", "{% if x"),
            ("{{ 'it\\'s %}", "{{ 'it\\'s %}"),
        ];
        for (source, expected) in cases {
            assert_eq!(prepare(source), expected);
        }
    }
}

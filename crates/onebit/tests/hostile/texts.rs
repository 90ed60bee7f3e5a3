//! Tokenizers, templates and messages that are broken or hostile.

use crate::child::{Ended, onebit, onebit_with};
use crate::{arg, fixture};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with a tokenizer.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(
            fixture("tokenizers/llama3").join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    folder
}

fn render(folder: &Path, messages: &str) -> Ended {
    onebit_with(
        &["tokenize", arg(folder), "--chat", "-"],
        messages.as_bytes(),
    )
}

const MESSAGES: &str =
    r#"[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]"#;
const GROW: &str = "{% set n = namespace(x='12345678', l=[1], m=[2]) %}{% for i in range(60) %}";

/// Each takes bounded time and memory.
#[test]
fn templates_are_bounded() {
    let many = |unit: &str, middle: &str, end: &str, count: usize| {
        format!("{}{middle}{}", unit.repeat(count), end.repeat(count))
    };
    let grow = |step: &str, end: &str| format!("{GROW}{step}{{% endfor %}}{end}");
    let in_tag =
        |unit: &str, end: &str| format!("{{{{ {}1{} }}}}", unit.repeat(20_000), end.repeat(20_000));
    let templates: Vec<(&str, String)> = vec![
        ("a long string", "{{ 'x' * 1000000000 }}".into()),
        ("a string that fits", "{{ 'x' * 60000000 }}".into()),
        ("long output", "{% set a = 'x' * 1000000 %}{% for i in range(100000) %}{{ a }}{% endfor %}".into()),
        ("doubled text", grow("{% set n.x = n.x ~ n.x %}", "{{ n.x }}")),
        ("added text", grow("{% set n.x = n.x + n.x %}", "{{ n.x }}")),
        ("added lists", grow("{% set n.l = n.l + n.l %}", "{{ n.l | length }}")),
        ("lists of lists", grow("{% set n.l = [n.l, n.l] %}", "{{ n.l }}")),
        ("lists of lists as JSON", grow("{% set n.l = [n.l, n.l] %}", "{{ n.l | tojson }}")),
        ("lists in a row", "{% set a = [1] %}".to_owned() + &"{% set a = [a, a] %}".repeat(60) + "{{ a | tojson }}"),
        ("lists compared", "{% set a = [1] %}{% set b = [1] %}".to_owned()
            + &"{% set a = [a, a] %}{% set b = [b, b] %}".repeat(60) + "{{ a == b }}"),
        ("deep lists", "{% set n = namespace(l=[1]) %}{% for i in range(100000) %}{% set n.l = [n.l] %}{% endfor %}{{ n.l }}".into()),
        ("deep dictionaries", "{% set n = namespace(l={}) %}{% for i in range(100000) %}{% set n.l = {'a': n.l} %}{% endfor %}{{ n.l }}".into()),
        ("a namespace in itself", "{% set n = namespace() %}{% set n.a = n %}{{ n }}".into()),
        ("a namespace in a list in itself", "{% set n = namespace() %}{% set n.a = [[n]] %}{{ n | tojson }}".into()),
        ("two namespaces in each other", "{% set n = namespace() %}{% set m = namespace(n=n) %}{% set n.m = m %}{{ n == m }}".into()),
        ("a loop in a namespace", "{% set n = namespace() %}{% for i in [1, 2, n] %}{% set n.l = loop %}{% endfor %}{{ n }}".into()),
        ("loops in loops", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}".into()),
        ("a long range", "{{ range(1000000000000) | list }}".into()),
        ("ranges added up", "{% for i in range(100000) %}{{ range(100000) | sum }}{% endfor %}".into()),
        ("a long join", "{{ range(100000) | join('x' * 100000) }}".into()),
        ("a long replacement", "{{ ('x' * 1000000) | replace('x', 'y' * 100000) }}".into()),
        ("a long replacement by a method", "{{ ('x' * 1000000).replace('x', 'y' * 100000) }}".into()),
        ("a replacement of nothing", "{{ ('x' * 1000000).replace('', 'y' * 1000) }}".into()),
        ("a deep indent", "{{ ('a\\n' * 1000000) | indent(1000000) }}".into()),
        ("a wide format", "{{ '%1000000000d' | format(1) }}".into()),
        ("a wide format by a method", "{{ '{:1000000000}'.format(1) }}".into()),
        ("JSON with a wide indent", "{{ ([1] * 100000) | tojson(indent='x' * 1000000) }}".into()),
        ("JSON with wide separators", "{{ ([1] * 100000) | tojson(separators=['x' * 100000, ':']) }}".into()),
        ("JSON again and again", "{% for i in range(100000) %}{% set b = range(100000) | tojson %}{% endfor %}".into()),
        ("times of day", "{% set f = '%A' * 100000 %}{% for i in range(100000) %}{% set x = strftime_now(f) %}{% endfor %}".into()),
        ("a long refusal", "{{ raise_exception('x' * 10000000) }}".into()),
        ("endless recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into()),
        ("forked recursion", "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(0) }}".into()),
        ("a recursive loop", "{% for x in [[[]]] recursive %}{{ loop([[1], [2]]) }}{% endfor %}".into()),
        ("an endless division", "{{ 1 // 0 }}".into()),
        ("a large power", "{{ 10 ** 1000000000 }}".into()),
        ("parentheses", in_tag("(", ")")),
        ("brackets", in_tag("[", "]")),
        ("braces", in_tag("{1:", "}")),
        ("calls", in_tag("f(", ")")),
        ("ifs", many("{% if 1 %}", "", "{% endif %}", 5000)),
        ("fors", many("{% for i in [1] %}", "", "{% endfor %}", 3000)),
        ("a long source", "x".repeat(1 << 20)),
        ("a very long source", "x".repeat(40 << 20)),
        ("no end", "{{ ".into()),
        ("no end of a block", "{% if".into()),
        ("another file", "{% include '/etc/passwd' %}".into()),
        ("a parent", "{% extends '/etc/passwd' %}".into()),
        ("a module", "{% import 'os' as os %}{{ os.system('id') }}".into()),
        ("an unknown filter", "{{ 1 | shell }}".into()),
        ("an unknown test", "{{ 1 is evil }}".into()),
    ];
    let folder = folder();
    for (name, template) in templates {
        fs::write(folder.path().join("chat_template.jinja"), &template).unwrap();
        let ended = render(folder.path(), MESSAGES);
        eprintln!("{name}: {:?}", ended.code);
        ended.refused_for(&[2, 3], &["chat template"], 40 << 20);
    }
    // Long and deep, but no more than that.
    for template in [
        in_tag("not ", ""),
        in_tag("-", ""),
        in_tag("1 + ", ""),
        in_tag("'a' ~ ", ""),
        in_tag("1 if 1 else ", ""),
        in_tag("1 and ", ""),
        in_tag("", "|abs"),
        format!("{{{{ a{} }}}}", ".b".repeat(50_000)),
        "{% if 0 %}".to_owned() + &"{% elif 0 %}".repeat(9000) + "{% endif %}",
    ] {
        fs::write(folder.path().join("chat_template.jinja"), &template).unwrap();
        let ended = render(folder.path(), MESSAGES);
        assert!(
            matches!(ended.code, Some(0 | 2 | 3)),
            "{:?}: {}",
            ended.code,
            ended.err
        );
        ended.modest(0);
    }
}

#[test]
fn messages_are_messages() {
    let folder = folder();
    fs::write(
        folder.path().join("chat_template.jinja"),
        "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}",
    )
    .unwrap();
    for messages in [
        "",
        " ",
        "null",
        "1",
        "\"hi\"",
        "{}",
        "[]",
        "[1]",
        "[null]",
        "[[]]",
        "[{}]",
        "[{\"role\": 1}]",
        "[{\"role\": null}]",
        "[{\"content\": \"x\"}]",
        "[{\"role\": \"user\"",
        "[{\"role\": \"user\", \"content\": NaN}]",
        "\u{feff}[]",
        "[{\"role\": \"user\", \"content\": \"\\ud800\"}]",
        "[{\"role\": \"user\"}] x",
        "{\"role\": \"user\", \"content\": \"x\"}",
        "[{\"role\": \"user\", \"content\": 1e999}]",
    ] {
        render(folder.path(), messages).refused(2, &["messages"]);
    }
    let deep = format!(
        "[{{\"role\": \"user\", \"content\": {}",
        "[".repeat(100_000)
    );
    render(folder.path(), &deep).refused(2, &["messages", "recursion"]);
    let many = format!(
        "[{}{{\"role\": \"user\"}}]",
        "{\"role\": \"user\"},".repeat(500_000)
    );
    render(folder.path(), &many).refused_for(&[0, 2, 3], &[], many.len() as u64 * 8);
    let large = format!(
        "[{{\"role\": \"user\", \"content\": \"{}\"}}]",
        "x ".repeat(9 << 20)
    );
    render(folder.path(), &large).refused_for(&[2, 3], &[], large.len() as u64);
    for messages in [
        "[{\"role\": \"user\", \"content\": null}]",
        "[{\"role\": \"\", \"content\": [{\"type\": \"image\"}]}]",
        "[{\"role\": \"user\", \"content\": {\"a\": 1}, \"role2\": 1}]",
    ] {
        render(folder.path(), messages).ok();
    }
    for path in ["/no/such/file", "/dev", "/dev/zero"] {
        onebit(&["tokenize", arg(folder.path()), "--chat", path]).refused_for(
            &[2],
            &[path],
            16 << 20,
        );
    }
}

#[test]
fn conversations_that_cannot_be_loaded_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let mut commands = String::new();
    for (number, text) in [
        "",
        "{",
        "[]",
        "[1]",
        "{\"role\": \"user\"}",
        "[{\"role\": 1}]",
    ]
    .iter()
    .enumerate()
    {
        let path = folder.path().join(number.to_string());
        fs::write(&path, text).unwrap();
        commands += &format!("/load {}\n", path.display());
    }
    fs::write(folder.path().join("latin"), b"\xe9").unwrap();
    commands += &format!("/load {}\n", folder.path().join("latin").display());
    commands += "/load /no/such/file\n/load /dev/zero\n/load /\n/load\n/save /no/such/file\n/save /dev/null\n/save /\n/fly\n/exit\n";
    let ended = onebit_with(&["chat"], commands.as_bytes());
    assert_eq!(ended.ok(), "");
    assert!(!ended.err.contains("panicked"), "{}", ended.err);
    for word in [
        "UTF-8",
        "/no/such/file",
        "/dev/zero",
        "regular file",
        "/fly",
    ] {
        assert!(
            ended.err.contains(word),
            "`{word}` is not in: {}",
            ended.err
        );
    }
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    onebit_with(&["chat"], &vec![b'x'; 17 << 20]).refused_for(&[2], &["line"], 17 << 20);
    onebit_with(&["chat"], b"\xff\xfe\n/exit\n").ok();
    onebit_with(&["chat"], b"").ok();
}

#[test]
fn tokenizers_are_tokenizers() {
    let whole = fs::read_to_string(fixture("tokenizers/llama3/tokenizer.json")).unwrap();
    let deep = format!("{{\"model\": {}", "[".repeat(100_000));
    let changed = |from: &str, to: &str| {
        assert!(whole.contains(from), "{from}");
        whole.replacen(from, to, 1)
    };
    let texts: Vec<(&str, String)> = vec![
        ("empty", String::new()),
        ("null", "null".into()),
        ("a list", "[]".into()),
        ("an object", "{}".into()),
        ("a model that is null", "{\"model\": null}".into()),
        (
            "a model of an unknown type",
            "{\"model\": {\"type\": \"Magic\"}}".into(),
        ),
        (
            "a model without a vocabulary",
            "{\"model\": {\"type\": \"BPE\"}}".into(),
        ),
        (
            "a vocabulary that is a list",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": [], \"merges\": []}}".into(),
        ),
        (
            "an id that is negative",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}".into(),
        ),
        (
            "an id that is too large",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 4294967296}, \"merges\": []}}"
                .into(),
        ),
        (
            "merges of nothing",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}".into(),
        ),
        (
            "merges that are numbers",
            "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [1]}}".into(),
        ),
        (
            "an unknown word beyond the vocabulary",
            "{\"model\": {\"type\": \"Unigram\", \"unk_id\": 9, \"vocab\": [[\"a\", 0.0]]}}".into(),
        ),
        ("deep", deep),
        ("a byte order mark", format!("\u{feff}{whole}")),
        ("no end", whole[..whole.len() - 3].into()),
        ("half", whole[..whole.len() / 2].into()),
        (
            "an unknown decoder",
            changed(
                "\"decoder\":{",
                "\"decoder\":{\"type\":\"Magic\"},\"old\":{",
            ),
        ),
        (
            "a decoder that is a number",
            changed("\"decoder\":{", "\"decoder\":1,\"old\":{"),
        ),
    ];
    let folder = folder();
    for (name, text) in texts {
        fs::write(folder.path().join("tokenizer.json"), text).unwrap();
        let ended = onebit(&["tokenize", arg(folder.path()), "Once"]);
        eprintln!("{name}: {}", ended.err);
        ended.refused(3, &["tokenizer.json"]);
    }
    fs::write(folder.path().join("tokenizer.json"), &whole).unwrap();
    for text in [
        "",
        "[]",
        "null",
        "{",
        "{\"added_tokens_decoder\": 1}",
        "{\"added_tokens_decoder\": {\"x\": {}}}",
        "{\"added_tokens_decoder\": {\"-1\": {\"content\": \"x\"}}}",
        "{\"added_tokens_decoder\": {\"1\": {\"content\": 1}}}",
    ] {
        fs::write(folder.path().join("tokenizer_config.json"), text).unwrap();
        onebit(&["tokenize", arg(folder.path()), "Once"]).refused(3, &["tokenizer_config.json"]);
    }
    fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    fs::write(folder.path().join("special_tokens_map.json"), "[").unwrap();
    onebit(&["tokenize", arg(folder.path()), "Once"]).refused(3, &["special_tokens_map.json"]);
}

#[cfg(unix)]
#[test]
fn text_files_that_are_no_files() {
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    ] {
        let folder = folder();
        let path = folder.path().join(name);
        let tokenize = || onebit(&["tokenize", arg(folder.path()), "Once"]);
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).unwrap();
        tokenize().refused(3, &[name]);
        fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        tokenize().refused(3, &[name]);
        fs::remove_file(&path).unwrap();
        if std::process::Command::new("mkfifo")
            .arg(&path)
            .status()
            .is_ok_and(|status| status.success())
        {
            tokenize().refused(3, &[name]);
        }
    }
}

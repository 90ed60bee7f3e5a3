//! Chat templates against `transformers`; `fixtures/chat/generate.py` makes the cases.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use onebit_runtime::{
    ChatTemplate, ErrorKind, Message, RenderOptions, RuntimeError, TemplateValue, TextFiles,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    template: String,
    special_tokens: BTreeMap<String, String>,
    messages: Vec<Message>,
    tools: Option<TemplateValue>,
    variables: BTreeMap<String, TemplateValue>,
    add_generation_prompt: bool,
    text: Option<String>,
    error: Option<String>,
}

fn render(case: Case) -> Result<String, RuntimeError> {
    let options = RenderOptions {
        add_generation_prompt: case.add_generation_prompt,
        tools: case.tools,
        variables: case.variables,
        ..RenderOptions::default()
    };
    ChatTemplate::new(&case.template, &case.special_tokens)?.render(&case.messages, &options)
}

#[test]
fn texts_are_those_of_transformers() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/chat/cases.json"
    );
    let cases: Cases = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(cases.cases.len() >= 20);
    for case in cases.cases {
        let name = case.name.clone();
        let (text, error) = (case.text.clone(), case.error.clone());
        match render(case) {
            Ok(rendered) => assert_eq!(Some(rendered), text, "{name}"),
            Err(e) => {
                let expected = error.unwrap_or_else(|| panic!("{name}: {e}"));
                let typed = matches!(
                    e,
                    RuntimeError::Template(_) | RuntimeError::TemplateSyntax(_)
                );
                assert!(typed, "{name}: {e:?}");
                // The words of a refusal are the template's own.
                if expected.contains("please") || expected.contains("turns") {
                    assert!(e.to_string().contains(&expected), "{name}: {e}");
                }
            }
        }
    }
}

#[test]
fn errors_have_a_class() {
    let no_tokens = BTreeMap::new();
    let render = |source: &str, messages: &[Message]| {
        ChatTemplate::new(source, &no_tokens)?.render(messages, &RenderOptions::default())
    };
    let user = [Message::new("user", "x")];
    assert_eq!(
        render("{% if %}", &user).unwrap_err().kind(),
        ErrorKind::Malformed
    );
    assert_eq!(
        render("{{ raise_exception('no') }}", &user)
            .unwrap_err()
            .kind(),
        ErrorKind::Request
    );
    assert_eq!(render("x", &[]).unwrap_err().kind(), ErrorKind::Request);
    let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}";
    assert!(matches!(
        render(endless, &user),
        Err(RuntimeError::TemplateLimit(_))
    ));
    let deep = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    assert!(matches!(
        render(deep, &user),
        Err(RuntimeError::Template(_))
    ));
}

#[test]
fn templates_can_ask_for_the_time() {
    let source = "{{ strftime_now('%Y') }}{{ strftime_now is defined }}";
    let options = RenderOptions {
        now: UNIX_EPOCH + Duration::from_secs(1_750_000_000),
        ..Default::default()
    };
    let template = ChatTemplate::new(source, &BTreeMap::new()).unwrap();
    let text = template
        .render(&[Message::new("user", "x")], &options)
        .unwrap();
    assert_eq!(text, "2025True");
}

#[test]
fn messages_are_objects_with_a_role() {
    let list = |json: &str| Message::list_from_json(json.as_bytes());
    let messages =
        list(r#"[{"role": "user", "content": "Hi", "extra": {"z": 1, "a": 2}}]"#).unwrap();
    assert_eq!(
        (
            messages[0].role().as_str(),
            messages[0].content().as_deref()
        ),
        ("user", Some("Hi"))
    );
    let template = ChatTemplate::new("{{ messages | tojson }}", &BTreeMap::new()).unwrap();
    assert_eq!(
        template
            .render(&messages, &RenderOptions::default())
            .unwrap(),
        r#"[{"role": "user", "content": "Hi", "extra": {"z": 1, "a": 2}}]"#
    );
    for wrong in [
        "",
        "{}",
        "[1]",
        r#"["user"]"#,
        r#"[{"content": "x"}]"#,
        r#"[{"role": 1}]"#,
        "[[]]",
    ] {
        assert!(
            matches!(list(wrong), Err(RuntimeError::Messages(_))),
            "{wrong}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(list(&deep).is_err());
}

#[test]
fn the_template_is_found_where_it_may_lie() {
    let files = |config: &str, map: Option<&str>, template: Option<&str>| {
        let map = map.map(str::as_bytes);
        TextFiles::new(
            &b""[..],
            Some(config.as_bytes()),
            map,
            template.map(str::to_owned),
        )
        .unwrap()
    };
    let config = r#"{"chat_template": "A{{ bos_token }}", "bos_token": {"content": "<s>"}, "eos_token": null,
                     "image_token": "<i>", "add_bos_token": true}"#;
    let of = |files: &TextFiles<'_>| files.chat_template().map(str::to_owned);
    let plain = files(config, None, None);
    assert_eq!(of(&plain).as_deref(), Some("A{{ bos_token }}"));
    assert_eq!(of(&files(config, None, Some("B"))).as_deref(), Some("B"));
    let named = r#"{"chat_template": [{"name": "tool_use", "template": "C"}, {"name": "default", "template": "D"}]}"#;
    assert_eq!(of(&files(named, None, None)).as_deref(), Some("D"));
    assert_eq!(of(&files("{}", None, None)), None);
    assert!(
        ChatTemplate::from_files(&files("{}", None, None))
            .unwrap()
            .is_none()
    );

    let tokens = |files: TextFiles<'_>| {
        let tokens = files.special_tokens();
        tokens
            .into_iter()
            .map(|(role, token)| format!("{role}={token}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(tokens(plain), "bos_token=<s> image_token=<i>");
    let map = Some(r#"{"bos_token": "<m>"}"#);
    assert_eq!(
        tokens(files(r#"{"bos_token": "<s>"}"#, map, None)),
        "bos_token=<m>"
    );
    let listed = r#"{"bos_token": "<s>", "added_tokens_decoder": {}}"#;
    assert_eq!(tokens(files(listed, map, None)), "bos_token=<s>");
    let llama = r#"{"tokenizer_class": "LlamaTokenizer", "eos_token": null, "bos_token": "<b>"}"#;
    assert_eq!(
        tokens(files(llama, None, None)),
        "bos_token=<b> unk_token=<unk>"
    );
    assert!(TextFiles::new(&b""[..], Some(b"[]"), None, None).is_err());
}

//! Chat templates, rendered as `transformers` renders them.

mod json;
mod message;
mod python;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde::{Deserialize, Serialize};

pub use message::Message;

use crate::error::RuntimeError;
use crate::text_files::TextFiles;

/// Steps that a template may take before it is stopped; real ones take a few thousand.
const FUEL: u64 = 5_000_000;

/// A JSON value whose objects keep the order of their fields; read it with `serde`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateValue(Value);

impl From<bool> for TemplateValue {
    fn from(value: bool) -> Self {
        Self(value.into())
    }
}

impl From<&str> for TemplateValue {
    fn from(value: &str) -> Self {
        Self(value.into())
    }
}

/// What a template is told besides the messages.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// Whether the text ends with the opening of the assistant's answer.
    pub add_generation_prompt: bool,
    /// Descriptions of tools, as JSON schemas.
    pub tools: Option<TemplateValue>,
    /// Further variables, such as `enable_thinking`.
    pub variables: BTreeMap<String, TemplateValue>,
    /// The time that templates may ask for.
    pub now: SystemTime,
}

impl Default for RenderOptions {
    fn default() -> Self {
        Self {
            add_generation_prompt: true,
            tools: None,
            variables: BTreeMap::new(),
            now: SystemTime::now(),
        }
    }
}

/// A compiled chat template with the special tokens that it may print.
///
/// ```
/// use onebit_runtime::{ChatTemplate, Message};
///
/// let source = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}";
/// let tokens = [("bos_token".to_owned(), "<s>".to_owned())].into();
/// let template = ChatTemplate::new(source, &tokens)?;
/// let text = template.render(&[Message::new("user", " Hello ")], &Default::default())?;
/// assert_eq!(text, "<s>user: Hello\n");
/// # Ok::<(), onebit_runtime::RuntimeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    special_tokens: BTreeMap<String, String>,
}

/// The name under which the one template is kept; without an extension, so nothing is escaped.
const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`RuntimeError::TemplateSyntax`] with the line.
    pub fn new(
        source: &str,
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<Self, RuntimeError> {
        let mut environment =
            environment().map_err(|e| RuntimeError::TemplateSyntax(message(&e)))?;
        environment
            .add_template_owned(NAME, prepare(source))
            .map_err(|e| RuntimeError::TemplateSyntax(message(&e)))?;
        Ok(Self {
            environment: Arc::new(environment),
            special_tokens: special_tokens.clone(),
        })
    }

    /// The template of a model, `None` where it has none.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn from_files(files: &TextFiles<'_>) -> Result<Option<Self>, RuntimeError> {
        let compile = |source| Self::new(source, &files.special_tokens());
        files.chat_template().map(compile).transpose()
    }

    /// The text of a conversation. Encode it without special tokens: it has its own.
    ///
    /// # Errors
    /// [`RuntimeError::Messages`] without messages; [`RuntimeError::Template`] where the template
    /// refuses the messages or fails.
    pub fn render(
        &self,
        messages: &[Message],
        options: &RenderOptions,
    ) -> Result<String, RuntimeError> {
        if messages.is_empty() {
            return Err(RuntimeError::Messages("at least one is needed".into()));
        }
        let messages: Vec<Value> = messages.iter().map(Message::for_template).collect();
        let now = options.now;
        let clock = Value::from_function(move |format: &str| time::strftime(format, now));
        let mut variables: BTreeMap<&str, Value> = BTreeMap::new();
        variables.extend(
            self.special_tokens
                .iter()
                .map(|(k, v)| (k.as_str(), v.as_str().into())),
        );
        variables.extend([("tools", Value::from(())), ("documents", Value::from(()))]);
        variables.extend(
            options
                .variables
                .iter()
                .map(|(k, v)| (k.as_str(), v.0.clone())),
        );
        variables.extend(options.tools.iter().map(|tools| ("tools", tools.0.clone())));
        variables.insert("strftime_now", clock);
        variables.insert("messages", messages.into());
        variables.insert(
            "add_generation_prompt",
            options.add_generation_prompt.into(),
        );
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(|e| RuntimeError::Template(message(&e)))
    }
}

/// What `transformers` sets up for its templates.
fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    let syntax = env
        .syntax()
        .to_builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    env.set_syntax(syntax);
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_fuel(Some(FUEL));
    env.set_unknown_method_callback(python::method);
    env.add_test("sequence", python::is_sequence);
    env.add_test("iterable", python::is_iterable);
    env.add_test("number", python::is_number);
    env.add_filter("tojson", json::tojson);
    env.add_function("raise_exception", raise_exception);
    env.add_function("cycler", minijinja_contrib::globals::cycler);
    env.add_function("joiner", minijinja_contrib::globals::joiner);
    Ok(env)
}

fn raise_exception(message: &str, _kwargs: Kwargs) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// The reason without its class, with the line.
fn message(error: &Error) -> String {
    let mut text = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line})"));
    }
    text
}

/// Rewrites what the template engine does not know: other line ends become `\n`, and the
/// `generation` blocks, which only mark text, become blocks that are always rendered.
fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        out.push_str(before);
        let body = tag.trim_start_matches(['-', '+']);
        let sign = &tag[..tag.len() - body.len()];
        out.push_str(sign);
        let word = body.trim_start();
        let space = &body[..body.len() - word.len()];
        out.push_str(space);
        rest = word;
        for (name, replacement) in [("generation", "if true"), ("endgeneration", "endif")] {
            let after = word.strip_prefix(name).filter(|after| {
                let end = after.trim_start();
                ["%}", "-%}", "+%}"]
                    .iter()
                    .any(|close| end.starts_with(close))
            });
            if let Some(after) = after {
                out.push_str(replacement);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

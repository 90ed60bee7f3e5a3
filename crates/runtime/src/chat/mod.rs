//! Chat templates, rendered as `transformers` renders them.

mod json;
mod limits;
mod message;
mod prepare;
mod python;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};
use serde::{Deserialize, Serialize};

pub use message::Message;

use crate::error::RuntimeError;
use crate::text_files::TextFiles;
use prepare::prepare;

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
/// Bytes that a character of a time format stands for, at most about.
const CLOCK_BYTES: usize = 16;
/// Characters of the engine's messages that are passed on.
const MESSAGE_CHARS: usize = 400;

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`RuntimeError::TemplateSyntax`] with the line; [`RuntimeError::TemplateLimit`] for a source that is no template
    /// by its size.
    pub fn new(
        source: &str,
        special_tokens: &BTreeMap<String, String>,
    ) -> Result<Self, RuntimeError> {
        limits::check_source(source)?;
        let source = prepare(source);
        let environment = limits::bounded(move || {
            let wrong = |e: Error| RuntimeError::TemplateSyntax(message(&e));
            let mut environment = environment().map_err(wrong)?;
            environment
                .add_template_owned(NAME, source)
                .map_err(wrong)?;
            Ok(environment)
        })?;
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
    /// refuses the messages or fails; [`RuntimeError::TemplateLimit`] where it takes more steps, memory or time than any
    /// real one.
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
        let clock = Value::from_function(move |state: &State<'_, '_>, format: &str| {
            limits::charge(state, CLOCK_BYTES * format.len())?;
            Ok::<_, Error>(time::strftime(format, now))
        });
        let mut variables: BTreeMap<String, Value> = BTreeMap::new();
        variables.extend(
            self.special_tokens
                .iter()
                .map(|(k, v)| (k.clone(), v.as_str().into())),
        );
        let mut set = |name: &str, value: Value| drop(variables.insert(name.into(), value));
        set("tools", ().into());
        set("documents", ().into());
        options
            .variables
            .iter()
            .for_each(|(name, value)| set(name, value.0.clone()));
        if let Some(tools) = &options.tools {
            set("tools", tools.0.clone());
        }
        set("strftime_now", clock);
        set("messages", messages.into());
        set(
            "add_generation_prompt",
            options.add_generation_prompt.into(),
        );
        let environment = self.environment.clone();
        limits::bounded(move || {
            let template = environment.get_template(NAME);
            let text = template.and_then(|template| template.render(variables));
            limits::check_text(text.map_err(|e| match e.kind() {
                ErrorKind::OutOfFuel => {
                    RuntimeError::TemplateLimit("it takes too many steps or too much memory".into())
                }
                _ => RuntimeError::Template(message(&e)),
            })?)
        })
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
    env.set_fuel(Some(limits::FUEL));
    env.set_unknown_method_callback(python::method);
    env.add_test("sequence", python::is_sequence);
    env.add_test("iterable", python::is_iterable);
    env.add_test("number", python::is_number);
    env.add_filter("tojson", json::tojson);
    env.add_filter(prepare::KEPT, limits::kept_in_namespace);
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
    let detail = error.detail().unwrap_or_default();
    let mut text: String = detail.chars().take(MESSAGE_CHARS).collect();
    if text.is_empty() {
        text = error.kind().to_string();
    } else if text.len() < detail.len() {
        text.push_str("...");
    }
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line})"));
    }
    text
}

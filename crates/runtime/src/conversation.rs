//! A conversation whose history stays in the cache.

use crate::chat::{ChatTemplate, Message, RenderOptions};
use crate::error::RuntimeError;
use crate::generate::{GenerateOptions, Generation, Output, generate};
use crate::session::Session;
use crate::tokenizer::Tokenizer;

/// The messages so far, with the template that turns them into a prompt.
///
/// The whole conversation is rendered anew for every answer, because templates may treat the last
/// message in another way than the ones before; but only the tokens from the first difference on run
/// through the model.
#[derive(Clone, Debug)]
pub struct Conversation {
    template: ChatTemplate,
    messages: Vec<Message>,
}

impl Conversation {
    /// A conversation without messages.
    pub fn new(template: ChatTemplate) -> Self {
        Self {
            template,
            messages: Vec::new(),
        }
    }

    /// The messages so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds a message.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Takes the last message back.
    pub fn pop(&mut self) -> Option<Message> {
        self.messages.pop()
    }

    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.messages.clear();
    }

    /// The tokens of the conversation with the opening of the next answer.
    ///
    /// # Errors
    /// Whatever [`ChatTemplate::render`] and [`Tokenizer::encode`] refuse.
    pub fn prompt(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, RuntimeError> {
        let text = self
            .template
            .render(&self.messages, &RenderOptions::default())?;
        tokenizer.encode(&text, false)
    }

    /// Generates the assistant's answer and adds it to the messages.
    ///
    /// # Errors
    /// Whatever [`Conversation::prompt`] and [`generate`] refuse; no message is added then.
    /// [`RuntimeError::ContextTooSmall`] leaves the session as it is.
    pub fn answer(
        &mut self,
        session: &mut Session,
        tokenizer: &Tokenizer,
        options: &GenerateOptions,
        output: Output<'_>,
    ) -> Result<Generation, RuntimeError> {
        let ids = self.prompt(tokenizer)?;
        let context = session.options().context;
        if ids.len() > context {
            return Err(RuntimeError::ContextTooSmall {
                tokens: ids.len(),
                context,
            });
        }
        let kept = session.keep_prefix(&ids);
        let answer = generate(session, Some(tokenizer), &ids[kept..], options, output)?;
        self.push(Message::new("assistant", &answer.text));
        Ok(answer)
    }
}

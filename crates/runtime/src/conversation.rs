//! A conversation whose history stays in the cache.

use sha2::{Digest, Sha256};

use crate::chat::{ChatTemplate, Message, RenderOptions};
use crate::error::RuntimeError;
use crate::generate::{GenerateOptions, Generation, Output, StopReason, generate};
use crate::session::Session;
use crate::state::Label;
use crate::tokenizer::Tokenizer;

/// The messages so far, with the template that turns them into a prompt.
///
/// The whole conversation is rendered anew for every answer, because templates may treat the last
/// message in another way than the ones before; but only the tokens from the first difference on run
/// through the model. An answer keeps the tokens that it was generated with, which need not be those that its text is encoded
/// to, wherever the template repeats it letter by letter and the text divides there.
#[derive(Clone, Debug)]
pub struct Conversation {
    template: ChatTemplate,
    messages: Vec<Message>,
    past: Option<Past>,
}

/// The conversation up to the end of the last answer.
#[derive(Clone, Debug)]
struct Past {
    /// As the template renders it.
    text: String,
    /// As the model had and made it, without what ended it.
    ids: Vec<u32>,
}

impl Conversation {
    /// A conversation without messages.
    pub fn new(template: ChatTemplate) -> Self {
        Self {
            template,
            messages: Vec::new(),
            past: None,
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
        self.past = None;
    }

    /// The tokens of the conversation with the opening of the next answer.
    ///
    /// # Errors
    /// Whatever [`ChatTemplate::render`] and [`Tokenizer::encode`] refuse.
    pub fn prompt(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, RuntimeError> {
        self.encode(tokenizer, &self.render(&self.messages)?)
    }

    fn render(&self, messages: &[Message]) -> Result<String, RuntimeError> {
        self.template.render(messages, &RenderOptions::default())
    }

    /// The tokens of a rendered conversation: those of the past as they were, where the rest can be encoded by itself and they say
    /// what they would say when encoded anew.
    fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, RuntimeError> {
        let all = tokenizer.encode(text, false)?;
        let Some(past) = &self.past else {
            return Ok(all);
        };
        let rest = text.strip_prefix(&past.text);
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
            return Ok(all);
        };
        let before = tokenizer.encode(&past.text, false)?;
        let after = tokenizer.encode(rest, false)?;
        let divides = all.strip_prefix(&before[..]) == Some(&after[..]);
        if !divides || tokenizer.decode(&before, false)? != tokenizer.decode(&past.ids, false)? {
            return Ok(all);
        }
        Ok([&past.ids[..], &after].concat())
    }

    /// What identifies the conversation up to the end of the last answer; `None` where there is no answer yet.
    pub fn label(&self) -> Option<Label> {
        let past = self.past.as_ref()?;
        Some(Sha256::digest(&past.text).into())
    }

    /// Brings a session to the end of the last answer, so that it can be saved: its last token may not have run yet.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn settle(&self, session: &mut Session) -> Result<(), RuntimeError> {
        let ids = self.past.as_ref().map_or(&[][..], |past| &past.ids);
        if let [before @ .., last] = ids
            && before == session.tokens()
            && session.remaining() > 0
        {
            session.step(*last)?;
        }
        Ok(())
    }

    /// Takes the tokens of a session that was saved with a [`label`](Self::label) as those of the messages up to the last answer,
    /// which must be the last message; `false` where the label is that of another conversation.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn resume(&mut self, session: &Session, label: &Label) -> Result<bool, RuntimeError> {
        let Some((answer, before)) = self.messages.split_last() else {
            return Ok(false);
        };
        if before.is_empty() || answer.role() != "assistant" {
            return Ok(false);
        }
        let mut text = self.render(before)?;
        text += answer.content().as_deref().unwrap_or_default();
        if *label != <Label>::from(Sha256::digest(&text)) {
            return Ok(false);
        }
        let ids = session.tokens().to_vec();
        self.past = Some(Past { text, ids });
        Ok(true)
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
        let text = self.render(&self.messages)?;
        let ids = self.encode(tokenizer, &text)?;
        let context = session.options().context;
        if ids.len() > context {
            return Err(RuntimeError::ContextTooSmall {
                tokens: ids.len(),
                context,
            });
        }
        let kept = session.keep_prefix(&ids);
        let answer = generate(session, Some(tokenizer), &ids[kept..], options, output)?;
        let ended = usize::from(answer.stop == StopReason::Eos);
        let said = &answer.ids[..answer.ids.len() - ended];
        self.past = Some(Past {
            text: text + &answer.text,
            ids: [&ids[..], said].concat(),
        });
        self.push(Message::new("assistant", &answer.text));
        Ok(answer)
    }
}

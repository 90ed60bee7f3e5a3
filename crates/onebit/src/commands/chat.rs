//! `onebit chat`: talk with a model.

mod command;

use crate::cli::{EngineArgs, SamplingArgs};
use crate::cli::{MAX_TEXT, read_text_file};
use crate::exit::{self, Code, StdoutError};
use crate::generation::{TimingReport, options, streaming, summary};
use crate::load::Loaded;
use crate::{interrupt, note, stdout, whole_file};
use clap::Args;
use command::{Command, HELP};
use onebit_runtime::{
    Conversation, GenerateOptions, Generation, MemoryPlan, Message, RuntimeError, Session,
    SessionOptions, StopReason, Tokenizer, format_size, process_memory,
};
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Flags of `onebit chat`.
#[derive(Clone, Debug, Args)]
pub struct ChatArgs {
    /// A packed file, a Hugging Face folder, or a hub id user/name[@revision] [default: the demo model]
    model: Option<PathBuf>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Print one JSON object per answer instead of the text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Does it.
pub(crate) fn run(args: ChatArgs) -> anyhow::Result<Code> {
    args.engine.check()?;
    let interrupt = interrupt::install()?;
    let loaded = Loaded::new(args.model.as_deref(), &args.engine)?;
    let mut chat = Chat {
        tokenizer: loaded.need_tokenizer()?,
        conversation: Conversation::new(loaded.need_template()?.clone()),
        session: loaded.engine.session(loaded.session)?,
        options: options(&loaded, &args.sampling),
        last: None,
        generated: 0,
        interrupt,
        loaded: &loaded,
        args: &args,
    };
    chat.reset();
    if chat.is_watched() {
        note!("/help lists the commands; Ctrl-C stops an answer, twice leaves");
    }
    chat.talk()
}

/// A conversation in progress.
struct Chat<'a> {
    loaded: &'a Loaded,
    args: &'a ChatArgs,
    tokenizer: &'a Tokenizer,
    conversation: Conversation,
    session: Session,
    options: GenerateOptions,
    last: Option<Generation>,
    /// Tokens of all answers.
    generated: usize,
    interrupt: &'static AtomicBool,
}

/// What `--json` prints for an answer.
#[derive(Serialize)]
struct Answer<'a> {
    ids: &'a [u32],
    text: &'a str,
    stop: StopReason,
    /// Tokens that ran through the model before the answer: the history is there already.
    prefilled: usize,
    timings: TimingReport,
}

impl Chat<'_> {
    /// Reads lines until `/exit` or the end of the input.
    fn talk(&mut self) -> anyhow::Result<Code> {
        let mut input = io::stdin().lock();
        let mut line = Vec::new();
        loop {
            self.ask()?;
            line.clear();
            if (&mut input).take(MAX_TEXT).read_until(b'\n', &mut line)? == 0 {
                return Ok(Code::Success);
            }
            if line.len() as u64 == MAX_TEXT {
                return Err(exit::request(format!(
                    "a line is longer than {MAX_TEXT} bytes"
                )));
            }
            // A line after Ctrl-C means that the person stays.
            self.interrupt.store(false, Ordering::SeqCst);
            let understood = Command::parse(&String::from_utf8_lossy(&line));
            let done = match understood.map_err(exit::request) {
                Ok(Command::Exit) => return Ok(Code::Success),
                Ok(Command::Say(text)) => self.answer(&text),
                Ok(command) => self.obey(command),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                forgive(error)?;
            }
        }
    }

    /// Shows that it is the person's turn.
    fn ask(&self) -> anyhow::Result<()> {
        if self.is_watched() {
            Ok(stdout::print("> ")?)
        } else {
            Ok(())
        }
    }

    /// Whether a person sees both what they type and what comes back.
    fn is_watched(&self) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Answers a message; what the model cannot take is forgotten again.
    fn answer(&mut self, text: &str) -> anyhow::Result<()> {
        self.conversation.push(Message::new("user", text));
        let Self {
            conversation,
            session,
            tokenizer,
            options,
            args,
            ..
        } = self;
        let answer = streaming(
            self.interrupt,
            |piece| {
                if args.json {
                    Ok(())
                } else {
                    Ok(stdout::print(piece.text)?)
                }
            },
            |output| conversation.answer(session, tokenizer, options, output),
        );
        let answer = answer.inspect_err(|_| drop(self.conversation.pop()))?;
        if self.args.json {
            stdout::json(&Answer {
                ids: &answer.ids,
                text: &answer.text,
                stop: answer.stop,
                prefilled: answer.prefilled,
                timings: TimingReport::new(self.loaded, answer.timings),
            })?;
        } else {
            stdout::line("")?;
        }
        self.generated += answer.ids.len();
        self.last = Some(answer);
        Ok(())
    }

    /// Does what a command says.
    fn obey(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Help => note!("{HELP}"),
            Command::Reset => self.reset(),
            Command::Stats => self.stats()?,
            Command::Save(path) => {
                let mut json = serde_json::to_vec_pretty(self.conversation.messages())?;
                json.push(b'\n');
                whole_file::write(&path, &json)?;
                self.save_state(&path)?;
                note!(
                    "{} messages in {}",
                    self.conversation.messages().len(),
                    path.display()
                );
            }
            Command::Load(path) => {
                let messages = Message::list_from_json(read_text_file(&path)?.as_bytes())?;
                note!("{} messages from {}", messages.len(), path.display());
                self.conversation.clear();
                messages
                    .into_iter()
                    .for_each(|message| self.conversation.push(message));
                self.load_state(&path)?;
            }
            Command::Nothing | Command::Say(_) | Command::Exit => {}
        }
        Ok(())
    }

    /// Writes keys and values beside the messages of `/save`, where there is an answer.
    fn save_state(&mut self, path: &Path) -> anyhow::Result<()> {
        let Some(label) = self.conversation.label() else {
            return Ok(());
        };
        self.conversation.settle(&mut self.session)?;
        Ok(self.session.save(&state_path(path), &label)?)
    }

    /// Goes on with the keys and values beside the messages of `/load`; says why, where that cannot be.
    fn load_state(&mut self, path: &Path) -> anyhow::Result<()> {
        let path = state_path(path);
        let (engine, options) = (self.loaded.engine.clone(), *self.session.options());
        let why = match Session::load(engine, options, &path) {
            Ok((session, label)) => match self.conversation.resume(&session, &label)? {
                true => {
                    self.session = session;
                    return Ok(());
                }
                false => format!("{} is of another conversation", path.display()),
            },
            Err(error) => error.to_string(),
        };
        note!("note: the history will be computed again: {why}");
        Ok(())
    }

    /// Begins a new conversation.
    fn reset(&mut self) {
        self.conversation.clear();
        if let Some(system) = &self.args.system {
            self.conversation.push(Message::new("system", system));
        }
    }

    /// Shows tokens, cache and memory as they are now.
    fn stats(&self) -> anyhow::Result<()> {
        let (used, options) = (self.session.tokens().len(), self.session.options());
        let (plan, all) = (self.loaded.plan()?, options.context);
        note!(
            "{used} of {all} positions used, {} tokens generated",
            self.generated
        );
        let now = SessionOptions {
            context: used.max(1),
            ..*options
        };
        let in_use = MemoryPlan::new(self.loaded.engine.model(), &now)?;
        note!(
            "kv cache {}: {} of {} in use",
            self.loaded.kv_name(),
            format_size(in_use.bytes("kv cache") * u64::from(used > 0)),
            format_size(plan.bytes("kv cache"))
        );
        if let Some(memory) = process_memory() {
            note!(
                "memory {} own + {} file, peak {}, planned {}",
                format_size(memory.anon),
                format_size(memory.file),
                format_size(memory.peak),
                format_size(plan.total())
            );
        }
        if let Some(last) = &self.last {
            summary(self.loaded, &self.options, last);
        }
        Ok(())
    }
}

/// Where the keys and values of a conversation in `path` are.
fn state_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".kv");
    name.into()
}

/// Tells of an error that the conversation survives; passes on one that it does not.
fn forgive(error: anyhow::Error) -> anyhow::Result<()> {
    let hopeless = matches!(error.downcast_ref(), Some(RuntimeError::TemplateLimit(_)));
    if error.is::<StdoutError>() || hopeless {
        return Err(error);
    }
    exit::print(&error);
    if let Some(RuntimeError::ContextTooSmall { .. }) = error.downcast_ref() {
        note!("the conversation is too long: /reset begins a new one");
    }
    Ok(())
}

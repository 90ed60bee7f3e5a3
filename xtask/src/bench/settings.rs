//! What is run for each row of the table, and the commands that run it.

use super::batch;
use super::table::{Row, TableArgs};
use crate::guard;
use anyhow::Context;
use onebit::cli::parse_kv;
use onebit::exit;
use onebit_kernels::Kernels;
use onebit_model::ModelSpec;
use onebit_runtime::SessionOptions;
use std::path::Path;
use std::process::Command;

/// What is run for each row in every repetition.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) threads: Option<usize>,
    pub(super) kernels: Option<String>,
    pub(super) kv: String,
    pub(super) ctx: Option<usize>,
    pub(super) head: String,
    pub(super) prompt: usize,
    pub(super) tokens: usize,
    pub(super) depths: Vec<usize>,
    pub(super) batches: Vec<usize>,
    pub(super) repeat: usize,
}

impl TableArgs {
    /// What the flags ask for.
    ///
    /// # Errors
    /// Where they contradict one another.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let or = |flag: Option<u32>, full, quick| match (flag, self.quick) {
            (Some(n), _) => n as usize,
            (None, true) => quick,
            (None, false) => full,
        };
        parse_kv(&self.kv)
            .map_err(|error| exit::request(format!("--kv {}: {error}", self.kv)))?
            .known()?;
        let list = |text: &Option<String>| text.as_deref().map_or(Ok(Vec::new()), batch::list);
        let settings = Settings {
            threads: self.threads,
            kernels: self.kernels.clone(),
            kv: self.kv.clone(),
            ctx: self.ctx,
            head: self.head.clone(),
            prompt: or(self.prompt, 128, 64),
            tokens: or(self.tokens, 64, 24),
            depths: list(&self.depth)?,
            batches: list(&self.batch)?,
            repeat: or(self.repeat, 3, 1),
        };
        if let Some(ctx) = self.ctx
            && ctx < settings.prompt + settings.tokens
        {
            return Err(exit::request(format!(
                "--ctx {ctx} has no room for {} tokens and {} more",
                settings.prompt, settings.tokens
            )));
        }
        if settings.batches.contains(&0) {
            return Err(exit::request("--batch: a batch has at least one sequence"));
        }
        Ok(settings)
    }
}

impl Settings {
    /// Positions of the main run.
    pub(super) fn context(&self) -> usize {
        self.ctx.unwrap_or(self.prompt + self.tokens)
    }

    pub(super) fn session(&self, spec: &ModelSpec) -> SessionOptions {
        let named = self.kernels.as_deref().map(Kernels::by_name);
        let kernels = named.and_then(Result::ok).unwrap_or(Kernels::best());
        let mut options = SessionOptions::new(spec).batch_of(kernels);
        options = options.context(self.context(), spec);
        if let Some(kind) = parse_kv(&self.kv).ok().and_then(|kv| kv.known().ok()) {
            options.kv = kind.into();
        }
        options
    }

    /// Flags that every program takes.
    fn common(&self, command: &mut Command) {
        command.args(["--kv", &self.kv]);
        if let Some(threads) = self.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        if let Some(kernels) = &self.kernels {
            command.args(["--kernels", kernels]);
        }
    }

    /// `onebit run` with a prompt of so many tokens.
    pub(super) fn generation(
        &self,
        onebit: &Path,
        row: &Row,
        prompt: usize,
        context: usize,
    ) -> anyhow::Result<Command> {
        let vocab = row.facts.as_ref().and_then(|facts| facts.spec.as_ref());
        let vocab = vocab.map_or(1, |spec| spec.vocab);
        let ids: Vec<String> = (0..prompt)
            .map(|i| ((100 + i % 97) % vocab).to_string())
            .collect();
        let mut command = guard::command(onebit)?;
        command
            .arg("run")
            .arg(&row.file)
            .args(["--ids", &ids.join(",")])
            .args(["--json-lines", "--ignore-eos", "--temp", "0"])
            .args(["-n", &self.tokens.to_string()])
            .args(["-c", &context.to_string()]);
        self.common(&mut command);
        Ok(command)
    }

    pub(super) fn batch(&self, row: &Row, sequences: usize) -> anyhow::Result<Command> {
        let own = std::env::current_exe().context("the running program is not found")?;
        let mut command = guard::command(own)?;
        command
            .arg("decode-batch")
            .arg(&row.file)
            .args(["--sequences", &sequences.to_string()])
            .args(["--prompt", &self.prompt.to_string()])
            .args(["--steps", &self.tokens.to_string()]);
        self.common(&mut command);
        Ok(command)
    }
}

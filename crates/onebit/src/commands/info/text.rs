//! The report of `onebit info` for people.

use super::report::Report;
use onebit_runtime::{MemoryKind, format_size as size};
use std::fmt::{Display, Formatter, Result};

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.fmt_model(f)?;
        self.fmt_tensors(f)?;
        self.fmt_kernels(f)?;
        self.fmt_memory(f)?;
        self.fmt_provenance(f)
    }
}

impl Report<'_> {
    fn fmt_model(&self, f: &mut Formatter<'_>) -> Result {
        let spec = self.spec;
        let has = |yes: bool| if yes { "yes" } else { "no" };
        writeln!(
            f,
            "{}: {}, {}",
            self.model,
            spec.architecture,
            size(self.file_bytes)
        )?;
        writeln!(
            f,
            "  hidden {}, layers {}, heads {} / {} kv x {}, ffn {}, vocabulary {}, positions {}",
            spec.hidden,
            spec.layers,
            spec.heads,
            spec.kv_heads,
            spec.head_dim,
            spec.ffn,
            spec.vocab,
            spec.max_positions
        )?;
        writeln!(
            f,
            "  tied head: {}, tokenizer: {}, chat template: {}",
            has(spec.tied_head),
            has(self.tokenizer),
            has(self.chat_template)
        )?;
        match self.hashes {
            Some(_) => writeln!(f, "  every tensor has the hash that was stored"),
            None => Ok(()),
        }
    }

    fn fmt_tensors(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "tensors")?;
        for (layout, sum) in &self.layouts {
            writeln!(
                f,
                "  {layout:8} {:5} {:>12}",
                sum.tensors,
                size(sum.bytes as u64)
            )?;
        }
        let modes = self.activations.iter();
        let modes: Vec<_> = modes
            .map(|(mode, count)| format!("{mode} ({count})"))
            .collect();
        writeln!(
            f,
            "activations as trained, by matrices: {}",
            modes.join(", ")
        )
    }

    fn fmt_kernels(&self, f: &mut Formatter<'_>) -> Result {
        let kernels = &self.kernels;
        writeln!(
            f,
            "kernels: {} of {}",
            kernels.chosen,
            kernels.available.join(", ")
        )?;
        for (name, why) in &kernels.unavailable {
            writeln!(f, "  not {name}: {why}")?;
        }
        Ok(())
    }

    fn fmt_memory(&self, f: &mut Formatter<'_>) -> Result {
        let memory = &self.memory;
        writeln!(f, "memory with {} positions, kv {}", memory.ctx, memory.kv)?;
        for item in &memory.plan.items {
            let kind = if item.kind == MemoryKind::File {
                "file"
            } else {
                "own"
            };
            let part = match item.resident == item.bytes {
                true => String::new(),
                false => format!(", {} resident", size(item.resident)),
            };
            writeln!(
                f,
                "  {:18} {:>12}  {kind}{part}",
                item.name,
                size(item.bytes)
            )?;
        }
        let (file, own, total) = (size(memory.file), size(memory.anon), size(memory.total));
        writeln!(
            f,
            "  {:18} {total:>12}  {file} file + {own} own",
            "total resident"
        )?;
        writeln!(
            f,
            "largest contexts in {} ({})",
            size(memory.limit.bytes),
            memory.limit.source
        )?;
        for (kind, context) in &memory.largest_contexts {
            match context {
                Some(context) => writeln!(f, "  kv {kind:15} {context:>12}")?,
                None => writeln!(f, "  kv {kind:15} {:>12}", "none")?,
            }
        }
        Ok(())
    }

    fn fmt_provenance(&self, f: &mut Formatter<'_>) -> Result {
        let from = self.provenance;
        let revision = from
            .revision
            .as_ref()
            .map_or_else(String::new, |revision| format!("@{revision}"));
        writeln!(f, "from {}{revision}, by {}", from.source, from.converter)?;
        for file in &from.files {
            writeln!(f, "  {} {} {}", file.sha256, size(file.bytes), file.name)?;
        }
        Ok(())
    }
}

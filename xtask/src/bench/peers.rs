//! Other engines in the same table.

use super::figure::add;
use super::gguf;
use super::measure::{Measured, measure_quietly};
use super::models::{Dimensions, FileFacts, sha256};
use super::settings::Settings;
use super::table::Row;
use crate::guard;
use anyhow::Context;
use onebit::exit;
use onebit_runtime::default_threads;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Drives the package llama-cpp-python.
const PYTHON_DRIVER: &str = include_str!("peer_llama_cpp.py");
/// What names that package in `--peer`.
const PYTHON: &str = "llama-cpp-python";

/// Another engine with a model of its own format.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peer {
    name: String,
    /// What the name of the row that it is compared with contains; where not said, the one of the nearest file size among
    /// those with the dimensions of its model.
    row: Option<String>,
    /// Of its model, where no row is named.
    dimensions: Option<Dimensions>,
    engine: Engine,
    gguf: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
enum Engine {
    /// A `llama-bench` of llama.cpp or of a program made from it.
    LlamaBench(PathBuf),
    /// The Python package.
    Python,
}

impl Peer {
    /// Reads `NAME[@ROW]=PATH:GGUF` or `llama-cpp-python[@ROW]:GGUF`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let refuse = |why: String| exit::request(format!("--peer {text}: {why}"));
        let with_row = |name: &str| match name.split_once('@') {
            Some((name, row)) => (name.to_owned(), Some(row.to_owned())),
            None => (name.to_owned(), None),
        };
        let (name, engine, gguf) = match text.split_once('=') {
            Some((name, rest)) => {
                let (program, gguf) = two_files(rest).ok_or_else(|| {
                    refuse(format!(
                        "{rest} is not a program and a GGUF file, PATH:GGUF"
                    ))
                })?;
                (name, Engine::LlamaBench(program), gguf)
            }
            None => {
                let (name, gguf) = text
                    .rsplit_once(':')
                    .filter(|(name, _)| name.split('@').next() == Some(PYTHON))
                    .ok_or_else(|| refuse(format!("neither NAME=PATH:GGUF nor {PYTHON}:GGUF")))?;
                (name, Engine::Python, PathBuf::from(gguf))
            }
        };
        if !gguf.is_file() {
            return Err(refuse(format!("{} is no file", gguf.display())));
        }
        let (name, row) = with_row(name);
        let dimensions = match &row {
            Some(_) => None,
            None => Some(gguf::dimensions(&gguf).map_err(|error| {
                refuse(format!(
                    "{}: {error:#}; {name}@ROW names the row to compare it with",
                    gguf.display()
                ))
            })?),
        };
        Ok(Self {
            name,
            row,
            dimensions,
            engine,
            gguf,
        })
    }

    /// Its row, paired with one of `rows`.
    pub(super) fn row(self, rows: &[Row]) -> anyhow::Result<Row> {
        let bytes = std::fs::metadata(&self.gguf)?.len();
        let run: Vec<(&Row, &FileFacts)> = rows
            .iter()
            .filter(|row| row.peer.is_none())
            .filter_map(|row| Some((row, row.facts.as_ref()?)))
            .collect();
        let pair = match (&self.row, self.dimensions) {
            (Some(text), _) => run.iter().find(|(row, _)| row.name.contains(text.as_str())),
            (None, own) => run
                .iter()
                .filter(|(_, facts)| own.is_some() && facts.dimensions() == own)
                .min_by_key(|(_, facts)| facts.bytes.abs_diff(bytes)),
        };
        let pair = pair.ok_or_else(|| self.unpaired(&run))?.0.name.clone();
        Ok(Row {
            name: self.name.clone(),
            format: "gguf".into(),
            file: std::path::absolute(&self.gguf)?,
            facts: Some(FileFacts {
                bytes,
                sha256: sha256(&self.gguf)?,
                spec: None,
                fp16: None,
            }),
            pair: Some(pair),
            peer: Some(self),
            ..Row::default()
        })
    }

    /// Why none of the rows that are run is its pair, and what to say instead.
    fn unpaired(&self, run: &[(&Row, &FileFacts)]) -> anyhow::Error {
        let Self { name, .. } = self;
        let rows: Vec<String> = run
            .iter()
            .map(|(row, facts)| match facts.dimensions() {
                Some(dimensions) => format!("{:?} ({dimensions})", row.name),
                None => format!("{:?}", row.name),
            })
            .collect();
        let rows = match rows.is_empty() {
            true => "none".to_owned(),
            false => rows.join(", "),
        };
        let what = match (&self.row, self.dimensions) {
            (Some(text), _) => format!("no row that is run has {text:?} in its name"),
            (None, Some(own)) => {
                format!(
                    "no row that is run has the shape of its model ({own}); {name}@ROW names one all the same"
                )
            }
            (None, None) => {
                format!("it is not paired; {name}@ROW names the row to compare it with")
            }
        };
        exit::request(format!("--peer {name}: {what}; rows that are run: {rows}"))
    }

    fn command(&self, settings: &Settings) -> anyhow::Result<Command> {
        let threads = settings.threads.unwrap_or_else(default_threads).to_string();
        let (prompt, tokens) = (settings.prompt.to_string(), settings.tokens.to_string());
        let mut command;
        match &self.engine {
            Engine::LlamaBench(program) => {
                command = guard::command(program)?;
                command.arg("-m").arg(&self.gguf);
                command.args(["-p", &prompt, "-n", &tokens, "-t", &threads, "-r", "1"]);
                command.args(["-o", "json"]);
            }
            Engine::Python => {
                let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
                command = guard::command(python)?;
                command.args(["-c", PYTHON_DRIVER]).arg(&self.gguf);
                command.args([&prompt, &tokens, &threads]);
            }
        }
        Ok(command)
    }

    /// One repetition.
    pub(super) fn measure(&self, row: &mut Row, settings: &Settings) -> anyhow::Result<()> {
        let measured = measure_quietly(self.command(settings)?, None)?;
        measured.check()?;
        let seen = match &self.engine {
            Engine::LlamaBench(_) => llama_bench(&measured)?,
            Engine::Python => python(&measured)?,
        };
        row.series
            .push([seen.decode, seen.prefill, measured.peak_figure()]);
        if let Some(kind) = seen.kind {
            row.format = kind;
        }
        for (name, value) in seen.figures {
            add(&mut row.figures, name, value);
        }
        add(&mut row.figures, "peak_rss", measured.peak_figure());
        let most = |sample: &&super::measure::Sample| sample.anon + sample.file;
        if let Some(sample) = measured.timeline.iter().max_by_key(most) {
            add(&mut row.figures, "rss_anon", sample.anon as f64);
            add(&mut row.figures, "rss_file", sample.file as f64);
        }
        row.timeline.clone_from(&measured.timeline);
        Ok(())
    }
}

/// Engines that are run with several models are told apart by these: `compare` finds rows by their names.
pub(super) fn name_apart(peers: &mut [Peer]) {
    let names: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
    for peer in peers {
        if names.iter().filter(|name| **name == peer.name).count() > 1 {
            peer.name = format!("{} {}", peer.name, file_name(&peer.gguf));
        }
    }
}

/// The last part of a path.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// `PATH:GGUF` where both are files, wherever the colon is.
fn two_files(text: &str) -> Option<(PathBuf, PathBuf)> {
    text.match_indices(':').find_map(|(at, _)| {
        let (a, b) = (Path::new(&text[..at]), Path::new(&text[at + 1..]));
        (a.is_file() && b.is_file()).then(|| (a.to_owned(), b.to_owned()))
    })
}

/// What another engine says of itself.
struct Seen {
    kind: Option<String>,
    decode: f64,
    prefill: f64,
    figures: Vec<(&'static str, f64)>,
}

/// Reads the array that `llama-bench -o json` prints: an object for the prompt, one for the tokens after it.
fn llama_bench(measured: &Measured) -> anyhow::Result<Seen> {
    let text: Vec<&str> = measured
        .lines
        .iter()
        .map(|line| line.text.as_str())
        .collect();
    let text = text.join("\n");
    // Some versions print a line about their device first.
    let start = text.find('[').unwrap_or(0);
    let tests: Vec<Value> = serde_json::from_str(&text[start..])
        .context("the output is not that of llama-bench -o json")?;
    let number = |test: &Value, key: &str| test[key].as_f64().unwrap_or(0.0);
    let rate = |prompt: bool| {
        let test = tests.iter().find(|test| {
            (number(test, "n_prompt") > 0.0) == prompt && (number(test, "n_gen") > 0.0) != prompt
        });
        let rate = test.and_then(|test| test["avg_ts"].as_f64());
        rate.with_context(|| {
            format!(
                "llama-bench reports no {}",
                if prompt { "prompt" } else { "tokens" }
            )
        })
    };
    let (prefill, decode) = (rate(true)?, rate(false)?);
    let kind = tests.iter().find_map(|test| test["model_type"].as_str());
    Ok(Seen {
        kind: kind.map(str::to_owned),
        decode,
        prefill,
        figures: vec![("prefill_tok_s", prefill), ("decode_tok_s", decode)],
    })
}

/// Reads the object that the driver prints.
fn python(measured: &Measured) -> anyhow::Result<Seen> {
    let json = measured.last_json()?;
    let names = [
        "load_ms",
        "ttft_ms",
        "prefill_tok_s",
        "decode_tok_s",
        "decode_ms_p50",
        "decode_ms_p95",
        "decode_ms_p99",
    ];
    let mut figures = Vec::new();
    for name in names {
        let value = json[name].as_f64();
        figures.push((
            name,
            value.with_context(|| format!("the driver reports no {name}"))?,
        ));
    }
    Ok(Seen {
        kind: None,
        decode: figures[3].1,
        prefill: figures[2].1,
        figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_and_their_files_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").unwrap();
            path
        };
        let (program, gguf) = (path("llama-bench"), path("a:b.gguf"));
        let text = format!("ik@2B=={}:{}", program.display(), gguf.display());
        assert!(Peer::parse(&text).is_err());
        let peer = Peer::parse(&text.replace("==", "=")).unwrap();
        assert_eq!(
            (peer.name.as_str(), peer.row.as_deref()),
            ("ik", Some("2B"))
        );
        assert_eq!(
            (peer.engine, peer.gguf),
            (Engine::LlamaBench(program), gguf)
        );
        let other = path("c.gguf");
        let peer = Peer::parse(&format!("{PYTHON}@x:{}", other.display())).unwrap();
        assert_eq!((peer.engine, peer.gguf), (Engine::Python, other.clone()));
        let error = Peer::parse(&format!("{PYTHON}:{}", other.display())).unwrap_err();
        assert!(error.to_string().contains("@ROW"), "{error}");
        for bad in [
            "x",
            "x=y",
            "other:z.gguf",
            "llama-cpp-python:/nonexistent.gguf",
        ] {
            let error = Peer::parse(bad).unwrap_err();
            assert_eq!(onebit::code_of(&error), exit::Code::Request, "{bad}");
        }
    }

    #[test]
    fn one_engine_with_two_models_is_two_names() {
        let peer = |name: &str, file: &str| Peer {
            name: name.into(),
            row: None,
            dimensions: None,
            engine: Engine::Python,
            gguf: file.into(),
        };
        let mut peers = [
            peer("a", "d/x.gguf"),
            peer("b", "x.gguf"),
            peer("a", "y.gguf"),
        ];
        name_apart(&mut peers);
        assert_eq!(peers.map(|peer| peer.name), ["a x.gguf", "b", "a y.gguf"]);
    }

    #[test]
    fn a_peer_is_paired_with_a_row_of_its_shape() {
        let folder = tempfile::tempdir().unwrap();
        let gguf = folder.path().join("x.gguf");
        let peer = |row: &str, hidden| {
            std::fs::write(&gguf, gguf::tests::header(hidden, 22, 5632)).unwrap();
            Peer::parse(&format!("{PYTHON}{row}:{}", gguf.display())).unwrap()
        };
        let row = |name: &str, hidden, bytes| {
            let mut spec = onebit_runtime::Shape::named("tinyllama").unwrap().spec;
            spec.hidden = hidden;
            Row {
                name: name.into(),
                facts: Some(FileFacts {
                    bytes,
                    sha256: String::new(),
                    spec: Some(spec),
                    fp16: None,
                }),
                ..Row::default()
            }
        };
        // The size of the last is nearest.
        let rows = [
            row("large", 2048, 1 << 30),
            row("small", 2048, 1 << 20),
            row("other", 1024, 1 << 10),
        ];
        let pair = |peer: Peer| peer.row(&rows).map(|row| row.pair.unwrap());
        assert_eq!(pair(peer("", 2048)).unwrap(), "small");
        assert_eq!(pair(peer("@large", 2048)).unwrap(), "large");
        assert_eq!(pair(peer("@other", 2048)).unwrap(), "other");
        for (peer, words) in [
            (peer("", 512), "22 layers of 512"),
            (peer("@no", 2048), "\"no\""),
        ] {
            let error = pair(peer).unwrap_err();
            assert_eq!(onebit::code_of(&error), exit::Code::Request);
            let error = error.to_string();
            for part in [words, "\"large\" (22 layers of 2048, MLP of 5632)", "other"] {
                assert!(error.contains(part), "{error}");
            }
        }
        assert!(
            pair(peer("", 512))
                .unwrap_err()
                .to_string()
                .contains("@ROW")
        );
    }
}

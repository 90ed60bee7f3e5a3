//! Checkpoints that go through conversion, opening and the decoder compute what `transformers` computes.
//!
//! `fixtures/checkpoints/generate.py` makes the checkpoints and their goldens: float32 logits of every position of
//! a prompt, and the greedy tokens after it.

use std::fs;
use std::path::{Path, PathBuf};

use onebit_convert::{Options, convert};
use onebit_kernels::{Executor, Kernels, Serial};
use onebit_model::{KvCache, KvType, Model, Row, Step, Workspace};
use onebit_runtime::Pool;
use safetensors::SafeTensors;
use serde::Deserialize;

/// Largest distance of a logit from the golden one. Prompts are free of near ties between int8 values, so that
/// correct float32 engines differ by rounding alone, about 1e-5.
const TOLERANCE: f32 = 2e-4;

#[derive(Deserialize)]
struct Golden {
    input_ids: Vec<u32>,
    greedy: Vec<u32>,
    #[serde(skip)]
    logits: Vec<f32>,
}

struct Case {
    name: String,
    golden: Golden,
    model: Model,
    _dir: tempfile::TempDir,
}

impl Case {
    fn load(folder: &Path) -> Self {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onebit");
        convert(folder, &path, &Options::default(), &mut ())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let json = fs::read(folder.join("golden.json")).unwrap();
        let mut golden: Golden = serde_json::from_slice(&json).unwrap();
        golden.logits = floats(&folder.join("golden.safetensors"), "logits");
        Self {
            model: Model::open(&path).unwrap_or_else(|error| panic!("{name}: {error}")),
            name,
            golden,
            _dir: dir,
        }
    }

    fn vocab(&self) -> usize {
        self.model.spec().vocab
    }

    fn cache(&self) -> KvCache {
        let capacity = self.golden.input_ids.len() + self.golden.greedy.len();
        KvCache::new(self.model.spec(), KvType::F32, capacity).unwrap()
    }

    /// Logits of all positions of the prompt, taken in steps of `chunk` tokens.
    fn prompt_logits(
        &self,
        kernels: &Kernels,
        executor: &dyn Executor,
        chunk: usize,
        cache: &mut KvCache,
    ) -> Vec<f32> {
        let mut workspace = Workspace::new(&self.model, chunk, chunk).unwrap();
        let mut logits = Vec::new();
        cache.expect(self.golden.input_ids.len());
        for tokens in self.golden.input_ids.chunks(chunk) {
            let step = self.step(kernels, executor, &mut workspace, cache, tokens);
            logits.extend(step);
        }
        logits
    }

    /// Continues a sequence by some tokens; the logits of each.
    fn step(
        &self,
        kernels: &Kernels,
        executor: &dyn Executor,
        workspace: &mut Workspace,
        cache: &mut KvCache,
        tokens: &[u32],
    ) -> Vec<f32> {
        let first = cache.len();
        let rows: Vec<Row> = (first..)
            .zip(tokens)
            .map(|(position, &token)| Row {
                sequence: 0,
                position,
                token,
            })
            .collect();
        let all: Vec<usize> = (0..rows.len()).collect();
        let step = Step {
            rows: &rows,
            caches: &mut [cache],
            logits_for: &all,
            hidden: false,
        };
        let output = self.model.forward(kernels, executor, workspace, step);
        output.unwrap().all_logits().to_vec()
    }

    fn greedy(&self, kernels: &Kernels) -> Vec<u32> {
        let mut cache = self.cache();
        let prompt = self.prompt_logits(kernels, &Serial, self.golden.input_ids.len(), &mut cache);
        let mut last = prompt[prompt.len() - self.vocab()..].to_vec();
        let mut workspace = Workspace::new(&self.model, 1, 1).unwrap();
        let mut tokens = Vec::new();
        for _ in &self.golden.greedy {
            tokens.push(argmax(&last));
            last = self.step(
                kernels,
                &Serial,
                &mut workspace,
                &mut cache,
                &tokens[tokens.len() - 1..],
            );
        }
        tokens
    }
}

fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints");
    let mut folders: Vec<PathBuf> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("golden.json").is_file())
        .collect();
    folders.sort();
    assert!(folders.len() >= 35, "{folders:?}");
    folders.iter().map(|folder| Case::load(folder)).collect()
}

fn floats(path: &Path, name: &str) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor(name).unwrap().data();
    let numbers = data.as_chunks::<4>().0;
    numbers.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn argmax(logits: &[f32]) -> u32 {
    let best = (0..)
        .zip(logits)
        .max_by(|a: &(u32, _), b| a.1.total_cmp(b.1));
    best.unwrap().0
}

/// Largest distance; infinite where either is no number.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let distances = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    distances.fold(0.0, |max, d| {
        if d.is_nan() {
            f32::INFINITY
        } else {
            d.max(max)
        }
    })
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn logits_and_greedy_tokens_are_those_of_transformers() {
    let mut wrong = Vec::new();
    for case in cases() {
        let golden = &case.golden;
        for kernels in Kernels::available() {
            let chunk = golden.input_ids.len();
            let logits = case.prompt_logits(kernels, &Serial, chunk, &mut case.cache());
            let error = distance(&logits, &golden.logits);
            println!("{:32} {:8} {error:.1e}", case.name, kernels.name());
            if error > TOLERANCE {
                wrong.push(format!("{} {}: {error:.1e}", case.name, kernels.name()));
            }
            if case.greedy(kernels) != golden.greedy {
                wrong.push(format!("{} {}: greedy", case.name, kernels.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn logits_are_the_same_bits_for_every_kernel_set_chunk_and_thread_count() {
    let pools: Vec<Pool> = [2, 3].map(|threads| Pool::new(threads).unwrap()).into();
    for case in cases() {
        let all = case.golden.input_ids.len();
        let best = Kernels::best();
        let expected = bits(&case.prompt_logits(best, &Serial, all, &mut case.cache()));
        for kernels in Kernels::available() {
            for chunk in [1, 7, all] {
                let executors = pools.iter().map(|pool| pool as &dyn Executor);
                for executor in executors.chain([&Serial as &dyn Executor]) {
                    let logits = case.prompt_logits(kernels, executor, chunk, &mut case.cache());
                    let threads = executor.threads();
                    assert!(
                        bits(&logits) == expected,
                        "{} {} chunk {chunk} threads {threads}",
                        case.name,
                        kernels.name()
                    );
                }
            }
        }
    }
}

#[test]
fn sequences_in_one_batch_do_not_touch_each_other() {
    for case in cases() {
        let ids = &case.golden.input_ids;
        let kernels = Kernels::best();
        let expected = bits(&case.prompt_logits(kernels, &Serial, ids.len(), &mut case.cache()));
        // The prompt twice, token by token in turn, the second one token behind the first.
        let (mut a, mut b) = (case.cache(), case.cache());
        a.expect(ids.len());
        b.expect(ids.len());
        let mut workspace = Workspace::new(&case.model, 2, 2).unwrap();
        let mut logits = [Vec::new(), Vec::new()];
        for position in 0..=ids.len() {
            let row = |sequence, position: usize| {
                let token = *ids.get(position)?;
                Some(Row {
                    sequence,
                    position,
                    token,
                })
            };
            let second = position.checked_sub(1).and_then(|before| row(1, before));
            let rows: Vec<Row> = [second, row(0, position)].into_iter().flatten().collect();
            let wanted: Vec<usize> = (0..rows.len()).collect();
            let step = Step {
                rows: &rows,
                caches: &mut [&mut a, &mut b],
                logits_for: &wanted,
                hidden: false,
            };
            let output = case.model.forward(kernels, &Serial, &mut workspace, step);
            let output = output.unwrap();
            for (i, row) in rows.iter().enumerate() {
                logits[row.sequence].extend(bits(output.logits(i)));
            }
        }
        assert!(
            logits[0] == expected && logits[1] == expected,
            "{}",
            case.name
        );
    }
}

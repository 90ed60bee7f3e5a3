//! Ways to get weights into memory: the same logits, and what is refused.

use crate::{Done, TINY, fixture_arg, onebit, pack, program};
use onebit_format::{ActivationMode, Layout, Plan, Provenance, Scales, Writer, pack as rows};
use onebit_model::{Activation, ModelSpec, RopeSpec};
use std::path::{Path, PathBuf};

/// The file of logits that `score` writes for `model`.
fn logits(model: &[&str], flags: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    let ids = ["--ids", "5,6,7,8,9,10,3,2,1", "--logits"];
    let args = [&["score"][..], model, &ids, &[out.to_str().unwrap()], flags].concat();
    onebit(&args).ok();
    std::fs::read(&out).unwrap()
}

/// Whether this process may lock the weights of small models; says why not.
fn can_lock() -> bool {
    let done = onebit(&["run", "--ids", "1", "-n", "1", "--mlock"]);
    if done.code != 0 {
        assert!([4, 5].contains(&done.code), "{}", done.err);
        eprintln!("--load mlock is skipped because {}", done.err);
    }
    done.code == 0
}

#[test]
fn logits_do_not_depend_on_how_weights_are_loaded() {
    let mut ways = vec![
        vec!["--load", "mmap"],
        vec!["--no-mmap"],
        vec!["--stream", "-t", "2"],
        vec!["--mmap", "--stream", "-t", "1"],
    ];
    if can_lock() {
        ways.push(vec!["--load", "mlock"]);
    }
    let folders = [
        fixture_arg(TINY.0),
        fixture_arg("checkpoints/llama_dense_bf16"),
        fixture_arg("checkpoints/qwen3_mlx_1bit"),
        fixture_arg("checkpoints/bitnet_packed"),
    ];
    let models = folders.iter().map(|folder| vec![folder.as_str()]);
    for model in models.chain([vec![]]) {
        let expected = logits(&model, &["--load", "heap"]);
        for way in &ways {
            assert!(logits(&model, way) == expected, "{model:?} {way:?}");
        }
    }
}

#[test]
fn streaming_goes_with_maps_only() {
    let model = fixture_arg(TINY.0);
    for way in [
        &["--load", "heap"][..],
        &["--load", "mlock"],
        &["--no-mmap"],
        &["--mlock"],
    ] {
        let args = [&["run", &model, "--ids", "1", "--stream"], way].concat();
        onebit(&args).refused(2, &["--stream"]);
    }
}

#[cfg(unix)]
#[test]
fn a_limit_on_locked_memory_is_named_with_the_way_to_raise_it() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    let packed = pack(TINY.0, folder.path());
    // Who may lock anything is not refused, so the program runs as nobody, where that is possible.
    for path in [folder.path(), &packed] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let script = "ulimit -l 16; exec \"$0\" run \"$1\" --ids 1 -n 1 --load mlock";
    let command = || {
        let inner = program(&[]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).arg(inner.get_program());
        command.arg(&packed).stdin(std::process::Stdio::null());
        command
    };
    let mut nobody = command();
    nobody.uid(65_534).gid(65_534);
    let done: Done = match nobody.output() {
        // The program may lie where nobody reaches it.
        Ok(output) if output.status.code() != Some(126) => output.into(),
        _ => command().output().unwrap().into(),
    };
    if done.code == 0 {
        eprintln!("skipped because this user may lock any amount of memory");
        return;
    }
    done.refused(5, &["RLIMIT_MEMLOCK", "16384 bytes", "ulimit -l"]);
}

/// Writes a model of about 65 MB, whose matrices repeat one row.
fn write_large(path: &Path) {
    let spec = ModelSpec {
        architecture: "test".into(),
        hidden: 1024,
        layers: 16,
        heads: 16,
        kv_heads: 4,
        head_dim: 64,
        ffn: 4096,
        vocab: 2000,
        max_positions: 256,
        norm_eps: 1e-5,
        rope: RopeSpec::new(10_000.0),
        activation: Activation::Silu,
        tied_head: false,
        ..ModelSpec::default()
    };
    let mut plan = Plan::new(serde_json::to_value(&spec).unwrap(), Provenance::default());
    let (f32, i8) = (ActivationMode::F32, ActivationMode::I8Token);
    plan.matrix("embed", Layout::BF16, spec.vocab, spec.hidden, f32);
    let (hidden, ffn, kv) = (spec.hidden, spec.ffn, spec.kv_width());
    let shapes = [
        ("q", hidden, hidden),
        ("k", kv, hidden),
        ("v", kv, hidden),
        ("o", hidden, hidden),
        ("gate", ffn, hidden),
        ("up", ffn, hidden),
        ("down", hidden, ffn),
    ];
    for layer in 0..spec.layers {
        plan.vector(format!("layers.{layer}.attn_norm"), hidden);
        plan.vector(format!("layers.{layer}.ffn_norm"), hidden);
        for (name, rows, cols) in shapes {
            plan.matrix(format!("layers.{layer}.{name}"), Layout::T2, rows, cols, i8);
        }
    }
    plan.vector("norm", hidden);
    plan.matrix("head", Layout::BF16, spec.vocab, hidden, f32);
    let mut writer = Writer::create(path, plan).unwrap();
    table(&mut writer, "embed", spec.vocab, hidden);
    for layer in 0..spec.layers {
        for norm in ["attn_norm", "ffn_norm"] {
            let name = format!("layers.{layer}.{norm}");
            writer.write_vector(&name, &vec![1.0; hidden]).unwrap();
        }
        for (at, (name, rows, cols)) in shapes.into_iter().enumerate() {
            let code = |k: usize| ((k * k + 3 * k + layer + at) % 7 % 3) as i8 - 1;
            let codes: Vec<i8> = (0..cols).map(code).collect();
            let mut row = vec![0; Layout::T2.row_bytes(cols).unwrap()];
            rows::ternary_row(&codes, &mut row);
            let name = format!("layers.{layer}.{name}");
            let mut matrix = writer.write_matrix(&name).unwrap();
            (0..rows).for_each(|_| matrix.rows(&row).unwrap());
            matrix.finish(Scales::Tensor(0.02)).unwrap();
        }
    }
    writer.write_vector("norm", &vec![1.0; hidden]).unwrap();
    table(&mut writer, "head", spec.vocab, hidden);
    writer.finish().unwrap();
}

fn table(writer: &mut Writer, name: &str, vocab: usize, hidden: usize) {
    let mut matrix = writer.write_matrix(name).unwrap();
    let mut row = vec![0; Layout::BF16.row_bytes(hidden).unwrap()];
    for token in 0..vocab {
        let number = |k: usize| ((token * 31 + k * 17) % 101) as f32 / 50.0 - 1.0;
        rows::bf16_row(&(0..hidden).map(number).collect::<Vec<_>>(), &mut row).unwrap();
        matrix.rows(&row).unwrap();
    }
    matrix.finish(Scales::None).unwrap();
}

/// A memory cgroup with a limit, gone when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Version 1, else version 2; `None` where this process cannot make one.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("onebit-test-{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        kinds.into_iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            // The files of the group exist already: one that is created now would not be of a cgroup.
            let mut file = std::fs::OpenOptions::new();
            let mut file = file.write(true).open(group.0.join(limit)).ok()?;
            std::io::Write::write_all(&mut file, bytes.to_string().as_bytes()).ok()?;
            Some(group)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_model_larger_than_its_memory_limit_is_streamed() {
    const LIMIT: u64 = 40 << 20;
    let Some(group) = Cgroup::new(LIMIT) else {
        eprintln!("skipped because no memory cgroup can be made here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onebit");
    write_large(&path);
    assert!(std::fs::metadata(&path).unwrap().len() > LIMIT * 3 / 2);
    let model = path.to_str().unwrap();
    let mut args = vec!["run", model, "--ids", "5,6,7", "-n", "8", "--json"];
    args.extend(["--temp", "0", "--ignore-eos", "-c", "64", "-b", "16"]);
    let expected = onebit(&args).json()["ids"].clone();
    args.push("--stream");
    let inner = program(&args);
    let done: Done = std::process::Command::new("sh")
        .args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""])
        .arg(&group.0)
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
        .into();
    if done.err.contains("cgroup.procs") {
        eprintln!("skipped because no process can be moved: {}", done.err);
        return;
    }
    assert_eq!(done.json()["ids"], expected);
}

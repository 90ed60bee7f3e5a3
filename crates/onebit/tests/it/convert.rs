//! `onebit convert`, and models that are folders.

use crate::{TINY, cache, fixture, fixture_arg, onebit, pack};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A copy of a checkpoint whose config has been edited.
fn edited(checkpoint: &str, edit: impl FnOnce(&mut serde_json::Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(checkpoint)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = folder.path().join("config.json");
    let mut json = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    edit(&mut json);
    fs::write(config, json.to_string()).unwrap();
    folder
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn the_summary_has_shares_and_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.onebit");
    let summary = onebit(&[
        "convert",
        &fixture_arg("checkpoints/bitnet_packed"),
        "-o",
        out.to_str().unwrap(),
    ])
    .ok();
    for part in [
        "layers.0.q",
        "t2",
        "bf16",
        "-1",
        "all weights are zero",
        "a.onebit",
    ] {
        assert!(summary.contains(part), "`{part}` is not in {summary}");
    }
    assert_eq!(names(folder.path()), ["a.onebit"]);
}

#[test]
fn an_existing_output_needs_force() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.onebit");
    fs::write(&out, "precious").unwrap();
    let (source, out_arg) = (fixture_arg(TINY.0), out.to_str().unwrap());
    onebit(&["convert", &source, "-o", out_arg]).refused(2, &["a.onebit", "exists"]);
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    onebit(&["convert", &source, "-o", out_arg, "--force"]).ok();
    onebit(&["info", out_arg]).ok();
    assert_eq!(names(folder.path()), ["a.onebit"]);
}

#[test]
fn what_cannot_be_converted_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.onebit");
    let convert = |source: &str, more: &[&str]| {
        onebit(&[&["convert", source, "-o", out.to_str().unwrap()], more].concat())
    };
    let unknown_class = edited(TINY.0, |config| {
        config["quantization_config"]["linear_class"] = "superlinear".into()
    });
    convert(unknown_class.path().to_str().unwrap(), &[])
        .refused(4, &["linear_class", "superlinear"]);
    let unknown_arch = edited(TINY.0, |config| {
        config["architectures"] = serde_json::json!(["MambaForCausalLM"])
    });
    convert(unknown_arch.path().to_str().unwrap(), &[]).refused(4, &["MambaForCausalLM"]);
    let no_layers = edited(TINY.0, |config| config["num_hidden_layers"] = 0.into());
    convert(no_layers.path().to_str().unwrap(), &[]).refused(3, &["layers"]);
    let truncated = edited(TINY.0, |_| ());
    let shard = truncated.path().join("model.safetensors");
    fs::write(&shard, &fs::read(&shard).unwrap()[..4000]).unwrap();
    convert(truncated.path().to_str().unwrap(), &[]).refused(3, &["model.safetensors"]);
    convert("/no/such/folder", &[]).refused(3, &["/no/such/folder"]);
    convert(
        &fixture_arg("checkpoints/llama_dense_f16"),
        &["--weights", "t2"],
    )
    .refused(2, &["quantization-aware training"]);
    convert(
        &fixture_arg("checkpoints/onebit_binary_int8"),
        &["--weights", "dense"],
    )
    .refused(2, &["binary", "b1"]);
    convert(&fixture_arg(TINY.0), &["--weights", "bogus"]).refused(2, &["bogus"]);
    let without_network = if cfg!(feature = "hub") { 3 } else { 4 };
    convert("user/name", &[]).refused(without_network, &["user/name"]);
    assert!(names(folder.path()).is_empty());
}

/// The logits of a packed file as bytes, computed by one kernel set.
fn logits(model: &Path, kernels: &str, out: &Path) -> Vec<u8> {
    let [model, out_arg] = [model, out].map(|path| path.to_str().unwrap());
    let ids = "1,5,9,2,7,33,14,60,11";
    onebit(&[
        "score",
        model,
        "--ids",
        ids,
        "-b",
        "4",
        "--kernels",
        kernels,
        "--logits",
        out_arg,
    ])
    .ok();
    fs::read(out).unwrap()
}

#[test]
fn dense_weights_give_the_bits_of_t2() {
    let folder = tempfile::tempdir().unwrap();
    for checkpoint in ["bitnet_packed", "1bitllm", "llama_rms_norm", "falcon3"] {
        let source = fixture_arg(&format!("checkpoints/{checkpoint}"));
        let [two, dense] = ["t2", "dense"].map(|weights| {
            let out = folder.path().join(format!("{weights}.onebit"));
            onebit(&[
                "convert",
                &source,
                "-o",
                out.to_str().unwrap(),
                "--force",
                "--weights",
                weights,
                "--down",
                "rows",
                "--verify",
                "8",
            ])
            .ok();
            out
        });
        let info = onebit(&["info", dense.to_str().unwrap(), "--json", "--check"]).json();
        assert_eq!(
            info["layouts"]["t2"],
            serde_json::Value::Null,
            "{checkpoint}"
        );
        let count = |layout: &str| info["layouts"][layout]["tensors"].as_u64().unwrap_or(0);
        assert!(count("t5") + count("t5r5") >= 14, "{checkpoint}");
        assert!(count("t5r5") > 0, "{checkpoint}");
        // Rows of `up` are left out one by one.
        assert_eq!(count("t5") > 0, checkpoint == "bitnet_packed");
        let out = folder.path().join("logits.safetensors");
        let expected = logits(&two, "scalar", &out);
        for set in onebit_kernels::Kernels::available() {
            assert!(
                logits(&dense, set.name(), &out) == expected,
                "{checkpoint} on {}",
                set.name()
            );
        }
    }
}

#[test]
fn a_full_disk_is_a_failure_that_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs", path])
        .output();
    if !mounted.is_ok_and(|done| done.status.success()) {
        eprintln!(
            "skipped: a_full_disk_is_a_failure_that_leaves_nothing (mounting a tmpfs is not allowed here)"
        );
        return;
    }
    let out = folder.path().join("a.onebit");
    let converted = onebit(&["convert", &fixture_arg(TINY.0), "-o", out.to_str().unwrap()]);
    let logits = folder.path().join("l.safetensors");
    let ids = vec!["3"; 120].join(",");
    let scored = onebit(&[
        "score",
        &fixture_arg(TINY.0),
        "--ids",
        &ids,
        "--logits",
        logits.to_str().unwrap(),
    ]);
    let left = names(folder.path());
    assert!(Command::new("umount").arg(path).status().unwrap().success());
    converted.refused(1, &["a.onebit", "No space left"]);
    scored.refused(1, &["l.safetensors", "No space left"]);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_folder_is_converted_once_and_again_when_it_changes() {
    let cache = tempfile::tempdir().unwrap();
    let source = edited(TINY.0, |_| ());
    let info = || {
        let mut command = crate::program(&["info", "--json", source.path().to_str().unwrap()]);
        let done = command.env("ONEBIT_CACHE", cache.path()).output().unwrap();
        crate::Done::from(done).json()
    };
    let packed = || {
        names(cache.path())
            .into_iter()
            .filter(|name| name.ends_with(".onebit"))
            .collect::<Vec<_>>()
    };
    let first = info();
    let once = packed();
    assert_eq!(once.len(), 1);
    let written = cache
        .path()
        .join(&once[0])
        .metadata()
        .unwrap()
        .modified()
        .unwrap();
    assert_eq!(info()["spec"], first["spec"]);
    assert_eq!(
        cache
            .path()
            .join(&once[0])
            .metadata()
            .unwrap()
            .modified()
            .unwrap(),
        written
    );

    fs::write(cache.path().join(&once[0]), "broken").unwrap();
    assert_eq!(info()["spec"], first["spec"]);
    fs::write(
        source.path().join("generation_config.json"),
        r#"{"eos_token_id": [5, 6]}"#,
    )
    .unwrap();
    assert_eq!(info()["generation"]["eos"], serde_json::json!([5, 6]));
    assert_eq!(packed().len(), 2);
}

#[test]
fn a_folder_and_its_packed_file_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let packed = pack(TINY.0, folder.path());
    let ids = |model: &str| {
        onebit(&[
            "run", model, "--ids", "1,2,3", "-n", "8", "--temp", "0", "--json",
        ])
        .json()["ids"]
            .clone()
    };
    assert_eq!(ids(packed.to_str().unwrap()), ids(&fixture_arg(TINY.0)));
    assert!(cache().is_dir());
}

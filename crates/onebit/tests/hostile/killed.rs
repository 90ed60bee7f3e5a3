//! Conversions that are killed at any moment, and by a disk that is full.

#![cfg(unix)]

use crate::arg;
use crate::child::program;
use crate::source::{Place, WEIGHTS};
use onebit_format::PackedFile;
use serde_json::json;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A checkpoint that takes a moment to convert: dense, in float32.
fn large() -> Place {
    const HIDDEN: usize = 256;
    const VOCAB: usize = 20_000;
    let place = Place::of("llama_dense_f32");
    let mut config = place.config();
    for (key, value) in [
        ("hidden_size", HIDDEN),
        ("vocab_size", VOCAB),
        ("num_hidden_layers", 1),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 4),
        ("intermediate_size", HIDDEN),
    ] {
        config[key] = value.into();
    }
    config["tie_word_embeddings"] = false.into();
    let layer = "model.layers.0";
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("lm_head.weight".to_owned(), vec![VOCAB, HIDDEN]),
        ("model.norm.weight".to_owned(), vec![HIDDEN]),
        (format!("{layer}.input_layernorm.weight"), vec![HIDDEN]),
        (
            format!("{layer}.post_attention_layernorm.weight"),
            vec![HIDDEN],
        ),
    ];
    for part in [
        "self_attn.q",
        "self_attn.k",
        "self_attn.v",
        "self_attn.o",
        "mlp.gate",
        "mlp.up",
        "mlp.down",
    ] {
        tensors.push((format!("{layer}.{part}_proj.weight"), vec![HIDDEN, HIDDEN]));
    }
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(
            name,
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}),
        );
    }
    let header = serde_json::Value::from(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend((0..end / 4).flat_map(|i| (i as f32 * 1e-9).to_le_bytes()));
    place.write("config.json", config.to_string());
    place.write(WEIGHTS, bytes);
    place
}

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.out()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn nothing_that_looks_finished_is_left() {
    let place = large();
    let start = Instant::now();
    place.convert_outside().ok();
    let whole = start.elapsed();
    fs::remove_file(place.output()).unwrap();
    const MOMENTS: u32 = 30;
    for moment in 0..MOMENTS {
        let signal = ["-KILL", "-TERM", "-INT"][moment as usize % 3];
        let mut child = program(&["convert", arg(&place.source()), "-o", arg(&place.output())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(whole * moment / MOMENTS + Duration::from_millis(u64::from(moment % 5)));
        let _ = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        let code = child.wait().unwrap().code();
        if place.output().exists() {
            // It was faster, or was killed after its last step.
            PackedFile::open(&place.output())
                .unwrap()
                .check_hashes()
                .unwrap();
            fs::remove_file(place.output()).unwrap();
        } else {
            assert_ne!(code, Some(0), "{signal}");
        }
        let left = names(&place);
        if code == Some(130) {
            assert!(left.is_empty(), "{signal}: {left:?}");
        }
        assert!(
            left.len() <= 1,
            "the next one removes what is left: {left:?}"
        );
        for name in left {
            assert!(
                name.starts_with(".onebit-") && name.ends_with(".tmp"),
                "{name}"
            );
            // The header comes last, so what opens lacks nothing but its name.
            if let Ok(file) = PackedFile::open(&place.out().join(name)) {
                file.check_hashes().unwrap();
            }
        }
    }
    place.convert_outside().ok();
    assert_eq!(names(&place), ["model.onebit"]);
}

/// What another conversion is writing is not taken for what a killed one has left.
#[test]
fn two_conversions_into_one_folder() {
    let place = large();
    let children = [0, 1, 2].map(|number| {
        let output = place.out().join(format!("{number}.onebit"));
        program(&["convert", arg(&place.source()), "-o", arg(&output)])
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    });
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let mut left = names(&place);
    left.sort();
    assert_eq!(left, ["0.onebit", "1.onebit", "2.onebit"]);
    for name in left {
        PackedFile::open(&place.out().join(name))
            .unwrap()
            .check_hashes()
            .unwrap();
    }
}

/// Room for the header, for half of the tensors, for all but the last.
#[test]
fn a_full_disk_is_a_failure_at_any_size() {
    let place = large();
    for size in ["4k", "64k", "1m", "20m", "38m"] {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(place.out())
            .output();
        if !mounted.is_ok_and(|done| done.status.success()) {
            eprintln!(
                "skipped: a_full_disk_is_a_failure_at_any_size (mounting a tmpfs is not allowed here)"
            );
            return;
        }
        let ended = place.convert_outside();
        let left = names(&place);
        assert!(
            Command::new("umount")
                .arg(place.out())
                .status()
                .unwrap()
                .success()
        );
        ended.refused_for(&[1], &["model.onebit", "No space left"], 100 << 20);
        assert!(left.is_empty(), "{size}: {left:?}");
    }
}

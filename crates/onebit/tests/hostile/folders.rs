//! Folders whose files are not files, and indexes that point elsewhere.

use crate::arg;
use crate::child::onebit;
use crate::source::{Place, WEIGHTS};
use serde_json::{Value, json};
use std::fs;

const INDEX: &str = "model.safetensors.index.json";
const FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    WEIGHTS,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

#[test]
fn directories_are_no_files() {
    for name in FILES {
        let place = Place::new();
        let _ = fs::remove_file(place.file(name));
        fs::create_dir(place.file(name)).unwrap();
        place.refused(name, &[3], &[name, "directory"], true);
    }
    let place = Place::new();
    place.remove(WEIGHTS);
    fs::create_dir(place.file(INDEX)).unwrap();
    place.refused(INDEX, &[3], &[INDEX], true);
}

#[test]
fn empty_files_are_refused() {
    for name in FILES {
        let place = Place::new();
        place.write(name, "");
        // An empty template is one.
        if *name != "chat_template.jinja" {
            place.refused(name, &[3], &[name], true);
        }
    }
}

#[cfg(unix)]
#[test]
fn pipes_devices_and_sockets_are_no_files() {
    use std::os::unix::fs::symlink;
    for (number, name) in FILES.iter().enumerate() {
        let place = Place::new();
        let _ = fs::remove_file(place.file(name));
        let made = std::process::Command::new("mkfifo")
            .arg(place.file(name))
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!(
                "skipped: pipes_devices_and_sockets_are_no_files (mkfifo does not work here)"
            );
            return;
        }
        place.refused(name, &[3], &[name], true);
        for device in ["/dev/zero", "/dev/null"] {
            place.remove(name);
            symlink(device, place.file(name)).unwrap();
            place.refused(name, &[3], &[name], number == 0);
        }
        place.remove(name);
        symlink("/no/such/file", place.file(name)).unwrap();
        place.refused(name, &[3], &[name], number == 0);
        place.remove(name);
        symlink(name, place.file(name)).unwrap();
        place.refused("a link to itself", &[3], &[name], number == 0);
        let _socket = {
            place.remove(name);
            std::os::unix::net::UnixListener::bind(place.file(name)).unwrap()
        };
        place.refused("a socket", &[3], &[name], number == 0);
    }
}

#[cfg(unix)]
#[test]
fn unreadable_files_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    fs::set_permissions(place.file(WEIGHTS), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(place.file(WEIGHTS)).is_ok() {
        eprintln!("skipped: unreadable_files_are_refused (permissions do not bind this user)");
        return;
    }
    place.refused("no permission", &[3], &[WEIGHTS, "ermission"], true);
}

/// Links inside a folder are how caches share files, so they are followed.
#[cfg(unix)]
#[test]
fn links_to_files_are_followed() {
    let place = Place::new();
    let elsewhere = place.out().join("blob");
    fs::rename(place.file(WEIGHTS), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, place.file(WEIGHTS)).unwrap();
    place.convert().unwrap();
}

/// A checkpoint whose weights are in the shard `shard.safetensors` with an index that `change` has changed.
fn indexed(change: impl FnOnce(&mut Value)) -> Place {
    let place = Place::new();
    let bytes = place.read(WEIGHTS);
    let len = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let names = header
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| *name != "__metadata__");
    let map: serde_json::Map<String, Value> = names
        .map(|name| (name.clone(), "shard.safetensors".into()))
        .collect();
    let mut index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    change(&mut index);
    fs::rename(place.file(WEIGHTS), place.file("shard.safetensors")).unwrap();
    place.write(INDEX, index.to_string());
    place
}

const NORM: &str = "model.norm.weight";

#[test]
fn shards_stay_in_the_folder() {
    indexed(|_| ()).convert().unwrap();
    let outside = [
        "../x.safetensors",
        "../source/shard.safetensors",
        "/etc/passwd",
        "/dev/zero",
        "..",
        ".",
        "",
        "./shard.safetensors",
        "a/../shard.safetensors",
        "a/../../x",
        "//x",
        "\\\\host\\x",
        "C:\\x",
        "C:x",
        "..\\x",
        "x\0y",
        "~/x/../../y",
    ];
    for (number, shard) in outside.iter().enumerate() {
        let place = indexed(|index| index["weight_map"][NORM] = (*shard).into());
        place.refused(shard, &[3], &[INDEX, NORM], number % 4 == 0);
    }
    for shard in [
        "missing.safetensors",
        "config.json",
        INDEX,
        "shard.safetensors/x",
        "%2e%2e/x",
        &"x".repeat(300),
    ] {
        let place = indexed(|index| index["weight_map"][NORM] = shard.into());
        place.refused(shard, &[3], &[], shard.len() > 200);
    }
}

#[test]
fn indexes_are_indexes() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("no map", |index| *index = json!({})),
        ("null", |index| *index = Value::Null),
        ("a map that is a list", |index| {
            index["weight_map"] = json!([])
        }),
        ("a map that is null", |index| {
            index["weight_map"] = Value::Null
        }),
        ("a map that is text", |index| {
            index["weight_map"] = json!("shard.safetensors")
        }),
        ("an empty map", |index| index["weight_map"] = json!({})),
        ("a shard that is a number", |index| {
            index["weight_map"][NORM] = json!(1)
        }),
        ("a shard that is null", |index| {
            index["weight_map"][NORM] = Value::Null
        }),
        ("a shard that is a list", |index| {
            index["weight_map"][NORM] = json!(["shard.safetensors"])
        }),
        ("a tensor that is nowhere", |index| {
            index["weight_map"]["ghost"] = json!("shard.safetensors")
        }),
        ("a tensor that is not listed", |index| {
            drop(index["weight_map"].as_object_mut().unwrap().remove(NORM));
        }),
    ];
    for (name, change) in changes {
        indexed(change).refused(name, &[3], &[], *name == "no map");
    }
    for text in [
        "",
        "{",
        "[1,",
        "{\"weight_map\": {\"a\": \"x\", \"a\": \"x\"}}",
        "\u{feff}{}",
        "{\"weight_map\": NaN}",
    ] {
        let place = indexed(|_| ());
        place.write(INDEX, text);
        place.refused(text, &[3], &[INDEX], text.is_empty());
    }
    let place = indexed(|_| ());
    place.write(INDEX, format!("{{\"weight_map\": {}", "[".repeat(100_000)));
    place.refused("a deep index", &[3], &[INDEX], true);
}

#[test]
fn what_is_no_model_is_refused_by_every_command() {
    let place = Place::new();
    place.write("config.json", "{");
    let folder = place.source();
    for command in [&["run"][..], &["score"], &["info"]] {
        let mut args = vec![command[0], arg(&folder)];
        if command[0] != "info" {
            args.extend(["--ids", "1"]);
        }
        onebit(&args).refused(3, &["config.json"]);
    }
    onebit(&["tokenize", arg(&folder), "x"]).refused(3, &["tokenizer.json"]);
    onebit(&["chat", arg(&folder)]).refused(3, &["config.json"]);
    for path in [
        "/dev/zero",
        "/dev/null",
        "/dev",
        "/proc/self/mem",
        "/no/such",
        "/etc/passwd/x",
    ] {
        let ended = onebit(&["run", path, "--ids", "1"]);
        ended.refused_for(&[3], &["/"], 0);
    }
}

//! Places where no output can be.

use crate::child::{Ended, onebit, program};
use crate::source::{Place, WEIGHTS};
use crate::{arg, fixture};
use std::fs;
use std::path::Path;

fn convert(place: &Place, output: &Path, force: bool) -> Ended {
    let source = place.source();
    let mut args = vec!["convert", arg(&source), "-o", arg(output)];
    args.extend(force.then_some("--force"));
    onebit(&args)
}

/// Every name and content in a folder.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries
        .map(|path| {
            (
                path.display().to_string(),
                fs::read(&path).unwrap_or_default(),
            )
        })
        .collect();
    all.sort();
    all
}

#[test]
fn folders_and_names_that_are_none() {
    let place = Place::new();
    for force in [false, true] {
        convert(&place, &place.out(), force).refused(2, &["out", "directory"]);
        convert(&place, Path::new(""), force).refused(2, &["--output"]);
        convert(&place, Path::new("/"), force).refused(2, &[]);
        convert(&place, Path::new(".."), force).refused(2, &[]);
        convert(&place, &place.out().join("new/"), force).refused(2, &["name of a file"]);
        convert(&place, &place.out().join("no/such/model"), force).refused(1, &["no/such/model"]);
        convert(&place, &place.file("config.json").join("model"), force)
            .refused(1, &["config.json/model"]);
        convert(&place, &place.out().join("x".repeat(300)), force).refused(1, &["xxx"]);
        // Even whoever may do everything can create no file here.
        convert(&place, Path::new("/proc/model.onebit"), force).refused(1, &["/proc/model.onebit"]);
    }
    place.empty("an output that is none");
}

#[test]
fn files_of_the_source_are_not_replaced() {
    let place = Place::new();
    let before = contents(&place.source());
    for name in [WEIGHTS, "config.json", "generation_config.json"] {
        convert(&place, &place.file(name), false).refused(2, &[name]);
        convert(&place, &place.file(name), true).refused(2, &[name, "source"]);
        convert(&place, &place.source().join("../source").join(name), true)
            .refused(2, &[name, "source"]);
    }
    assert_eq!(contents(&place.source()), before);
    // Beside them there is room.
    convert(&place, &place.file("model.onebit"), false).ok();
}

#[cfg(unix)]
#[test]
fn links_are_replaced_and_not_followed() {
    let place = Place::new();
    let (link, target) = (place.output(), place.out().join("target"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    convert(&place, &link, false).refused(2, &["exists"]);
    convert(&place, &link, true).ok();
    assert_eq!(fs::read(&target).unwrap(), b"precious");
    assert!(fs::symlink_metadata(&link).unwrap().is_file());

    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink("/no/such/file", &link).unwrap();
    convert(&place, &link, false).refused(2, &["exists"]);
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(place.file(WEIGHTS), &link).unwrap();
    convert(&place, &link, true).refused(2, &["source"]);
}

/// A file of that name would take their place.
#[cfg(unix)]
#[test]
fn devices_and_pipes_are_not_replaced() {
    let place = Place::new();
    let pipe = place.output();
    if !std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("skipped: devices_and_pipes_are_not_replaced (mkfifo does not work here)");
        return;
    }
    let tiny = fixture("checkpoints/llama_bitlinear");
    let score = |path: &str| onebit(&["score", arg(&tiny), "--ids", "1,2", "--logits", path]);
    for path in [arg(&pipe), "/dev/null", "/dev/full", "/dev/stdout"] {
        convert(&place, Path::new(path), false).refused(2, &[path]);
        convert(&place, Path::new(path), true).refused(2, &[path]);
        score(path).refused(2, &[path, "regular file"]);
        let found = fs::symlink_metadata(path).unwrap();
        assert!(!found.is_file(), "{path} was replaced");
    }
    score(arg(&place.out())).refused(2, &["regular file"]);
    score("/proc/x.safetensors").refused(1, &["/proc/x.safetensors"]);
    score(arg(&place.out().join("no/such"))).refused(1, &["no/such"]);
}

#[cfg(target_os = "linux")]
#[test]
fn folders_mounted_read_only_are_a_failure() {
    let place = Place::new();
    let mount = |args: &[&str]| {
        let done = std::process::Command::new("mount")
            .args(args)
            .arg(place.out())
            .output();
        done.is_ok_and(|done| done.status.success())
    };
    if !mount(&["-t", "tmpfs", "-o", "ro", "tmpfs"]) {
        eprintln!(
            "skipped: folders_mounted_read_only_are_a_failure (mounting a tmpfs is not allowed here)"
        );
        return;
    }
    let ended = place.convert_outside();
    let unmounted = std::process::Command::new("umount")
        .arg(place.out())
        .status();
    assert!(unmounted.unwrap().success());
    ended.refused(1, &["model.onebit", "ead-only"]);
}

#[cfg(unix)]
#[test]
fn limits_on_file_sizes_are_a_failure() {
    let place = Place::new();
    let command = "ulimit -f 16 && exec \"$@\"";
    let source = place.source();
    let output = place.output();
    let program = program(&[]).get_program().to_owned();
    let done = std::process::Command::new("sh")
        .args([
            "-c",
            command,
            "sh",
            program.to_str().unwrap(),
            "convert",
            arg(&source),
            "-o",
            arg(&output),
        ])
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{err}");
    assert!(
        err.contains("model.onebit") && err.contains("too large"),
        "{err}"
    );
    place.empty("a limit on file sizes");
}

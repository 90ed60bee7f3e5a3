//! The output: never replaced unasked, never half there.

use std::fs;

use crate::common::*;
use onebit_convert::{ErrorKind, Options, convert};

#[test]
fn an_existing_output_is_kept_unless_forced() {
    let place = Place::new();
    packed_bitnet().write(&place.source());
    fs::write(place.output(), "precious").unwrap();
    let error = place.convert(&Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    assert_eq!(fs::read(place.output()).unwrap(), b"precious");
    assert_eq!(place.left_over(), ["model.onebit"]);

    let mut options = Options::default();
    options.force = true;
    place.convert(&options).unwrap();
    place.open().check_hashes().unwrap();
    assert_eq!(place.left_over(), ["model.onebit"]);
}

/// A source that turns out broken half-way leaves what was there before.
#[test]
fn a_failed_conversion_leaves_the_old_output() {
    let place = Place::new();
    let mut model = packed_bitnet();
    *model
        .tensor(&weight(1, "mlp.down_proj"))
        .bytes
        .last_mut()
        .unwrap() = 0xFF;
    model.write(&place.source());
    fs::write(place.output(), "precious").unwrap();
    let mut options = Options::default();
    options.force = true;
    assert_eq!(
        place.convert(&options).unwrap_err().kind(),
        ErrorKind::Malformed
    );
    assert_eq!(fs::read(place.output()).unwrap(), b"precious");
    assert_eq!(place.left_over(), ["model.onebit"]);
}

#[test]
fn a_shard_is_not_replaced_by_the_output() {
    let place = Place::new();
    packed_bitnet().write(&place.source());
    let shard = place.source().join("model.safetensors");
    let before = fs::read(&shard).unwrap();
    let mut options = Options::default();
    options.force = true;
    let error = convert(&place.source(), &shard, &options, &mut ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    assert_eq!(fs::read(&shard).unwrap(), before);
}

#[test]
fn an_output_that_cannot_be_created_is_an_io_error() {
    let place = Place::new();
    packed_bitnet().write(&place.source());
    let nowhere = place.output().join("nowhere/model.onebit");
    let error = convert(&place.source(), &nowhere, &Options::default(), &mut ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(place.left_over(), [""; 0]);
}

/// A source that shrinks while it is read is an error of the source, not a crash.
#[test]
fn a_source_that_shrinks_meanwhile_is_refused() {
    struct Shrink(std::path::PathBuf);
    impl onebit_convert::Progress for Shrink {
        fn begin(&mut self, _: usize, _: u64) {
            fs::File::options()
                .write(true)
                .open(&self.0)
                .unwrap()
                .set_len(1000)
                .unwrap();
        }
    }
    let place = Place::new();
    packed_bitnet().write(&place.source());
    let mut progress = Shrink(place.source().join("model.safetensors"));
    let error = convert(
        &place.source(),
        &place.output(),
        &Options::default(),
        &mut progress,
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert_eq!(place.left_over(), [""; 0]);
}

#[test]
fn a_cancelled_conversion_leaves_nothing() {
    struct Impatient(u32);
    impl onebit_convert::Progress for Impatient {
        fn advance(&mut self, _: &str, _: u64) {
            self.0 += 1;
        }
        fn is_cancelled(&self) -> bool {
            self.0 > 3
        }
    }
    let place = Place::new();
    packed_bitnet().write(&place.source());
    let (options, mut progress) = (Options::default(), Impatient(0));
    let error = convert(&place.source(), &place.output(), &options, &mut progress).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert_eq!(place.left_over(), [""; 0]);
}

/// Needs a file system that fills up: a tiny one, where mounting is allowed.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_io_error_and_leaves_nothing() {
    use std::process::{Command, Stdio};

    let place = Place::new();
    packed_bitnet().write(&place.source());
    let full = tempfile::tempdir().unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k", "tmpfs"])
        .arg(full.path())
        .stderr(Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!(
            "skipped: a_full_disk_is_an_io_error_and_leaves_nothing (mounting a tmpfs is not allowed here)"
        );
        return;
    }
    let output = full.path().join("model.onebit");
    let result = convert(&place.source(), &output, &Options::default(), &mut ());
    let left: Vec<_> = fs::read_dir(full.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    let unmounted = Command::new("umount").arg(full.path()).status();
    assert!(
        unmounted.is_ok_and(|status| status.success()),
        "the tmpfs is still mounted"
    );
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("model.onebit"), "{error}");
    assert!(left.is_empty(), "{left:?}");
}

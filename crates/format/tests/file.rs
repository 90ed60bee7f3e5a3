//! Writing, opening and reading a packed file.

mod common;

use std::fs;
use std::path::Path;

use common::{BLOB, ROWS, TERNARY_COLS, floats, name_of, names, plan, sample, ternary, write};
use onebit_format::{
    ActivationMode, ErrorKind, FormatError, Index, Layout, PackedFile, Plan, Provenance, Scales,
    TensorKind, Writer,
};

fn check_contents(file: &PackedFile) {
    let t2 = file.matrix(&name_of(Layout::T2)).unwrap();
    assert_eq!((t2.rows(), t2.cols()), (ROWS, TERNARY_COLS));
    for r in 0..ROWS {
        for (k, code) in ternary(r as u32).into_iter().enumerate() {
            assert_eq!(t2.code(r, k), i32::from(code));
            assert_eq!(t2.value(r, k), f32::from(code) * 0.5);
        }
    }
    let (q8, q4) = (
        file.matrix("layers.0.q8").unwrap(),
        file.matrix("layers.0.q4").unwrap(),
    );
    for r in 0..ROWS {
        for (k, x) in floats(TERNARY_COLS, r as u32).into_iter().enumerate() {
            assert_eq!(file.matrix("layers.0.f32").unwrap().value(r, k), x);
            assert!((q8.value(r, k) - x).abs() <= q8.scale(r, k) * 0.51);
            assert!((q4.value(r, k) - x).abs() <= q4.scale(r, k) * 1.01);
        }
    }
    assert_eq!(file.vector("layers.0.attn_norm").unwrap(), floats(5, 7));
    assert_eq!(file.blob("tokenizer.json").unwrap(), BLOB);
    assert_eq!(
        file.activation("layers.0.t2").unwrap(),
        ActivationMode::I8Token
    );
    assert_eq!(file.meta().generation.eos, [2, 3]);
    assert_eq!(file.meta().provenance.files[0].sha256, "ab".repeat(32));
    file.check_hashes().unwrap();
}

#[test]
fn every_way_to_open_reads_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.onebit");
    let len = write(&path).unwrap();
    assert_eq!(names(dir.path()), ["tiny.onebit"]);

    let mapped = PackedFile::open(&path).unwrap();
    assert!(mapped.is_file_backed());
    assert_eq!(mapped.file_len(), len);
    assert_eq!(len, fs::metadata(&path).unwrap().len());
    check_contents(&mapped);

    let heap = PackedFile::read_to_heap(&path).unwrap();
    assert!(!heap.is_file_backed());
    check_contents(&heap);
    check_contents(&PackedFile::from_bytes(fs::read(&path).unwrap()).unwrap());
}

#[test]
fn tensors_lie_in_plan_order_on_64_byte_boundaries() {
    let bytes = sample();
    let index = Index::parse(&bytes).unwrap();
    let tensors: Vec<_> = index.tensors().collect();
    let names: Vec<_> = tensors.iter().map(|(name, ..)| *name).collect();
    let expected = [
        "layers.0.attn_norm",
        "layers.0.t2",
        "layers.0.b1",
        "layers.0.q8",
        "layers.0.q8.row_scales",
        "layers.0.q4",
        "layers.0.f16",
        "layers.0.bf16",
        "layers.0.f32",
        "tokenizer.json",
        "scales",
    ];
    assert_eq!(names, expected);
    assert!(
        tensors
            .iter()
            .all(|(_, _, range)| range.start % 64 == 0 && range.end % 64 == 0)
    );
    assert_eq!(tensors.last().unwrap().2.end, bytes.len());
    assert_eq!(tensors[1].1, TensorKind::Matrix(Layout::T2));
    assert!(index.has("layers.0.t2") && index.has("tokenizer.json") && !index.has("scales"));
}

#[test]
fn the_safetensors_crate_opens_it() {
    let bytes = sample();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("layers.0.f32").unwrap().shape(), [ROWS, 304]);
    assert_eq!(
        tensors.tensor("scales").unwrap().data()[..4],
        0.5f32.to_le_bytes()
    );
}

#[test]
fn absent_tensors_and_files_are_named() {
    let file = PackedFile::from_bytes(sample()).unwrap();
    for error in [
        file.matrix("layers.9.q").unwrap_err(),
        file.vector("layers.9.q").unwrap_err(),
        file.blob("layers.9.q").unwrap_err(),
        file.activation("layers.9.q").unwrap_err(),
    ] {
        assert!(error.to_string().contains("layers.9.q"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Request);
    }
    assert!(
        file.vector("layers.0.t2").is_err(),
        "a matrix is not a vector"
    );
    assert!(file.matrix("scales").is_err());

    let dir = tempfile::tempdir().unwrap();
    for open in [PackedFile::open, PackedFile::read_to_heap] {
        let missing = open(&dir.path().join("none.onebit")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Io);
        assert!(missing.to_string().contains("none.onebit"), "{missing}");
        let directory = open(dir.path()).unwrap_err();
        assert!(
            directory.to_string().contains("it is a directory"),
            "{directory}"
        );
    }
    fs::write(dir.path().join("empty"), "").unwrap();
    let empty = PackedFile::open(&dir.path().join("empty")).unwrap_err();
    assert_eq!(empty.kind(), ErrorKind::Malformed);
}

#[test]
fn flipped_weights_are_found_by_their_hash() {
    let mut bytes = sample();
    let range = {
        let index = Index::parse(&bytes).unwrap();
        index
            .tensors()
            .find(|(name, ..)| *name == "layers.0.t2")
            .unwrap()
            .2
    };
    bytes[range.start + 70] ^= 4;
    let file = PackedFile::from_bytes(bytes).unwrap();
    let error = file.check_hashes().unwrap_err();
    assert!(error.to_string().contains("layers.0.t2"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.onebit");
    fs::write(&path, "precious").unwrap();
    let error = write(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    let mut forced = plan();
    forced.force = true;
    let mut writer = Writer::create(&path, forced).unwrap();
    common::write_tensors(&mut writer).unwrap();
    assert_eq!(
        fs::read(&path).unwrap(),
        b"precious",
        "untouched until it is finished"
    );
    writer.finish().unwrap();
    check_opens(&path);
}

fn check_opens(path: &Path) {
    PackedFile::open(path).unwrap().check_hashes().unwrap();
}

#[test]
fn an_output_that_appears_meanwhile_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.onebit");
    let mut writer = Writer::create(&path, plan()).unwrap();
    common::write_tensors(&mut writer).unwrap();
    fs::write(&path, "precious").unwrap();
    assert!(matches!(writer.finish(), Err(FormatError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(names(dir.path()), ["tiny.onebit"]);
}

#[test]
fn outputs_that_cannot_be_created_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = write(dir.path()).unwrap_err();
    assert!(error.to_string().contains("it is a directory"), "{error}");
    let error = write(&dir.path().join("absent/tiny.onebit")).unwrap_err();
    assert!(error.to_string().contains("absent/tiny.onebit"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn an_abandoned_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.onebit");
    let mut writer = Writer::create(&path, plan()).unwrap();
    common::write_tensors(&mut writer).unwrap();
    let names_while_writing = names(dir.path());
    assert!(matches!(&names_while_writing[..], [name] if name.starts_with(".onebit-")));
    let unfinished = dir.path().join(&names_while_writing[0]);
    assert!(
        PackedFile::open(&unfinished).is_err(),
        "it must not look complete"
    );
    drop(writer);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_sealed_file_can_be_read_and_appears_when_it_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.onebit");
    let seal = || {
        let mut writer = Writer::create(&path, plan()).unwrap();
        common::write_tensors(&mut writer).unwrap();
        writer.seal().unwrap()
    };
    let sealed = seal();
    check_opens(sealed.path());
    assert!(!path.exists());
    drop(sealed);
    assert!(names(dir.path()).is_empty(), "nothing is left behind");

    let sealed = seal();
    let bytes = fs::read(sealed.path()).unwrap();
    assert_eq!(sealed.publish().unwrap(), bytes.len() as u64);
    assert_eq!(names(dir.path()), ["tiny.onebit"]);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

/// A matrix and a vector, in this order.
fn small_plan() -> Plan {
    let mut plan = Plan::new(serde_json::Value::Null, Provenance::default());
    plan.matrix("m", Layout::T2, 2, 10, ActivationMode::I8Token)
        .vector("v", 3);
    plan
}

/// Runs `steps` on a writer of [`small_plan`]; the error must be the caller's fault.
fn misuse(steps: impl FnOnce(Writer) -> Result<(), FormatError>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::create(&dir.path().join("small.onebit"), small_plan()).unwrap();
    let error = steps(writer).unwrap_err();
    assert!(names(dir.path()).is_empty(), "nothing is left behind");
    error.to_string()
}

fn rows(writer: &mut Writer, count: usize) -> Result<(), FormatError> {
    let mut matrix = writer.write_matrix("m")?;
    matrix.rows(&vec![0x55; 64 * count])?;
    matrix.finish(Scales::Tensor(1.0))
}

#[test]
fn departures_from_the_plan_are_refused() {
    let wrong_order = misuse(|mut w| w.write_vector("v", &[0.0; 3]));
    assert!(
        wrong_order.contains("expected matrix `m`, got vector `v`"),
        "{wrong_order}"
    );
    let incomplete = misuse(|w| w.finish().map(drop));
    assert!(
        incomplete.contains("expected matrix `m`, got the end"),
        "{incomplete}"
    );
    let short = misuse(|mut w| rows(&mut w, 1));
    assert!(short.contains("expected 2 rows of `m`, got 1"), "{short}");
    let long = misuse(|mut w| rows(&mut w, 3));
    assert!(
        long.contains("at most 2 rows of 64 in `m`, got 192 bytes"),
        "{long}"
    );
    let partial = misuse(|mut w| w.write_matrix("m")?.rows(&[0; 63]));
    assert!(partial.contains("got 63 bytes"), "{partial}");
    let length = misuse(|mut w| {
        rows(&mut w, 2)?;
        w.write_vector("v", &[0.0; 4])
    });
    assert!(length.contains("`v`"), "{length}");
    let abandoned = misuse(|mut w| {
        drop(w.write_matrix("m")?);
        w.write_vector("v", &[0.0; 3])
    });
    assert!(
        abandoned.contains("expected the rest of matrix `m`"),
        "{abandoned}"
    );
    let more = misuse(|mut w| {
        rows(&mut w, 2)?;
        w.write_vector("v", &[0.0; 3])?;
        w.write_blob("b", b"1")
    });
    assert!(more.contains("expected the end, got blob `b`"), "{more}");
    let grown = misuse(|mut w| {
        rows(&mut w, 2)?;
        w.write_vector("v", &[0.0; 3])?;
        w.provenance_mut().source = "x".repeat(10_000);
        w.finish().map(drop)
    });
    assert!(grown.contains("provenance"), "{grown}");
}

#[test]
fn wrong_scales_are_refused() {
    for scale in [f32::NAN, f32::INFINITY, -1.0, 0.0] {
        let error = misuse(|mut w| {
            let mut matrix = w.write_matrix("m")?;
            matrix.rows(&[0x55; 128])?;
            matrix.finish(Scales::Tensor(scale))
        });
        assert!(
            error.contains("tensor `m`: expected finite positive scales"),
            "{error}"
        );
    }
    let error = misuse(|mut w| {
        let mut matrix = w.write_matrix("m")?;
        matrix.rows(&[0x55; 128])?;
        matrix.finish(Scales::Rows(&[1.0, 1.0]))
    });
    assert!(error.contains("tensor `m`"), "{error}");
    let error = misuse(|mut w| {
        let mut matrix = w.write_matrix("m")?;
        matrix.rows(&[0x55; 128])?;
        matrix.finish(Scales::Groups { size: 128 })
    });
    assert!(error.contains("one scale of `m`"), "{error}");
}

#[test]
fn impossible_plans_are_refused() {
    type Change = fn(&mut Plan) -> &mut Plan;
    let cases: [(Change, &str); 11] = [
        (
            |p| p.matrix("z", Layout::T2, 0, 10, ActivationMode::F32),
            "`z`",
        ),
        (
            |p| p.matrix("z", Layout::T2, 1, 0, ActivationMode::F32),
            "`z`",
        ),
        (
            |p| p.matrix("z", Layout::T2, 1, 65_537, ActivationMode::F32),
            "65536",
        ),
        (
            |p| p.matrix("z", Layout::F32, usize::MAX, 1, ActivationMode::F32),
            "`z`",
        ),
        (
            |p| p.matrix("z", Layout::F32, usize::MAX / 64, 17, ActivationMode::F32),
            "addressed",
        ),
        (|p| p.vector("z", usize::MAX), "`z`"),
        (|p| p.vector("m", 1), "`m`"),
        (|p| p.vector("v", 1), "twice"),
        (|p| p.blob("scales", 1), "`scales`"),
        (|p| p.blob("__metadata__", 1), "__metadata__"),
        (|p| p.blob("b", 0), "`b`"),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (change, expected) in cases {
        let mut plan = small_plan();
        change(&mut plan);
        let error = Writer::create(&dir.path().join("x.onebit"), plan)
            .map(drop)
            .unwrap_err();
        assert!(
            error.to_string().contains(expected),
            "{error} should contain {expected}"
        );
    }
    assert!(names(dir.path()).is_empty());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_output_has_the_permissions_of_any_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("tiny.onebit"), dir.path().join("other"));
        write(&path).unwrap();
        fs::write(&other, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&other));
    }

    const LIMITED: &str = "ONEBIT_TEST_LIMITED_OUTPUT";

    /// Runs `write_when_limited` under a shell that limits the size of files to 1 KiB.
    fn run_limited(setup: &str, path: &Path) -> std::process::Output {
        let script = format!("{setup} ulimit -f 1; exec \"$0\" \"$@\"");
        Command::new("sh")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "unix::write_when_limited", "--nocapture"])
            .env(LIMITED, path)
            .output()
            .unwrap()
    }

    /// Does nothing unless [`run_limited`] runs it.
    #[test]
    fn write_when_limited() {
        let Some(path) = std::env::var_os(LIMITED) else {
            return;
        };
        let error = write(Path::new(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("full.onebit"), "{error}");
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let output = run_limited("trap '' XFSZ;", &dir.path().join("full.onebit"));
        assert!(output.status.success(), "{output:?}");
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_process_killed_midway_leaves_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let output = run_limited("", &dir.path().join("full.onebit"));
        assert!(!output.status.success(), "the limit kills it: {output:?}");
        let left = names(dir.path());
        assert!(
            left.iter().all(|name| name.starts_with(".onebit-")),
            "{left:?}"
        );
        for name in left {
            assert!(PackedFile::open(&dir.path().join(name)).is_err());
        }
    }
}

#[test]
fn checking_finds_bytes_that_are_no_five_codes() {
    for layout in [Layout::T5, Layout::T5R5] {
        refuses_bytes_that_are_no_five_codes(layout);
    }
}

fn refuses_bytes_that_are_no_five_codes(layout: Layout) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dense.onebit");
    common::write_dense(&path, layout).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = PackedFile::from_bytes(bytes.clone()).unwrap();
    file.check_hashes().unwrap();
    let name = name_of(layout);
    let (_, _, range) = file
        .index()
        .tensors()
        .find(|(tensor, ..)| *tensor == name)
        .unwrap();
    for wrong in [27, 113, 227, 255] {
        let mut bytes = bytes.clone();
        bytes[range.end - 1] = wrong;
        let error = PackedFile::from_bytes(bytes).unwrap().check_hashes();
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains(&name) && error.contains("five codes"),
            "{error}"
        );
    }
}

#[test]
fn checking_finds_the_invalid_code_in_bands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bands.onebit");
    common::write_side_by_side(&path, Layout::T2R16).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = PackedFile::from_bytes(bytes.clone()).unwrap();
    file.check_hashes().unwrap();
    for name in ["one", "groups"] {
        let (_, _, range) = file
            .index()
            .tensors()
            .find(|(tensor, ..)| *tensor == name)
            .unwrap();
        // A weight, which scales may stand before, and padding of rows and columns.
        let scales = if name == "groups" { 64 } else { 0 };
        for at in [range.start + scales, range.end - 1] {
            let mut bytes = bytes.clone();
            bytes[at] |= 0xc0;
            let error = PackedFile::from_bytes(bytes).unwrap().check_hashes();
            let error = error.unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("code 3"), "{error}");
        }
    }
}

#[test]
fn checking_finds_scales_of_groups_that_are_no_numbers() {
    let dir = tempfile::tempdir().unwrap();
    for (i, layout) in [Layout::T2R16, Layout::B1R64].into_iter().enumerate() {
        let path = dir.path().join(format!("{i}.onebit"));
        common::write_side_by_side(&path, layout).unwrap();
        let bytes = fs::read(&path).unwrap();
        let file = PackedFile::from_bytes(bytes.clone()).unwrap();
        let range = file.index().range("groups").unwrap();
        let packs = layout.packs(true);
        let band = file.matrix("groups").unwrap().band_bytes();
        for at in [0, packs.scales(1), band + packs.scales(2)] {
            for scale in [f32::NAN, f32::INFINITY, -0.5] {
                let mut bytes = bytes.clone();
                let scale = half::f16::from_f32(scale).to_le_bytes();
                bytes[range.start + at..][..2].copy_from_slice(&scale);
                // Opening does not read them.
                let error = PackedFile::from_bytes(bytes).unwrap().check_hashes();
                let error = error.unwrap_err().to_string();
                let place = format!("byte {at}");
                assert!(
                    error.contains("`groups`") && error.contains(&place),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn scales_of_groups_are_checked_as_they_are_written() {
    let error = misuse_of_groups(f32::NAN);
    assert!(
        error.contains("`m`") && error.contains("scales of groups"),
        "{error}"
    );
    assert!(misuse_of_groups(-1.0).contains("byte 192"));
}

/// Writes two rows, the second with a scale that is none.
fn misuse_of_groups(scale: f32) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = Plan::new(serde_json::json!({}), Provenance::default());
    plan.grouped_matrix("m", Layout::T2, 2, 300, ActivationMode::F32);
    let mut writer = Writer::create(&dir.path().join("groups.onebit"), plan).unwrap();
    let mut matrix = writer.write_matrix("m").unwrap();
    let scales = [1.0, 1.0, 1.0, scale, 1.0, 1.0].map(half::f16::from_f32);
    let stored = onebit_format::pack::with_scales(Layout::T2, 300, &[0x55; 256], &scales);
    matrix.rows(&stored[..192]).unwrap();
    matrix.rows(&stored[192..]).unwrap_err().to_string()
}

#[test]
fn bands_are_written_whole() {
    let dir = tempfile::tempdir().unwrap();
    let start = |rows| {
        let mut plan = Plan::new(serde_json::json!({}), Provenance::default());
        plan.matrix("m", Layout::T5R5, rows, 70, ActivationMode::I8Token);
        plan.force = true;
        Writer::create(&dir.path().join("bands.onebit"), plan).unwrap()
    };
    let band = vec![127u8; 128];
    let mut writer = start(7);
    let mut matrix = writer.write_matrix("m").unwrap();
    for wrong in [64, 3 * 128] {
        let error = matrix.rows(&vec![127; wrong]).unwrap_err().to_string();
        assert!(
            error.contains("bands of 5") && error.contains("`m`"),
            "{error}"
        );
    }
    matrix.rows(&band).unwrap();
    let error = matrix.finish(Scales::Tensor(1.0)).unwrap_err().to_string();
    assert!(error.contains("7 rows") && error.contains('5'), "{error}");

    let mut writer = start(7);
    let mut matrix = writer.write_matrix("m").unwrap();
    matrix.rows(&band).unwrap();
    matrix.rows(&band).unwrap();
    assert!(matrix.rows(&band).is_err());
    matrix.finish(Scales::Tensor(1.0)).unwrap();
    writer.finish().unwrap();
    let file = PackedFile::open(&dir.path().join("bands.onebit")).unwrap();
    file.check_hashes().unwrap();
    let matrix = file.matrix("m").unwrap();
    assert_eq!((matrix.rows(), matrix.cols()), (7, 70));
    assert_eq!(matrix.bytes().len(), 256);
}

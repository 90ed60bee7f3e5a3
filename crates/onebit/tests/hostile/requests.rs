//! Requests that are absurd.

use crate::child::{onebit, onebit_with};
use crate::fixture;
use std::fs;

fn model() -> String {
    fixture("checkpoints/llama_bitlinear")
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn flags_out_of_all_bounds() {
    let model = model();
    let with =
        |flags: &[&str]| onebit(&[&["run", &model, "--ids", "1,2", "-n", "2"], flags].concat());
    let cases: &[(&[&str], &[i32])] = &[
        (&["-c", "1e12"], &[2]),
        (&["-c", "-1"], &[2]),
        (&["-c", "1000000000000"], &[2]),
        (&["-c", "18446744073709551615"], &[2]),
        (&["-c", "18446744073709551616"], &[2]),
        (&["-c", "1"], &[2]),
        (&["-b", "0"], &[2]),
        (&["-b", "-1"], &[2]),
        (&["-b", "18446744073709551616"], &[2]),
        (&["--threads", "0"], &[2]),
        (&["--threads", "-1"], &[2]),
        (&["--threads", "1e3"], &[2]),
        (&["--threads", "18446744073709551615"], &[2]),
        (&["-n", "1e3"], &[2]),
        (&["-n", "-2"], &[2]),
        (&["-n", "9223372036854775808"], &[2]),
        (&["--temp", "inf"], &[2]),
        (&["--temp", "-0.1"], &[2]),
        (&["--top-k", "-1"], &[2]),
        (&["--top-p", "nan"], &[2]),
        (&["--min-p", "2"], &[2]),
        (&["--repeat-penalty", "0"], &[2]),
        (&["--repeat-penalty", "-1"], &[2]),
        (&["--repeat-last-n", "-2"], &[2]),
        (&["--seed", "x"], &[2]),
        (&["--seed", "18446744073709551616"], &[2]),
        (&["--kernels", ""], &[2]),
        (&["--kernels", "../x"], &[2]),
        (&["--kv", ""], &[2]),
        (&["--load", "all"], &[2]),
        (&["--stop", ""], &[2]),
    ];
    for (flags, codes) in cases {
        with(flags).refused_for(codes, &[], 0);
    }
    for flags in [
        &["-b", "18446744073709551615"][..],
        &["--top-k", "18446744073709551615"],
        &["--repeat-last-n", "9223372036854775807"],
        &["--repeat-penalty", "1e38"],
        &["--temp", "1e38"],
        &["--temp", "1e-45"],
        &["--threads", "3"],
    ] {
        let ended = with(flags);
        ended.ok();
        ended.modest(0);
    }
    let endless = onebit(&[
        "run",
        &model,
        "--ids",
        "1,2",
        "-n",
        "9223372036854775807",
        "--ignore-eos",
    ]);
    endless.ok();
    onebit(&["info", &model, "-c", "18446744073709551615"]).refused_for(&[2, 5], &[], 0);
    onebit(&["info", &model, "-c", "16777216"]).ok();
}

/// A context that the format allows and no memory holds is refused, or reserved without being touched.
#[test]
fn contexts_and_batches_beyond_memory() {
    for flags in [
        &["-c", "16777216"][..],
        &["-c", "16777216", "-b", "16777216"],
    ] {
        let ended = onebit(&[&["run", &model(), "--ids", "1,2", "-n", "1"], flags].concat());
        if ended.code != Some(0) {
            ended.refused_for(&[5], &[], 0);
        }
        ended.modest(1 << 27);
    }
}

#[test]
fn ids_that_are_none() {
    let model = model();
    for ids in [
        "211",
        "4294967295",
        "4294967296",
        "-1",
        "1.5",
        "0x1",
        "1,,x",
        "[1,2",
        "1;2",
        "\u{661}",
        "nan",
        "1 2 3 999",
    ] {
        for command in ["run", "score"] {
            onebit(&[command, &model, &format!("--ids={ids}")]).refused(2, &[]);
        }
    }
    for ids in ["", " ", "[]", ",,,", "\n"] {
        onebit(&["run", &model, "--ids", ids]).refused(2, &["empty"]);
        onebit(&["score", &model, "--ids", ids]).refused(2, &["nothing to score"]);
    }
    let long = vec!["1"; 20_000].join(",");
    onebit(&["run", &model, "--ids", &long]).refused(2, &["20000", "128"]);
    onebit(&["score", &model, "--ids", &long]).refused(2, &["20000", "128"]);
}

#[test]
fn texts_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let cases = [
        write("latin", b"caf\xe9"),
        write(
            "utf16",
            &"hello"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .chain([0, 0xD8])
                .collect::<Vec<_>>(),
        ),
        write("half", b"Once \xe2\x82"),
        write("surrogate", b"\xed\xa0\x80"),
        write("overlong", b"\xc0\x80"),
    ];
    for path in &cases {
        for command in ["run", "score"] {
            onebit(&[command, "-f", path]).refused(2, &["UTF-8", path]);
        }
        onebit_with(&["run", "-n", "1"], &fs::read(path).unwrap()).refused(2, &["UTF-8", "stdin"]);
    }
    for path in ["/no/such/file", folder.path().to_str().unwrap()] {
        onebit(&["run", "-f", path]).refused(2, &["cannot read"]);
        onebit(&["score", "-f", path]).refused(2, &["cannot read"]);
    }
    #[cfg(unix)]
    onebit(&["run", "-f", "/dev/zero"]).refused_for(&[2], &["/dev/zero", "longer"], 16 << 20);
    onebit_with(&["run"], &vec![b'x'; 17 << 20]).refused_for(&[2], &["stdin", "longer"], 17 << 20);
    onebit_with(&["run", "-n", "1"], &b"a story ".repeat(5000)).refused(2, &["tokens"]);
    onebit_with(&["run"], b"").refused(2, &["empty"]);
    // Zeros are characters like any other.
    onebit_with(&["run", "-n", "1", "--temp", "0"], b"a\0b").ok();
}

#[test]
fn commands_without_their_arguments() {
    for args in [
        &[][..],
        &["run", "--"],
        &["convert"],
        &["convert", "x"],
        &["convert", "-o", "y"],
        &["tokenize"],
        &["run", "a", "b"],
        &["run", "-p"],
        &["completions"],
        &["score", "--ids", "1", "--text", "x"],
    ] {
        let ended = onebit(args);
        assert!(
            matches!(ended.code, Some(2 | 3)),
            "{args:?}: {:?}: {}",
            ended.code,
            ended.err
        );
        assert!(!ended.err.contains("panicked"), "{args:?}: {}", ended.err);
    }
}

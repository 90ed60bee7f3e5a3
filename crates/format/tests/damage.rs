//! Damaged and lying files: a typed error that names what is wrong, and never a panic.

mod common;

use common::sample;
use onebit_format::{AlignedBytes, ErrorKind, Index};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A packed file taken apart.
struct Parts {
    header: Value,
    meta: Value,
    data: Vec<u8>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let len = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        let meta = serde_json::from_str(header["__metadata__"]["onebit"].as_str().unwrap());
        Self {
            meta: meta.unwrap(),
            header,
            data: bytes[8 + len..].to_vec(),
        }
    }

    fn join(mut self) -> Vec<u8> {
        self.header["__metadata__"]["onebit"] = Value::String(self.meta.to_string());
        join(self.header.to_string(), &self.data)
    }

    /// The data of one tensor.
    fn tensor(&mut self, name: &str) -> &mut [u8] {
        let offset = |i: usize| self.header[name]["data_offsets"][i].as_u64().unwrap() as usize;
        let range = offset(0)..offset(1);
        &mut self.data[range]
    }
}

fn join(mut header: String, data: &[u8]) -> Vec<u8> {
    while !(8 + header.len()).is_multiple_of(64) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Parses, and views everything when that succeeds.
fn parse(bytes: &[u8]) -> Result<(), onebit_format::FormatError> {
    let index = Index::parse(bytes)?;
    let bytes = AlignedBytes::from(bytes);
    for name in index.meta().matrices.keys() {
        let matrix = index.matrix(&bytes, name)?;
        let mut row = vec![0.0; matrix.cols()];
        matrix.decode_row(matrix.rows() - 1, &mut row);
    }
    for name in index.meta().vectors.keys() {
        index.vector(&bytes, name)?;
    }
    for name in index.meta().blobs.keys() {
        index.blob(&bytes, name)?;
    }
    Ok(())
}

#[test]
fn taking_apart_and_joining_changes_nothing_that_matters() {
    parse(&Parts::of(&sample()).join()).unwrap();
}

#[test]
fn every_truncation_is_malformed() {
    let bytes = sample();
    for len in 0..bytes.len() {
        let error = Index::parse(&bytes[..len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{len}: {error}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert_eq!(
        Index::parse(&longer).unwrap_err().kind(),
        ErrorKind::Malformed
    );
}

#[test]
fn no_bit_flip_in_the_header_panics() {
    let mut bytes = sample();
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let last = bytes[..header]
        .iter()
        .rposition(|byte| *byte != b' ')
        .unwrap();
    for at in 0..=last {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            drop(parse(&bytes));
            bytes[at] ^= 1 << bit;
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn no_json_panics(text in "[{}\\[\\]\":,a-z0-9 ]{0,200}") {
        let header = format!("{{{text}");
        prop_assert!(parse(&join(header, &[])).is_err());
    }

    #[test]
    fn no_damage_to_the_data_panics(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut parts = Parts::of(&sample());
        *at.get_mut(&mut parts.data) = value;
        drop(parse(&parts.join()));
    }
}

type Lie = fn(&mut Parts);

/// What the parser says about the sample after `lie`.
fn refused(lie: Lie) -> (ErrorKind, String) {
    let mut parts = Parts::of(&sample());
    lie(&mut parts);
    let error = parse(&parts.join()).expect_err("a lie is refused");
    (error.kind(), error.to_string())
}

#[track_caller]
fn check(kind: ErrorKind, cases: &[(Lie, &[&str])]) {
    for (lie, expected) in cases {
        let (found, text) = refused(*lie);
        assert_eq!(found, kind, "{text}");
        for part in *expected {
            assert!(text.contains(part), "`{text}` should name {part}");
        }
    }
}

#[test]
fn what_a_later_version_may_know_is_unsupported_by_name() {
    check(
        ErrorKind::Unsupported,
        &[
            (
                |p| p.meta["format_version"] = json!(2),
                &["version 2", "version 1"],
            ),
            (
                |p| {
                    p.meta["format_version"] = json!(7);
                    p.meta["unheard_of"] = json!({});
                },
                &["version 7"],
            ),
            (
                |p| p.meta["required_features"] = json!(["low_rank"]),
                &["`low_rank`"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["layout"] = json!("t1.r4k640"),
                &["`layers.0.t2`", "`t1.r4k640`"],
            ),
        ],
    );
}

#[test]
fn metadata_that_contradicts_itself_is_malformed() {
    check(
        ErrorKind::Malformed,
        &[
            (|p| p.meta = json!([1]), &["metadata"]),
            (|p| p.meta["surprise"] = json!(1), &["surprise"]),
            (
                |p| p.meta["generation"]["top_p"] = json!(1e300),
                &["generation.top_p", "finite"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["rows"] = json!(0),
                &["`layers.0.t2`"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["cols"] = json!(0),
                &["`layers.0.t2`"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["cols"] = json!(1u64 << 40),
                &["65536"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["rows"] = json!(u64::MAX),
                &["`layers.0.t2`"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["rows"] = json!(-1),
                &["-1"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["scale"] = json!("none"),
                &["layers.0.t2"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.f16"]["scale"] = json!({"tensor": {"index": 0}}),
                &["layers.0.f16.scale", "`f16.r1k32`"],
            ),
            (
                |p| {
                    p.meta["matrices"]["layers.0.b1"]["scale"] = json!({"groups": {"size": 64}});
                },
                &["matrices.layers.0.b1.scale", "`b1.r1k512`"],
            ),
            (
                |p| {
                    p.meta["matrices"]["layers.0.b1"]["scale"] =
                        json!({"groups": {"tensor": "g", "size": 128}});
                },
                &["matrices.layers.0.b1.scale", "convert the checkpoint again"],
            ),
            (
                |p| {
                    p.meta["matrices"]["layers.0.b1"]["scale"] = json!({"groups": {"size": 128}});
                },
                &["layers.0.b1", "[3, 128]"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.b1"]["activation"] = json!("i4_token"),
                &["i4_token"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.q4"]["scale"]["groups"]["size"] = json!(32),
                &["layers.0.q4.scale"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["scale"]["tensor"]["index"] = json!(1),
                &["index"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["scale"]["tensor"]["index"] = json!(5),
                &["indices", "5"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["activation"] = json!("int3"),
                &["int3", "i8_token"],
            ),
            (
                |p| p.meta["vectors"]["layers.0.attn_norm"] = json!(0),
                &["`layers.0.attn_norm`"],
            ),
            (
                |p| p.meta["vectors"]["layers.0.t2"] = json!(5),
                &["`layers.0.t2`", "two"],
            ),
            (
                |p| p.meta["sha256"]["scales"] = json!("AB"),
                &["sha256.scales"],
            ),
            (
                |p| p.meta["sha256"]["other"] = json!("0".repeat(64)),
                &["other"],
            ),
            (
                |p| drop(p.meta["sha256"].as_object_mut().unwrap().remove("scales")),
                &["sha256", "scales"],
            ),
        ],
    );
}

#[test]
fn tensors_that_contradict_the_metadata_are_malformed() {
    check(
        ErrorKind::Malformed,
        &[
            (
                |p| p.meta["vectors"]["absent"] = json!(4),
                &["`absent`", "a tensor in the file"],
            ),
            (
                |p| p.meta["vectors"] = json!({}),
                &["`layers.0.attn_norm`", "an entry in the metadata"],
            ),
            (
                |p| p.header["layers.0.t2"]["dtype"] = json!("I8"),
                &["`layers.0.t2`", "U8", "I8"],
            ),
            (
                |p| p.header["layers.0.t2"]["dtype"] = json!("F99"),
                &["`layers.0.t2`", "F99"],
            ),
            (
                |p| p.header["layers.0.t2"]["shape"] = json!([384]),
                &["`layers.0.t2`", "[3, 128]", "[384]"],
            ),
            (
                |p| p.header["layers.0.t2"]["shape"] = json!([3, 127]),
                &["`layers.0.t2`", "381"],
            ),
            (
                |p| p.header["layers.0.t2"]["shape"] = json!([u64::MAX, 2]),
                &["`layers.0.t2`", "addressed"],
            ),
            (
                |p| p.header["layers.0.t2"]["shape"] = json!([-3, 128]),
                &["`layers.0.t2`"],
            ),
            (
                |p| p.header["layers.0.t2"]["data_offsets"] = json!([448, 64]),
                &["`layers.0.t2`"],
            ),
            (
                |p| p.meta["matrices"]["layers.0.t2"]["cols"] = json!(10),
                &["`layers.0.t2`"],
            ),
        ],
    );
}

/// Moves a tensor and adds to the data.
fn shift(parts: &mut Parts, name: &str, by: i64) {
    for i in 0..2 {
        let offset = &mut parts.header[name]["data_offsets"][i];
        *offset = json!(offset.as_i64().unwrap() + by);
    }
    let len = parts.data.len().saturating_add_signed(by as isize);
    parts.data.resize(len, 0);
}

#[test]
fn holes_overlaps_and_misalignment_are_malformed() {
    check(
        ErrorKind::Malformed,
        &[
            (|p| shift(p, "scales", 64), &["`scales`", "hole"]),
            (|p| shift(p, "scales", -64), &["overlap"]),
            (|p| shift(p, "scales", 8), &["`scales`", "64-byte boundary"]),
            (|p| p.data.extend([0; 64]), &["bytes of tensors"]),
            (|p| p.data.truncate(64), &["bytes of tensors"]),
        ],
    );
    let mut bytes = sample();
    let len = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    bytes.splice(8 + len as usize..8 + len as usize, *b" ");
    bytes[..8].copy_from_slice(&(len + 1).to_le_bytes());
    let error = Index::parse(&bytes).unwrap_err();
    assert!(error.to_string().contains("multiple of 64"), "{error}");
}

#[test]
fn scales_that_are_not_numbers_are_malformed() {
    check(
        ErrorKind::Malformed,
        &[
            (
                |p| p.tensor("scales")[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
                &["`layers.0.t2`", "finite positive"],
            ),
            (
                |p| p.tensor("scales")[4..8].copy_from_slice(&0f32.to_le_bytes()),
                &["`layers.0.b1`", "finite positive"],
            ),
            (
                |p| p.tensor("scales")[..4].copy_from_slice(&(-1f32).to_le_bytes()),
                &["`layers.0.t2`"],
            ),
            (
                |p| {
                    let scale = f32::INFINITY.to_le_bytes();
                    p.tensor("layers.0.q8.row_scales")[8..12].copy_from_slice(&scale);
                },
                &["`layers.0.q8.row_scales`", "index 2"],
            ),
        ],
    );
}

#[test]
fn row_scales_may_be_zero() {
    let mut parts = Parts::of(&sample());
    parts.tensor("layers.0.q8.row_scales")[..4].fill(0);
    parse(&parts.join()).unwrap();
}

#[test]
fn header_lengths_are_checked_before_they_are_used() {
    for len in [0, 1, 63 << 20, (64 << 20) + 1, u64::MAX - 8, u64::MAX] {
        let mut bytes = sample();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        let error = Index::parse(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{len}: {error}");
        assert!(error.to_string().contains("header"), "{len}: {error}");
    }
}

#[test]
fn other_containers_are_malformed() {
    let deep = format!("{{\"__metadata__\":{}", "{\"a\":".repeat(100_000));
    let nested = json!({"__metadata__": {"onebit": "[".repeat(100_000)}}).to_string();
    let repeated = json!({"__metadata__": {"onebit":
        "{\"format_version\":1,\"required_features\":[],\"vectors\":{\"v\":1,\"v\":2}}"}});
    let repeated = repeated.to_string();
    let tensor = "{\"dtype\":\"U8\",\"shape\":[64],\"data_offsets\":[0,64]}";
    let twice = format!("{{\"a\":{tensor},\"a\":{tensor}}}");
    let reserved = format!("{{\"__metadata__\":{tensor}}}");
    let cases = [
        ("{}", "`onebit`"),
        ("{\"__metadata__\":{\"format\":\"pt\"}}", "`onebit`"),
        ("[]", "JSON"),
        ("{\"a\":1}", "`a`"),
        (&deep, "JSON"),
        (&nested, "metadata"),
        (&repeated, "key `v` is given twice"),
        (&twice, "`a` occurs twice"),
        (&reserved, "JSON"),
    ];
    for (header, expected) in cases {
        let error = Index::parse(&join(header.to_owned(), &[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(
            error.to_string().contains(expected),
            "`{error}` should name {expected}"
        );
    }
}

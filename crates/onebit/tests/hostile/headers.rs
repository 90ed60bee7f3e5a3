//! Safetensors files whose header lies, and tensors that are not what they should be.

use crate::source::{Place, WEIGHTS};
use serde_json::{Value, json};

/// A safetensors file taken apart.
struct Parts {
    header: Value,
    data: Vec<u8>,
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const UP: &str = "model.layers.1.mlp.up_proj.weight";
const UP_SCALE: &str = "model.layers.1.mlp.up_proj.weight_scale";
const NORM: &str = "model.norm.weight";

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let len = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&bytes[8..8 + len]).unwrap(),
            data: bytes[8 + len..].to_vec(),
        }
    }

    fn join(&self) -> Vec<u8> {
        join(self.header.to_string().as_bytes(), &self.data)
    }

    /// The bytes of a tensor.
    fn tensor(&mut self, name: &str) -> &mut [u8] {
        let at = |i: usize| self.header[name]["data_offsets"][i].as_u64().unwrap() as usize;
        let range = at(0)..at(1);
        &mut self.data[range]
    }

    /// Replaces a tensor by a new one at the end of the file; a hole is left unless it was the last.
    fn append(&mut self, name: &str, dtype: &str, shape: Value, bytes: &[u8]) {
        let (from, to) = (self.data.len(), self.data.len() + bytes.len());
        self.data.extend_from_slice(bytes);
        self.header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [from, to]});
    }

    /// Removes a tensor and moves those behind it, so that no hole is left.
    fn cut(&mut self, name: &str) {
        let info = self.header.as_object_mut().unwrap().remove(name).unwrap();
        let at = |info: &Value, i: usize| info["data_offsets"][i].as_u64().unwrap();
        let (from, to) = (at(&info, 0), at(&info, 1));
        self.data.drain(from as usize..to as usize);
        for (name, other) in self.header.as_object_mut().unwrap() {
            if name != "__metadata__" && at(other, 0) >= to {
                let moved = [at(other, 0) - (to - from), at(other, 1) - (to - from)];
                other["data_offsets"] = json!(moved);
            }
        }
    }

    /// Replaces a tensor by one of another type or size.
    fn replace(&mut self, name: &str, dtype: &str, shape: Value, bytes: &[u8]) {
        self.cut(name);
        self.append(name, dtype, shape, bytes);
    }
}

fn join(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Applies `lie` to the weights of the checkpoint and expects a refusal.
fn refused(name: &str, codes: &[i32], words: &[&str], outside: bool, lie: impl FnOnce(&mut Parts)) {
    let place = Place::new();
    let mut parts = Parts::of(&place.read(WEIGHTS));
    lie(&mut parts);
    place.write(WEIGHTS, parts.join());
    place.refused(name, codes, words, outside);
}

type Lie = (&'static str, i32, &'static [&'static str], fn(&mut Parts));

#[rustfmt::skip]
const LIES: &[Lie] = &[
    ("offsets beyond the file", 3, &[WEIGHTS], |p| p.header[Q]["data_offsets"] = json!([0, 1u64 << 40])),
    ("offsets beyond all files", 3, &[], |p| p.header[Q]["data_offsets"] = json!([u64::MAX - 7, u64::MAX])),
    ("offsets the wrong way", 3, &[], |p| p.header[Q]["data_offsets"] = json!([4096, 0])),
    ("negative offsets", 3, &[Q], |p| p.header[Q]["data_offsets"] = json!([-1, 4095])),
    ("fractional offsets", 3, &[Q], |p| p.header[Q]["data_offsets"] = json!([0.5, 4096.5])),
    ("offsets as text", 3, &[Q], |p| p.header[Q]["data_offsets"] = json!(["0", "4096"])),
    ("one offset", 3, &[Q], |p| p.header[Q]["data_offsets"] = json!([0])),
    ("three offsets", 3, &[Q], |p| p.header[Q]["data_offsets"] = json!([0, 1, 2])),
    ("no offsets", 3, &[Q], |p| drop(p.header[Q].as_object_mut().unwrap().remove("data_offsets"))),
    ("offsets of another tensor", 3, &[], |p| p.header[Q]["data_offsets"] = p.header[UP]["data_offsets"].clone()),
    ("an overlap of one byte", 3, &[], |p| {
        let from = p.header[Q]["data_offsets"][0].as_u64().unwrap();
        let to = p.header[Q]["data_offsets"][1].as_u64().unwrap();
        p.header[Q]["data_offsets"] = json!([from.max(1) - 1, to - 1]);
    }),
    ("a hole", 3, &[], |p| drop(p.header.as_object_mut().unwrap().remove(UP))),
    ("bytes nobody owns", 3, &[WEIGHTS], |p| p.data.extend([0; 64])),
    ("bytes that are missing", 3, &[WEIGHTS], |p| p.data.truncate(p.data.len() - 64)),
    ("no data", 3, &[WEIGHTS], |p| p.data.clear()),
    ("a shape that overflows", 3, &[], |p| p.header[Q]["shape"] = json!([1u64 << 32, 1u64 << 32])),
    ("a shape that overflows to its size", 3, &[], |p| p.header[Q]["shape"] = json!([1u64 << 63, 2, 32, 128])),
    ("a shape of zeros", 3, &[], |p| p.header[Q]["shape"] = json!([0, 0])),
    ("a shape too large", 3, &[], |p| p.header[Q]["shape"] = json!([64, 128])),
    ("a shape without dimensions", 3, &[], |p| p.header[Q]["shape"] = json!([])),
    ("a negative shape", 3, &[Q], |p| p.header[Q]["shape"] = json!([-32, -128])),
    ("a fractional shape", 3, &[Q], |p| p.header[Q]["shape"] = json!([32.5, 128])),
    ("a shape of text", 3, &[Q], |p| p.header[Q]["shape"] = json!("32x128")),
    ("a shape of shapes", 3, &[Q], |p| p.header[Q]["shape"] = json!([[32], [128]])),
    ("a shape that never ends", 3, &[Q, "dimensions"], |p| p.header[Q]["shape"] = json!(vec![1; 1 << 20])),
    ("no shape", 3, &[Q], |p| drop(p.header[Q].as_object_mut().unwrap().remove("shape"))),
    ("a transposed shape", 3, &[Q, "[128, 32]"], |p| p.header[Q]["shape"] = json!([128, 32])),
    ("a flat shape", 3, &[Q], |p| p.header[Q]["shape"] = json!([4096])),
    ("a shape with a one", 3, &[Q], |p| p.header[Q]["shape"] = json!([1, 32, 128])),
    ("a type nobody knows", 4, &[Q, "F9"], |p| p.header[Q]["dtype"] = json!("F9")),
    ("a type in small letters", 4, &[Q, "u8"], |p| p.header[Q]["dtype"] = json!("u8")),
    ("no type", 3, &[Q], |p| drop(p.header[Q].as_object_mut().unwrap().remove("dtype"))),
    ("a type that is a number", 3, &[Q], |p| p.header[Q]["dtype"] = json!(8)),
    ("packed weights as I8", 4, &[Q, "I8"], |p| p.header[Q]["dtype"] = json!("I8")),
    ("packed weights as booleans", 4, &[Q, "BOOL"], |p| p.header[Q]["dtype"] = json!("BOOL")),
    ("packed weights as F8", 4, &[Q], |p| p.header[Q]["dtype"] = json!("F8_E4M3")),
    ("a norm as integers", 4, &[NORM, "I16"], |p| p.header[NORM]["dtype"] = json!("I16")),
    ("a tensor that is null", 3, &[Q], |p| p.header[Q] = Value::Null),
    ("a tensor that is a list", 3, &[Q], |p| p.header[Q] = json!([])),
    ("a tensor that is text", 3, &[Q], |p| p.header[Q] = json!("x")),
    ("metadata that is text", 3, &[], |p| p.header["__metadata__"] = json!("pt")),
    ("metadata of numbers", 3, &[], |p| p.header["__metadata__"] = json!({"format": 1})),
    ("a header that is a list", 3, &[WEIGHTS], |p| p.header = json!([])),
    ("a header without tensors", 3, &[], |p| { p.header = json!({}); p.data.clear(); }),
    ("a tensor with an empty name", 4, &[], |p| p.append("", "U8", json!([1]), &[0])),
    ("a tensor with an absurd name", 4, &[], |p| p.append(&"x".repeat(1 << 20), "U8", json!([1]), &[0])),
    ("a tensor with a zero in its name", 4, &[], |p| p.append("a\0b", "U8", json!([1]), &[0])),
    ("an empty tensor", 4, &["extra"], |p| p.append("extra", "F32", json!([0]), &[])),
    ("no weight", 3, &[Q], |p| p.cut(Q)),
    ("no norm", 3, &[NORM], |p| p.cut(NORM)),
    ("no scale", 3, &[UP_SCALE], |p| p.cut(UP_SCALE)),
    ("a scale without a number", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([0]), &[])),
    ("two scales", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([2]), &[0, 0, 128, 63, 0, 0, 128, 63])),
    ("a scale per row", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([208]), &1f32.to_le_bytes().repeat(208))),
    ("a scale of integers", 4, &[UP_SCALE], |p| p.replace(UP_SCALE, "I32", json!([1]), &[1, 0, 0, 0])),
    ("a scale of F64", 4, &[UP_SCALE], |p| p.replace(UP_SCALE, "F64", json!([1]), &1f64.to_le_bytes())),
    ("a NaN scale", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([1]), &f32::NAN.to_le_bytes())),
    ("an infinite scale", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([1]), &f32::INFINITY.to_le_bytes())),
    ("a scale of zero", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([1]), &[0; 4])),
    ("a scale of minus zero", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([1]), &(-0f32).to_le_bytes())),
    ("a negative scale", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([1]), &(-1f32).to_le_bytes())),
    ("a scale whose inverse is infinite", 3, &[UP_SCALE], |p| p.replace(UP_SCALE, "F32", json!([1]), &1e-40f32.to_le_bytes())),
    ("code 3 at the start", 3, &[Q, "code 3"], |p| p.tensor(Q)[0] |= 3),
    ("code 3 at the end", 3, &[Q, "code 3"], |p| *p.tensor(Q).last_mut().unwrap() |= 0xC0),
    ("code 3 in all places", 3, &[UP, "code 3"], |p| p.tensor(UP).fill(0xFF)),
    ("a NaN norm", 3, &[NORM, "NaN"], |p| p.tensor(NORM)[..2].fill(0xFF)),
    ("an infinite norm", 3, &[NORM, "inf"], |p| p.tensor(NORM)[4..6].copy_from_slice(&[0x80, 0x7F])),
    ("a NaN embedding", 3, &["embed_tokens", "NaN"], |p| p.tensor("model.embed_tokens.weight")[100..102].fill(0xFF)),
    ("an infinite head", 3, &["lm_head", "inf"], |p| p.tensor("lm_head.weight")[..2].copy_from_slice(&[0x80, 0xFF])),
    ("a norm too long", 3, &[NORM], |p| p.replace(NORM, "F32", json!([129]), &[0; 516])),
    ("a norm with two dimensions", 3, &[NORM], |p| p.replace(NORM, "F32", json!([1, 128]), &[0; 512])),
];

#[test]
fn every_lie_is_found() {
    for (number, (name, code, words, lie)) in LIES.iter().enumerate() {
        let codes = if *code == 4 { &[3, 4][..] } else { &[3] };
        refused(name, codes, words, number % 3 == 0, lie);
    }
}

#[test]
fn every_truncation_is_found() {
    let place = Place::new();
    let bytes = place.read(WEIGHTS);
    let parts = Parts::of(&bytes);
    let start = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let ends = parts.header.as_object().unwrap().values();
    let ends = ends.filter_map(|info| info["data_offsets"][1].as_u64());
    let ends = ends
        .map(|end| start + end as usize)
        .filter(|end| *end < bytes.len());
    let mut lengths: Vec<usize> = ends.collect();
    lengths.extend([
        0,
        1,
        7,
        8,
        9,
        10,
        start / 2,
        start - 1,
        start,
        start + 1,
        bytes.len() - 1,
    ]);
    for (number, len) in lengths.into_iter().enumerate() {
        place.write(WEIGHTS, &bytes[..len]);
        place.refused(&format!("{len} bytes"), &[3], &[WEIGHTS], number % 8 == 0);
    }
}

#[test]
fn lengths_of_the_header_are_checked() {
    let place = Place::new();
    let bytes = place.read(WEIGHTS);
    let true_len = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    let file = bytes.len() as u64;
    let wrong = [
        0,
        1,
        2,
        true_len - 1,
        true_len + 1,
        true_len + 8,
        file - 9,
        file - 8,
        file - 7,
        file,
        100_000_000,
        100_000_001,
        1 << 31,
        (1 << 32) + true_len,
        1 << 40,
        i64::MAX as u64,
        u64::MAX - 8,
        u64::MAX - 7,
        u64::MAX,
    ];
    for (number, len) in wrong.into_iter().enumerate() {
        let mut bytes = bytes.clone();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        place.write(WEIGHTS, bytes);
        place.refused(
            &format!("a header of {len}"),
            &[3],
            &[WEIGHTS],
            number % 4 == 0,
        );
    }
}

#[test]
fn headers_that_are_no_json_are_found() {
    let place = Place::new();
    let parts = Parts::of(&place.read(WEIGHTS));
    let header = parts.header.to_string();
    let twice = header.replacen('{', &format!("{{\"{Q}\": {},", parts.header[Q]), 1);
    let field_twice = header.replacen("\"dtype\":", "\"dtype\":\"U8\",\"dtype\":", 1);
    let metadata_twice = header.replacen('{', "{\"__metadata__\":{},\"__metadata__\":{},", 1);
    let cases: &[(&str, Vec<u8>)] = &[
        ("zeros", vec![0; header.len()]),
        ("spaces", vec![b' '; header.len()]),
        (
            "UTF-16",
            header.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        (
            "a byte order mark",
            [b"\xef\xbb\xbf", header.as_bytes()].concat(),
        ),
        (
            "not UTF-8",
            header
                .replacen(Q, "x", 1)
                .replacen('x', "\u{1}", 1)
                .into_bytes(),
        ),
        ("no end", header.as_bytes()[..header.len() - 1].to_vec()),
        ("an end too many", (header.clone() + "}").into_bytes()),
        ("a tensor twice", twice.into_bytes()),
        ("a field twice", field_twice.into_bytes()),
        ("metadata twice", metadata_twice.into_bytes()),
        (
            "deep lists",
            [b"{\"a\":".to_vec(), b"[".repeat(100_000)].concat(),
        ),
        ("deep objects", b"{\"a\":".repeat(100_000)),
        ("NaN", header.replacen("[0,", "[NaN,", 1).into_bytes()),
        ("pickle", b"\x80\x02}q\x00(X\x05\x00\x00\x00model".to_vec()),
    ];
    for (number, (name, header)) in cases.iter().enumerate() {
        place.write(WEIGHTS, join(header, &parts.data));
        place.refused(name, &[3, 4], &[WEIGHTS], number % 3 == 0);
    }
}

/// Headers at the limit of the format take memory in proportion, and not for long.
#[test]
fn huge_headers_are_bounded() {
    let place = Place::new();
    let entry = r#"{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let mut many = String::from("{");
    for number in 0..200_000 {
        many.push_str(&format!("\"t{number}\":{entry},"));
    }
    many.push_str("\"end\":");
    many.push_str(entry);
    many.push('}');
    let spaces = format!("{{\"a\":{entry}{}}}", " ".repeat(60 << 20));
    let numbers = format!(
        "{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{}0]",
        "0,".repeat(20 << 20)
    );
    let metadata = format!(
        "{{\"__metadata__\":{{\"a\":\"{}\"}}}}",
        "x".repeat(60 << 20)
    );
    for (name, header) in [
        ("tensors", many),
        ("spaces", spaces),
        ("numbers", numbers),
        ("metadata", metadata),
    ] {
        place.write(WEIGHTS, join(header.as_bytes(), &[]));
        drop(header);
        place.refused(name, &[3, 4], &[], true);
    }
}

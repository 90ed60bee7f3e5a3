//! A small packed file with every layout, a vector and a blob.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::Path;

use half::f16;
use onebit_format::{
    ActivationMode, FormatError, GenerationDefaults, Layout, Plan, Provenance, SIGN_GROUP, Scales,
    SourceFile, Writer, pack,
};

/// The layouts of the sample, those of the first files there were.
const LAYOUTS: [Layout; 7] = [
    Layout::T2,
    Layout::B1,
    Layout::I8,
    Layout::I4,
    Layout::F16,
    Layout::BF16,
    Layout::F32,
];

pub(crate) const TERNARY_COLS: usize = 300;
pub(crate) const ROWS: usize = 3;
pub(crate) const BLOB: &[u8] = b"{\"version\": \"1.0\"}";

/// A reproducible sequence of integers.
pub(crate) fn sequence(len: usize, seed: u32) -> impl Iterator<Item = u32> {
    (0..len as u32).map(move |i| (i + 1).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16)
}

pub(crate) fn ternary(seed: u32) -> Vec<i8> {
    sequence(TERNARY_COLS, seed)
        .map(|v| (v % 3) as i8 - 1)
        .collect()
}

pub(crate) fn signs(seed: u32) -> Vec<i8> {
    sequence(TERNARY_COLS, seed)
        .map(|v| (v % 2) as i8 * 2 - 1)
        .collect()
}

pub(crate) fn floats(len: usize, seed: u32) -> Vec<f32> {
    sequence(len, seed)
        .map(|v| (v as f32 - 32768.0) / 16384.0)
        .collect()
}

pub(crate) fn name_of(layout: Layout) -> String {
    format!("layers.0.{}", layout.name())
}

pub(crate) fn plan() -> Plan {
    let provenance = Provenance {
        source: "example/tiny".into(),
        revision: Some("main".into()),
        converter: "onebit-format tests".into(),
        files: vec![SourceFile {
            name: "model.safetensors".into(),
            ..SourceFile::default()
        }],
    };
    let mut plan = Plan::new(
        serde_json::json!({"hidden": TERNARY_COLS, "layers": 1}),
        provenance,
    );
    plan.generation = GenerationDefaults {
        bos: Some(1),
        eos: vec![2, 3],
        ..Default::default()
    };
    plan.chat_template = Some("{{ messages[0]['content'] }}".into());
    plan.vector("layers.0.attn_norm", 5);
    for layout in &LAYOUTS {
        let activation = match layout {
            Layout::T2 | Layout::B1 => ActivationMode::I8Token,
            _ => ActivationMode::F32,
        };
        plan.matrix(name_of(*layout), *layout, ROWS, TERNARY_COLS, activation);
    }
    plan.blob("tokenizer.json", BLOB.len());
    plan
}

pub(crate) fn write_matrix(writer: &mut Writer, layout: Layout) -> Result<(), FormatError> {
    let mut row = vec![0xAA; layout.band_bytes(TERNARY_COLS).unwrap()];
    let groups = TERNARY_COLS.div_ceil(64);
    let mut row_scales = vec![0.0; ROWS];
    let mut matrix = writer.write_matrix(&name_of(layout))?;
    for (r, row_scale) in row_scales.iter_mut().enumerate() {
        let x = floats(TERNARY_COLS, r as u32);
        match layout {
            Layout::T2 => pack::ternary_row(&ternary(r as u32), &mut row),
            Layout::T5 => pack::dense_row(&ternary(r as u32), &mut row),
            Layout::T5R5 => {
                let codes: Vec<i8> = (0..ROWS).flat_map(|r| ternary(r as u32)).collect();
                pack::dense_bands(&codes, TERNARY_COLS, &mut row);
                matrix.rows(&row)?;
                break;
            }
            Layout::B1 => pack::binary_row(&signs(r as u32), &mut row),
            Layout::I8 => *row_scale = pack::quantize_i8_row(&x, &mut row),
            Layout::I4 => {
                let mut scales = vec![f16::ZERO; groups];
                pack::quantize_i4_row(&x, &mut row, &mut scales);
                matrix.rows(&pack::with_scales(layout, TERNARY_COLS, &row, &scales))?;
                continue;
            }
            Layout::F16 => pack::f16_row(&x, &mut row).unwrap(),
            Layout::BF16 => pack::bf16_row(&x, &mut row).unwrap(),
            Layout::F32 => pack::f32_row(&x, &mut row).unwrap(),
            other => unreachable!("layout {other}"),
        }
        matrix.rows(&row)?;
    }
    matrix.finish(match layout {
        Layout::T2 | Layout::T5 | Layout::T5R5 => Scales::Tensor(0.5),
        Layout::B1 => Scales::Tensor(0.125),
        Layout::I8 => Scales::Rows(&row_scales),
        Layout::I4 => Scales::Groups { size: 64 },
        _ => Scales::None,
    })
}

pub(crate) fn write_tensors(writer: &mut Writer) -> Result<(), FormatError> {
    writer.write_vector("layers.0.attn_norm", &floats(5, 7))?;
    for layout in &LAYOUTS {
        write_matrix(writer, *layout)?;
    }
    writer.write_blob("tokenizer.json", BLOB)
}

pub(crate) fn write(path: &Path) -> Result<u64, FormatError> {
    let mut writer = Writer::create(path, plan())?;
    write_tensors(&mut writer)?;
    writer.provenance_mut().files[0].sha256 = "ab".repeat(32);
    writer.provenance_mut().files[0].bytes = 12_345;
    writer.finish()
}

/// Writes a file whose matrices have group scales and every activation mode.
pub(crate) fn write_grouped(path: &Path) -> Result<u64, FormatError> {
    let provenance = Provenance {
        source: "example/groups".into(),
        converter: "onebit-format tests".into(),
        ..Provenance::default()
    };
    let modes = [
        ActivationMode::F32,
        ActivationMode::I8Token,
        ActivationMode::SignToken,
        ActivationMode::TernaryToken,
    ];
    let mut plan = Plan::new(serde_json::json!({"hidden": TERNARY_COLS}), provenance);
    let name = |layout: Layout, i: usize| format!("layers.{i}.{}", layout.name());
    for (i, mode) in modes.into_iter().enumerate() {
        plan.grouped_matrix(name(Layout::T2, i), Layout::T2, ROWS, TERNARY_COLS, mode);
        plan.grouped_matrix(name(Layout::B1, i), Layout::B1, ROWS, TERNARY_COLS, mode);
    }
    let mut writer = Writer::create(path, plan)?;
    let scale = |g| f16::from_f32((g % 7) as f32 / 4.0);
    let groups = TERNARY_COLS.div_ceil(SIGN_GROUP);
    let values: Vec<f16> = (0..ROWS * groups).map(scale).collect();
    for i in 0..modes.len() {
        for layout in [Layout::T2, Layout::B1] {
            let mut row = vec![0; layout.row_bytes(TERNARY_COLS).unwrap()];
            let mut matrix = writer.write_matrix(&name(layout, i))?;
            for r in 0..ROWS {
                match layout {
                    Layout::T2 => pack::ternary_row(&ternary((i + r) as u32), &mut row),
                    _ => pack::binary_row(&signs((i + r) as u32), &mut row),
                }
                let scales = &values[r * groups..][..groups];
                matrix.rows(&pack::with_scales(layout, TERNARY_COLS, &row, scales))?;
            }
            matrix.finish(Scales::Groups { size: SIGN_GROUP })?;
        }
    }
    writer.finish()
}

/// Writes a file with a dense ternary matrix, of [`Layout::T5`] or [`Layout::T5R5`].
pub(crate) fn write_dense(path: &Path, layout: Layout) -> Result<u64, FormatError> {
    let provenance = Provenance {
        source: "example/dense".into(),
        converter: "onebit-format tests".into(),
        ..Provenance::default()
    };
    let mut plan = Plan::new(serde_json::json!({"hidden": TERNARY_COLS}), provenance);
    let mode = ActivationMode::I8Token;
    plan.matrix(name_of(layout), layout, ROWS, TERNARY_COLS, mode);
    let mut writer = Writer::create(path, plan)?;
    write_matrix(&mut writer, layout)?;
    writer.finish()
}

/// Rows of the matrices of [`write_side_by_side`]: the last six fill no band.
pub(crate) const SIDE_ROWS: usize = 70;

/// Writes a file with two matrices of a layout of rows side by side, ternary or binary: `one` with one scale, `groups` with that of group `g` of
/// row `r` `(1 + r) / 64 + 2 g`.
pub(crate) fn write_side_by_side(path: &Path, layout: Layout) -> Result<u64, FormatError> {
    let provenance = Provenance {
        source: "example/side-by-side".into(),
        converter: "onebit-format tests".into(),
        ..Provenance::default()
    };
    let cols = TERNARY_COLS;
    let mut plan = Plan::new(serde_json::json!({"hidden": cols}), provenance);
    plan.matrix("one", layout, SIDE_ROWS, cols, ActivationMode::I8Token);
    plan.grouped_matrix("groups", layout, SIDE_ROWS, cols, ActivationMode::F32);
    let mut writer = Writer::create(path, plan)?;
    let codes: Vec<i8> = (0..SIDE_ROWS)
        .flat_map(|r| side_by_side_codes(layout, r))
        .collect();
    let mut bytes = vec![0; layout.byte_len(SIDE_ROWS, cols).unwrap()];
    pack::code_rows(layout, &codes, cols, &mut bytes);
    let mut matrix = writer.write_matrix("one")?;
    matrix.rows(&bytes)?;
    matrix.finish(Scales::Tensor(0.125))?;
    let groups = cols.div_ceil(SIGN_GROUP);
    let scale = |at: usize| (1 + at / groups) as f32 / 64.0 + 2.0 * (at % groups) as f32;
    let by_row: Vec<f16> = (0..SIDE_ROWS * groups)
        .map(|at| f16::from_f32(scale(at)))
        .collect();
    let mut matrix = writer.write_matrix("groups")?;
    let stored = pack::with_scales(layout, cols, &bytes, &by_row);
    for band in stored.chunks(layout.stored_band_bytes(cols, true).unwrap()) {
        matrix.rows(band)?;
    }
    matrix.finish(Scales::Groups { size: SIGN_GROUP })?;
    writer.finish()
}

/// The codes of row `row` of the matrices of [`write_side_by_side`].
pub(crate) fn side_by_side_codes(layout: Layout, row: usize) -> Vec<i8> {
    match layout.is_binary() {
        true => signs(row as u32),
        false => ternary(row as u32),
    }
}

/// The bytes of the file that [`write`] makes.
pub(crate) fn sample() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.onebit");
    write(&path).unwrap();
    std::fs::read(&path).unwrap()
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

//! The layouts: bytes made elsewhere, round trips, and rows against single values.

use std::path::Path;

use half::f16;
use onebit_format::{
    ATOM_BYTES, AlignedBytes, Layout, MatrixRef, SIGN_GROUP, Scales, ShapeError, pack,
};
use proptest::prelude::*;
use serde::Deserialize;

/// See `fixtures/layouts/make.py`.
#[derive(Deserialize)]
struct Golden {
    layout: String,
    rows: usize,
    cols: usize,
    values: Vec<Vec<f32>>,
    scales: Vec<f32>,
    bytes: String,
}

fn golden(name: &str) -> Golden {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layouts");
    let text = std::fs::read_to_string(dir.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn from_hex(text: &str) -> AlignedBytes {
    let digits = text
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    let bytes: Vec<u8> = digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect();
    AlignedBytes::from(bytes)
}

/// Scales, as [`Scales`] borrows them where they are not among the weights.
struct OwnedScales {
    layout: Layout,
    wide: Vec<f32>,
}

impl OwnedScales {
    fn new(layout: Layout, wide: Vec<f32>) -> Self {
        Self { layout, wide }
    }

    fn get(&self) -> Scales<'_> {
        match self.layout {
            layout if layout.is_ternary() || layout.is_binary() => Scales::Tensor(self.wide[0]),
            Layout::I8 => Scales::Rows(&self.wide),
            Layout::I4 => Scales::Groups { size: 64 },
            _ => Scales::None,
        }
    }
}

/// Packs one row of weights, as it is stored; `values` are the codes where the layout has codes. Returns the
/// scales that the layout chooses itself.
fn pack_row(layout: Layout, values: &[f32], weights: &[f32], out: &mut [u8]) -> Vec<f32> {
    let codes: Vec<i8> = values.iter().map(|value| *value as i8).collect();
    match layout {
        // A band of one row.
        _ if layout.is_ternary() || layout.is_binary() => {
            pack::code_rows(layout, &codes, codes.len(), out);
        }
        Layout::I8 => return vec![pack::quantize_i8_row(weights, out)],
        Layout::I4 => {
            let mut scales = vec![f16::ZERO; weights.len().div_ceil(64)];
            let mut row = vec![0xAA; layout.row_bytes(weights.len()).unwrap()];
            pack::quantize_i4_row(weights, &mut row, &mut scales);
            out.copy_from_slice(&pack::with_scales(layout, weights.len(), &row, &scales));
            return scales.iter().map(|scale| scale.to_f32()).collect();
        }
        Layout::F16 => pack::f16_row(weights, out).unwrap(),
        Layout::BF16 => pack::bf16_row(weights, out).unwrap(),
        Layout::F32 => pack::f32_row(weights, out).unwrap(),
        other => unreachable!("layout {other}"),
    }
    Vec::new()
}

#[test]
fn decoder_and_packer_agree_with_the_goldens() {
    for layout in Layout::ALL.iter().copied() {
        let golden = golden(layout.id());
        assert_eq!(golden.layout, layout.id());
        let (bytes, scales) = (
            from_hex(&golden.bytes),
            OwnedScales::new(layout, golden.scales),
        );
        let matrix = MatrixRef::new(layout, golden.rows, golden.cols, &bytes, scales.get());
        let matrix = matrix.unwrap_or_else(|error| panic!("{layout}: {error}"));
        let mut chosen = Vec::new();
        for (r, values) in golden.values.iter().enumerate() {
            for (k, value) in values.iter().enumerate() {
                if !layout.is_float() {
                    assert_eq!(
                        matrix.code(r, k),
                        *value as i32,
                        "{layout} row {r} column {k}"
                    );
                }
                assert_eq!(matrix.value(r, k), value * matrix.scale(r, k));
            }
            let weights: Vec<f32> = (0..golden.cols).map(|k| matrix.value(r, k)).collect();
            if layout.atom_rows() == 1 {
                let mut row = vec![0xAA; matrix.row_bytes()];
                chosen.extend(pack_row(layout, values, &weights, &mut row));
                assert_eq!(row, matrix.row_bytes_of(r), "{layout} row {r}");
            }
        }
        if layout.atom_rows() > 1 {
            let codes: Vec<i8> = golden.values.iter().flatten().map(|x| *x as i8).collect();
            let mut packed = vec![0xAA; bytes.len()];
            pack::code_rows(layout, &codes, golden.cols, &mut packed);
            assert_eq!(packed[..], bytes[..], "{layout}");
        }
        if matches!(layout, Layout::I8 | Layout::I4) {
            assert_eq!(chosen, scales.wide, "{layout}");
        }
    }
}

#[test]
fn padding_decodes_to_nothing() {
    for layout in Layout::ALL
        .iter()
        .copied()
        .filter(|layout| !layout.is_float())
    {
        let grouped = layout == Layout::I4;
        let mut row = AlignedBytes::zeroed(layout.stored_len(1, 1, grouped).unwrap());
        let scales = OwnedScales::new(layout, pack_row(layout, &[1.0], &[1.0], &mut row));
        let scales = if scales.wide.is_empty() {
            OwnedScales::new(layout, vec![1.0])
        } else {
            scales
        };
        let matrix = MatrixRef::new(layout, 1, 1, &row, scales.get()).unwrap();
        let expected = if layout.is_binary() { -1 } else { 0 };
        for k in 1..matrix.padded_cols() {
            assert_eq!(matrix.code(0, k), expected, "{layout} column {k}");
        }
    }
}

#[test]
fn names_and_sizes() {
    for layout in Layout::ALL.iter().copied() {
        assert_eq!(Layout::from_id(layout.id()), Some(layout));
        assert_eq!(Layout::from_name(layout.name()), Some(layout));
        let atom = layout.atom_cols();
        // Rows side by side end with a group.
        let step = match layout {
            Layout::T2R16 | Layout::B1R64 => 128,
            _ => atom,
        };
        for (cols, steps) in [
            (0, 0),
            (1, 1),
            (step - 1, 1),
            (step, 1),
            (step + 1, 2),
            (3 * step, 3),
        ] {
            let atoms = steps * step / atom;
            let band = Some(atoms * ATOM_BYTES);
            assert_eq!(layout.band_bytes(cols), band, "{layout} {cols}");
            let alone = layout.atom_rows() == 1;
            assert_eq!(layout.row_bytes(cols), band.filter(|_| alone));
            assert_eq!(layout.padded_cols(cols), Some(atoms * atom));
            let bands = 7usize.div_ceil(layout.atom_rows());
            assert_eq!(layout.byte_len(7, cols), Some(bands * atoms * ATOM_BYTES));
            assert_eq!(layout.stored_len(7, cols, false), layout.byte_len(7, cols));
            for grouped in [false, true] {
                let [rows, elements] = layout.stored_shape(7, cols, grouped).unwrap();
                let bytes = rows * elements * layout.dtype().bitsize() / 8;
                assert_eq!(Some(bytes), layout.stored_len(7, cols, grouped));
            }
        }
        assert_eq!(layout.byte_len(usize::MAX, 1), None);
        assert_eq!(layout.stored_len(usize::MAX, 1, true), None);
        let id = format!(".r{}k{atom}", layout.atom_rows());
        assert_eq!(layout.padded_cols(usize::MAX), None);
        assert!(layout.id().ends_with(&id), "the id names the atom");
    }
    assert_eq!(
        (Layout::from_id("t2"), Layout::from_name("t2.r1k256")),
        (None, None)
    );
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let bytes = AlignedBytes::zeroed(192);
    let new = |layout, rows, cols, bytes, scales| {
        MatrixRef::new(layout, rows, cols, bytes, scales)
            .map(drop)
            .unwrap_err()
    };
    let bytes_error = new(Layout::T2, 2, 10, &bytes, Scales::Tensor(1.0));
    assert!(matches!(
        bytes_error,
        ShapeError::Bytes {
            expected: 128,
            found: 192,
            ..
        }
    ));
    let kind = new(Layout::T2, 3, 10, &bytes, Scales::None);
    assert!(kind.to_string().contains("one scale"), "{kind}");
    let count = new(Layout::I8, 3, 10, &bytes, Scales::Rows(&[1.0; 2]));
    assert_eq!(
        count,
        ShapeError::ScaleCount {
            expected: 3,
            found: 2
        }
    );
    let groups = Scales::Groups { size: 32 };
    assert!(matches!(
        new(Layout::I4, 3, 10, &bytes, groups),
        ShapeError::ScaleKind { .. }
    ));
    let overflow = new(Layout::T2, usize::MAX, 10, &bytes, Scales::Tensor(1.0));
    assert!(matches!(overflow, ShapeError::Overflow { .. }));
    let unaligned = new(Layout::F32, 2, 10, &bytes[1..129], Scales::None);
    assert!(matches!(
        unaligned,
        ShapeError::Alignment { expected: 4, .. }
    ));
}

#[test]
fn group_scales_agree_with_the_goldens() {
    for layout in [Layout::T2, Layout::T2R16, Layout::B1, Layout::B1R64] {
        let golden = golden(&format!("{layout}.groups"));
        let bytes = from_hex(&golden.bytes);
        let groups = golden.cols.div_ceil(SIGN_GROUP);
        let scales = Scales::Groups { size: SIGN_GROUP };
        let matrix = MatrixRef::new(layout, golden.rows, golden.cols, &bytes, scales).unwrap();
        for (r, codes) in golden.values.iter().enumerate() {
            let mut row = vec![0.0; golden.cols];
            matrix.decode_row(r, &mut row);
            for (k, code) in codes.iter().enumerate() {
                let expected = code * golden.scales[r * groups + k / SIGN_GROUP];
                assert_eq!(row[k].to_bits(), expected.to_bits(), "{layout} {r} {k}");
                assert_eq!(matrix.value(r, k).to_bits(), expected.to_bits());
            }
        }
        let codes: Vec<i8> = golden.values.iter().flatten().map(|x| *x as i8).collect();
        let scales: Vec<f16> = golden.scales.iter().map(|s| f16::from_f32(*s)).collect();
        let mut packed = vec![0; layout.byte_len(golden.rows, golden.cols).unwrap()];
        pack::code_rows(layout, &codes, golden.cols, &mut packed);
        let stored = pack::with_scales(layout, golden.cols, &packed, &scales);
        assert_eq!(stored[..], bytes[..], "{layout}");
        let bands = packed.chunks(layout.band_bytes(golden.cols).unwrap());
        for (b, weights) in bands.enumerate() {
            assert_eq!(matrix.band(b).weights(), weights, "{layout} band {b}");
        }
    }
}

#[test]
fn group_scales_apply_to_binary_columns() {
    let mut row = AlignedBytes::zeroed(64);
    pack::binary_row(&[1; 300], &mut row);
    let values = [1.0, 2.0, 3.0].map(f16::from_f32);
    let row = pack::with_scales(Layout::B1, 300, &row, &values);
    let scales = Scales::Groups { size: 128 };
    let matrix = MatrixRef::new(Layout::B1, 1, 300, &row, scales).unwrap();
    let mut out = vec![0.0; 300];
    matrix.decode_row(0, &mut out);
    assert_eq!((out[127], out[128], out[256]), (1.0, 2.0, 3.0));
}

#[test]
fn numbers_that_cannot_be_stored_are_reported() {
    let mut row = [0; 64];
    let x = [1.0, 1e6, f32::NAN];
    let error = pack::f16_row(&x, &mut row).unwrap_err();
    assert_eq!((error.column, error.value), (1, 1e6));
    assert_eq!(pack::bf16_row(&x, &mut row).unwrap_err().column, 2);
    assert_eq!(pack::f32_row(&x, &mut row).unwrap_err().column, 2);
    assert!(pack::quantize_i8_row(&x, &mut row).is_nan());
    let mut scale = [f16::ZERO];
    for x in [[f32::INFINITY, 1.0], [1e30, -1e30]] {
        pack::quantize_i4_row(&x, &mut row, &mut scale);
        assert!(scale[0].is_nan() && row.iter().all(|byte| *byte == 0x88));
    }
}

#[test]
fn zeros_quantize_to_zero_scales() {
    let (mut row, mut scales) = ([1; 64], [f16::ONE]);
    assert_eq!(pack::quantize_i8_row(&[0.0, -0.0], &mut row), 0.0);
    assert!(row.iter().all(|byte| *byte == 0));
    pack::quantize_i4_row(&[0.0, -0.0], &mut row, &mut scales);
    assert_eq!((scales[0].to_bits(), row), (0, [0x88; 64]));
}

#[test]
fn dense_weights_have_one_scale() {
    let row = AlignedBytes::zeroed(64);
    let groups = Scales::Groups { size: SIGN_GROUP };
    let error = MatrixRef::new(Layout::T5, 1, 300, &row, groups).unwrap_err();
    assert!(error.to_string().contains("takes one scale"), "{error}");
}

#[test]
#[should_panic(expected = "ternary codes")]
fn other_dense_codes_than_ternary_panic() {
    pack::dense_row(&[-2], &mut [0; 64]);
}

#[test]
#[should_panic(expected = "binary codes")]
fn other_codes_than_binary_panic() {
    pack::binary_bands(&[1, 0], 2, &mut [0; 1024]);
}

#[test]
#[should_panic(expected = "neither ternary nor binary")]
fn layouts_without_codes_panic() {
    pack::code_rows(Layout::I8, &[1], 1, &mut [0; 64]);
}

#[test]
#[should_panic(expected = "ternary codes")]
fn other_codes_than_ternary_panic() {
    pack::ternary_row(&[2], &mut [0; 64]);
}

#[test]
#[should_panic(expected = "3 columns")]
fn rows_of_another_length_panic() {
    pack::ternary_row(&[0; 3], &mut [0; 128]);
}

fn any_layout() -> impl Strategy<Value = Layout> {
    prop::sample::select(Layout::ALL)
}

/// Float columns are kept away from the sizes that `f16` and `bf16` round to infinity.
fn weights() -> impl Strategy<Value = Vec<f32>> {
    let values = prop_oneof![-4.0f32..4.0, -6e4f32..6e4, Just(0.0), Just(1e-30)];
    prop::collection::vec(values, 1..1100)
}

proptest! {
    #[test]
    fn codes_survive_packing(ternary in prop::collection::vec(-1i8..=1, 0..1100)) {
        let mut row = vec![0xFF; Layout::T2.row_bytes(ternary.len()).unwrap()];
        pack::ternary_row(&ternary, &mut row);
        let t2 = MatrixRef::new(Layout::T2, 1, ternary.len(), &row, Scales::Tensor(1.0)).unwrap();
        prop_assert!(ternary.iter().enumerate().all(|(k, w)| t2.code(0, k) == i32::from(*w)));

        let mut row = vec![0xFF; Layout::T5.row_bytes(ternary.len()).unwrap()];
        pack::dense_row(&ternary, &mut row);
        let t5 = MatrixRef::new(Layout::T5, 1, ternary.len(), &row, Scales::Tensor(1.0)).unwrap();
        prop_assert!(ternary.iter().enumerate().all(|(k, w)| t5.code(0, k) == i32::from(*w)));

        let signs: Vec<i8> = ternary.iter().map(|w| if *w > 0 { 1 } else { -1 }).collect();
        let mut row = vec![0xFF; Layout::B1.row_bytes(signs.len()).unwrap()];
        pack::binary_row(&signs, &mut row);
        let b1 = MatrixRef::new(Layout::B1, 1, signs.len(), &row, Scales::Tensor(1.0)).unwrap();
        prop_assert!(signs.iter().enumerate().all(|(k, w)| b1.code(0, k) == i32::from(*w)));
    }

    #[test]
    fn any_bytes_decode_alike_in_rows_and_alone(
        layout in any_layout(),
        rows in 1usize..4,
        cols in 1usize..700,
        seed in any::<u64>(),
    ) {
        let grouped = layout.group().is_some() && (layout == Layout::I4 || seed % 2 == 0);
        let mut bytes = AlignedBytes::zeroed(layout.stored_len(rows, cols, grouped).unwrap());
        let mut state = seed;
        for byte in bytes.iter_mut() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        let scales = OwnedScales::new(layout, (0..rows).map(|i| 0.5 + i as f32).collect());
        let scales = match layout.group().filter(|_| grouped) {
            Some(size) => Scales::Groups { size },
            None => scales.get(),
        };
        let matrix = MatrixRef::new(layout, rows, cols, &bytes, scales).unwrap();
        let mut out = vec![0.0; cols];
        for r in 0..rows {
            matrix.decode_row(r, &mut out);
            for (k, value) in out.iter().enumerate() {
                prop_assert_eq!(value.to_bits(), matrix.value(r, k).to_bits());
            }
        }
    }

    #[test]
    fn quantization_errs_by_at_most_half_a_step(x in weights()) {
        let mut row = vec![0; Layout::I8.row_bytes(x.len()).unwrap()];
        let scales = [pack::quantize_i8_row(&x, &mut row)];
        let i8 = MatrixRef::new(Layout::I8, 1, x.len(), &row, Scales::Rows(&scales)).unwrap();
        let absmax = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        prop_assert_eq!(scales[0], absmax / 127.0);
        for (k, x) in x.iter().enumerate() {
            prop_assert!((i8.value(0, k) - x).abs() <= scales[0] * 0.5001);
        }
    }

    #[test]
    fn four_bits_do_no_worse_than_the_plain_scale(x in weights()) {
        let mut row = vec![0; Layout::I4.row_bytes(x.len()).unwrap()];
        let mut scales = vec![f16::ZERO; x.len().div_ceil(64)];
        pack::quantize_i4_row(&x, &mut row, &mut scales);
        let row = pack::with_scales(Layout::I4, x.len(), &row, &scales);
        let view = Scales::Groups { size: 64 };
        let i4 = MatrixRef::new(Layout::I4, 1, x.len(), &row, view).unwrap();
        for (g, group) in x.chunks(64).enumerate() {
            let absmax = group.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let plain = f16::from_f32(absmax / 7.0).to_f32();
            let (mut error, mut plain_error) = (0.0f64, 0.0f64);
            for (j, x) in group.iter().enumerate() {
                let by_plain = if plain > 0.0 { (x / plain).round_ties_even() * plain } else { 0.0 };
                error += f64::from(i4.value(0, 64 * g + j) - x).powi(2);
                plain_error += f64::from(by_plain - x).powi(2);
            }
            prop_assert!(error <= plain_error * 1.0001 + 1e-12, "{error} {plain_error}");
        }
    }

    #[test]
    fn floats_are_stored_exactly_or_rounded_to_nearest(x in weights()) {
        let rows = [
            (Layout::F16, 11, 5e-8f32),
            (Layout::BF16, 8, 0.0),
            (Layout::F32, 24, 0.0),
        ];
        for (layout, digits, tiny) in rows {
            let mut row = AlignedBytes::zeroed(layout.row_bytes(x.len()).unwrap());
            pack_row(layout, &x, &x, &mut row);
            let matrix = MatrixRef::new(layout, 1, x.len(), &row, Scales::None).unwrap();
            let limit = 0.5f32.powi(digits);
            for (k, x) in x.iter().enumerate() {
                prop_assert!((matrix.value(0, k) - x).abs() <= x.abs() * limit + tiny);
            }
            let mut copy = vec![0xAA; row.len()];
            pack::raw_row(layout, &row[..x.len() * layout.dtype().bitsize() / 8], &mut copy);
            prop_assert_eq!(&copy[..], &row[..]);
        }
    }
}

#[test]
fn whole_rows_decode_as_their_codes_do() {
    type Decode = fn(&[u8], &mut [i8]);
    let decoders: [(Layout, Decode); 2] = [
        (Layout::T2, pack::ternary_codes),
        (Layout::T5, pack::dense_codes),
    ];
    let sizes = [1, 64, 255, 256, 257, 319, 320, 321, 700];
    for ((layout, decode), cols) in decoders.into_iter().flat_map(|d| sizes.map(|n| (d, n))) {
        let row_bytes = layout.row_bytes(cols).unwrap();
        let bytes: Vec<u8> = (0..row_bytes).map(|i| (i * 151 % 256) as u8).collect();
        let row = AlignedBytes::from(bytes);
        let matrix = MatrixRef::new(layout, 1, cols, &row, Scales::Tensor(1.0)).unwrap();
        let mut codes = vec![0; matrix.padded_cols()];
        decode(&row, &mut codes);
        for (k, code) in codes.iter().enumerate() {
            assert_eq!(
                i32::from(*code),
                matrix.code(0, k),
                "{layout} {cols} columns, column {k}"
            );
        }
    }
}

#[test]
fn bands_decode_as_their_codes_do() {
    for layout in [Layout::T2R16, Layout::T5R5, Layout::B1R64] {
        let most = layout.atom_rows();
        for rows in [1, most - 1, most, most + 1, 2 * most + 3] {
            for cols in [1, 63, 64, 65, 128, 129, 700] {
                decodes_bands(layout, rows, cols);
            }
        }
    }
}

fn decodes_bands(layout: Layout, rows: usize, cols: usize) {
    let len = layout.byte_len(rows, cols).unwrap();
    let bytes: Vec<u8> = (0..len).map(|i| (i * 151 % 256) as u8).collect();
    let bytes = AlignedBytes::from(bytes);
    let matrix = MatrixRef::new(layout, rows, cols, &bytes, Scales::Tensor(0.5)).unwrap();
    let width = matrix.padded_cols();
    let per_band = layout.atom_rows();
    let mut codes = vec![0; per_band * width];
    let mut values = vec![0.0; cols];
    for row in 0..rows {
        pack::band_codes(layout, matrix.band_bytes_of(row / per_band), &mut codes);
        matrix.decode_row(row, &mut values);
        for (k, code) in codes[row % per_band * width..][..width].iter().enumerate() {
            let what = format!("{layout} {rows} x {cols}, row {row}, column {k}");
            assert_eq!(i32::from(*code), matrix.code(row, k), "{what}");
            if let Some(value) = values.get(k) {
                assert_eq!(value.to_bits(), matrix.value(row, k).to_bits(), "{what}");
            }
        }
    }
}

#[test]
fn rows_of_bands_are_not_sliced() {
    let bytes = AlignedBytes::zeroed(64);
    let matrix = MatrixRef::new(Layout::T5R5, 3, 10, &bytes, Scales::Tensor(1.0)).unwrap();
    assert_eq!(matrix.band_bytes_of(0).len(), 64);
    let caught =
        |f: &dyn Fn() -> usize| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    assert!(caught(&|| matrix.row_bytes_of(0).len()));
    assert!(caught(&|| matrix.row_bytes()));
    assert!(caught(&|| matrix.band_bytes_of(1).len()));
}

#[test]
fn dense_is_the_smaller_of_two() {
    let sizes = |rows, cols| [Layout::T5, Layout::T5R5].map(|l| l.byte_len(rows, cols));
    for (rows, cols, expected, bytes) in [
        (2048, 2048, Layout::T5R5, 410 * 2048),
        (5460, 2048, Layout::T5R5, 1092 * 2048),
        (2048, 5460, Layout::T5R5, 410 * 5504),
        (2560, 2560, Layout::T5, 2560 * 512),
        (6912, 2560, Layout::T5, 6912 * 512),
        (2560, 6912, Layout::T5R5, 512 * 6912),
        (1, 1, Layout::T5, 64),
        (2, 1, Layout::T5R5, 64),
        (usize::MAX, usize::MAX, Layout::T5, 0),
    ] {
        let layout = Layout::dense(rows, cols);
        assert_eq!(layout, expected, "{rows} x {cols}");
        let found = layout.byte_len(rows, cols);
        assert_eq!(found, (rows < usize::MAX).then_some(bytes));
        assert!(sizes(rows, cols).iter().all(|other| found <= *other));
    }
}

proptest! {
    #[test]
    fn bands_keep_their_codes(
        codes in prop::collection::vec(-1i8..=1, 0..4000),
        cols in 1usize..200,
        layout in prop::sample::select(&[Layout::T2R16, Layout::T5R5][..]),
    ) {
        let rows = codes.len() / cols;
        let codes = &codes[..rows * cols];
        let mut bytes = AlignedBytes::zeroed(layout.byte_len(rows, cols).unwrap());
        bytes.fill(0xff);
        pack::code_rows(layout, codes, cols, &mut bytes);
        let matrix = MatrixRef::new(layout, rows, cols, &bytes, Scales::Tensor(1.0)).unwrap();
        for row in 0..rows {
            for k in 0..matrix.padded_cols() {
                let expected = if k < cols { codes[row * cols + k] } else { 0 };
                prop_assert_eq!(matrix.code(row, k), i32::from(expected));
            }
        }
        // Rows that are not there are zeros too.
        let per_band = layout.atom_rows();
        let band_bytes = layout.band_bytes(cols).unwrap();
        let mut decoded = vec![0; per_band * band_bytes / ATOM_BYTES * layout.atom_cols()];
        let last = bytes.chunks(band_bytes).last().filter(|_| !rows.is_multiple_of(per_band));
        if let Some(last) = last {
            pack::band_codes(layout, last, &mut decoded);
            let width = decoded.len() / per_band;
            prop_assert!(decoded[rows % per_band * width..].iter().all(|code| *code == 0));
        }
    }

    #[test]
    fn bands_keep_their_signs(
        signs in prop::collection::vec(any::<bool>(), 0..20_000),
        cols in 1usize..300,
    ) {
        let rows = signs.len() / cols;
        let codes: Vec<i8> = signs[..rows * cols].iter().map(|s| i8::from(*s) * 2 - 1).collect();
        let layout = Layout::B1R64;
        let mut bytes = AlignedBytes::zeroed(layout.byte_len(rows, cols).unwrap());
        bytes.fill(0xff);
        pack::binary_bands(&codes, cols, &mut bytes);
        let mut width = 0;
        if rows > 0 {
            let matrix = MatrixRef::new(layout, rows, cols, &bytes, Scales::Tensor(1.0)).unwrap();
            width = matrix.padded_cols();
            for row in 0..rows {
                for k in 0..width {
                    let expected = if k < cols { codes[row * cols + k] } else { -1 };
                    prop_assert_eq!(matrix.code(row, k), i32::from(expected));
                }
            }
        }
        // Every bit that is set is the weight of a row that is there.
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        prop_assert_eq!(ones as usize, codes.iter().filter(|code| **code > 0).count());
        prop_assert!(width.is_multiple_of(SIGN_GROUP));
    }

    #[test]
    fn scales_stand_before_their_atoms(
        values in prop::collection::vec(any::<u16>(), 1..900),
        groups in 1usize..70,
        layout in prop::sample::select(
            &[Layout::T2, Layout::T2R16, Layout::B1, Layout::B1R64, Layout::I4][..],
        ),
    ) {
        let rows = values.len() / groups;
        let values: Vec<f16> = values[..rows * groups].iter().map(|bits| f16::from_bits(*bits)).collect();
        let size = layout.group().unwrap();
        let cols = groups * size;
        let weights = vec![0xff; layout.byte_len(rows, cols).unwrap()];
        let stored = pack::with_scales(layout, cols, &weights, &values);
        prop_assert_eq!(Some(stored.len()), layout.stored_len(rows, cols, true));
        let (packs, band_bytes) = (layout.packs(true), layout.stored_band_bytes(cols, true).unwrap());
        for (at, value) in values.iter().enumerate() {
            let (row, group) = (at / groups, at % groups);
            let place = packs.scales(group) + 2 * (row % layout.atom_rows());
            let found = &stored[row / layout.atom_rows() * band_bytes + place..][..2];
            prop_assert_eq!(found, &value.to_le_bytes()[..]);
            // They are near: less than a pack lies between them and the first atom of their columns.
            let line = ATOM_BYTES * packs.line(group * size / layout.atom_cols());
            prop_assert!((1..=packs.bytes()).contains(&(line - place)), "{} {}", line, place);
        }
        // All else but weights is 0: what the last pack has too many of, and the scales of rows that are lacking.
        let ones = stored.iter().filter(|byte| **byte == 0xff).count();
        let of_scales = values.iter().flat_map(|v| v.to_le_bytes()).filter(|byte| *byte == 0xff).count();
        prop_assert_eq!(ones - of_scales, weights.len());
        let zeros = stored.iter().filter(|byte| **byte == 0).count();
        let of_scales = values.iter().flat_map(|v| v.to_le_bytes()).filter(|byte| *byte == 0).count();
        prop_assert_eq!(zeros - of_scales, stored.len() - weights.len() - 2 * values.len());
    }
}

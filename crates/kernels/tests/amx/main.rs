//! `amx` on emulated tiles, against `avx512`.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod emulated;

use std::ops::Range;

use half::f16;
use onebit_format::{Layout, MatrixRef, SIGN_GROUP, Scales, pack};
use onebit_kernels::{AlignedVec, I8GroupRows, I8Rows, Input, Kernels, TileMut};

/// The set with tiles and the one without, if this machine can run one and run or emulate the other.
fn sets() -> Option<[&'static Kernels; 2]> {
    let avx512 = match Kernels::by_name("avx512") {
        Ok(set) => set,
        Err(error) => {
            eprintln!("amx is not tested: {error}");
            return None;
        }
    };
    if let Some(why) = Kernels::why_unavailable("amx").filter(|why| why.contains("refuses")) {
        eprintln!("amx is not tested: {why}");
        return None;
    }
    emulated::install();
    // SAFETY: where the CPU does not have the instructions of `amx` that `avx512` has no use for, they are emulated from here on.
    let amx = unsafe { Kernels::assume("amx") };
    Some([amx.expect("made for this architecture"), avx512])
}

/// Whether the CPU has no tiles: it cannot be told how often those that it has were used.
fn emulating() -> bool {
    Kernels::why_unavailable("amx").is_some_and(|why| why.contains("amx-tile"))
}

/// Reproducible bytes.
fn bytes(seed: usize) -> impl Iterator<Item = u8> {
    let mut state = seed as u32;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
}

/// Scales that differ.
fn scales(count: usize) -> Vec<f32> {
    (0..count)
        .map(|i| 0.01 + (i * 7 % 23) as f32 / 64.0)
        .collect()
}

/// Activations of some tokens, whose rows are not aligned and lie further apart than they need.
struct Tokens {
    codes: Vec<i8>,
    stride: usize,
    scale: Vec<f32>,
    sum: Vec<i32>,
    groups: usize,
    multipliers: Vec<f32>,
    sums: Vec<i32>,
}

impl Tokens {
    fn new(tokens: usize, cols: usize, padded: usize) -> Self {
        let (stride, groups) = (padded + 3, padded.div_ceil(SIGN_GROUP));
        let mut codes: Vec<i8> = bytes(7).take(tokens * stride).map(|x| x as i8).collect();
        let (mut sum, mut sums) = (vec![], vec![]);
        for row in codes.chunks_mut(stride) {
            row[cols..].fill(0);
            let of = |codes: &[i8]| codes.iter().map(|x| i32::from(*x)).sum::<i32>();
            sum.push(of(row));
            sums.extend(row[..padded].chunks(SIGN_GROUP).map(of));
        }
        Self {
            codes,
            stride,
            scale: scales(tokens),
            sum,
            groups,
            multipliers: scales(tokens * groups),
            sums,
        }
    }

    fn by_token(&self) -> I8Rows<'_> {
        I8Rows::new(&self.codes, self.stride, &self.scale, &self.sum)
    }

    fn by_group(&self) -> I8GroupRows<'_> {
        let (codes, multipliers) = (&self.codes, &self.multipliers);
        I8GroupRows::new(codes, self.stride, multipliers, &self.sums, self.groups)
    }
}

/// Random weights; a scale per group of so many columns, or one for all, or for int8 one per row.
fn with_matrix(
    (layout, group): (Layout, Option<usize>),
    (rows, cols): (usize, usize),
    f: impl FnOnce(&MatrixRef<'_>),
) {
    let mut weights = AlignedVec::<u8>::zeroed(layout.byte_len(rows, cols).unwrap());
    weights
        .iter_mut()
        .zip(bytes(1 + cols))
        .for_each(|(to, from)| *to = from);
    let of_rows = scales(rows);
    if let Some(size) = group {
        let of_groups = scales(rows * cols.div_ceil(size));
        let of_groups: Vec<f16> = of_groups.into_iter().map(f16::from_f32).collect();
        let stored = pack::with_scales(layout, cols, &weights, &of_groups);
        weights = AlignedVec::zeroed(stored.len());
        weights.copy_from_slice(&stored);
    }
    let scales = match (group, layout) {
        (Some(size), _) => Scales::Groups { size },
        (None, Layout::I8) => Scales::Rows(&of_rows),
        _ => Scales::Tensor(0.75),
    };
    f(&MatrixRef::new(layout, rows, cols, &weights, scales).unwrap());
}

/// Compares the bits of both sets, in a wider matrix, of which nothing else may be written. Tiles are used if they are `expected`.
#[track_caller]
fn check(
    [amx, avx512]: [&Kernels; 2],
    what: &str,
    (tokens, width): (usize, usize),
    expected: bool,
    f: impl Fn(&Kernels, &mut TileMut<'_, f32>),
) {
    let products = |set: &Kernels| {
        let mut found = vec![-1.0; tokens * (width + 5)];
        f(
            set,
            &mut TileMut::strided(&mut found, tokens, width, width + 5),
        );
        found.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let before = emulated::multiplied();
    let found = products(amx);
    let used = emulated::multiplied() > before;
    assert!(found == products(avx512), "{what}");
    if emulating() {
        assert_eq!(used, expected && width > 0, "{what}: tiles");
    }
}

/// Sizes around the edges of tiles, steps, panels and groups: rows, columns, tokens.
fn sizes() -> [(Range<usize>, usize, usize); 15] {
    [
        (0..32, 512, 32),
        (0..1, 1, 16),
        (3..36, 513, 17),
        (1..65, 300, 31),
        (5..20, 1500, 33),
        (0..33, 64, 48),
        (2..34, 129, 64),
        (48..131, 300, 20),
        (64..131, 1024, 65),
        (0..64, 640, 100),
        (64..200, 600, 18),
        (0..7, 63, 257),
        (4..4, 100, 20),
        (0..70, 200, 300),
        (0..2, 20_000, 70),
    ]
}

#[test]
fn products_are_those_of_avx512() {
    let Some(sets) = sets() else { return };
    let all = [
        (Layout::T2, None),
        (Layout::T2R16, None),
        (Layout::T5, None),
        (Layout::T5R5, None),
        (Layout::B1, None),
        (Layout::B1R64, None),
        (Layout::I8, None),
        (Layout::T2, Some(SIGN_GROUP)),
        (Layout::T2R16, Some(SIGN_GROUP)),
        (Layout::B1, Some(SIGN_GROUP)),
        (Layout::B1R64, Some(SIGN_GROUP)),
        (Layout::I4, Some(64)),
    ];
    for (rows, cols, tokens) in sizes() {
        for (layout, group) in all {
            with_matrix((layout, group), (rows.end + 2, cols), |w| {
                let what = format!("{layout} {group:?}, {rows:?} x {cols}, {tokens} tokens");
                let x = Tokens::new(tokens, cols, w.padded_cols());
                let side_by_side = matches!(layout, Layout::T2R16 | Layout::B1R64);
                let tiles = !side_by_side || rows.start.is_multiple_of(layout.atom_rows());
                let size = (tokens, rows.len());
                check(sets, &what, size, tiles, |set, out| {
                    set.matmul(w, rows.clone(), Input::I8(x.by_token()), out);
                });
                if matches!(
                    layout,
                    Layout::T2 | Layout::T2R16 | Layout::B1 | Layout::B1R64
                ) {
                    check(
                        sets,
                        &format!("{what} by group"),
                        size,
                        tiles,
                        |set, out| {
                            set.matmul(w, rows.clone(), Input::I8Groups(x.by_group()), out);
                        },
                    );
                }
            });
        }
    }
}

#[test]
fn transposed_products_are_those_of_avx512() {
    let Some(sets) = sets() else { return };
    for (outputs, inputs, tokens) in sizes() {
        with_matrix((Layout::T2, None), (inputs, outputs.end + 2), |w| {
            let what = format!("{inputs} inputs, {outputs:?}, {tokens} tokens");
            let x = Tokens::new(tokens, inputs, inputs);
            let size = (tokens, outputs.len());
            check(sets, &what, size, inputs.is_multiple_of(64), |set, out| {
                set.matmul_transposed(w, outputs.clone(), x.by_token(), out);
            });
        });
    }
}

#[test]
fn fewer_tokens_than_a_tile_take_none() {
    let Some(sets) = sets() else { return };
    with_matrix((Layout::T2, None), (40, 512), |w| {
        let x = Tokens::new(15, 512, 512);
        check(sets, "15 tokens", (15, 40), false, |set, out| {
            set.matmul(w, 0..40, Input::I8(x.by_token()), out);
        });
    });
}

/// Codes of -128 times the largest ones, in the longest row: sums wrap or fit as everywhere.
#[test]
fn extremes_are_exact() {
    let Some(sets) = sets() else { return };
    for byte in [0x80, 0x7f, 0xff, 0] {
        for layout in [Layout::T2, Layout::B1, Layout::I8] {
            let mut weights = AlignedVec::<u8>::zeroed(layout.byte_len(33, 16_384).unwrap());
            weights.fill(byte);
            let rows = vec![1.0; 33];
            let scales = match layout {
                Layout::I8 => Scales::Rows(&rows),
                _ => Scales::Tensor(1.0),
            };
            let w = MatrixRef::new(layout, 33, 16_384, &weights, scales).unwrap();
            let mut x = Tokens::new(18, 16_384, 16_384);
            x.codes.fill(-128);
            x.sum.fill(-128 * 16_384);
            check(
                sets,
                &format!("{layout} of {byte}"),
                (18, 33),
                true,
                |set, out| {
                    set.matmul(&w, 0..33, Input::I8(x.by_token()), out);
                },
            );
        }
    }
}

//! Loops over whole rows of integer codes, in registers of any length.
//!
//! An atom is 64 bytes of a row and `P` planes of 64 activations. Registers cover it piece by piece,
//! the predicate cutting the last one off at byte 64:
//!
//! ```text
//! for each atom
//!     prefetch each row's stream 4 KiB ahead
//!     for j in (0..64) by the length of a register        whilelo: bytes j.. below 64
//!         load each row's bytes j..
//!         for each plane p                                 unrolled
//!             codes = bytes & mask, bytes >>= bits
//!             acc += codes * x[64 p + j ..]                sdot or smmla, four i32 lanes each 16 bytes
//! ```
//!
//! Bytes past the predicate are loaded as zeros and add nothing. Sums wrap in `i32`, so their order,
//! and with it the length of a register, does not matter.

use std::arch::asm;
use std::mem::MaybeUninit;

use crate::sets::PREFETCH_BYTES;

/// The bits of a code where `planes` of them fill a byte.
const fn mask(planes: usize) -> u64 {
    0xff >> (8 - 8 / planes)
}

/// The products of four rows and one token. Rows may be the same.
///
/// # Safety
/// The CPU must have SVE2. All rows must be as long as the first.
#[inline(always)]
pub(super) unsafe fn dots<const P: usize>(w: [&[[u8; 64]]; 4], x: &[[[i8; 64]; P]]) -> [i32; 4] {
    let atoms = w[0].len();
    assert!(w.iter().all(|row| row.len() == atoms) && x.len() == atoms);
    if atoms == 0 {
        return [0; 4];
    }
    let mut sums = [0; 4];
    // SAFETY: `atoms` times, 64 bytes from each row pointer and 64 P from the activations' are read
    // below their ends; the caller vouches for the instructions, which write registers alone.
    unsafe {
        asm!(
            "mov z16.s, #0",
            "mov z17.s, #0",
            "mov z18.s, #0",
            "mov z19.s, #0",
            "mov z20.b, {mask:w}",
            "2:",
            "prfm pldl1keep, [{w0}, #{ahead}]",
            "prfm pldl1keep, [{w1}, #{ahead}]",
            "prfm pldl1keep, [{w2}, #{ahead}]",
            "prfm pldl1keep, [{w3}, #{ahead}]",
            "mov {j}, xzr",
            "whilelo p0.b, {j}, {line}",
            "3:",
            "ld1b {{z0.b}}, p0/z, [{w0}, {j}]",
            "ld1b {{z1.b}}, p0/z, [{w1}, {j}]",
            "ld1b {{z2.b}}, p0/z, [{w2}, {j}]",
            "ld1b {{z3.b}}, p0/z, [{w3}, {j}]",
            "mov {k}, {j}",
            ".rept {planes}",
            "ld1b {{z4.b}}, p0/z, [{x}, {k}]",
            "and z5.d, z0.d, z20.d",
            "and z6.d, z1.d, z20.d",
            "and z7.d, z2.d, z20.d",
            "and z21.d, z3.d, z20.d",
            "lsr z0.b, z0.b, #{bits}",
            "lsr z1.b, z1.b, #{bits}",
            "lsr z2.b, z2.b, #{bits}",
            "lsr z3.b, z3.b, #{bits}",
            "sdot z16.s, z5.b, z4.b",
            "sdot z17.s, z6.b, z4.b",
            "sdot z18.s, z7.b, z4.b",
            "sdot z19.s, z21.b, z4.b",
            "add {k}, {k}, #64",
            ".endr",
            "incb {j}",
            "whilelo p0.b, {j}, {line}",
            "b.mi 3b",
            "add {w0}, {w0}, #64",
            "add {w1}, {w1}, #64",
            "add {w2}, {w2}, #64",
            "add {w3}, {w3}, #64",
            "add {x}, {x}, #(64 * {planes})",
            "subs {atoms}, {atoms}, #1",
            "b.ne 2b",
            "ptrue p0.b",
            "saddv d16, p0, z16.s",
            "saddv d17, p0, z17.s",
            "saddv d18, p0, z18.s",
            "saddv d19, p0, z19.s",
            "str s16, [{sums}]",
            "str s17, [{sums}, #4]",
            "str s18, [{sums}, #8]",
            "str s19, [{sums}, #12]",
            w0 = inout(reg) w[0].as_ptr() => _,
            w1 = inout(reg) w[1].as_ptr() => _,
            w2 = inout(reg) w[2].as_ptr() => _,
            w3 = inout(reg) w[3].as_ptr() => _,
            x = inout(reg) x.as_ptr() => _,
            atoms = inout(reg) atoms => _,
            mask = in(reg) mask(P),
            line = in(reg) 64u64,
            sums = in(reg) sums.as_mut_ptr(),
            j = out(reg) _,
            k = out(reg) _,
            ahead = const PREFETCH_BYTES,
            planes = const P,
            bits = const 8 / P,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("p0") _,
            options(nostack),
        );
    }
    sums
}

/// A function for 4 rows and some tokens: per pair of rows and pair of tokens two tiles of 2 x 2 sums
/// in every 16 bytes of two registers, one for each half of the paired bytes.
///
/// `pairs` are the token pairs: their two operands, and the registers of their activations, of the
/// paired activations, and of their four tiles (rows 0 and 1, then 2 and 3).
macro_rules! tiles {
    ($(#[$doc:meta])* $name:ident, $tokens:literal, $($pair:literal: $a:ident $b:ident, $za:literal $zb:literal,
        $x0:literal $x1:literal, $t0:literal $t1:literal $t2:literal $t3:literal;)*) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The CPU must have SVE2 and `i8mm`. All rows must be as long as the first.
        #[inline(always)]
        pub(super) unsafe fn $name<const P: usize>(
            w: [&[[u8; 64]]; 4],
            x: [&[[[i8; 64]; P]]; $tokens],
        ) -> [[i32; $tokens]; 4] {
            let atoms = w[0].len();
            assert!(w.iter().all(|row| row.len() == atoms));
            assert!(x.iter().all(|row| row.len() == atoms));
            if atoms == 0 {
                return [[0; $tokens]; 4];
            }
            let mut tiles = Tiles::uninit();
            let length: usize;
            // SAFETY: `atoms` times, 64 bytes from each row pointer and 64 P from the activations'
            // are read below their ends, and the tiles are stored at most 256 bytes each; the caller
            // vouches for the instructions.
            unsafe {
                asm!(
                    $(
                        concat!("mov z", $t0, ".s, #0"),
                        concat!("mov z", $t1, ".s, #0"),
                        concat!("mov z", $t2, ".s, #0"),
                        concat!("mov z", $t3, ".s, #0"),
                    )*
                    "mov z28.b, {mask:w}",
                    "2:",
                    "prfm pldl1keep, [{w0}, #{ahead}]",
                    "prfm pldl1keep, [{w1}, #{ahead}]",
                    "prfm pldl1keep, [{w2}, #{ahead}]",
                    "prfm pldl1keep, [{w3}, #{ahead}]",
                    "mov {j}, xzr",
                    "whilelo p0.b, {j}, {line}",
                    "3:",
                    "ld1b {{z0.b}}, p0/z, [{w0}, {j}]",
                    "ld1b {{z1.b}}, p0/z, [{w1}, {j}]",
                    "ld1b {{z2.b}}, p0/z, [{w2}, {j}]",
                    "ld1b {{z3.b}}, p0/z, [{w3}, {j}]",
                    "zip1 z4.d, z0.d, z1.d",
                    "zip2 z5.d, z0.d, z1.d",
                    "zip1 z6.d, z2.d, z3.d",
                    "zip2 z7.d, z2.d, z3.d",
                    "mov {k}, {j}",
                    ".rept {planes}",
                    $(
                        concat!("ld1b {{z", $za, ".b}}, p0/z, [{", stringify!($a), "}, {k}]"),
                        concat!("ld1b {{z", $zb, ".b}}, p0/z, [{", stringify!($b), "}, {k}]"),
                        concat!("zip1 z", $x0, ".d, z", $za, ".d, z", $zb, ".d"),
                        concat!("zip2 z", $x1, ".d, z", $za, ".d, z", $zb, ".d"),
                    )*
                    "and z24.d, z4.d, z28.d",
                    "and z25.d, z5.d, z28.d",
                    "and z26.d, z6.d, z28.d",
                    "and z27.d, z7.d, z28.d",
                    "lsr z4.b, z4.b, #{bits}",
                    "lsr z5.b, z5.b, #{bits}",
                    "lsr z6.b, z6.b, #{bits}",
                    "lsr z7.b, z7.b, #{bits}",
                    $(
                        concat!("smmla z", $t0, ".s, z24.b, z", $x0, ".b"),
                        concat!("smmla z", $t1, ".s, z25.b, z", $x1, ".b"),
                        concat!("smmla z", $t2, ".s, z26.b, z", $x0, ".b"),
                        concat!("smmla z", $t3, ".s, z27.b, z", $x1, ".b"),
                    )*
                    "add {k}, {k}, #64",
                    ".endr",
                    "incb {j}",
                    "whilelo p0.b, {j}, {line}",
                    "b.mi 3b",
                    "add {w0}, {w0}, #64",
                    "add {w1}, {w1}, #64",
                    "add {w2}, {w2}, #64",
                    "add {w3}, {w3}, #64",
                    $(
                        concat!("add {", stringify!($a), "}, {", stringify!($a), "}, #(64 * {planes})"),
                        concat!("add {", stringify!($b), "}, {", stringify!($b), "}, #(64 * {planes})"),
                    )*
                    "subs {atoms}, {atoms}, #1",
                    "b.ne 2b",
                    $(
                        concat!("add z", $t0, ".s, z", $t0, ".s, z", $t1, ".s"),
                        concat!("add z", $t2, ".s, z", $t2, ".s, z", $t3, ".s"),
                        concat!("add {k}, {tiles}, #(512 * ", $pair, ")"),
                        concat!("str z", $t0, ", [{k}]"),
                        "add {k}, {k}, #256",
                        concat!("str z", $t2, ", [{k}]"),
                    )*
                    "cntb {j}",
                    w0 = inout(reg) w[0].as_ptr() => _,
                    w1 = inout(reg) w[1].as_ptr() => _,
                    w2 = inout(reg) w[2].as_ptr() => _,
                    w3 = inout(reg) w[3].as_ptr() => _,
                    $(
                        $a = inout(reg) x[2 * $pair].as_ptr() => _,
                        $b = inout(reg) x[2 * $pair + 1].as_ptr() => _,
                    )*
                    atoms = inout(reg) atoms => _,
                    mask = in(reg) mask(P),
                    line = in(reg) 64u64,
                    tiles = in(reg) tiles.as_mut_ptr(),
                    j = out(reg) length,
                    k = out(reg) _,
                    ahead = const PREFETCH_BYTES,
                    planes = const P,
                    bits = const 8 / P,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                    out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                    out("v28") _, out("p0") _,
                    options(nostack),
                );
            }
            let mut sums = [[0; $tokens]; 4];
            for r in 0..4 {
                for t in 0..$tokens {
                    let (tile, element) = (2 * (t / 2) + r / 2, 2 * (r % 2) + t % 2);
                    // SAFETY: the first `length` bytes of each tile were stored.
                    sums[r][t] = unsafe { element_sum(&tiles, tile, element, length) };
                }
            }
            sums
        }
    };
}

/// Room for four registers of 64 `i32`, the longest there are.
type Tiles = MaybeUninit<[[i32; 64]; 4]>;

/// An element of each 16 bytes of a tile, added.
///
/// # Safety
/// The first `length` bytes of the tile must have been written.
#[inline(always)]
unsafe fn element_sum(tiles: &Tiles, tile: usize, element: usize, length: usize) -> i32 {
    let first = tiles.as_ptr().cast::<[i32; 64]>().wrapping_add(tile);
    let mut sum = 0i32;
    for quad in (0..length / 4).step_by(4) {
        // SAFETY: within the first `length` bytes, which is at most 256, of the tile.
        sum = sum.wrapping_add(unsafe { first.cast::<i32>().add(quad + element).read() });
    }
    sum
}

tiles! {
    /// The products of four rows and four tokens.
    tiles_4x4, 4,
    0: x0 x1, 0 1, 8 9, 16 17 18 19;
    1: x2 x3, 2 3, 10 11, 20 21 22 23;
}

tiles! {
    /// The products of four rows and two tokens.
    tiles_4x2, 2,
    0: x0 x1, 0 1, 8 9, 16 17 18 19;
}

//! Counting the bits in which rows differ, in registers of any length: as in [`rows`](super::rows),
//! with `cnt` for the bits of each byte and `udot` with ones to add four counts to a 32-bit lane.

use std::arch::asm;

use crate::sets::PREFETCH_BYTES;

/// Of four rows, and of `x`, the bits that differ under `mask`, which applies to every atom. Rows may
/// be the same.
///
/// # Safety
/// The CPU must have SVE2. All rows must be as long as `x`.
#[inline(always)]
pub(super) unsafe fn differing(w: [&[[u8; 64]]; 4], x: &[[u8; 64]], mask: &[u8; 64]) -> [u32; 4] {
    let atoms = x.len();
    assert!(w.iter().all(|row| row.len() == atoms));
    if atoms == 0 {
        return [0; 4];
    }
    let mut counts = [0; 4];
    // SAFETY: `atoms` times, 64 bytes from each row pointer are read below its end, 64 bytes of the
    // mask, and 16 bytes of counts are written; the caller vouches for the instructions.
    unsafe {
        asm!(
            "mov z16.s, #0",
            "mov z17.s, #0",
            "mov z18.s, #0",
            "mov z19.s, #0",
            "mov z20.b, #1",
            "2:",
            "prfm pldl1keep, [{w0}, #{ahead}]",
            "prfm pldl1keep, [{w1}, #{ahead}]",
            "prfm pldl1keep, [{w2}, #{ahead}]",
            "prfm pldl1keep, [{w3}, #{ahead}]",
            "mov {j}, xzr",
            "whilelo p0.b, {j}, {line}",
            "3:",
            "ld1b {{z4.b}}, p0/z, [{x}, {j}]",
            "ld1b {{z5.b}}, p0/z, [{mask}, {j}]",
            "ld1b {{z0.b}}, p0/z, [{w0}, {j}]",
            "ld1b {{z1.b}}, p0/z, [{w1}, {j}]",
            "ld1b {{z2.b}}, p0/z, [{w2}, {j}]",
            "ld1b {{z3.b}}, p0/z, [{w3}, {j}]",
            "eor z0.d, z0.d, z4.d",
            "eor z1.d, z1.d, z4.d",
            "eor z2.d, z2.d, z4.d",
            "eor z3.d, z3.d, z4.d",
            "and z0.d, z0.d, z5.d",
            "and z1.d, z1.d, z5.d",
            "and z2.d, z2.d, z5.d",
            "and z3.d, z3.d, z5.d",
            "cnt z0.b, p0/m, z0.b",
            "cnt z1.b, p0/m, z1.b",
            "cnt z2.b, p0/m, z2.b",
            "cnt z3.b, p0/m, z3.b",
            "udot z16.s, z0.b, z20.b",
            "udot z17.s, z1.b, z20.b",
            "udot z18.s, z2.b, z20.b",
            "udot z19.s, z3.b, z20.b",
            "incb {j}",
            "whilelo p0.b, {j}, {line}",
            "b.mi 3b",
            "add {w0}, {w0}, #64",
            "add {w1}, {w1}, #64",
            "add {w2}, {w2}, #64",
            "add {w3}, {w3}, #64",
            "add {x}, {x}, #64",
            "subs {atoms}, {atoms}, #1",
            "b.ne 2b",
            "ptrue p0.b",
            "uaddv d16, p0, z16.s",
            "uaddv d17, p0, z17.s",
            "uaddv d18, p0, z18.s",
            "uaddv d19, p0, z19.s",
            "str s16, [{counts}]",
            "str s17, [{counts}, #4]",
            "str s18, [{counts}, #8]",
            "str s19, [{counts}, #12]",
            w0 = inout(reg) w[0].as_ptr() => _,
            w1 = inout(reg) w[1].as_ptr() => _,
            w2 = inout(reg) w[2].as_ptr() => _,
            w3 = inout(reg) w[3].as_ptr() => _,
            x = inout(reg) x.as_ptr() => _,
            atoms = inout(reg) atoms => _,
            mask = in(reg) mask.as_ptr(),
            line = in(reg) 64u64,
            counts = in(reg) counts.as_mut_ptr(),
            j = out(reg) _,
            ahead = const PREFETCH_BYTES,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("p0") _,
            options(nostack),
        );
    }
    counts
}

//! Ternary weights of 16 rows side by side times int8 activations.
//!
//! Four bytes of an atom are 16 columns of one row, so 64 bytes under a mask are four columns of 16 rows: what one
//! byte-product instruction adds up in 16 lanes of 32 bits, for four activations that all lanes share.
//!
//! ```text
//! for each four bands, one of each quarter of the rows
//!     for each 128 columns
//!         for each band, for each of its eight atoms
//!             for each field p of the bytes
//!                 codes = (atom >> 2 p) & 3                   unpacked once, used for T tokens
//!                 sums[t] += codes * x[t][4 columns]          a row to a lane
//!         with scales by group: y[t] += float(sums[t] - sum of x[t]) * (scale * multiplier)
//! ```
//!
//! Rows are lanes from the start: nothing is transposed or added across a register, and the scales of a group are
//! 16 neighbours. Within 128 columns all is exact; groups are added up as in [`grouped`](super::grouped), to the bit.

use std::ops::Range;

use onebit_format::{Band, MatrixRef, Packs};

use super::ahead::{Abreast, Course, Lines, STREAMS, Streams};
use super::grouped::{MAX_ROW_GROUPS, Scaled, group_sums};
use super::scales::BandScales;
use super::{Product, TOKENS};
use crate::input::I8Rows;
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;

/// Rows of a band.
pub(crate) const BAND: usize = 16;

/// Planes of 64 activations, fours of them, and atoms in a step: 128 columns, a group.
const PLANES: usize = 2;
pub(crate) const FOURS: usize = 32;
pub(crate) const ATOMS: usize = 8;

/// The atoms of 128 columns.
pub(crate) type Step = [[u8; 64]; ATOMS];

/// As many activations.
pub(crate) type Fours = [[i8; 4]; FOURS];

/// Of each of `R` bands and `T` tokens the sums of a step, row after row.
pub(crate) type LaneSums<const R: usize, const T: usize> = [[[i32; BAND]; T]; R];

/// Bytes of the atoms between two lines of scales by group.
const PACK: usize = 1024;

/// How far ahead of the weights in use their stream is asked for, in bytes: into the first level, and into the second.
const LEADS: [usize; 2] = [1024, 4096];

/// Sums of a ternary matrix of bands.
#[inline(always)]
pub(crate) fn t2r16<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    cover(s, &Sums(job), job.w, &job.rows, job.x.tokens(), out);
}

/// Products of a ternary matrix of bands with group scales, or int8 activations with multipliers by group.
#[inline(always)]
pub(super) fn grouped<S: Set, X: Scaled>(s: S, job: &Product<'_, X>, out: &mut TileMut<'_, f32>) {
    let groups = job.w.cols().div_ceil(64 * PLANES);
    let mut sums = [[0; MAX_ROW_GROUPS]; TOKENS];
    for first in (0..job.x.tokens()).step_by(TOKENS) {
        let tokens = TOKENS.min(job.x.tokens() - first);
        for t in 0..tokens {
            group_sums(s, &job.x, first + t, PLANES, &mut sums[t][..groups]);
        }
        let block = Groups {
            job,
            first,
            sums: &sums,
        };
        let out = &mut out.some_rows(first..first + tokens);
        cover(s, &block, job.w, &job.rows, tokens, out);
    }
}

/// Something that is done with some bands and tokens.
trait Block<S, O> {
    /// Computes the products of `R` bands and `T` tokens from `token` on.
    fn run<const R: usize, const T: usize>(
        &self,
        s: S,
        bands: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, O>,
    );
}

/// Covers the rows with four bands at a time, one of each of four streams through memory: see [`ahead`](super::ahead). The bands that
/// are left over make the first streams one longer.
#[inline(always)]
fn cover<S: Set, O, B: Block<S, O>>(
    s: S,
    block: &B,
    w: &MatrixRef<'_>,
    rows: &Range<usize>,
    tokens: usize,
    out: &mut TileMut<'_, O>,
) {
    if rows.is_empty() {
        return;
    }
    let bands = rows.start / BAND..rows.end.div_ceil(BAND);
    let course = Course::of(bands, w.band_bytes());
    let mut now = course.first();
    while course.has(&now) {
        let next = course.after(&now);
        for round in 0..now.rounds {
            let bands = now.round::<STREAMS>(round, 0, &next);
            each_tokens(s, block, bands, tokens, out);
        }
        for i in 0..now.left {
            let band = now.round::<1>(now.rounds, i, &next);
            each_tokens(s, block, band, tokens, out);
        }
        now = next;
    }
}

/// Up to four tokens at a time.
#[inline(always)]
fn each_tokens<S: Set, O, B: Block<S, O>, const R: usize>(
    s: S,
    block: &B,
    bands: Abreast<R>,
    tokens: usize,
    out: &mut TileMut<'_, O>,
) {
    for token in (0..tokens).step_by(TOKENS) {
        match tokens - token {
            1 => block.run::<R, 1>(s, bands, token, out),
            2 => block.run::<R, 2>(s, bands, token, out),
            3 => block.run::<R, 3>(s, bands, token, out),
            _ => block.run::<R, TOKENS>(s, bands, token, out),
        }
    }
}

/// Some bands.
#[inline(always)]
fn bands_of<'a, const R: usize>(w: &MatrixRef<'a>, bands: [usize; R]) -> [Band<'a>; R] {
    let mut all = [w.band(bands[0]); R];
    for r in 0..R {
        all[r] = w.band(bands[r]);
    }
    all
}

/// How many steps a band has.
#[inline(always)]
fn steps(w: &MatrixRef<'_>) -> usize {
    w.padded_cols() / (64 * PLANES)
}

/// The activations of some tokens, in steps.
#[inline(always)]
fn fours_of<'a, const T: usize>(codes: impl Fn(usize) -> &'a [i8]) -> [&'a [Fours]; T] {
    let mut fours: [&[Fours]; T] = [&[]; T];
    for t in 0..T {
        fours[t] = codes(t).as_chunks().0.as_chunks().0;
    }
    fours
}

/// The streams of some bands, for the first and the second level, and where scales are in these.
struct Far<const R: usize> {
    streams: [Streams<R>; 2],
    packs: Packs,
}

impl<const R: usize> Far<R> {
    #[inline(always)]
    fn of(w: &MatrixRef<'_>, bands: &Abreast<R>) -> Self {
        let packs = w.packs();
        // What is asked for is as far from the end of a pack as what is in use.
        let lead = |bytes: usize| bytes + bytes / PACK * 64 * packs.scale_lines;
        let [near, far] = LEADS;
        Self {
            streams: [
                Streams::with_lead(w, bands, lead(near)),
                Streams::with_lead(w, bands, lead(far)),
            ],
            packs,
        }
    }

    /// What is asked for while the atoms from line `line` of band `r` on are multiplied.
    #[inline(always)]
    fn lines(&self, r: usize, line: usize) -> Lines {
        let [near, far] = &self.streams;
        [near.place(r, 64 * line), far.place(r, 64 * line)]
    }

    /// Asks for the scales before the atoms that are asked for during step `i`, if that is the first of a pack.
    #[inline(always)]
    fn request_scales<S: Set>(&self, s: S, i: usize, [near, far]: Lines) {
        if self.packs.scale_lines > 0 && i.is_multiple_of(2) {
            s.prefetch(near.wrapping_sub(64));
            s.prefetch_early(far.wrapping_sub(64));
        }
    }
}

/// The sums of step `i` of bands `first..first + N` of a block, whose streams are asked for.
#[inline(always)]
fn sums_of<S: Set, const N: usize, const R: usize, const T: usize>(
    s: S,
    bands: &[Band<'_>; R],
    far: &Far<R>,
    first: usize,
    i: usize,
    x: [&Fours; T],
) -> LaneSums<N, T> {
    let mut now = [&[[0; 64]; ATOMS]; N];
    let mut ahead: [Lines; N] = [[std::ptr::null(); 2]; N];
    let line = far.packs.line(ATOMS * i);
    for n in 0..N {
        let atoms = bands[first + n].lines()[line..].first_chunk();
        now[n] = atoms.expect("the atoms of a step");
        ahead[n] = far.lines(first + n, line);
        far.request_scales(s, i, ahead[n]);
    }
    s.lane_sums(now, x, ahead)
}

/// Does something with the sums of a step, of as many bands at a time as share the loads of the activations and have their sums in
/// registers: four for one token, which also reads them evenly, and two for several.
macro_rules! each_band {
    ($set:ident, $bands:ident, $far:ident, $i:ident, $x:ident; $r:ident, $sums:ident => $body:block) => {
        if R % 2 == 0 && T > 1 {
            for first in (0..R).step_by(2) {
                let all = sums_of::<S, 2, R, T>($set, &$bands, &$far, first, $i, $x);
                for n in 0..2 {
                    let ($r, $sums) = (first + n, &all[n]);
                    $body
                }
            }
        } else if R == STREAMS {
            let all = sums_of::<S, STREAMS, R, T>($set, &$bands, &$far, 0, $i, $x);
            for $r in 0..R {
                let $sums = &all[$r];
                $body
            }
        } else {
            for $r in 0..R {
                let [$sums] = &sums_of::<S, 1, R, T>($set, &$bands, &$far, $r, $i, $x);
                $body
            }
        }
    };
}

/// Puts the results of a band's rows where they belong, as far as they are asked for.
#[inline(always)]
fn put<O: Copy>(rows: &Range<usize>, band: usize, results: &[O; BAND], out: &mut [O]) {
    let start = rows.start.max(band * BAND);
    let end = rows.end.min((band + 1) * BAND);
    let out = &mut out[start - rows.start..end - rows.start];
    match <&mut [O; BAND]>::try_from(&mut *out) {
        Ok(out) => *out = *results,
        Err(_) => out.copy_from_slice(&results[start - band * BAND..][..out.len()]),
    }
}

struct Sums<'a>(&'a Product<'a, I8Rows<'a>>);

impl<S: Set> Block<S, i32> for Sums<'_> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        s: S,
        bands: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, i32>,
    ) {
        let Product { w, rows, x } = self.0;
        let (all, far) = (bands_of(w, bands.at), Far::of(w, &bands));
        let fours = fours_of::<T>(|t| x.row(token + t));
        let mut acc = [[[0i32; BAND]; T]; R];
        for i in 0..steps(w) {
            let mut some = [&[[0; 4]; FOURS]; T];
            for t in 0..T {
                some[t] = &fours[t][i];
            }
            each_band!(s, all, far, i, some; r, sums => {
                for t in 0..T {
                    for lane in 0..BAND {
                        acc[r][t][lane] = acc[r][t][lane].wrapping_add(sums[t][lane]);
                    }
                }
            });
        }
        for t in 0..T {
            let offset = x.sum(token + t);
            for r in 0..R {
                let results = acc[r][t].map(|sum| sum.wrapping_sub(offset));
                put(rows, bands.at[r], &results, out.row(token + t));
            }
        }
    }
}

struct Groups<'a, X> {
    job: &'a Product<'a, X>,
    /// The first token of those whose sums stand ready.
    first: usize,
    /// Of each token and group, the sum of the activations.
    sums: &'a [[i32; MAX_ROW_GROUPS]; TOKENS],
}

impl<S: Set, X: Scaled> Block<S, f32> for Groups<'_, X> {
    #[inline(always)]
    fn run<const R: usize, const T: usize>(
        &self,
        s: S,
        bands: Abreast<R>,
        token: usize,
        out: &mut TileMut<'_, f32>,
    ) {
        let Product { w, rows, x } = self.job;
        let first = self.first + token;
        let (all, far) = (bands_of(w, bands.at), Far::of(w, &bands));
        let fours = fours_of::<T>(|t| x.codes(first + t));
        let mut scales = [BandScales::Same(1.0); R];
        for r in 0..R {
            scales[r] = BandScales::of(w, bands.at[r]);
        }
        let mut acc = [[s.splat(0.0); T]; R];
        for g in 0..steps(w) {
            let mut some = [&[[0; 4]; FOURS]; T];
            for t in 0..T {
                some[t] = &fours[t][g];
            }
            let at = far.packs.scales(g);
            each_band!(s, all, far, g, some; r, sums => {
                let scale = scales[r].load_at(s, at, 0);
                for t in 0..T {
                    let offset = self.sums[token + t][g];
                    let mut dots = [0.0; BAND];
                    for lane in 0..BAND {
                        dots[lane] = (sums[t][lane] - offset) as f32;
                    }
                    let factor = scale * s.splat(x.multiplier(first + t, g));
                    acc[r][t] = s.load(&dots).mul_add(factor, acc[r][t]);
                }
            });
        }
        for t in 0..T {
            let factor = s.splat(x.factor(first + t));
            for r in 0..R {
                let mut results = [0.0; BAND];
                (acc[r][t] * factor).store(&mut results);
                put(rows, bands.at[r], &results, out.row(token + t));
            }
        }
    }
}

//! Binary weights of 64 rows side by side times int8 activations: sums are looked up, not added.
//!
//! A byte of an atom is eight columns of one row, two *fours*. Four activations have 16 subsets, and the four bits
//! of a row say whose sum it adds. So the sums of all subsets go into a table, and one shuffle of bytes looks up
//! a four of as many rows as a register has bytes:
//!
//! ```text
//! for each 8192 columns
//!     tables[four][subset] = sum of the activations of the subset    once for all rows
//!     for each band of 64 rows
//!         for each 128 columns
//!             for each atom, for each of its two fours
//!                 low += tables.low[bits], high += tables.high[bits]  8-bit lanes, a row to a lane
//!             dots = 2 * (low + 64 * high) - offset
//! ```
//!
//! A sum of four activations has 10 bits, -512 to 508; the table holds its low 6 bits and, in another 16 bytes, the
//! rest plus 8. Four of the first and 17 of the second fit a byte without overflow, then pairs of bytes are added up
//! in 16 bits. All of it is exact. Rows are lanes from the start, so nothing is transposed or added across
//! a register, and the scales of a group are 64 neighbours.

mod tables;

use std::cell::RefMut;
use std::ops::Range;

use onebit_format::{MatrixRef, Scales};

use super::Product;
use super::ahead::{Course, Lines, STREAMS, Stretch};
use super::grouped::Scaled;
use crate::input::I8Rows;
use crate::sets::{Set, Vector};
use crate::tiles::TileMut;
pub(crate) use tables::Table;
use tables::{CHUNK, Origin, Tables};

/// Rows of a band.
pub(crate) const BAND: usize = 64;

/// Columns of an atom.
#[cfg(target_arch = "x86_64")]
pub(crate) const COLS: usize = 8;

/// Atoms that are added up in 16 bits: 128 columns, a group.
pub(crate) const STEP: usize = 16;

const STEP_BYTES: usize = 64 * STEP;

/// Planes of 64 activations in a step.
const PLANES: usize = 2;

/// The atoms of a step.
pub(crate) type Step = [[u8; 64]; STEP];

/// The activations of a step.
type Group = [[i8; 64]; 2];

/// How far ahead of the weights in use the next ones are asked for, in bytes, where a set does not say.
pub(crate) const LEAD: usize = 2048;

/// What all sums of the 32 fours of a step are too large by: 8 times 64 each.
pub(crate) const BIAS: i32 = 32 * 8 * 64;

/// The lines of a step: atoms, and before them its scales where it has some.
#[inline(always)]
fn step_lines(w: &MatrixRef<'_>) -> usize {
    STEP + w.packs().scale_lines
}

/// The steps of a band.
#[inline(always)]
fn steps_of(w: &MatrixRef<'_>) -> usize {
    w.padded_cols() / (64 * PLANES)
}

/// Some steps of a band, and what is read after them.
#[derive(Clone, Copy)]
struct Piece<'a> {
    lines: &'a [[u8; 64]],
    /// Lines of a step, and how many of them are scales.
    each: usize,
    scales: usize,
    next: *const u8,
}

impl<'a> Piece<'a> {
    const EMPTY: Self = Self {
        lines: &[],
        each: STEP,
        scales: 0,
        next: std::ptr::null(),
    };

    /// Those of band `band`; `next` is what is read after them.
    #[inline(always)]
    fn of(w: &MatrixRef<'a>, band: usize, steps: Range<usize>, next: *const u8) -> Self {
        let each = step_lines(w);
        Self {
            lines: &w.band(band).lines()[each * steps.start..each * steps.end],
            each,
            scales: w.packs().scale_lines,
            next,
        }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.lines.len() / self.each
    }

    /// The atoms of some steps: of one, where scales stand between them.
    #[inline(always)]
    fn steps(&self, steps: Range<usize>) -> &'a [Step] {
        let atoms = &self.lines[self.each * steps.start + self.scales..];
        &atoms.as_chunks().0[..steps.len()]
    }

    /// What is asked for while step `step` is looked up.
    #[inline(always)]
    fn ahead<S: Set>(&self, step: usize) -> Lines {
        let [near, far] = S::LOOKUP_LEADS;
        let first = self.each * step + self.scales;
        [self.line(first, near), self.line(first, far)]
    }

    /// What is read so much later than line `line`: as many steps, where they are whole ones.
    #[inline(always)]
    fn line(&self, line: usize, lead: usize) -> *const u8 {
        let at = 64 * line + lead + lead / STEP_BYTES * 64 * self.scales;
        let len = 64 * self.lines.len();
        match at < len {
            true => self.lines.as_ptr().cast::<u8>().wrapping_add(at),
            false => self.next.wrapping_add(at - len),
        }
    }

    /// The scales of a step, 16 rows after the other.
    #[inline(always)]
    fn scales_of(&self, step: usize) -> &'a [[u8; 32]; BAND / 16] {
        let scales = self.lines[self.each * step..].as_flattened();
        let scales = scales.as_chunks().0.first_chunk();
        scales.expect("the scales of a step")
    }

    /// The most steps from `step` on that are added up at once, with what is asked for meanwhile in runs of
    /// addresses.
    #[inline(always)]
    fn together<S: Set>(&self, step: usize) -> Range<usize> {
        let len = self.len();
        let [near, far] = S::LOOKUP_LEADS;
        let mut end = len.min(step + S::LOOKED_UP);
        for turn in [near, far] {
            let turn = len.saturating_sub(turn.div_ceil(STEP_BYTES));
            if step < turn {
                end = end.min(turn);
            }
        }
        step..end
    }

    /// Puts the sums of `bit * x` of some steps of some bands, each plus [`BIAS`], into `sums`.
    #[inline(always)]
    fn add_up<S: Set, const R: usize>(
        pieces: &[Self; R],
        s: S,
        tables: &Tables,
        steps: Range<usize>,
        sums: &mut [[i32; BAND]; R],
    ) {
        let mut atoms: [&[Step]; R] = [&[]; R];
        let mut ahead: [Lines; R] = [[std::ptr::null(); 2]; R];
        for r in 0..R {
            atoms[r] = pieces[r].steps(steps.clone());
            ahead[r] = pieces[r].ahead::<S>(steps.start);
        }
        s.looked_up(atoms, tables.steps(steps), ahead, pieces[0].scales, sums);
    }
}

/// A token's activations by steps.
#[inline(always)]
fn groups_of(x: &[i8]) -> &[Group] {
    x.as_chunks().0.as_chunks().0
}

/// The bands that hold `rows`.
#[inline(always)]
fn bands_of(rows: &Range<usize>) -> Range<usize> {
    match rows.is_empty() {
        true => 0..0,
        false => rows.start / BAND..rows.end.div_ceil(BAND),
    }
}

/// The part of a tile that is a band: outputs, and the place of the first of them in the band.
#[inline(always)]
fn in_band<'a, O>(rows: &Range<usize>, band: usize, out: &'a mut [O]) -> (&'a mut [O], usize) {
    let start = rows.start.max(band * BAND);
    let end = rows.end.min((band + 1) * BAND);
    let out = &mut out[start - rows.start..end - rows.start];
    (out, start - band * BAND)
}

/// A matrix's bands that hold the rows of a job, and the columns that have tables.
struct Job<'a, S> {
    s: S,
    w: &'a MatrixRef<'a>,
    rows: &'a Range<usize>,
    part: Range<usize>,
    tables: &'a Tables,
}

/// Something that is done with some bands.
trait Block<O> {
    /// Adds the products of `R` bands to `out`, which is those of all rows. `next` is where each stream goes on.
    fn run<const R: usize>(&self, bands: [usize; R], next: [*const u8; R], out: &mut [O]);
}

impl<S: Set> Job<'_, S> {
    /// Where the columns of step `step` of a band start. There may be no such band.
    #[inline(always)]
    fn place(w: &MatrixRef<'_>, band: usize, step: usize) -> *const u8 {
        let offset = band * w.band_bytes() + 64 * step * step_lines(w);
        w.bytes().as_ptr().wrapping_add(offset)
    }

    /// The order in which the bands of `rows` are read.
    #[inline(always)]
    fn course(w: &MatrixRef<'_>, rows: &Range<usize>) -> Course {
        Course::of(bands_of(rows), w.band_bytes())
    }

    /// Where the streams start that read the columns from step `step` on.
    #[inline(always)]
    fn streams(w: &MatrixRef<'_>, rows: &Range<usize>, step: usize) -> [*const u8; STREAMS] {
        let stretch = Self::course(w, rows).first();
        let mut starts = [std::ptr::null(); STREAMS];
        for (i, start) in starts.iter_mut().enumerate() {
            *start = Self::place(w, stretch.start(i), step);
        }
        starts
    }

    /// Covers the rows with four bands at a time, one of each of four streams through memory, as in
    /// [`ahead`](super::ahead). The bands that are left over make the first streams one longer.
    #[inline(always)]
    fn cover<O, B: Block<O>>(&self, block: &B, out: &mut [O]) {
        let course = Self::course(self.w, self.rows);
        let mut now = course.first();
        while course.has(&now) {
            let next = self.next(&course, &now);
            for round in 0..now.rounds {
                let (bands, next) = self.round(&now, round, next);
                block.run::<STREAMS>(bands, next, out);
            }
            match now.left {
                0 => {}
                1 => self.last::<O, B, 1>(&now, next, block, out),
                2 => self.last::<O, B, 2>(&now, next, block, out),
                _ => self.last::<O, B, 3>(&now, next, block, out),
            }
            now = course.after(&now);
        }
    }

    /// Where the streams of a stretch go on. After the last one come the next columns, or the rows of the next job.
    #[inline(always)]
    fn next(&self, course: &Course, stretch: &Stretch) -> [*const u8; STREAMS] {
        let Self { w, part, .. } = self;
        let after = course.after(stretch);
        let (stretch, step) = if course.has(&after) {
            (after, part.start)
        } else if part.end < steps_of(w) {
            (course.first(), part.end)
        } else {
            (after, 0)
        };
        let mut next = [std::ptr::null(); STREAMS];
        for (i, next) in next.iter_mut().enumerate() {
            *next = Self::place(w, stretch.start(i), step);
        }
        next
    }

    /// The round of the `R` streams that are one longer.
    #[inline(always)]
    fn last<O, B: Block<O>, const R: usize>(
        &self,
        stretch: &Stretch,
        next: [*const u8; STREAMS],
        block: &B,
        out: &mut [O],
    ) {
        let (bands, next) = self.round(stretch, stretch.rounds, next);
        block.run::<R>(bands, next, out);
    }

    /// The bands of a round of `R` streams, and what each reads after them; `next` is what it reads after the stretch.
    #[inline(always)]
    fn round<const R: usize>(
        &self,
        stretch: &Stretch,
        round: usize,
        next: [*const u8; STREAMS],
    ) -> ([usize; R], [*const u8; R]) {
        let (mut bands, mut places) = ([0; R], [std::ptr::null(); R]);
        for i in 0..R {
            bands[i] = stretch.start(i) + round;
            places[i] = match bands[i] + 1 < stretch.start(i + 1) {
                true => Self::place(self.w, bands[i] + 1, self.part.start),
                false => next[i],
            };
        }
        (bands, places)
    }
}

/// The tables of some steps of a token's activations.
#[inline(always)]
fn tables_of<S: Set, X: Scaled>(
    s: S,
    job: &Product<'_, X>,
    token: usize,
    steps: Range<usize>,
) -> RefMut<'static, Tables> {
    let Product { w, rows, x } = job;
    let streams = Job::<S>::streams(w, rows, steps.start);
    let origin = Origin {
        input: x.id(),
        token,
        steps,
    };
    Tables::of(s, origin, x.codes(token), streams)
}

/// Sums of a binary matrix of bands.
#[inline(always)]
pub(crate) fn b1r64<S: Set>(s: S, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
    let Product { w, rows, x } = job;
    let steps = steps_of(w);
    for token in 0..x.tokens() {
        let out = out.row(token);
        out.fill(0i32.wrapping_sub(x.sum(token)));
        for start in (0..steps).step_by(CHUNK) {
            let part = start..steps.min(start + CHUNK);
            let tables = tables_of(s, job, token, part.clone());
            let job = Job {
                s,
                w,
                rows,
                part,
                tables: &tables,
            };
            job.cover(&Sums(&job), out);
        }
    }
}

struct Sums<'a, S>(&'a Job<'a, S>);

impl<S: Set> Block<i32> for Sums<'_, S> {
    #[inline(always)]
    fn run<const R: usize>(&self, bands: [usize; R], next: [*const u8; R], out: &mut [i32]) {
        let job = self.0;
        let mut acc = [[0i32; BAND]; R];
        let mut pieces = [Piece::EMPTY; R];
        for r in 0..R {
            pieces[r] = Piece::of(job.w, bands[r], job.part.clone(), next[r]);
        }
        let mut sums = [[0; BAND]; R];
        let mut step = 0;
        while step < job.part.len() {
            let steps = pieces[0].together::<S>(step);
            let bias = BIAS * steps.len() as i32;
            step = steps.end;
            Piece::add_up(&pieces, job.s, job.tables, steps, &mut sums);
            for r in 0..R {
                for i in 0..BAND {
                    acc[r][i] = acc[r][i].wrapping_add(sums[r][i] - bias);
                }
            }
        }
        for r in 0..R {
            let (out, skip) = in_band(job.rows, bands[r], out);
            for (out, sum) in out.iter_mut().zip(&acc[r][skip..]) {
                *out = out.wrapping_add(sum.wrapping_mul(2));
            }
        }
    }
}

/// Products of a binary matrix of bands with group scales, or int8 activations with multipliers by group.
#[inline(always)]
pub(super) fn grouped<S: Set, X: Scaled>(s: S, job: &Product<'_, X>, out: &mut TileMut<'_, f32>) {
    let Product { w, rows, x } = job;
    let steps = steps_of(w);
    for token in 0..x.tokens() {
        for start in (0..steps).step_by(CHUNK) {
            let part = start..steps.min(start + CHUNK);
            let tables = tables_of(s, job, token, part.clone());
            let last = part.end == steps;
            let job = Job {
                s,
                w,
                rows,
                part,
                tables: &tables,
            };
            let groups = Groups {
                job: &job,
                x,
                token,
                factor: if last { x.factor(token) } else { 1.0 },
            };
            job.cover(&groups, out.row(token));
        }
    }
}

struct Groups<'a, S, X> {
    job: &'a Job<'a, S>,
    x: &'a X,
    token: usize,
    /// What the results are multiplied with: 1 unless these groups are the last.
    factor: f32,
}

impl<S: Set, X: Scaled> Block<f32> for Groups<'_, S, X> {
    #[inline(always)]
    fn run<const R: usize>(&self, bands: [usize; R], next: [*const u8; R], out: &mut [f32]) {
        let Job { s, w, part, .. } = self.job;
        let s = *s;
        let mut acc = [[s.splat(0.0); BAND / 16]; R];
        let mut pieces = [Piece::EMPTY; R];
        let scale = match w.scales() {
            Scales::Tensor(scale) => scale,
            _ => 1.0,
        };
        for r in 0..R {
            pieces[r] = Piece::of(w, bands[r], part.clone(), next[r]);
            if part.start > 0 {
                let mut y = [0.0; BAND];
                let (out, skip) = in_band(self.job.rows, bands[r], out);
                y[skip..][..out.len()].copy_from_slice(out);
                for m in 0..BAND / 16 {
                    acc[r][m] = s.load(&y.as_chunks().0[m]);
                }
            }
        }
        let mut sums = [[0; BAND]; R];
        for step in 0..part.len() {
            let group = part.start + step;
            let multiplier = s.splat(self.x.multiplier(self.token, group));
            let offset = self.job.tables.sum(step) + 2 * BIAS;
            Piece::add_up(&pieces, s, self.job.tables, step..step + 1, &mut sums);
            for r in 0..R {
                let mut factors = [multiplier * s.splat(scale); BAND / 16];
                if pieces[r].scales > 0 {
                    let stored = pieces[r].scales_of(step);
                    for m in 0..BAND / 16 {
                        factors[m] = s.load_f16(&stored[m]) * multiplier;
                    }
                }
                for m in 0..BAND / 16 {
                    let mut dots = [0.0; 16];
                    let some = &sums[r].as_chunks::<16>().0[m];
                    for i in 0..16 {
                        dots[i] = (2 * some[i] - offset) as f32;
                    }
                    acc[r][m] = s.load(&dots).mul_add(factors[m], acc[r][m]);
                }
            }
        }
        let factor = s.splat(self.factor);
        for r in 0..R {
            let (out, skip) = in_band(self.job.rows, bands[r], out);
            match <&mut [f32; BAND]>::try_from(&mut *out) {
                Ok(band) => store_scaled(acc[r], factor, band),
                Err(_) => {
                    let mut y = [0.0; BAND];
                    store_scaled(acc[r], factor, &mut y);
                    out.copy_from_slice(&y[skip..][..out.len()]);
                }
            }
        }
    }
}

#[inline(always)]
fn store_scaled<F: Vector>(acc: [F; BAND / 16], factor: F, out: &mut [f32; BAND]) {
    for m in 0..BAND / 16 {
        (acc[m] * factor).store(&mut out.as_chunks_mut().0[m]);
    }
}

//! In what order weights are read, and asking for them before they are needed.
//!
//! Products of few tokens read four rows side by side, from four places that lie tens of kilobytes apart, so that each is a stream
//! that reads memory in the order of addresses: hardware prefetchers follow that, and across the ends of pages, where they stop,
//! [`Streams`] asks itself. Four adjacent rows would be four short streams that end with their rows.
//!
//! A [`Stretch`] is what four streams read before they go on together, in the following stretch. Where streams end the beginning of
//! those is asked for, in the next part of the matrix too, so that streams begin cold but once in a thread's share:
//!
//! ```text
//! |-- stream 0 --|-- stream 1 --|-- stream 2 --|-- stream 3 --|-- stream 0 --|-- ...
//! |<---------------------- stretch -------------------------->|<---- stretch
//! ```
//!
//! Rows from a list come from anywhere. [`Listed`] asks for them in the order of addresses, into the
//! second-level cache, which takes more requests at a time than the first.

use std::ops::Range;

use onebit_format::MatrixRef;

use crate::sets::Set;

/// Streams that are read, or asked for, side by side. The first lines of a page take longest: the prefetcher of the CPU, which
/// fetches the others, has yet to see them. Of one stream these waits would come one after the other; of four they overlap.
pub(crate) const STREAMS: usize = 4;

/// Bytes of a stream in a stretch, at least: so many that its beginning costs little, and so few that what is next to a stretch is
/// known where parts are small.
const STREAM_BYTES: usize = 32 << 10;

/// How many numbers of bands are tried to have streams in different parts of their pages.
const CHOICES: usize = 8;

/// The pages within which hardware prefetchers work.
const PAGE: usize = 4096;

/// Bands of rows that streams read before they go on elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct Stretch {
    first: usize,
    /// Bands of every stream, and how many streams, the first, have one more.
    pub(crate) rounds: usize,
    pub(crate) left: usize,
}

impl Stretch {
    #[inline(always)]
    pub(crate) fn of(bands: Range<usize>) -> Self {
        Self {
            first: bands.start,
            rounds: bands.len() / STREAMS,
            left: bands.len() % STREAMS,
        }
    }

    /// The first band of stream `i`, or what follows the last stream.
    #[inline(always)]
    pub(crate) fn start(&self, i: usize) -> usize {
        self.first + i * self.rounds + i.min(self.left)
    }

    /// The first band after the stretch.
    #[inline(always)]
    pub(crate) fn end(&self) -> usize {
        self.start(STREAMS)
    }

    /// The bands of `R` streams from `first` on in round `round`, each with the rest of its stream and where that goes on in `next`.
    #[inline(always)]
    pub(crate) fn round<const R: usize>(
        &self,
        round: usize,
        first: usize,
        next: &Self,
    ) -> Abreast<R> {
        let mut bands = Abreast::apart([0; R]);
        for r in 0..R {
            bands.at[r] = self.start(first + r) + round;
            bands.left[r] = self.start(first + r + 1) - bands.at[r];
            bands.next[r] = next.start(first + r);
        }
        bands
    }
}

/// The order in which the bands of a part are read. What reckons with it has no use for a set's instructions, and is not inlined: the
/// kernels would grow by several kilobytes each.
pub(crate) struct Course {
    bands: Range<usize>,
    band_bytes: usize,
    /// Bands of a stretch.
    each: usize,
}

impl Course {
    #[inline(never)]
    pub(crate) fn of(bands: Range<usize>, band_bytes: usize) -> Self {
        let each = STREAMS * stream_bands(band_bytes);
        Self {
            bands,
            band_bytes,
            each,
        }
    }

    /// The stretch that starts with band `from`, the last of a part being up to half as long again.
    fn stretch(&self, from: usize) -> Stretch {
        let rest = self.bands.end - from;
        if rest >= self.each + self.each / 2 {
            return Stretch::of(from..from + self.each);
        }
        let rounds = last_bands(rest / STREAMS, self.band_bytes);
        let len = match rounds < rest / STREAMS {
            true => STREAMS * rounds,
            false => rest,
        };
        Stretch::of(from..from + len)
    }

    #[inline(never)]
    pub(crate) fn first(&self) -> Stretch {
        self.stretch(self.bands.start)
    }

    /// What is read after a stretch. After the last one comes another part, most likely of the same length.
    #[inline(never)]
    pub(crate) fn after(&self, stretch: &Stretch) -> Stretch {
        let end = stretch.end();
        if end < self.bands.end {
            return self.stretch(end);
        }
        let first = self.first();
        Stretch {
            first: end,
            ..first
        }
    }

    /// Whether a stretch is of this part.
    #[inline(always)]
    pub(crate) fn has(&self, stretch: &Stretch) -> bool {
        stretch.first < self.bands.end
    }
}

/// How far the first lines of streams that are `bytes` apart are from each other in their pages. At the start of a page a stream waits
/// for its prefetcher, so they should not all be there at once.
fn spread(bytes: usize) -> usize {
    let apart = |streams: usize| {
        let bytes = streams * bytes % PAGE;
        bytes.min(PAGE - bytes)
    };
    // Two pairs that meet are better than four streams that do.
    2 * apart(1).min(apart(2)).min(apart(3)) + apart(1)
}

/// Bands of a stream in a stretch: at least [`STREAM_BYTES`], and so many that the four are in different parts of their pages.
fn stream_bands(band_bytes: usize) -> usize {
    let least = STREAM_BYTES.div_ceil(band_bytes.max(1)).max(1);
    let mut best = least;
    for bands in least..least + CHOICES {
        if spread(bands * band_bytes) > spread(best * band_bytes) {
            best = bands;
        }
    }
    // Streams that always meet at the starts of pages do better further apart.
    match spread(best * band_bytes) {
        0 => 2 * best,
        _ => best,
    }
}

/// The same of the last stretch of a part: `rounds`, or, where streams would meet at the starts of pages, some fewer. The others follow
/// in a short stretch.
fn last_bands(rounds: usize, band_bytes: usize) -> usize {
    let mut best = rounds;
    if spread(rounds * band_bytes) < PAGE / 8 {
        for bands in (rounds / 2 + 1).max(rounds.saturating_sub(CHOICES))..rounds {
            if spread(bands * band_bytes) > spread(best * band_bytes) {
                best = bands;
            }
        }
    }
    best
}

/// Rows, or bands of rows, that are read side by side.
#[derive(Clone, Copy)]
pub(crate) struct Abreast<const R: usize> {
    pub(crate) at: [usize; R],
    /// How many lie one after the other, from each on.
    left: [usize; R],
    /// What is read after those.
    next: [usize; R],
}

impl<const R: usize> Abreast<R> {
    /// Those after which the following ones are read.
    #[inline(always)]
    pub(crate) fn apart(at: [usize; R]) -> Self {
        Self {
            at,
            left: [0; R],
            next: at,
        }
    }
}

/// How far ahead of a row in use its stream is asked for, in bytes.
const LEAD: usize = 2048;

/// What is needed after the lines of a block of `R` rows.
pub(crate) trait Ahead {
    /// Asks for a line. To be called once for each line of a block, with its row in the block and
    /// its offset in the row.
    fn request<S: Set>(&mut self, s: S, row: usize, offset: usize);
}

/// Rows of streams.
pub(crate) struct Streams<const R: usize> {
    /// What is asked for at the start of each row.
    here: [*const u8; R],
    /// The offset from which on its stream has gone on elsewhere, and what would be asked for at the start if it had done so there.
    turn: [usize; R],
    there: [*const u8; R],
}

impl<const R: usize> Streams<R> {
    /// `bands` of `w` that are read side by side. What follows the last stream may lie outside.
    #[inline(always)]
    pub(crate) fn of(w: &MatrixRef<'_>, bands: &Abreast<R>) -> Self {
        Self::with_lead(w, bands, LEAD)
    }

    /// The same, for what comes `lead` bytes later.
    #[inline(always)]
    pub(crate) fn with_lead(w: &MatrixRef<'_>, bands: &Abreast<R>, lead: usize) -> Self {
        let (start, len) = (w.bytes().as_ptr(), w.band_bytes());
        let mut streams = Self {
            here: [start; R],
            turn: [usize::MAX; R],
            there: [start; R],
        };
        for r in 0..R {
            streams.here[r] = start.wrapping_add(bands.at[r] * len + lead);
            if bands.left[r] > 0 {
                let left = bands.left[r] * len;
                streams.turn[r] = left.saturating_sub(lead);
                streams.there[r] = start
                    .wrapping_add(bands.next[r] * len + lead)
                    .wrapping_sub(left);
            }
        }
        streams
    }

    /// What comes so much later than `offset` of a row. It may be any address.
    #[inline(always)]
    pub(crate) fn place(&self, row: usize, offset: usize) -> *const u8 {
        let start = match offset < self.turn[row] {
            true => self.here[row],
            false => self.there[row],
        };
        start.wrapping_add(offset)
    }
}

impl<const R: usize> Ahead for Streams<R> {
    #[inline(always)]
    fn request<S: Set>(&mut self, s: S, row: usize, offset: usize) {
        s.prefetch(self.place(row, offset));
    }
}

/// What is asked for into the first level, which has room for few requests, and, further ahead, into the second, by sets that do both.
pub(crate) type Lines = [*const u8; 2];

/// Rows that are needed later, in the order of their addresses.
pub(crate) struct Listed<const R: usize> {
    rows: [*const u8; R],
    row_bytes: usize,
    /// The line that is next: its row, and its offset in the row.
    row: usize,
    at: usize,
}

impl<const R: usize> Listed<R> {
    #[inline(always)]
    pub(crate) fn new(rows: [*const u8; R], row_bytes: usize) -> Self {
        Self {
            rows,
            row_bytes,
            row: 0,
            at: 0,
        }
    }
}

impl<const R: usize> Ahead for Listed<R> {
    #[inline(always)]
    fn request<S: Set>(&mut self, s: S, _row: usize, _offset: usize) {
        s.prefetch_early(self.rows[self.row % R].wrapping_add(self.at));
        self.at += 64;
        if self.at == self.row_bytes {
            self.at = 0;
            self.row += 1;
        }
    }
}

/// Asks for a whole row at once.
#[inline(always)]
pub(crate) fn request_row<S: Set>(s: S, row: &[u8]) {
    for line in row.chunks(64) {
        s.prefetch_early(line.as_ptr());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Asks for nothing.
    pub(crate) struct Nothing;

    impl Ahead for Nothing {
        fn request<S: Set>(&mut self, _s: S, _row: usize, _offset: usize) {}
    }

    /// The bands of a course in the order in which they are read, stream by stream.
    fn bands(course: &Course) -> Vec<Vec<usize>> {
        let mut streams = vec![Vec::new(); STREAMS];
        let mut now = course.first();
        while course.has(&now) {
            for (i, stream) in streams.iter_mut().enumerate() {
                stream.extend(now.start(i)..now.start(i + 1));
            }
            now = course.after(&now);
        }
        streams
    }

    #[test]
    fn a_course_reads_every_band_once() {
        for len in (0..40).chain([500, 864, 1365, 4321]) {
            for band_bytes in [64, 448, 640, 2048, 2560, 8192, 1 << 20] {
                let course = Course::of(7..7 + len, band_bytes);
                let mut all = bands(&course).concat();
                all.sort_unstable();
                assert!(all.iter().copied().eq(7..7 + len), "{len} of {band_bytes}");
            }
        }
    }

    #[test]
    fn streams_are_in_different_parts_of_their_pages() {
        for band_bytes in [448, 640, 1280, 1728, 2560, 8000] {
            let distance = stream_bands(band_bytes) * band_bytes;
            assert!((STREAM_BYTES..STREAM_BYTES + 8 * band_bytes).contains(&distance));
            for streams in 1..STREAMS {
                let offset = streams * distance % PAGE;
                assert!(offset.min(PAGE - offset) >= 512, "{band_bytes}: {distance}");
            }
        }
    }

    /// What is asked for is always what the same stream reads that much later.
    #[test]
    fn what_is_asked_for_is_read_later() {
        let (rows, cols) = (1000, 2560);
        let layout = onebit_format::Layout::T2;
        let bytes = vec![0; layout.byte_len(rows, cols).unwrap() + 64];
        let start = bytes.as_ptr().align_offset(64);
        let bytes = &bytes[start..][..layout.byte_len(rows, cols).unwrap()];
        let scales = onebit_format::Scales::Tensor(1.0);
        let w = MatrixRef::new(layout, rows, cols, bytes, scales).unwrap();
        let course = Course::of(0..rows, w.band_bytes());
        // The lines of each stream, and what was asked for at each.
        let (mut lines, mut asked) = (vec![Vec::new(); STREAMS], vec![Vec::new(); STREAMS]);
        let mut now = course.first();
        while course.has(&now) {
            let next = course.after(&now);
            for i in 0..STREAMS {
                for round in 0..now.start(i + 1) - now.start(i) {
                    let band = now.round::<1>(round, i, &next);
                    let streams = Streams::of(&w, &band);
                    for line in 0..w.band_bytes() / 64 {
                        lines[i].push(band.at[0] * w.band_bytes() + 64 * line);
                        let place = streams.place(0, 64 * line) as usize;
                        asked[i].push(place.wrapping_sub(bytes.as_ptr() as usize));
                    }
                }
            }
            now = next;
        }
        for i in 0..STREAMS {
            let pairs = lines[i].iter().skip(LEAD / 64).zip(&asked[i]);
            let different = pairs.filter(|(line, asked)| line != asked).count();
            assert_eq!(different, 0, "stream {i}");
        }
    }
}

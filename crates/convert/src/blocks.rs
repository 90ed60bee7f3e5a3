//! Cutting a matrix into blocks of rows that are worked on in parallel and written in order.

use std::ops::Range;

use rayon::prelude::*;

use crate::error::Result;

/// Weights in a block, about: 4 MiB of `f32`.
const BLOCK: usize = 1 << 20;

/// Row ranges that cover `rows`, cut by the shape alone.
pub(crate) fn blocks(rows: usize, cols: usize) -> Vec<Range<usize>> {
    banded(rows, cols, 1)
}

/// The same, cut at multiples of `band` rows.
pub(crate) fn banded(rows: usize, cols: usize, band: usize) -> Vec<Range<usize>> {
    let step = (BLOCK / cols.max(1)).max(1).next_multiple_of(band);
    (0..rows)
        .step_by(step)
        .map(|start| start..rows.min(start + step))
        .collect()
}

/// Makes every block with `make`, several at a time, and hands them to `take` in order. The first
/// block in order that fails decides the error, whatever the number of threads.
pub(crate) fn in_order<T: Send>(
    blocks: Vec<Range<usize>>,
    make: impl Fn(Range<usize>) -> Result<T> + Sync,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let at_once = 2 * rayon::current_num_threads();
    for group in blocks.chunks(at_once) {
        let made: Vec<Result<T>> = group.par_iter().map(|rows| make(rows.clone())).collect();
        for block in made {
            take(block?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConvertError;

    #[test]
    fn blocks_cover_all_rows_once() {
        for (rows, cols) in [(0, 8), (1, 1), (7, 1 << 21), (1000, 5000), (300, 0)] {
            let all: Vec<usize> = blocks(rows, cols).into_iter().flatten().collect();
            assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{rows} x {cols}");
            for band in [5, 64] {
                let bands = banded(rows, cols, band);
                assert!(bands.iter().all(|rows| rows.start.is_multiple_of(band)));
                let all: Vec<usize> = bands.into_iter().flatten().collect();
                let what = format!("{rows} x {cols} in bands of {band}");
                assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{what}");
            }
        }
    }

    #[test]
    fn results_and_errors_come_in_order() {
        let ranges: Vec<_> = (0..100).map(|start| start..start + 1).collect();
        let mut seen = Vec::new();
        in_order(
            ranges.clone(),
            |rows| Ok(rows.start),
            |row| {
                seen.push(row);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        let make = |rows: Range<usize>| match rows.start {
            41.. => Err(ConvertError::Request(rows.start.to_string())),
            start => Ok(start),
        };
        assert_eq!(
            in_order(ranges, make, |_| Ok(())).unwrap_err().to_string(),
            "41"
        );
    }
}

//! Causal attention, every query with every key it sees.

use super::arithmetic::{Rows, dot};
use crate::blocks::in_order;
use crate::error::Result;
use crate::verify::work::Work;

/// Queries in one piece of work.
const QUERIES: usize = 16;

/// Attends from every position to the positions up to it, or to the last `window` of them. Query head `h` reads the
/// kv head `h / (heads / kv heads)`; heads are `head_dim` wide.
pub(super) fn attend(
    q: &Rows,
    k: &Rows,
    v: &Rows,
    head_dim: usize,
    window: Option<usize>,
    work: &mut Work<'_>,
) -> Result<Rows> {
    let queries_per_kv = q.width / k.width;
    let mut out = Rows::zeros(q.tokens(), q.width);
    let pieces = (0..q.tokens())
        .step_by(QUERIES)
        .map(|start| start..q.tokens().min(start + QUERIES));
    let piece = |queries: std::ops::Range<usize>| {
        let mut heads = vec![0.0f32; queries.len() * q.width];
        for (head, out) in heads.chunks_mut(head_dim).enumerate() {
            let (i, head) = (
                queries.start + head / (q.width / head_dim),
                head % (q.width / head_dim),
            );
            let first = window.map_or(0, |size| (i + 1).saturating_sub(size));
            let query = &q.row(i)[head * head_dim..][..head_dim];
            let from = head / queries_per_kv * head_dim;
            let weights = softmax(query, first..i + 1, |j| &k.row(j)[from..][..head_dim]);
            for (j, weight) in (first..=i).zip(weights) {
                let value = &v.row(j)[from..][..head_dim];
                out.iter_mut()
                    .zip(value)
                    .for_each(|(o, v)| *o += weight * v);
            }
        }
        Ok((queries.start, heads))
    };
    in_order(pieces.collect(), piece, |(first, heads)| {
        out.values[first * q.width..][..heads.len()].copy_from_slice(&heads);
        work.check()
    })?;
    Ok(out)
}

/// Softmax of the scaled scores of one query with the keys of `positions`.
fn softmax<'k>(
    query: &[f32],
    positions: std::ops::Range<usize>,
    key: impl Fn(usize) -> &'k [f32],
) -> Vec<f32> {
    let scale = (query.len() as f64).powf(-0.5) as f32;
    let mut weights: Vec<f32> = positions.map(|j| dot(query, key(j)) * scale).collect();
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    weights.iter_mut().for_each(|w| *w = (*w - largest).exp());
    let sum = weights.iter().map(|w| f64::from(*w)).sum::<f64>() as f32;
    weights.iter_mut().for_each(|w| *w /= sum);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(width: usize, values: &[f32]) -> Rows {
        Rows {
            width,
            values: values.to_vec(),
        }
    }

    /// Keys of zeros weigh all visible values alike.
    fn means(window: Option<usize>) -> Vec<f32> {
        let v = rows(
            4,
            &[
                1.0, 0.0, 10.0, 0.0, 3.0, 0.0, 30.0, 0.0, 5.0, 0.0, 50.0, 0.0,
            ],
        );
        let (q, k) = (Rows::zeros(3, 8), Rows::zeros(3, 4));
        let out = attend(&q, &k, &v, 2, window, &mut Work::new(&mut ())).unwrap();
        out.values
            .chunks(2)
            .map(|head| (head[0] * 1e3).round() / 1e3)
            .collect()
    }

    #[test]
    fn positions_see_the_past_and_heads_share_their_kv_head() {
        assert_eq!(
            means(None),
            [
                1.0, 1.0, 10.0, 10.0, 2.0, 2.0, 20.0, 20.0, 3.0, 3.0, 30.0, 30.0
            ]
        );
    }

    #[test]
    fn windows_count_the_query_itself() {
        assert_eq!(
            means(Some(2)),
            [
                1.0, 1.0, 10.0, 10.0, 2.0, 2.0, 20.0, 20.0, 4.0, 4.0, 40.0, 40.0
            ]
        );
    }

    #[test]
    fn scores_are_scaled_by_the_root_of_the_width() {
        let key = [[3.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]];
        let weights = softmax(&[1.0, 0.0, 0.0, 0.0], 0..2, |j| &key[j]);
        assert!((weights[0] / weights[1] - 1.0f32.exp()).abs() < 1e-6);
        assert!((weights[0] + weights[1] - 1.0).abs() < 1e-6);
    }
}

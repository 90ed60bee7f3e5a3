//! Many generations in one process: whether memory grows, or the time they take.

use crate::cli::Load;
use crate::source::Source;
use onebit_kernels::Kernels;
use onebit_model::{Activations, Model};
use onebit_runtime::{
    Engine, GenerateOptions, Output, Pool, SamplingOptions, SessionOptions, Tokenizer,
    default_threads, generate, process_memory,
};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What many generations left in memory.
#[derive(Debug, Serialize)]
pub struct SoakReport {
    /// Generations.
    pub generations: usize,
    /// Tokens of each.
    pub tokens: usize,
    /// Seconds that they took.
    pub seconds: f64,
    /// Generations at the start that do not count.
    pub warm_up: usize,
    /// Bytes resident after the warm-up.
    pub first: u64,
    /// Bytes resident at the end.
    pub last: u64,
    /// Bytes that each generation after the warm-up adds, by least squares.
    pub slope: f64,
    /// Standard error of the slope.
    pub slope_error: f64,
    /// The slope times the generations after the warm-up, in bytes.
    pub growth: f64,
    /// Median milliseconds of a generation in the first tenth after the warm-up.
    pub first_ms: f64,
    /// The same in the last tenth.
    pub last_ms: f64,
    /// How much longer the last ones take, as a share of the first; other load shows here too.
    pub latency_drift: f64,
}

impl SoakReport {
    /// What the growth may be without being one, in bytes: the system counts pages in batches per CPU.
    pub const NOISE: f64 = (256 << 10) as f64;

    /// Whether memory grew.
    pub fn grew(&self) -> bool {
        self.growth > Self::NOISE
    }
}

/// Runs `generations` generations of `tokens` tokens with the model built into the program, each with a session and a seed of
/// its own, and looks at the resident memory after each. `done` is told how many are done; it should not keep memory.
///
/// # Errors
/// Where there is no such model, or the system does not say what is resident.
pub fn run(
    generations: usize,
    tokens: usize,
    done: &mut dyn FnMut(usize),
) -> anyhow::Result<SoakReport> {
    let file = Arc::new(Source::Demo.open(Load::Mmap)?);
    let model = Model::from_file(file)?.with_activations(Activations::Auto)?;
    let pool = Arc::new(Pool::new(default_threads())?);
    let engine = Engine::new(Arc::new(model), Kernels::best(), pool);
    let tokenizer = Tokenizer::from_packed(engine.model().file())?;
    let prompt = tokenizer.encode("Once upon a time", true)?;
    let mut resident: Vec<f64> = Vec::with_capacity(generations);
    let mut times: Vec<f64> = Vec::with_capacity(generations);
    times.resize(generations, 1.0);
    // Touches the samples, which would look like growth as they come in.
    resident.resize(generations, 1.0);
    let start = Instant::now();
    for ((seed, sample), time) in (0..).zip(resident.iter_mut()).zip(times.iter_mut()) {
        let began = Instant::now();
        let mut session = engine.session(SessionOptions::new(engine.model().spec()))?;
        let options = GenerateOptions {
            predict: Some(tokens),
            ignore_eos: true,
            sampling: SamplingOptions {
                seed,
                ..SamplingOptions::default()
            },
            ..GenerateOptions::default()
        };
        let output = Output {
            on_piece: &mut |_| (),
            interrupt: &AtomicBool::new(false),
        };
        let made = generate(&mut session, Some(&tokenizer), &prompt, &options, output)?;
        anyhow::ensure!(made.ids.len() == tokens, "a generation ended early");
        *time = began.elapsed().as_secs_f64() * 1e3;
        let now = process_memory().ok_or_else(|| anyhow::anyhow!("no memory is counted here"))?;
        *sample = (now.anon + now.file) as f64;
        done(seed as usize + 1);
    }
    let seconds = start.elapsed().as_secs_f64();
    let warm_up = generations / 10;
    let counted = &resident[warm_up..];
    let (slope, slope_error) = trend(counted);
    let (first_ms, last_ms) = ends(&mut times[warm_up..]);
    Ok(SoakReport {
        generations,
        tokens,
        seconds,
        warm_up,
        first: counted.first().map_or(0, |first| *first as u64),
        last: counted.last().map_or(0, |last| *last as u64),
        slope,
        slope_error,
        growth: slope * counted.len() as f64,
        first_ms,
        last_ms,
        latency_drift: last_ms / first_ms - 1.0,
    })
}

/// Medians of the first and of the last tenth, which are sorted.
fn ends(times: &mut [f64]) -> (f64, f64) {
    let tenth = times.len().div_ceil(10);
    let last = times.len() - tenth;
    let median = |part: &mut [f64]| {
        part.sort_by(f64::total_cmp);
        part.get(part.len() / 2).copied().unwrap_or(0.0)
    };
    let end = median(&mut times[last..]);
    (median(&mut times[..tenth]), end)
}

/// Slope of the least-squares line through `(0, y[0]), (1, y[1]), ...`, and its standard error; 0 for less than 3 points.
fn trend(y: &[f64]) -> (f64, f64) {
    let n = y.len() as f64;
    if y.len() < 3 {
        return (0.0, 0.0);
    }
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, y.iter().sum::<f64>() / n);
    let points = || {
        (0..)
            .map(f64::from)
            .zip(y)
            .map(|(x, y)| (x - mean_x, y - mean_y))
    };
    let xx: f64 = points().map(|(x, _)| x * x).sum();
    let slope = points().map(|(x, y)| x * y).sum::<f64>() / xx;
    let rest: f64 = points().map(|(x, y)| (y - slope * x).powi(2)).sum();
    (slope, (rest / (n - 2.0) / xx).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        let line: Vec<f64> = (0..100).map(|x| 7.0 + 3.0 * f64::from(x)).collect();
        let (slope, error) = trend(&line);
        assert!((slope - 3.0).abs() < 1e-9 && error < 1e-6);
        let zigzag: Vec<f64> = (0..100).map(|x| f64::from(x % 2)).collect();
        let (slope, error) = trend(&zigzag);
        assert!(slope.abs() < 2.0 * error);
        assert_eq!(trend(&[1.0, 5.0]), (0.0, 0.0));
    }

    #[test]
    fn the_ends_have_their_medians() {
        let mut times: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(ends(&mut times), (5.0, 95.0));
        assert_eq!(ends(&mut [3.0]), (3.0, 3.0));
    }
}

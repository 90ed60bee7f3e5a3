//! A plain decoder in `f64`: one sequence, no cache, weights one by one.

use std::cell::Cell;

use onebit_format::{ActivationMode, Layout, PackedFile};
use onebit_model::{Activation, Model, ModelSpec};

type Rows = Vec<Vec<f64>>;

/// What the plain decoder computed.
pub(crate) struct Reference {
    /// Logits of every position.
    pub(crate) logits: Rows,
    /// How close a quantized activation came to a rounding tie, in steps.
    pub(crate) nearest_tie: f64,
}

/// Runs `tokens` from the start.
pub(crate) fn run(model: &Model, tokens: &[u32]) -> Reference {
    let plain = Plain {
        spec: model.spec(),
        file: model.file(),
        groups: model.input_forms().groups,
        nearest_tie: Cell::new(0.5),
    };
    Reference {
        logits: plain.logits(tokens),
        nearest_tie: plain.nearest_tie.get(),
    }
}

struct Plain<'a> {
    spec: &'a ModelSpec,
    file: &'a PackedFile,
    /// Int8 by groups of 128 takes the place of floats where weights are ternary or binary.
    groups: bool,
    nearest_tie: Cell<f64>,
}

struct Layer<'a> {
    plain: &'a Plain<'a>,
    file: &'a PackedFile,
    spec: &'a ModelSpec,
    prefix: String,
    index: usize,
}

impl Layer<'_> {
    fn linear(&self, name: &str, x: &Rows) -> Rows {
        self.plain.linear(&format!("{}.{name}", self.prefix), x)
    }

    /// The norm `name` over pieces of `width` numbers; nothing where the model has none.
    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let name = format!("{}.{name}", self.prefix);
        if !self.file.has(&name) {
            return x.clone();
        }
        let weight = vector(self.file, &name);
        let row = |x: &Vec<f64>| {
            x.chunks(weight.len())
                .flat_map(|piece| rms_norm(piece, &weight, self.spec.norm_eps))
                .collect()
        };
        x.iter().map(row).collect()
    }

    fn attention(&self, x: &Rows) -> Rows {
        let x = self.norm("attn_norm", x);
        let q = self.rope(self.norm("q_norm", &self.linear("q", &x)));
        let k = self.rope(self.norm("k_norm", &self.linear("k", &x)));
        let v = self.linear("v", &x);
        let y = (0..x.len())
            .map(|i| self.attend(i, &q[i], &k, &v))
            .collect();
        self.linear("o", &self.norm("attn_sub_norm", &y))
    }

    fn attend(&self, i: usize, q: &[f64], k: &Rows, v: &Rows) -> Vec<f64> {
        let (spec, d) = (self.spec, self.spec.head_dim);
        let full = spec.full_attention_layers.contains(&self.index);
        let first = match spec.windows {
            Some(w) if self.index >= w.first_layer && !full => (i + 1).saturating_sub(w.size),
            _ => 0,
        };
        let mut out = Vec::new();
        for head in 0..spec.heads {
            let kv = head / (spec.heads / spec.kv_heads) * d;
            let q = &q[head * d..][..d];
            let scores: Vec<f64> = (first..=i)
                .map(|j| dot(q, &k[j][kv..][..d]) / (d as f64).sqrt())
                .collect();
            let max = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for e in 0..d {
                out.push(
                    (first..=i)
                        .map(|j| weights[j - first] / sum * v[j][kv + e])
                        .sum(),
                );
            }
        }
        out
    }

    fn rope(&self, mut x: Rows) -> Rows {
        let d = self.spec.head_dim;
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_mut(d) {
                for i in 0..d / 2 {
                    let angle =
                        position as f64 * self.spec.rope.theta.powf(-2.0 * i as f64 / d as f64);
                    let (a, b) = (head[i], head[i + d / 2]);
                    head[i] = a * angle.cos() - b * angle.sin();
                    head[i + d / 2] = b * angle.cos() + a * angle.sin();
                }
            }
        }
        x
    }

    fn mlp(&self, x: &Rows) -> Rows {
        let x = self.norm("ffn_norm", x);
        let act = |x: f64| match self.spec.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Relu2 => x.max(0.0).powi(2),
            _ => unreachable!(),
        };
        let (mut y, up) = (self.linear("gate", &x), self.linear("up", &x));
        for (gate, up) in y.iter_mut().zip(&up) {
            gate.iter_mut().zip(up).for_each(|(g, u)| *g = act(*g) * u);
        }
        self.linear("down", &self.norm("ffn_sub_norm", &y))
    }
}

impl Plain<'_> {
    fn logits(&self, tokens: &[u32]) -> Rows {
        let &Self { spec, file, .. } = self;
        let embed = file.matrix("embed").unwrap();
        let embed = |&token: &u32| {
            (0..spec.hidden)
                .map(|k| f64::from(embed.value(token as usize, k)))
                .collect()
        };
        let mut x: Rows = tokens.iter().map(embed).collect();
        for index in 0..spec.layers {
            let layer = Layer {
                plain: self,
                file,
                spec,
                prefix: format!("layers.{index}"),
                index,
            };
            x = add(&x, &layer.attention(&x));
            x = add(&x, &layer.mlp(&x));
        }
        let norm = vector(file, "norm");
        let x: Rows = x
            .iter()
            .map(|x| rms_norm(x, &norm, spec.norm_eps))
            .collect();
        self.linear(if spec.tied_head { "embed" } else { "head" }, &x)
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let file = self.file;
        let w = file.matrix(name).unwrap();
        let signs = matches!(w.layout(), Layout::T2 | Layout::T2R16) || w.layout().is_binary();
        let w: Rows = (0..w.rows())
            .map(|r| (0..w.cols()).map(|k| f64::from(w.value(r, k))).collect())
            .collect();
        let optional = |name: String| file.has(&name).then(|| vector(file, &name));
        let (bias, norm) = (
            optional(format!("{name}.bias")),
            optional(format!("{name}.input_norm")),
        );
        let mode = file.activation(name).unwrap();
        let row = |x: &Vec<f64>| {
            let mut x = x.clone();
            if let Some(norm) = &norm {
                x = rms_norm(&x, norm, self.spec.input_norm_eps.unwrap());
            }
            x = match mode {
                ActivationMode::I8Token => self.fake_quantize(&x),
                ActivationMode::SignToken => self.signs(&x),
                ActivationMode::TernaryToken => self.ternary(&x),
                _ if self.groups && signs => {
                    let groups = x.chunks(128);
                    groups.flat_map(|x| self.fake_quantize(x)).collect()
                }
                _ => x,
            };
            let product = w.iter().map(|w| dot(w, &x)).enumerate();
            product
                .map(|(r, y)| y + bias.as_ref().map_or(0.0, |bias| bias[r]))
                .collect()
        };
        x.iter().map(row).collect()
    }

    /// What the sign times the mean magnitude leaves of a row. Sums of signs are often exactly zero, which products of `f64`
    /// miss by rounding.
    fn signs(&self, x: &[f64]) -> Vec<f64> {
        let mean = mean_magnitude(x);
        let sign = |x: &f64| {
            let tie = (x / mean).abs();
            if tie < 1e-12 {
                return mean;
            }
            self.nearest_tie.set(self.nearest_tie.get().min(tie));
            mean.copysign(*x)
        };
        x.iter().map(sign).collect()
    }

    /// What a multiple -1, 0 or 1 of the mean magnitude leaves of a row.
    fn ternary(&self, x: &[f64]) -> Vec<f64> {
        let mean = mean_magnitude(x);
        let code = |x: &f64| {
            let tie = ((x / mean).abs() - 0.5).abs();
            self.nearest_tie.set(self.nearest_tie.get().min(tie));
            (x / mean).round_ties_even().clamp(-1.0, 1.0)
        };
        x.iter().map(|x| code(x) * mean).collect()
    }

    /// What int8 quantization per token leaves of a row.
    fn fake_quantize(&self, x: &[f64]) -> Vec<f64> {
        let scale = 127.0 / x.iter().fold(1e-5, |max: f64, x| max.max(x.abs()));
        let code = |x: &f64| {
            let tie = ((x * scale).rem_euclid(1.0) - 0.5).abs();
            self.nearest_tie.set(self.nearest_tie.get().min(tie));
            (x * scale).round_ties_even().clamp(-128.0, 127.0)
        };
        x.iter().map(|x| code(x) / scale).collect()
    }
}

fn mean_magnitude(x: &[f64]) -> f64 {
    let sum: f64 = x.iter().map(|x| x.abs()).sum();
    (sum / x.len() as f64).max(1e-5)
}

fn rms_norm(x: &[f64], weight: &[f64], eps: f32) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let factor = 1.0 / (mean + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * factor * w).collect()
}

fn vector(file: &PackedFile, name: &str) -> Vec<f64> {
    file.vector(name)
        .unwrap()
        .iter()
        .copied()
        .map(f64::from)
        .collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &Rows, y: &Rows) -> Rows {
    x.iter()
        .zip(y)
        .map(|(x, y)| x.iter().zip(y).map(|(x, y)| x + y).collect())
        .collect()
}

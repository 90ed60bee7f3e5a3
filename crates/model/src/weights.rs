//! The weights of a network as records, found in the file once, at opening.

use std::ops::Range;

use onebit_format::{ActivationMode, Layout, MatrixRef, PackedFile};

use crate::checks::Checker;
use crate::error::ModelError;
use crate::forms::{Form, Forms, InputForms};
use crate::places::{MatrixAt, VectorAt};
use crate::spec::ModelSpec;

/// One linear map: a matrix, what its inputs are turned into, and what is added.
#[derive(Debug)]
pub(crate) struct Linear {
    matrix: MatrixAt,
    transposed: bool,
    /// As trained.
    activation: ActivationMode,
    /// As computed.
    pub(crate) form: Form,
    bias: Option<VectorAt>,
    input_norm: Option<VectorAt>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    attn_norm: VectorAt,
    attn_sub_norm: Option<VectorAt>,
    q_norm: Option<VectorAt>,
    k_norm: Option<VectorAt>,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    ffn_norm: VectorAt,
    ffn_sub_norm: Option<VectorAt>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// All weights of a model.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embed: MatrixAt,
    pub(crate) layers: Box<[Layer]>,
    pub(crate) norm: VectorAt,
    pub(crate) head: Linear,
}

/// A [`Linear`] with its weights in sight.
#[derive(Clone, Copy)]
pub(crate) struct LinearRef<'a> {
    pub(crate) matrix: MatrixRef<'a>,
    /// The matrix holds the transpose: its rows are the inputs.
    pub(crate) transposed: bool,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) input_norm: Option<&'a [f32]>,
    pub(crate) form: Form,
}

/// A [`Layer`] with its weights in sight.
pub(crate) struct LayerRef<'a> {
    pub(crate) attn_norm: &'a [f32],
    pub(crate) attn_sub_norm: Option<&'a [f32]>,
    pub(crate) q_norm: Option<&'a [f32]>,
    pub(crate) k_norm: Option<&'a [f32]>,
    pub(crate) q: LinearRef<'a>,
    pub(crate) k: LinearRef<'a>,
    pub(crate) v: LinearRef<'a>,
    pub(crate) o: LinearRef<'a>,
    pub(crate) ffn_norm: &'a [f32],
    pub(crate) ffn_sub_norm: Option<&'a [f32]>,
    pub(crate) gate: LinearRef<'a>,
    pub(crate) up: LinearRef<'a>,
    pub(crate) down: LinearRef<'a>,
}

impl Weights {
    /// Finds every tensor that `spec` asks for, checks shapes, and refuses tensors that have no place.
    pub(crate) fn find(file: &PackedFile, spec: &ModelSpec) -> Result<Self, ModelError> {
        let mut checker = Checker::new(file);
        let embed = checker.matrix("embed", spec.vocab, spec.hidden)?;
        let layers = (0..spec.layers)
            .map(|i| Layer::find(&mut checker, spec, i))
            .collect::<Result<_, _>>()?;
        let norm = checker.vector("norm", spec.hidden)?;
        let (matrix, activation) = if spec.tied_head {
            embed.clone()
        } else {
            checker.matrix("head", spec.vocab, spec.hidden)?
        };
        checker.finish()?;
        let mut weights = Self {
            embed: embed.0,
            layers,
            norm,
            head: Linear::new(matrix, activation, None, None),
        };
        weights.choose(spec, false)?;
        Ok(weights)
    }

    /// Decides what the inputs of each linear are turned into: as trained, or int8 by groups in place of floats where `int8` says
    /// so and the weights are ternary or binary.
    pub(crate) fn choose(&mut self, spec: &ModelSpec, int8: bool) -> Result<(), ModelError> {
        self.head.choose(int8);
        for layer in &mut self.layers {
            let linears = layer.linears_mut();
            linears.into_iter().for_each(|linear| linear.choose(int8));
        }
        if spec.input_norm_eps.is_some() {
            return Ok(());
        }
        for (index, layer) in self.layers.iter().enumerate() {
            let forms = |linears: &[&Linear]| linears.iter().map(|linear| linear.form).collect();
            let groups: [(&str, Vec<Form>); 2] = [
                ("q, k and v", forms(&[&layer.q, &layer.k, &layer.v])),
                ("gate and up", forms(&[&layer.gate, &layer.up])),
            ];
            if let Some((linears, _)) = groups.iter().find(|(_, forms)| !Forms::agree(forms)) {
                return Err(ModelError::Inputs {
                    layer: index,
                    linears,
                });
            }
        }
        Ok(())
    }

    /// The bytes of final norm and head.
    pub(crate) fn head_ranges(&self) -> Vec<Range<usize>> {
        let mut ranges = vec![self.norm.0.clone()];
        self.head.add_ranges(&mut ranges);
        ranges
    }

    /// How the linears of the layers were trained.
    pub(crate) fn trained(&self) -> impl Iterator<Item = (ActivationMode, Layout)> {
        let linears = self.layers.iter().flat_map(Layer::linears);
        linears.map(|linear| (linear.activation, linear.matrix.layout))
    }

    /// All linears, the head last.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear> {
        let layers = self.layers.iter().flat_map(Layer::linears);
        layers.chain([&self.head])
    }

    /// All forms in which linears take their inputs.
    pub(crate) fn input_forms(&self) -> InputForms {
        InputForms::of(self.linears().map(|linear| linear.form))
    }
}

impl Linear {
    /// As trained.
    fn new(
        matrix: MatrixAt,
        activation: ActivationMode,
        bias: Option<VectorAt>,
        input_norm: Option<VectorAt>,
    ) -> Self {
        let mut linear = Self {
            matrix,
            transposed: false,
            activation,
            form: Form::Floats,
            bias,
            input_norm,
        };
        linear.choose(false);
        linear
    }

    fn choose(&mut self, int8: bool) {
        let form = Form::of(self.matrix.layout, self.activation, int8);
        self.form = form.expect("checked at opening");
    }

    /// A linear of a layer, with the bias and the input norm that the spec asks for.
    fn find(
        checker: &mut Checker<'_>,
        spec: &ModelSpec,
        name: &str,
        [rows, cols]: [usize; 2],
        bias: bool,
    ) -> Result<Self, ModelError> {
        let (matrix, activation, transposed) = checker.linear(name, rows, cols)?;
        let bias = checker.vector_if(bias, &format!("{name}.bias"), rows)?;
        // Linears that quantization leaves dense have no norm of their own.
        let own_norm = spec.input_norm_eps.is_some() && !matrix.layout.is_float();
        let input_norm = checker.vector_if(own_norm, &format!("{name}.input_norm"), cols)?;
        Ok(Self {
            transposed,
            ..Self::new(matrix, activation, bias, input_norm)
        })
    }

    fn add_ranges(&self, ranges: &mut Vec<Range<usize>>) {
        ranges.extend(self.matrix.ranges());
        let vectors = [&self.bias, &self.input_norm];
        ranges.extend(vectors.into_iter().flatten().map(|vector| vector.0.clone()));
    }

    /// The weights themselves.
    pub(crate) fn resolve<'a>(&self, file: &'a PackedFile) -> LinearRef<'a> {
        LinearRef {
            matrix: self.matrix.resolve(file),
            transposed: self.transposed,
            form: self.form,
            bias: optional(file, &self.bias),
            input_norm: optional(file, &self.input_norm),
        }
    }
}

impl Layer {
    fn find(checker: &mut Checker<'_>, spec: &ModelSpec, index: usize) -> Result<Self, ModelError> {
        let name = |part: &str| format!("layers.{index}.{part}");
        let (hidden, ffn, q, kv) = (spec.hidden, spec.ffn, spec.q_width(), spec.kv_width());
        let o_bias = spec.attn_bias && checker.has(&name("o.bias"));
        let (attn_bias, mlp_bias) = (spec.attn_bias, spec.mlp_bias);
        Ok(Self {
            attn_norm: checker.vector(&name("attn_norm"), hidden)?,
            q: Linear::find(checker, spec, &name("q"), [q, hidden], attn_bias)?,
            k: Linear::find(checker, spec, &name("k"), [kv, hidden], attn_bias)?,
            v: Linear::find(checker, spec, &name("v"), [kv, hidden], attn_bias)?,
            q_norm: checker.vector_if(spec.qk_norm, &name("q_norm"), spec.head_dim)?,
            k_norm: checker.vector_if(spec.qk_norm, &name("k_norm"), spec.head_dim)?,
            attn_sub_norm: checker.vector_if(spec.attn_sub_norm, &name("attn_sub_norm"), q)?,
            o: Linear::find(checker, spec, &name("o"), [hidden, q], o_bias)?,
            ffn_norm: checker.vector(&name("ffn_norm"), hidden)?,
            gate: Linear::find(checker, spec, &name("gate"), [ffn, hidden], mlp_bias)?,
            up: Linear::find(checker, spec, &name("up"), [ffn, hidden], mlp_bias)?,
            ffn_sub_norm: checker.vector_if(spec.ffn_sub_norm, &name("ffn_sub_norm"), ffn)?,
            down: Linear::find(checker, spec, &name("down"), [hidden, ffn], mlp_bias)?,
        })
    }

    /// The bytes of all tensors of the layer, in no order.
    pub(crate) fn ranges(&self) -> Vec<Range<usize>> {
        let mut ranges = vec![self.attn_norm.0.clone(), self.ffn_norm.0.clone()];
        let norms = [
            &self.attn_sub_norm,
            &self.q_norm,
            &self.k_norm,
            &self.ffn_sub_norm,
        ];
        ranges.extend(norms.into_iter().flatten().map(|norm| norm.0.clone()));
        for linear in self.linears() {
            linear.add_ranges(&mut ranges);
        }
        ranges
    }

    fn linears(&self) -> [&Linear; 7] {
        [
            &self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down,
        ]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 7] {
        [
            &mut self.q,
            &mut self.k,
            &mut self.v,
            &mut self.o,
            &mut self.gate,
            &mut self.up,
            &mut self.down,
        ]
    }

    /// The weights themselves.
    pub(crate) fn resolve<'a>(&self, file: &'a PackedFile) -> LayerRef<'a> {
        LayerRef {
            attn_norm: self.attn_norm.resolve(file),
            attn_sub_norm: optional(file, &self.attn_sub_norm),
            q_norm: optional(file, &self.q_norm),
            k_norm: optional(file, &self.k_norm),
            q: self.q.resolve(file),
            k: self.k.resolve(file),
            v: self.v.resolve(file),
            o: self.o.resolve(file),
            ffn_norm: self.ffn_norm.resolve(file),
            ffn_sub_norm: optional(file, &self.ffn_sub_norm),
            gate: self.gate.resolve(file),
            up: self.up.resolve(file),
            down: self.down.resolve(file),
        }
    }
}

fn optional<'a>(file: &'a PackedFile, vector: &Option<VectorAt>) -> Option<&'a [f32]> {
    vector.as_ref().map(|vector| vector.resolve(file))
}

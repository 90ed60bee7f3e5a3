//! The tensors of a shape, and how they are stored.

use onebit_format::{ActivationMode, Layout, Plan, SIGN_GROUP};
use onebit_model::{ModelSpec, binary_layout, ternary_layout};

/// How the matrices of a model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Layout of the decoder's matrices. [`Layout::T5`] stands for both layouts of five codes to a byte: each matrix is stored in the
    /// [smaller](Layout::dense), or in `T5` where its rows are read one by one. [`Layout::T2`] and [`Layout::B1`] stand for two
    /// layouts each: a matrix is stored in the one for its scales and what it was trained with ([`ternary_layout`],
    /// [`binary_layout`]), and in `T2` where its rows are read one by one, or it is transposed.
    pub linear: Layout,
    /// Layout of embedding and head, where [`Layout::T2`] and [`Layout::B1`] mean the same.
    pub table: Layout,
    /// What the decoder's ternary and binary matrices with one scale were trained with.
    pub trained: ActivationMode,
    /// Whether ternary and binary matrices have group scales and take inputs trained as floats.
    pub grouped: bool,
    /// Whether down projections are stored transposed, as [`Layout::T2`].
    pub by_columns: bool,
    /// Whether rows of up projections are left out one by one, where their gate is zero.
    pub sparse_up: bool,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeTensor {
    /// Its name in a packed file.
    pub name: String,
    /// What it holds.
    pub shape: TensorShape,
}

/// What a tensor holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorShape {
    /// Numbers of type `f32`.
    Vector(usize),
    /// A matrix: outputs and inputs of its linear map, however it is stored.
    Matrix {
        /// Outputs, or entries of the vocabulary.
        rows: usize,
        /// Inputs.
        cols: usize,
    },
}

/// How one matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its layout.
    pub layout: Layout,
    /// Whether it has group scales by choice.
    pub grouped: bool,
    /// Whether its rows are inputs.
    pub transposed: bool,
    /// What its inputs were turned into in training.
    pub activation: ActivationMode,
}

impl Encoding {
    /// How the matrix `name`, of `rows` outputs and `cols` inputs, is stored.
    pub fn stored(&self, name: &str, rows: usize, cols: usize) -> Stored {
        let by_row = self.sparse_up && name.ends_with(".up");
        let transposed = self.by_columns && name.ends_with(".down");
        let table = matches!(name, "embed" | "head");
        let layout = match name {
            _ if table => self.table,
            _ if transposed => Layout::T2,
            _ if self.linear == Layout::T5 && !by_row => Layout::dense(rows, cols),
            _ => self.linear,
        };
        let signs = layout.is_ternary() || layout.is_binary();
        let by_group = layout.group() == Some(SIGN_GROUP);
        let grouped = self.grouped && !transposed && by_group;
        let activation = match grouped || layout.is_float() {
            true => ActivationMode::F32,
            false if signs && !table => self.trained,
            false => ActivationMode::I8Token,
        };
        let layout = match layout {
            Layout::T2 if !transposed && !by_row => ternary_layout(activation, grouped),
            Layout::B1 => binary_layout(activation),
            layout => layout,
        };
        Stored {
            layout,
            grouped,
            transposed,
            activation,
        }
    }

    /// Adds a tensor to the plan of a file.
    pub fn add(&self, plan: &mut Plan, tensor: &ShapeTensor) {
        let name = tensor.name.as_str();
        let (rows, cols) = match tensor.shape {
            TensorShape::Vector(len) => {
                plan.vector(name, len);
                return;
            }
            TensorShape::Matrix { rows, cols } => (rows, cols),
        };
        let stored = self.stored(name, rows, cols);
        let (layout, activation) = (stored.layout, stored.activation);
        if stored.transposed {
            plan.transposed_matrix(name, cols, rows, activation);
        } else if stored.grouped {
            plan.grouped_matrix(name, layout, rows, cols, activation);
        } else {
            plan.matrix(name, layout, rows, cols, activation);
        }
    }
}

impl ShapeTensor {
    /// All tensors of a model without biases and input norms, in execution order.
    pub fn all(spec: &ModelSpec) -> Vec<Self> {
        let (hidden, ffn, q, kv) = (spec.hidden, spec.ffn, spec.q_width(), spec.kv_width());
        let tensor = |name: String, shape| Self { name, shape };
        let mut all = vec![tensor(
            "embed".into(),
            TensorShape::matrix(spec.vocab, hidden),
        )];
        for layer in 0..spec.layers {
            use TensorShape as T;
            let parts = [
                (true, "attn_norm", T::Vector(hidden)),
                (true, "q", T::matrix(q, hidden)),
                (true, "k", T::matrix(kv, hidden)),
                (true, "v", T::matrix(kv, hidden)),
                (spec.qk_norm, "q_norm", T::Vector(spec.head_dim)),
                (spec.qk_norm, "k_norm", T::Vector(spec.head_dim)),
                (spec.attn_sub_norm, "attn_sub_norm", T::Vector(q)),
                (true, "o", T::matrix(hidden, q)),
                (true, "ffn_norm", T::Vector(hidden)),
                (true, "gate", T::matrix(ffn, hidden)),
                (true, "up", T::matrix(ffn, hidden)),
                (spec.ffn_sub_norm, "ffn_sub_norm", T::Vector(ffn)),
                (true, "down", T::matrix(hidden, ffn)),
            ];
            let present = parts.into_iter().filter(|(present, ..)| *present);
            all.extend(
                present.map(|(_, part, shape)| tensor(format!("layers.{layer}.{part}"), shape)),
            );
        }
        all.push(tensor("norm".into(), TensorShape::Vector(hidden)));
        if !spec.tied_head {
            all.push(tensor(
                "head".into(),
                TensorShape::matrix(spec.vocab, hidden),
            ));
        }
        all
    }
}

impl TensorShape {
    fn matrix(rows: usize, cols: usize) -> Self {
        Self::Matrix { rows, cols }
    }
}

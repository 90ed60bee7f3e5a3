//! What the inputs of linears are turned into: as the model was trained, or, where it was trained with floats and its
//! weights are ternary or binary, with less than floats if the user agrees.

use onebit_format::{ActivationMode, Layout};

/// Arithmetic of the activations; see [`Model::with_activations`](crate::Model::with_activations).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// As trained, but int8 per group of 128 columns where ternary or binary weights were trained with floats: faster, and
    /// close.
    #[default]
    Auto,
    /// As trained: floats where the model was trained with floats.
    F32,
    /// Int8: as trained, or per group of 128 columns as in [`Auto`](Self::Auto).
    Int8,
}

impl Activations {
    /// The name people type on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Int8 => "int8",
        }
    }
}

/// The layout of binary weights that the kernels multiply fastest with inputs as `trained`: signs are compared with the bits of
/// one row, bytes and floats need rows side by side.
pub fn binary_layout(trained: ActivationMode) -> Layout {
    match trained {
        ActivationMode::SignToken => Layout::B1,
        _ => Layout::B1R64,
    }
}

/// The layout of ternary weights that the kernels multiply fastest: rows side by side where sums of groups of columns are
/// scaled one by one, because the weights have scales by group, or inputs trained as floats may be quantized so.
pub fn ternary_layout(trained: ActivationMode, grouped: bool) -> Layout {
    match grouped || trained == ActivationMode::F32 {
        true => Layout::T2R16,
        false => Layout::T2,
    }
}

/// What one linear's inputs are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing.
    Floats,
    /// Signs, a bit each.
    Bits,
    /// Bytes.
    Codes(Codes),
}

/// What the bytes of a quantized input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codes {
    /// Int8 with one scale per token.
    I8Token,
    /// Int8 with a scale per token and group of 128 columns.
    I8Groups,
    /// -1 and 1 with one scale per token.
    Sign,
    /// -1, 0 and 1 with one scale per token.
    Ternary,
}

impl Form {
    /// How `layout` is multiplied with inputs as `trained`; `None` where no kernel does it. `int8` says whether int8 per group may
    /// stand for floats.
    pub(crate) fn of(layout: Layout, trained: ActivationMode, int8: bool) -> Option<Self> {
        let signs = matches!(layout, Layout::T2 | Layout::T2R16) || layout.is_binary();
        match trained {
            ActivationMode::F32 if int8 && signs => Some(Self::Codes(Codes::I8Groups)),
            ActivationMode::F32 => Some(Self::Floats),
            _ if layout.is_float() => None,
            ActivationMode::I8Token => Some(Self::Codes(Codes::I8Token)),
            ActivationMode::SignToken if layout == Layout::B1 => Some(Self::Bits),
            ActivationMode::SignToken => Some(Self::Codes(Codes::Sign)),
            ActivationMode::TernaryToken => Some(Self::Codes(Codes::Ternary)),
            _ => None,
        }
    }

    /// The bytes that the input is, or would be where bits are stored.
    fn codes(self) -> Option<Codes> {
        match self {
            Self::Floats => None,
            Self::Bits => Some(Codes::Sign),
            Self::Codes(codes) => Some(codes),
        }
    }
}

/// The forms in which several linears need one input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forms {
    pub(crate) floats: bool,
    pub(crate) bits: bool,
    pub(crate) codes: Option<Codes>,
}

impl Forms {
    /// Floats alone.
    pub(crate) const FLOATS: Self = Self {
        floats: true,
        bits: false,
        codes: None,
    };

    /// Those of linears that [agree](Self::agree).
    pub(crate) fn of(forms: impl IntoIterator<Item = Form>) -> Self {
        forms
            .into_iter()
            .fold(Self::default(), |all, form| match form {
                Form::Floats => Self {
                    floats: true,
                    ..all
                },
                Form::Bits => Self { bits: true, ..all },
                Form::Codes(codes) => Self {
                    codes: Some(codes),
                    ..all
                },
            })
    }

    /// Whether linears can read one input: all that quantize it do it in the same way.
    pub(crate) fn agree(forms: &[Form]) -> bool {
        let mut codes = forms.iter().filter_map(|form| form.codes());
        let first = codes.next();
        codes.all(|codes| Some(codes) == first)
    }
}

/// The forms in which the linears of a model need their inputs: what room a [`Workspace`](crate::Workspace) has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputForms {
    /// `f32`.
    pub floats: bool,
    /// Bytes.
    pub codes: bool,
    /// Multipliers per group of 128 bytes.
    pub groups: bool,
    /// Bits.
    pub bits: bool,
}

impl InputForms {
    /// Those of linears of these layouts, trained with these modes; `None` where no kernel multiplies one of them.
    pub fn of_linears(
        linears: impl IntoIterator<Item = (Layout, ActivationMode)>,
        activations: Activations,
    ) -> Option<Self> {
        let int8 = activations != Activations::F32;
        let forms = linears.into_iter();
        let forms = forms.map(|(layout, mode)| Form::of(layout, mode, int8));
        Some(Self::of(forms.collect::<Option<Vec<_>>>()?))
    }

    pub(crate) fn of(forms: impl IntoIterator<Item = Form>) -> Self {
        let mut all = Self::default();
        for form in forms {
            match form {
                Form::Floats => all.floats = true,
                Form::Bits => all.bits = true,
                Form::Codes(codes) => {
                    all.codes = true;
                    all.groups |= codes == Codes::I8Groups;
                }
            }
        }
        all
    }

    /// The same with floats.
    pub(crate) fn with_floats(self) -> Self {
        Self {
            floats: true,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_never_quantized_unless_trained_so_or_asked_for() {
        use ActivationMode as A;
        let of = |layout, mode| (Form::of(layout, mode, false), Form::of(layout, mode, true));
        let same = |form| (Some(form), Some(form));
        assert_eq!(of(Layout::F16, A::F32), same(Form::Floats));
        assert_eq!(of(Layout::I8, A::F32), same(Form::Floats));
        assert_eq!(of(Layout::B1, A::SignToken), same(Form::Bits));
        assert_eq!(of(Layout::T5, A::F32), same(Form::Floats));
        assert_eq!(of(Layout::T5R5, A::F32), same(Form::Floats));
        assert_eq!(of(Layout::T2, A::SignToken), same(Form::Codes(Codes::Sign)));
        assert_eq!(
            of(Layout::B1, A::I8Token),
            same(Form::Codes(Codes::I8Token))
        );
        assert_eq!(
            of(Layout::B1R64, A::SignToken),
            same(Form::Codes(Codes::Sign))
        );
        for layout in [Layout::T2, Layout::T2R16, Layout::B1, Layout::B1R64] {
            let groups = Form::Codes(Codes::I8Groups);
            assert_eq!(of(layout, A::F32), (Some(Form::Floats), Some(groups)));
        }
        for mode in [A::I8Token, A::SignToken, A::TernaryToken] {
            assert_eq!(of(Layout::BF16, mode), (None, None));
        }
    }

    #[test]
    fn only_signs_are_compared_bit_by_bit() {
        use ActivationMode as A;
        for mode in [A::F32, A::I8Token, A::SignToken, A::TernaryToken] {
            let form = Form::of(binary_layout(mode), mode, true);
            assert!(form.is_some_and(|form| (form == Form::Bits) == (mode == A::SignToken)));
        }
    }

    #[test]
    fn one_input_is_quantized_in_one_way() {
        let codes = Form::Codes;
        assert!(Forms::agree(&[
            Form::Floats,
            codes(Codes::I8Groups),
            Form::Floats
        ]));
        assert!(Forms::agree(&[Form::Bits, codes(Codes::Sign)]));
        assert!(!Forms::agree(&[
            codes(Codes::I8Token),
            codes(Codes::I8Groups)
        ]));
        assert!(!Forms::agree(&[
            Form::Bits,
            Form::Floats,
            codes(Codes::Ternary)
        ]));
    }
}

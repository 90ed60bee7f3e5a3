//! What a model's publisher recommends, merged with what the user asks for.

use onebit_format::GenerationDefaults;

use crate::sampling::SamplingOptions;
use crate::tokenizer::Tokenizer;

/// What the user asks for; the rest is up to the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingOverrides {
    /// See [`SamplingOptions::temperature`].
    pub temperature: Option<f32>,
    /// See [`SamplingOptions::top_k`].
    pub top_k: Option<usize>,
    /// See [`SamplingOptions::top_p`].
    pub top_p: Option<f32>,
    /// See [`SamplingOptions::min_p`].
    pub min_p: Option<f32>,
    /// See [`SamplingOptions::repetition_penalty`].
    pub repetition_penalty: Option<f32>,
    /// See [`SamplingOptions::repetition_window`].
    pub repetition_window: Option<usize>,
}

impl SamplingOverrides {
    /// The user's choice, else the model's, else the program's; a model that says not to sample is
    /// greedy until the user sets a temperature.
    pub fn resolve(&self, model: &GenerationDefaults, seed: u64) -> SamplingOptions {
        let program = SamplingOptions::default();
        let greedy = (model.do_sample == Some(false)).then_some(0.0);
        let temperature = self.temperature.or(greedy).or(model.temperature);
        let top_k = self.top_k.or(model.top_k.map(|k| k as usize));
        let penalty = self.repetition_penalty.or(model.repetition_penalty);
        SamplingOptions {
            temperature: temperature.unwrap_or(program.temperature),
            top_k: top_k.unwrap_or(program.top_k),
            top_p: self.top_p.or(model.top_p).unwrap_or(program.top_p),
            min_p: self.min_p.or(model.min_p).unwrap_or(program.min_p),
            repetition_penalty: penalty.unwrap_or(program.repetition_penalty),
            repetition_window: self.repetition_window.unwrap_or(program.repetition_window),
            seed,
        }
    }
}

/// The tokens that end a text: the model's, else the tokenizer's `eos_token`.
pub fn eos_tokens(model: &GenerationDefaults, tokenizer: Option<&Tokenizer>) -> Vec<u32> {
    if !model.eos.is_empty() {
        return model.eos.clone();
    }
    tokenizer
        .and_then(|tokenizer| tokenizer.role("eos_token"))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_comes_first_then_the_model() {
        let model = GenerationDefaults {
            temperature: Some(0.6),
            top_k: Some(20),
            do_sample: Some(true),
            ..Default::default()
        };
        let user = SamplingOverrides {
            top_k: Some(5),
            min_p: Some(0.0),
            ..Default::default()
        };
        let options = user.resolve(&model, 3);
        let expected = SamplingOptions {
            temperature: 0.6,
            top_k: 5,
            min_p: 0.0,
            seed: 3,
            ..SamplingOptions::default()
        };
        assert_eq!(options, expected);
        let none = SamplingOverrides::default();
        assert_eq!(
            none.resolve(&GenerationDefaults::default(), 0),
            SamplingOptions::default()
        );
    }

    #[test]
    fn models_that_do_not_sample_are_greedy() {
        let model = GenerationDefaults {
            do_sample: Some(false),
            temperature: Some(0.7),
            ..Default::default()
        };
        assert_eq!(
            SamplingOverrides::default().resolve(&model, 0).temperature,
            0.0
        );
        let user = SamplingOverrides {
            temperature: Some(1.0),
            ..Default::default()
        };
        assert_eq!(user.resolve(&model, 0).temperature, 1.0);
    }

    #[test]
    fn the_model_knows_what_ends_a_text() {
        let model = GenerationDefaults {
            eos: vec![7, 9],
            ..Default::default()
        };
        assert_eq!(eos_tokens(&model, None), [7, 9]);
        assert!(eos_tokens(&GenerationDefaults::default(), None).is_empty());
    }
}

//! Flags that decide how tokens are chosen and when to stop.

use clap::Args;

/// Flags that decide how tokens are chosen and when to stop. What is left out comes from the model's
/// generation defaults, else from the values named in the help.
#[derive(Clone, Debug, Args)]
pub struct SamplingArgs {
    /// Tokens to generate; -1 until the end
    #[arg(
        short = 'n', long, aliases = ["n-predict"], value_name = "N", default_value = "128", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..), help_heading = "Sampling"
    )]
    pub predict: i64,
    /// Seed of the random numbers; -1 takes a new one and prints it
    #[arg(
        long, value_name = "N", default_value = "-1", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..), help_heading = "Sampling"
    )]
    pub seed: i64,
    /// Temperature; 0 always takes the likeliest token [default: the model's, else 0.8]
    #[arg(long, value_name = "T", value_parser = non_negative, help_heading = "Sampling")]
    pub temp: Option<f32>,
    /// Choose among the K likeliest tokens; 0 is all [default: the model's, else 40]
    #[arg(long, value_name = "K", help_heading = "Sampling")]
    pub top_k: Option<usize>,
    /// Choose among the likeliest tokens that together have probability P [default: the model's, else 0.95]
    #[arg(long, value_name = "P", value_parser = share, help_heading = "Sampling")]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than P times the likeliest [default: the model's, else 0.05]
    #[arg(long, value_name = "P", value_parser = share, help_heading = "Sampling")]
    pub min_p: Option<f32>,
    /// Make tokens seen before less likely; 1 is off [default: the model's, else 1.0]
    #[arg(long, value_name = "X", value_parser = above_zero, help_heading = "Sampling")]
    pub repeat_penalty: Option<f32>,
    /// How many of the last tokens the penalty looks at; 0 is off, -1 is all
    #[arg(
        long, value_name = "N", default_value = "64", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(-1..), help_heading = "Sampling"
    )]
    pub repeat_last_n: i64,
    /// Stop before this text (repeatable)
    #[arg(
        short = 'r',
        long,
        alias = "reverse-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Sampling"
    )]
    pub stop: Vec<String>,
    /// Go on after the model's end token
    #[arg(long, help_heading = "Sampling")]
    pub ignore_eos: bool,
}

fn number(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|x: &f32| x.is_finite())
        .ok_or_else(|| "not a finite number".to_owned())
}

fn non_negative(text: &str) -> Result<f32, String> {
    number(text).and_then(|x| {
        if x >= 0.0 {
            Ok(x)
        } else {
            Err("must not be negative".to_owned())
        }
    })
}

fn above_zero(text: &str) -> Result<f32, String> {
    number(text).and_then(|x| {
        if x > 0.0 {
            Ok(x)
        } else {
            Err("must be above 0".to_owned())
        }
    })
}

fn share(text: &str) -> Result<f32, String> {
    number(text).and_then(|x| {
        if (0.0..=1.0).contains(&x) {
            Ok(x)
        } else {
            Err("must lie in 0..1".to_owned())
        }
    })
}

//! Decoder for 1-bit, ternary and dense language models: configured by data, one forward pass for many sequences

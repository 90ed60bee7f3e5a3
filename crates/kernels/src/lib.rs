//! Exact integer kernels for 1-bit and ternary weights, chosen at run time and bit-identical on every CPU

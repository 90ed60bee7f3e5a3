//! Packed 1-bit and ternary weights: layouts, packing, and the memory-mapped model file

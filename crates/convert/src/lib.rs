//! Converts Hugging Face safetensors checkpoints into packed onebit files

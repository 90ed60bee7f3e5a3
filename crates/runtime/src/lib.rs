//! Sessions, thread pool, tokenizer, chat templates, sampling and memory accounting for onebit models

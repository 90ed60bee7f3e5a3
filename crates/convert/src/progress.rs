//! Being told how far a conversion is.

/// Hears about a conversion's progress. `()` hears nothing.
pub trait Progress {
    /// The conversion is about to read `bytes` bytes of `tensors` tensors.
    fn begin(&mut self, tensors: usize, bytes: u64) {
        let _ = (tensors, bytes);
    }

    /// `bytes` more bytes of the tensor that becomes `tensor` are done.
    fn advance(&mut self, tensor: &str, bytes: u64) {
        let _ = (tensor, bytes);
    }

    /// The packed file is about to be compared with its source over `tokens` tokens, which reads `bytes` bytes;
    /// [`advance`](Self::advance) counts them.
    fn begin_verify(&mut self, tokens: usize, bytes: u64) {
        let _ = (tokens, bytes);
    }

    /// Whether to give up; asked after every [`advance`](Self::advance).
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {}

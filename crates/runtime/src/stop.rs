//! Stop strings, wherever the borders of tokens fall.

use crate::error::RuntimeError;

/// Cuts a stream of text before the first of some stop strings.
///
/// The stream ends as soon as any stop string is complete in it; of several that are complete at
/// the same character, the longest counts. Text that could be the beginning of a stop string is held
/// back until it is clear. The result does not depend on how the text is cut into pieces.
///
/// ```
/// use onebit_runtime::StopStrings;
///
/// let mut stop = StopStrings::new(["\nUser:"])?;
/// assert_eq!(stop.push("Hello\nUs"), ("Hello".to_owned(), false));
/// assert_eq!(stop.push("er: and more"), (String::new(), true));
/// # Ok::<(), onebit_runtime::RuntimeError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    /// A stream that ends at any of `stops`.
    ///
    /// # Errors
    /// [`RuntimeError::EmptyStop`] where one is empty.
    pub fn new<S: Into<String>>(stops: impl IntoIterator<Item = S>) -> Result<Self, RuntimeError> {
        let stops: Vec<String> = stops.into_iter().map(Into::into).collect();
        if stops.iter().any(String::is_empty) {
            return Err(RuntimeError::EmptyStop);
        }
        Ok(Self {
            stops,
            held: String::new(),
        })
    }

    /// Takes more text. Returns what can be passed on, and whether the stream has ended.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(start) = self.first_match() {
            self.held.truncate(start);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.held.len() - self.possible_start();
        let rest = self.held.split_off(keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Returns what is held back: no more text will come.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the stop string begins that is complete first.
    fn first_match(&self) -> Option<usize> {
        let matches = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        });
        matches.min().map(|(_, start)| start)
    }

    /// Length of the longest end of the held text that a stop string begins with.
    fn possible_start(&self) -> usize {
        let longest = |stop: &String| {
            let mut ends = (1..stop.len())
                .rev()
                .filter(|&len| stop.is_char_boundary(len));
            ends.find(|&len| self.held.ends_with(&stop[..len]))
                .unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

//! Changing bytes in the ways in which files break and people lie, the same ways every time.

/// What a parser of JSON, of templates or of numbers may stumble over.
const WORDS: &[&str] = &[
    "null",
    "-1",
    "0",
    "1e30",
    "1e999",
    "-0.0",
    "NaN",
    "18446744073709551615",
    "18446744073709551616",
    "4294967296",
    "\"\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"../x\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":",
    "true",
    "\u{feff}",
    "\r\n",
    "\\",
    "}",
    "]",
    ",",
    ":",
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "|",
    "~",
    "*",
    "for",
    "endfor",
    "range(100000)",
    "namespace()",
];
/// Numbers that lengths are compared with.
const LENGTHS: &[u64] = &[
    0,
    1,
    8,
    63,
    64,
    1 << 20,
    100_000_000,
    1 << 31,
    1 << 32,
    1 << 63,
    u64::MAX - 8,
    u64::MAX,
];
/// Longest input made.
const MAX_LEN: usize = 400_000;

/// A source of changes that looks random and is the same every time.
pub(crate) struct Changes(u64);

impl Changes {
    /// The changes of this name.
    pub(crate) fn new(name: &str) -> Self {
        let mix = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    /// `seed`, changed in one to four ways; `others` are what it may be mixed with.
    pub(crate) fn of(&mut self, seed: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            self.once(&mut bytes, others);
        }
        bytes.truncate(MAX_LEN);
        bytes
    }

    fn once(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.place(bytes.len());
        let end = at + self.below(64).min(bytes.len() - at);
        match self.below(9) {
            0 => bytes.truncate(at),
            1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            2 if !bytes.is_empty() => bytes[at] = self.next() as u8,
            3 => drop(bytes.drain(at..end)),
            4 => {
                let word = WORDS[self.below(WORDS.len())];
                drop(bytes.splice(at..at, word.bytes()));
            }
            // In place of a number or a word.
            5 => {
                let word = WORDS[self.below(WORDS.len())];
                let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
                let len = bytes[at..].iter().take_while(|byte| plain(byte)).count();
                drop(bytes.splice(at..at + len, word.bytes()));
            }
            6 => {
                let copy = bytes[at..end].to_vec();
                let to = self.place(bytes.len());
                drop(bytes.splice(to..to, copy));
            }
            7 => {
                let other = &others[self.below(others.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if bytes.len() >= 8 => {
                let length = LENGTHS[self.below(LENGTHS.len())];
                bytes[..8].copy_from_slice(&length.to_le_bytes());
            }
            _ => {}
        }
    }

    /// A place in `len` bytes, more often near the start, where headers are.
    fn place(&mut self, len: usize) -> usize {
        let near = len.min(4096 >> self.below(8));
        let within = if self.below(3) == 0 { len } else { near };
        self.below(within.max(1))
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }
}

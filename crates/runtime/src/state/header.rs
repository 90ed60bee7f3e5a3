//! The fixed part of a state, before its tokens.

use std::io::Read;

use onebit_model::{KvMark, KvOptions, KvType, MAX_POSITIONS};

use super::checked::CHECKSUM_BYTES;
use super::{Label, StateError};
use crate::session::SessionOptions;

/// The first bytes.
const MAGIC: [u8; 8] = *b"1BITKVST";
/// The version of the format.
const VERSION: u32 = 1;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 144;
/// Types of keys and values by their numbers in the file.
const KINDS: [KvType; 6] = [
    KvType::F32,
    KvType::F16,
    KvType::Q8,
    KvType::Q4,
    KvType::Q2,
    KvType::B1,
];

/// What a state says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) model: [u8; 32],
    pub(super) label: Label,
    pub(super) kv: KvOptions,
    pub(super) mark: KvMark,
    pub(super) rows_bytes: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let kind = |kind| {
            let found = KINDS.iter().position(|known| *known == kind);
            found.expect("all types are listed") as u8
        };
        let kv = &self.kv;
        let numbers = [
            kv.sinks,
            kv.recent,
            kv.window.unwrap_or(0),
            self.mark.capacity,
            self.mark.len,
            self.mark.top,
            self.mark.expected,
        ];
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([kind(kv.keys), kind(kv.values), 0, 0]);
        bytes.extend(self.model);
        bytes.extend(self.label);
        bytes.extend(numbers.iter().flat_map(|n| (*n as u64).to_le_bytes()));
        bytes.extend(self.rows_bytes.to_le_bytes());
        bytes.try_into().expect("the fields are all of the header")
    }

    /// Reads the header of a state of `bytes` bytes, and checks that this is the length that follows from it.
    pub(super) fn read(input: &mut impl Read, bytes: u64) -> Result<Self, StateError> {
        let mut start = [0; 16];
        if bytes < start.len() as u64 {
            return Err(StateError::Magic);
        }
        input.read_exact(&mut start).map_err(StateError::Read)?;
        let [magic, rest] = [&start[..8], &start[8..]];
        if magic != MAGIC {
            return Err(StateError::Magic);
        }
        let found = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        if found != VERSION {
            let known = VERSION;
            return Err(StateError::Version { found, known });
        }
        let least = (HEADER_BYTES + CHECKSUM_BYTES) as u64;
        let length = |expected| StateError::Length {
            expected,
            found: bytes,
        };
        if bytes < least {
            return Err(length(least));
        }
        let header = Self::fields(input, [rest[4], rest[5], rest[6], rest[7]])?;
        let tokens = header.mark.len as u64 * 4;
        match least
            .checked_add(tokens)
            .and_then(|sum| sum.checked_add(header.rows_bytes))
        {
            Some(expected) if expected == bytes => Ok(header),
            expected => Err(length(expected.unwrap_or(u64::MAX))),
        }
    }

    fn fields(input: &mut impl Read, kinds: [u8; 4]) -> Result<Self, StateError> {
        let kind = |number: u8| {
            let kind = KINDS.get(usize::from(number)).copied();
            kind.ok_or(StateError::Malformed("type of keys or values"))
        };
        let [keys, values, 0, 0] = kinds else {
            return Err(StateError::Malformed("reserved bytes"));
        };
        let (mut model, mut label) = ([0; 32], [0; 32]);
        input.read_exact(&mut model).map_err(StateError::Read)?;
        input.read_exact(&mut label).map_err(StateError::Read)?;
        let mut number = || {
            let mut bytes = [0; 8];
            input.read_exact(&mut bytes).map_err(StateError::Read)?;
            Ok::<u64, StateError>(u64::from_le_bytes(bytes))
        };
        let size = |number: u64| {
            usize::try_from(number).map_err(|_| StateError::Malformed("size in its header"))
        };
        let (sinks, recent) = (size(number()?)?, size(number()?)?);
        let window = Some(size(number()?)?).filter(|window| *window > 0);
        let position = |number: u64| match size(number)? {
            n if n > 2 * MAX_POSITIONS => Err(StateError::Malformed("number of positions")),
            n => Ok(n),
        };
        let mark = KvMark {
            capacity: position(number()?)?,
            len: position(number()?)?,
            top: position(number()?)?,
            expected: position(number()?)?,
        };
        Ok(Self {
            model,
            label,
            kv: KvOptions {
                sinks,
                recent,
                window,
                ..KvOptions::new(kind(keys)?, kind(values)?)
            },
            mark,
            rows_bytes: number()?,
        })
    }

    pub(super) fn check_model(&self, model: &[u8; 32]) -> Result<(), StateError> {
        match self.model == *model {
            true => Ok(()),
            false => Err(StateError::OtherModel),
        }
    }

    /// Whether a session of these options can go on.
    pub(super) fn check_options(&self, asked: &SessionOptions) -> Result<(), StateError> {
        let window = |options: &KvOptions| {
            let none = || "none".to_owned();
            options.window.map_or_else(none, |n| n.to_string())
        };
        let texts = |kv: &KvOptions| {
            [
                ("--kv-k", kv.keys.name().to_owned()),
                ("--kv-v", kv.values.name().to_owned()),
                ("--sinks", kv.sinks.to_string()),
                ("--kv-recent", kv.recent.to_string()),
                ("--window", window(kv)),
            ]
        };
        for ((what, saved), (_, asked)) in texts(&self.kv).into_iter().zip(texts(&asked.kv)) {
            if saved != asked {
                return Err(StateError::OtherOptions { what, saved, asked });
            }
        }
        let (tokens, context) = (self.mark.len, asked.context);
        match tokens > context {
            true => Err(StateError::Context { tokens, context }),
            false => Ok(()),
        }
    }
}

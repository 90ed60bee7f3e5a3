//! What a GGUF file says of the shape of its model.

use super::models::Dimensions;
use anyhow::{Context, bail, ensure};
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

/// Longest key or name that is read, in bytes.
const MAX_TEXT: u64 = 1 << 16;

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The dimensions in the header of a GGUF file.
///
/// # Errors
/// What is wrong with the header, or which of them it lacks.
pub(super) fn dimensions(path: &Path) -> anyhow::Result<Dimensions> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    Header {
        input: BufReader::new(file),
        length,
    }
    .dimensions()
}

struct Header<R> {
    input: R,
    /// Nothing in the file is longer.
    length: u64,
}

impl<R: Read + Seek> Header<R> {
    fn dimensions(mut self) -> anyhow::Result<Dimensions> {
        ensure!(self.bytes()? == *b"GGUF", "it is no GGUF file");
        let version = self.u32()?;
        ensure!(
            matches!(version, 2 | 3),
            "GGUF version {version} is not known"
        );
        let _tensors = self.u64()?;
        let entries = self.u64()?;
        let mut architecture = None;
        let mut numbers: Vec<(String, u64)> = Vec::new();
        let find = |architecture: &Option<String>, numbers: &[(String, u64)], name: &str| {
            let key = format!("{}.{name}", architecture.as_ref()?);
            let found = numbers.iter().find(|(other, _)| *other == key);
            found.map(|(_, number)| *number)
        };
        for _ in 0..entries {
            let key = self.text()?;
            let kind = self.u32()?;
            if key == "general.architecture" && kind == STRING {
                architecture = Some(self.text()?);
            } else if let Some(number) = self.number(kind)? {
                numbers.push((key, number));
            }
            let find = |name| find(&architecture, &numbers, name);
            if let (Some(hidden), Some(layers), Some(ffn)) = (
                find("embedding_length"),
                find("block_count"),
                find("feed_forward_length"),
            ) {
                return Ok(Dimensions {
                    hidden,
                    layers,
                    ffn,
                });
            }
        }
        bail!("its header lacks the embedding length, block count or feed-forward length")
    }

    /// The next value where it is an unsigned number of 32 or 64 bits; others are passed over.
    fn number(&mut self, kind: u32) -> anyhow::Result<Option<u64>> {
        match kind {
            4 => return Ok(Some(self.u32()?.into())),
            10 => return Ok(Some(self.u64()?)),
            STRING => {
                let length = self.u64()?;
                self.skip(length)?;
            }
            ARRAY => {
                let (of, count) = (self.u32()?, self.u64()?);
                match of {
                    STRING => {
                        for _ in 0..count {
                            let length = self.u64()?;
                            self.skip(length)?;
                        }
                    }
                    _ => self.skip(
                        count
                            .checked_mul(size(of)?)
                            .context("its header is damaged")?,
                    )?,
                }
            }
            _ => self.skip(size(kind)?)?,
        }
        Ok(None)
    }

    fn skip(&mut self, bytes: u64) -> anyhow::Result<()> {
        ensure!(bytes <= self.length, "its header is damaged");
        Ok(self.input.seek_relative(bytes as i64)?)
    }

    fn text(&mut self) -> anyhow::Result<String> {
        let length = self.u64()?;
        ensure!(length <= MAX_TEXT.min(self.length), "its header is damaged");
        let mut bytes = vec![0; length as usize];
        self.input
            .read_exact(&mut bytes)
            .context("its header is cut short")?;
        String::from_utf8(bytes).context("its header is damaged")
    }

    fn u32(&mut self) -> anyhow::Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> anyhow::Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input
            .read_exact(&mut bytes)
            .context("its header is cut short")?;
        Ok(bytes)
    }
}

/// Bytes of a value of a type of one size.
fn size(kind: u32) -> anyhow::Result<u64> {
    Ok(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => bail!("its header has a value of the unknown type {kind}"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Cursor;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        [&text(key)[..], &kind.to_le_bytes(), value].concat()
    }

    /// A header with values of every kind before those that count.
    pub(in crate::bench) fn header(hidden: u32, layers: u32, ffn: u64) -> Vec<u8> {
        let strings = [
            &STRING.to_le_bytes()[..],
            &2u64.to_le_bytes(),
            &text("a"),
            &text(""),
        ];
        let shorts = [&2u32.to_le_bytes()[..], &3u64.to_le_bytes(), &[7; 6]];
        let entries = [
            entry("m.block_count", 4, &layers.to_le_bytes()),
            entry("tokens", ARRAY, &strings.concat()),
            entry("kinds", ARRAY, &shorts.concat()),
            entry("name", STRING, &text("long")),
            entry("flag", 7, &[1]),
            entry("eps", 12, &[0; 8]),
            entry("other.embedding_length", 4, &9u32.to_le_bytes()),
            entry("general.architecture", STRING, &text("m")),
            entry("m.embedding_length", 4, &hidden.to_le_bytes()),
            entry("m.feed_forward_length", 10, &ffn.to_le_bytes()),
        ];
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend((entries.len() as u64).to_le_bytes());
        bytes.extend(entries.concat());
        bytes
    }

    fn read(bytes: &[u8]) -> anyhow::Result<Dimensions> {
        Header {
            length: bytes.len() as u64,
            input: Cursor::new(bytes),
        }
        .dimensions()
    }

    #[test]
    fn dimensions_are_found_among_other_values() {
        let found = read(&header(2560, 30, 6912)).unwrap();
        let expected = Dimensions {
            hidden: 2560,
            layers: 30,
            ffn: 6912,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn damage_is_an_error() {
        let whole = header(1, 2, 3);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            // Whatever it says, it ends, without much memory.
            let _ = read(&bytes);
        }
        let error = read(b"not read").unwrap_err().to_string();
        assert!(error.contains("no GGUF file"), "{error}");
        let mut fewer = whole.clone();
        fewer[16] -= 1;
        let error = read(&fewer).unwrap_err().to_string();
        assert!(error.contains("feed-forward"), "{error}");
    }
}

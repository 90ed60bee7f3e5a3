//! What JSON from outside must keep to before memory is taken for it: the number of values is bounded, no object has a key
//! twice, and no shape is longer than that of a tensor.

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Dimensions that a tensor of a safetensors file may have at most.
const MAX_RANK: usize = 8;

/// Walks a JSON text without keeping it.
///
/// # Errors
/// When `text` is not JSON, nests deeper than 128, has more than `max_values` values, or has an object with a key twice.
pub fn check(text: &[u8], max_values: usize) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let mut values = Values {
        left: max_values,
        max: max_values,
    };
    values.deserialize(&mut json)?;
    json.end()
}

/// How many more values there may be, of how many.
struct Values {
    left: usize,
    max: usize,
}

impl<'de> DeserializeSeed<'de> for &mut Values {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return Err(D::Error::custom(format!("more than {} values", self.max))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Values {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(&mut *self)?;
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format!("key `{key}` is given twice")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(&mut *self)?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// The shape of a tensor in the header of a safetensors file: at most 8 sizes, whatever the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of sizes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sizes: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::new();
        while let Some(size) = sizes.next_element()? {
            if shape.len() == MAX_RANK {
                return Err(A::Error::custom(format!("more than {MAX_RANK} dimensions")));
            }
            shape.push(size);
        }
        Ok(Shape(shape))
    }
}

//! What a JSON text must keep to before memory is taken for its values: their number is bounded, and no object has a
//! key twice.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Values that metadata may have at most: several for each of the tensors a file may have.
const MAX_VALUES: usize = 1 << 21;

/// How many more values there may be.
pub(crate) struct Values(usize);

impl Values {
    /// Fails when `text` is not JSON, has more values than any metadata, or has an object with a key twice.
    pub(crate) fn check(text: &str) -> serde_json::Result<()> {
        let mut left = Self(MAX_VALUES);
        let mut json = serde_json::Deserializer::from_str(text);
        left.deserialize(&mut json)?;
        json.end()
    }
}

impl<'de> DeserializeSeed<'de> for &mut Values {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0.checked_sub(1) {
            Some(left) => self.0 = left,
            None => return Err(D::Error::custom(format!("more than {MAX_VALUES} values"))),
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

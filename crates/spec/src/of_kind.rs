//! Values that only one kind of service understands: its probe, what it provisions, where its scripts run.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

/// A value under the name of the kind that understands it: `{"postgres": {…}}`. Only that kind decodes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfKind {
    pub kind: String,
    pub value: Value,
}

/// Its kind did not write this value: the record is damaged, or of an unknown version.
#[derive(Debug, thiserror::Error)]
#[error("the record of `{kind}` cannot be read")]
pub struct Undecodable {
    pub kind: String,
    #[source]
    pub source: serde_json::Error,
}

impl OfKind {
    /// From the kind's own type, which is plain data.
    pub fn new(kind: &str, value: &impl Serialize) -> Self {
        Self { kind: kind.to_owned(), value: serde_json::to_value(value).expect("a kind's own types are plain data") }
    }

    /// Back into the kind's own type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        T::deserialize(&self.value).map_err(|source| Undecodable { kind: self.kind.clone(), source })
    }
}

impl Serialize for OfKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.kind, &self.value)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for OfKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneEntry;

        impl<'de> Visitor<'de> for OneEntry {
            type Value = OfKind;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value under the name of its kind")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OfKind, A::Error> {
                let (kind, value) = map.next_entry()?.ok_or_else(|| A::Error::custom("the name of a kind is missing"))?;
                match map.next_key::<String>()? {
                    None => Ok(OfKind { kind, value }),
                    Some(second) => Err(A::Error::custom(format!("`{kind}` and `{second}` stand where one kind is expected"))),
                }
            }
        }

        deserializer.deserialize_map(OneEntry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_encoding_is_that_of_an_enum_with_the_kinds_name_as_its_tag() {
        let encoded = json!({ "redis": { "port": 6379, "users": [["app", "+@all", "cache/app"]] } });
        let read: OfKind = serde_json::from_value(encoded.clone()).unwrap();
        assert_eq!(read.kind, "redis");
        assert_eq!(serde_json::to_value(&read).unwrap(), encoded);
    }

    #[test]
    fn nothing_and_two_kinds_are_refused() {
        assert!(serde_json::from_value::<OfKind>(json!({})).is_err());
        assert!(serde_json::from_value::<OfKind>(json!({ "redis": {}, "s3": {} })).is_err());
    }
}

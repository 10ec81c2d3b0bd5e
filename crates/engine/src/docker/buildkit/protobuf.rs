//! The part of the protocol buffers encoding that BuildKit's session needs. Pure; truncated or unknown fields are skipped.

/// A field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Number(number) => number.to_string(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(_) => 0,
        }
    }
}

/// The fields of a message with their numbers, in order.
pub(super) fn fields(message: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut rest = message;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let Some(key) = varint(&mut rest) else { break };
        let value = match key & 7 {
            0 => varint(&mut rest).map(Value::Number),
            1 => take(&mut rest, 8).map(Value::Bytes),
            2 => varint(&mut rest).and_then(|length| take(&mut rest, usize::try_from(length).ok()?)).map(Value::Bytes),
            5 => take(&mut rest, 4).map(Value::Bytes),
            _ => None,
        };
        let Some(value) = value else { break };
        found.push((key >> 3, value));
    }
    found
}

pub(super) fn first(message: &[u8], field: u64) -> Option<Value<'_>> {
    fields(message).into_iter().find(|(number, _)| *number == field).map(|(_, value)| value)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(taken)
}

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// Zero is the default, which is not written.
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
        self
    }

    pub(super) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        if !value.is_empty() {
            self = self.message(field, value);
        }
        self
    }

    /// Written even if it is empty.
    pub(super) fn message(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_message_is_decoded_and_a_truncated_one_is_skipped() {
        let message = Message::default().number(1, 300).bytes(2, b"text").number(3, 0).message(16, b"").0;
        assert_eq!(fields(&message), [(1, Value::Number(300)), (2, Value::Bytes(b"text")), (16, Value::Bytes(b""))]);
        assert_eq!(fields(&message[..5]), [(1, Value::Number(300))]);
        assert_eq!(first(&message, 2).unwrap().text(), "text");
        assert_eq!(fields(&[0xff; 20]), []);
    }
}

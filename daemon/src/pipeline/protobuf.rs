//! The wire format of protobuf, for messages of a few fields: those of TensorBoard and of OpenTelemetry.

/// The value of a field.
pub(crate) enum Field {
    Varint(u64),
    /// `fixed64`.
    Fixed(u64),
    Double(f64),
    Float(f32),
    /// Text, bytes, or another message.
    Bytes(Vec<u8>),
}

impl Field {
    pub(crate) fn text(text: &str) -> Self {
        Self::Bytes(text.into())
    }

    pub(crate) fn message(fields: &[(u32, Self)]) -> Self {
        Self::Bytes(encode(fields))
    }
}

/// A message: its fields by their numbers. A number that stands twice is a repeated field.
pub(crate) fn encode(fields: &[(u32, Field)]) -> Vec<u8> {
    let mut bytes = vec![];
    for (number, field) in fields {
        let wire = match field {
            Field::Varint(_) => 0,
            Field::Fixed(_) | Field::Double(_) => 1,
            Field::Bytes(_) => 2,
            Field::Float(_) => 5,
        };
        varint(u64::from((number << 3) | wire), &mut bytes);
        match field {
            Field::Varint(value) => varint(*value, &mut bytes),
            Field::Fixed(value) => bytes.extend(value.to_le_bytes()),
            Field::Double(value) => bytes.extend(value.to_le_bytes()),
            Field::Float(value) => bytes.extend(value.to_le_bytes()),
            Field::Bytes(value) => {
                varint(value.len() as u64, &mut bytes);
                bytes.extend(value);
            }
        }
    }
    bytes
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_standard() {
        // the examples of protobuf.dev/programming-guides/encoding
        assert_eq!(encode(&[(1, Field::Varint(150))]), [0x08, 0x96, 0x01]);
        assert_eq!(encode(&[(2, Field::text("testing"))]), *b"\x12\x07testing");
        assert_eq!(encode(&[(3, Field::message(&[(1, Field::Varint(150))]))]), [0x1a, 3, 0x08, 0x96, 0x01]);
        assert_eq!(encode(&[(1, Field::Fixed(1))]), [9, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(&[(1, Field::Float(1.0))]), [0x0d, 0, 0, 0x80, 0x3f]);
    }
}

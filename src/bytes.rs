//! The fields of binary formats, read and written from front to back; integers are little-endian.
//!
//! A field begins where the one before it ends, so no offset is stated anywhere. A reader never
//! reads outside of its bytes. The meaning of the fields is left to the formats.

/// The bytes end before the field does. Each format has a `From` that turns it into its own error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooShort;

/// Reads fields from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct ByteReader<'a> {
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    /// A reader that is at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `N` bytes. After [`TooShort`] the reader is where it was; so for all methods.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], TooShort> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(TooShort)?;
        self.rest = rest;
        Ok(*field)
    }

    /// The next `len` bytes.
    pub fn slice(&mut self, len: usize) -> Result<&'a [u8], TooShort> {
        let (field, rest) = self.rest.split_at_checked(len).ok_or(TooShort)?;
        self.rest = rest;
        Ok(field)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, TooShort> {
        self.array().map(|[byte]| byte)
    }

    /// The next 2 bytes.
    pub fn u16(&mut self) -> Result<u16, TooShort> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next 3 bytes.
    pub fn u24(&mut self) -> Result<u32, TooShort> {
        self.array()
            .map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]))
    }

    /// The next 4 bytes.
    pub fn u32(&mut self) -> Result<u32, TooShort> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next 8 bytes.
    pub fn u64(&mut self) -> Result<u64, TooShort> {
        self.array().map(u64::from_le_bytes)
    }

    /// All bytes that were not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Writes fields into a slice from its front; what is not written stays as it was. A field that
/// does not fit is a mistake in the format's own lengths: it panics.
pub struct ByteWriter<'a> {
    rest: &'a mut [u8],
}

impl<'a> ByteWriter<'a> {
    /// A writer that is at the first of `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Writes these bytes.
    pub fn bytes(&mut self, field: &[u8]) -> &mut Self {
        let (to, rest) = std::mem::take(&mut self.rest).split_at_mut(field.len());
        to.copy_from_slice(field);
        self.rest = rest;
        self
    }

    /// Writes the low 3 bytes of `value`.
    pub fn u24(&mut self, value: u32) -> &mut Self {
        let [low, middle, high, _] = value.to_le_bytes();
        self.bytes(&[low, middle, high])
    }

    /// Writes 4 bytes.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Writes 8 bytes.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_the_order_in_which_they_were_written() {
        let mut bytes = [0xee; 22];
        ByteWriter::new(&mut bytes)
            .bytes(&[1, 2, 3, 4])
            .u24(0x0a_0b0c)
            .u32(0x0102_0304)
            .u64(0x1122_3344_5566_7788);
        let expected = [
            1, 2, 3, 4, 0x0c, 0x0b, 0x0a, 4, 3, 2, 1, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xee, 0xee, 0xee,
        ];
        assert_eq!(bytes, expected);
        let mut reader = ByteReader::new(&bytes);
        assert_eq!((reader.u8(), reader.array()), (Ok(1), Ok([2, 3, 4])));
        assert_eq!((reader.u24(), reader.u32()), (Ok(0x0a_0b0c), Ok(0x0102_0304)));
        assert_eq!((reader.u64(), reader.u16()), (Ok(0x1122_3344_5566_7788), Ok(0xeeee)));
        assert_eq!(reader.rest(), [0xee]);
    }

    #[test]
    fn a_reader_refuses_a_field_that_the_bytes_do_not_hold_and_stays_where_it_is() {
        let mut reader = ByteReader::new(&[1, 2]);
        assert_eq!(reader.u24(), Err(TooShort));
        assert_eq!(reader.slice(3), Err(TooShort));
        assert_eq!(reader.slice(usize::MAX), Err(TooShort));
        assert_eq!(reader.slice(2), Ok(&[1, 2][..]));
        assert_eq!((reader.u8(), reader.rest()), (Err(TooShort), &[][..]));
    }
}

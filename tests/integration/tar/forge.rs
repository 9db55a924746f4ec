//! Tars made byte by byte, right or wrong.

pub const BLOCK: usize = 512;

/// A header block; its checksum is computed when it is turned into bytes.
#[derive(Clone)]
pub struct Header {
    block: [u8; BLOCK],
}

impl Header {
    /// A ustar header with these type and size, and otherwise ordinary fields.
    pub fn new(name: impl AsRef<[u8]>, kind: u8, size: u64) -> Self {
        let mut header = Self { block: [0; BLOCK] }
            .put(0, name.as_ref())
            .put(100, b"0000644\0")
            .put(108, b"0001750\0")
            .put(116, b"0001751\0")
            .put(136, b"14723745322\0")
            .put(257, b"ustar\x0000");
        if size < 1 << 33 {
            header = header.put(124, format!("{size:011o}\0").as_bytes());
        } else {
            header = header.put(124, &[0x80, 0, 0, 0]).put(128, &size.to_be_bytes());
        }
        header.block[156] = kind;
        header
    }

    pub fn file(name: impl AsRef<[u8]>, size: u64) -> Self {
        Self::new(name, b'0', size)
    }

    /// Overwrites bytes.
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// A target of a link.
    pub fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.put(157, target.as_ref())
    }

    pub fn mode(self, mode: u32) -> Self {
        self.put(100, format!("{mode:07o}\0").as_bytes())
    }

    /// Turned into one of GNU tar.
    pub fn gnu(self) -> Self {
        self.put(257, b"ustar  \0")
    }

    /// An entry of a sparse map of GNU tar, in the header.
    pub fn entry(self, number: usize, offset: u64, len: u64) -> Self {
        self.put(386 + 24 * number, entry(offset, len).as_bytes())
    }

    /// The length of a sparse file of GNU tar.
    pub fn real_size(self, size: u64) -> Self {
        self.put(483, format!("{size:011o}\0").as_bytes())
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut block = self.block;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.to_vec()
    }

    /// With the data and their padding.
    pub fn with(&self, data: impl AsRef<[u8]>) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.extend_from_slice(&padded(data.as_ref()));
        bytes
    }
}

/// Offset and length in a sparse map of GNU tar.
pub fn entry(offset: u64, len: u64) -> String {
    format!("{offset:011o}\0{len:011o}\0")
}

/// A block that continues a sparse map of GNU tar.
pub fn more(entries: &[(u64, u64)], goes_on: bool) -> Vec<u8> {
    let mut block: Vec<u8> = entries
        .iter()
        .flat_map(|(offset, len)| entry(*offset, *len).into_bytes())
        .collect();
    block.resize(BLOCK, 0);
    block[504] = u8::from(goes_on);
    block
}

pub fn padded(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    bytes.resize(data.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A small file.
pub fn file(name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Vec<u8> {
    Header::file(name, content.as_ref().len() as u64).with(content)
}

/// A pax record with its right length.
pub fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

/// An extended header with these bytes.
pub fn pax(kind: u8, records: impl AsRef<[u8]>) -> Vec<u8> {
    Header::new("pax", kind, records.as_ref().len() as u64).with(records)
}

/// A long name of GNU tar.
pub fn long(kind: u8, name: impl AsRef<[u8]>) -> Vec<u8> {
    let name = [name.as_ref(), b"\0"].concat();
    Header::new("././@LongLink", kind, name.len() as u64).gnu().with(name)
}

/// The end of an archive.
pub fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

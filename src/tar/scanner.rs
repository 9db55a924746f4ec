//! The scanner: pieces of a stream in, members out.

use super::header::{BLOCK_LEN, Block, Header, is_zero, more_map, text};
use super::member::{Content, Kind, Member, padded};
use super::pax::{Records, Set, Values};
use super::sparse::{Map, TextMap};
use super::verdict::{Break, Field, Verdict};
use super::{MAX_PATH_LEN, MAX_PAX_LEN};

/// What the scanner found.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The headers of a member are complete; its stored data follow.
    Member(&'a Member),
    /// The next stored bytes of this member, without padding.
    Data(&'a [u8]),
    /// The stored data of this member are complete.
    End,
    /// A global header, from one offset to another: it applies to all members after it, and is
    /// already part of what they are reported with.
    Global {
        /// Offset of its header block.
        offset: u64,
        /// Offset of the block after it.
        end: u64,
    },
}

/// Finds the members of a tar while its bytes stream by.
///
/// ```
/// use containerarchive::tar::{Event, Scanner, Verdict};
///
/// let mut scanner = Scanner::new();
/// let mut members = 0;
/// for piece in [&b"no tar"[..], b", but text"] {
///     scanner.feed(piece, &mut |event| members += usize::from(matches!(event, Event::Member(_))));
/// }
/// assert_eq!((members, scanner.finish()), (0, Verdict::NotTar));
/// ```
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Bytes so far.
    offset: u64,
    /// The beginning of a block that is not complete.
    block: Block,
    filled: usize,
    /// A valid header was seen.
    is_tar: bool,
    /// Offset of the first header of the next member, once there is one.
    start: Option<u64>,
    /// Long names of GNU tar for the next member.
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// Records for the next member, and for all that follow.
    local: Values,
    global: Values,
    records: Records,
    member: Member,
    map: Map,
}

/// What the next bytes are.
#[derive(Debug)]
enum State {
    /// A header, or the first block of zeros.
    Header,
    /// An extended header or a long name.
    Extension { kind: Extension, left: u64, padding: u64 },
    /// A block that continues a map of GNU tar.
    GnuMap,
    /// The map of the format 1.0, in the data of the member.
    TextMap { map: TextMap, read: u64 },
    /// Padding after such a map.
    MapPadding { left: u64 },
    /// Stored data.
    Data { left: u64 },
    /// Padding after stored data or an extension.
    Padding { left: u64, is_data: bool },
    /// A block of zeros was read at this offset; the second one.
    Zero { at: u64 },
    /// Nothing that matters.
    Over(Verdict),
}

/// The kind of a header that is not a member itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    LongPath,
    LongLink,
    Pax,
    Global { offset: u64 },
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner at the first byte of a stream.
    pub fn new() -> Self {
        Self {
            state: State::Header,
            offset: 0,
            block: [0; BLOCK_LEN],
            filled: 0,
            is_tar: false,
            start: None,
            long_path: None,
            long_link: None,
            local: Values::default(),
            global: Values::default(),
            records: Records::default(),
            member: Member::new(),
            map: Map::default(),
        }
    }

    /// Reads the next bytes and calls `each` for what they complete.
    pub fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Event<'_>)) {
        while !bytes.is_empty() {
            let taken = self.step(bytes, each);
            bytes = &bytes[taken..];
        }
    }

    /// Bytes from here on that need not be fed: [`Scanner::skip`] takes their number instead. They
    /// are stored data or padding, or, after the end, everything.
    pub fn skippable(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            State::Padding { left, .. } | State::MapPadding { left } => left,
            State::Over(_) => u64::MAX - self.offset,
            _ => 0,
        }
    }

    /// Passes over the next bytes without seeing them, at most [`Scanner::skippable`], and returns
    /// how many. `each` is not called with data.
    pub fn skip(&mut self, len: u64, each: &mut dyn FnMut(Event<'_>)) -> u64 {
        let len = len.min(self.skippable());
        if len > 0 {
            self.pass(len, each);
        }
        len
    }

    /// Bytes so far, fed and skipped.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The verdict, once no further byte can change it.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.state {
            State::Over(verdict) => Some(verdict),
            _ => None,
        }
    }

    /// Ends the stream.
    pub fn finish(self) -> Verdict {
        let why = match self.state {
            State::Over(verdict) => return verdict,
            _ if !self.is_tar => return Verdict::NotTar,
            State::Zero { at } => {
                let why = Break::LoneZeroBlock;
                return Verdict::BrokeOff { at, why };
            }
            State::Data { .. } | State::Padding { is_data: true, .. } => Break::InData,
            State::Header if self.filled == 0 && self.start.is_none() => Break::NoEnd,
            _ => Break::InHeader,
        };
        let at = self.offset;
        Verdict::BrokeOff { at, why }
    }

    /// Takes at least one of the bytes, and returns how many.
    fn step(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>)) -> usize {
        let at_most = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match &mut self.state {
            State::Header | State::GnuMap | State::Zero { .. } => self.step_block(bytes, each),
            State::Extension { left, .. } => {
                let len = at_most(*left);
                self.extension(&bytes[..len], each);
                len
            }
            State::TextMap { .. } => self.text_map(bytes, each),
            State::Data { left } => {
                let len = at_most(*left);
                each(Event::Data(&bytes[..len]));
                self.pass(len as u64, each);
                len
            }
            State::Padding { left, .. } | State::MapPadding { left } => {
                let len = at_most(*left);
                self.pass(len as u64, each);
                len
            }
            State::Over(_) => {
                self.offset = self.offset.saturating_add(bytes.len() as u64);
                bytes.len()
            }
        }
    }

    /// Passes over data or padding.
    fn pass(&mut self, len: u64, each: &mut dyn FnMut(Event<'_>)) {
        self.offset = self.offset.saturating_add(len);
        match &mut self.state {
            State::Data { left } | State::Padding { left, .. } | State::MapPadding { left } => *left -= len,
            _ => {}
        }
        match self.state {
            State::Data { left: 0 } => {
                each(Event::End);
                self.state = padding_at(self.offset, true);
            }
            State::Padding { left: 0, .. } => self.state = State::Header,
            State::MapPadding { left: 0 } => self.begin_data(each),
            _ => {}
        }
    }

    /// Completes a block, in place when the bytes have all of it.
    fn step_block(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>)) -> usize {
        if self.filled == 0
            && let Some(block) = bytes.first_chunk()
        {
            self.block_complete(block, each);
            return BLOCK_LEN;
        }
        let len = bytes.len().min(BLOCK_LEN - self.filled);
        self.block[self.filled..self.filled + len].copy_from_slice(&bytes[..len]);
        self.filled += len;
        if self.filled < BLOCK_LEN {
            self.offset += len as u64;
            return len;
        }
        self.offset -= (BLOCK_LEN - len) as u64;
        self.filled = 0;
        let block = self.block;
        self.block_complete(&block, each);
        len
    }

    /// A block that begins at `offset`.
    fn block_complete(&mut self, block: &Block, each: &mut dyn FnMut(Event<'_>)) {
        let at = self.offset;
        self.offset += BLOCK_LEN as u64;
        let is_map = matches!(self.state, State::GnuMap);
        let done = match self.state {
            State::GnuMap => self.gnu_map_goes_on(block, each),
            State::Zero { at } if is_zero(block) => {
                let end = self.offset;
                debug_assert_eq!(end, at + 2 * BLOCK_LEN as u64);
                self.state = State::Over(Verdict::Complete { end });
                Ok(())
            }
            State::Zero { at } => {
                self.state = State::Over(Verdict::BrokeOff {
                    at,
                    why: Break::LoneZeroBlock,
                });
                Ok(())
            }
            _ => self.header(at, block, each),
        };
        if let Err(why) = done {
            let at = if is_map { self.member.header_offset } else { at };
            self.broke_off(at, why);
        }
    }

    /// The block at an offset, or what it belongs to, cannot be part of an archive.
    fn broke_off(&mut self, at: u64, why: Break) {
        let at = self.start.unwrap_or(at);
        self.state = State::Over(match self.is_tar {
            true => Verdict::BrokeOff { at, why },
            false => Verdict::NotTar,
        });
    }

    fn header(&mut self, at: u64, block: &Block, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Break> {
        let Some(header) = Header::parse(block) else {
            // only a block that is no header can be one of zeros
            if !is_zero(block) {
                return Err(Break::Checksum);
            }
            if self.start.is_some() || !self.is_tar {
                return Err(Break::Dangling);
            }
            self.state = State::Zero { at };
            return Ok(());
        };
        match header.type_flag() {
            b'L' => self.begin_extension(at, header, Extension::LongPath),
            b'K' => self.begin_extension(at, header, Extension::LongLink),
            // 'X': Solaris, with the same records
            b'x' | b'X' => self.begin_extension(at, header, Extension::Pax),
            b'g' => self.begin_extension(at, header, Extension::Global { offset: at }),
            _ => {
                let start = self.start.unwrap_or(at);
                self.fill_member(start, header)?;
                self.is_tar = true;
                self.begin_member(header, each)
            }
        }
    }

    /// Begins to read what a header extends: a list of records, or a long name.
    fn begin_extension(&mut self, at: u64, header: Header<'_>, kind: Extension) -> Result<(), Break> {
        let len = header.size()?;
        let (field, max) = match kind {
            // one byte is the zero at its end
            Extension::LongPath => (Field::Path, MAX_PATH_LEN as u64 + 1),
            Extension::LongLink => (Field::Link, MAX_PATH_LEN as u64 + 1),
            Extension::Pax | Extension::Global { .. } => (Field::Pax, MAX_PAX_LEN),
        };
        if len > max {
            return Err(Break::TooLong(field));
        }
        self.is_tar = true;
        match kind {
            Extension::LongPath => self.long_path = Some(Vec::new()),
            Extension::LongLink => self.long_link = Some(Vec::new()),
            Extension::Pax | Extension::Global { .. } => {}
        }
        if !matches!(kind, Extension::Global { .. }) {
            self.start.get_or_insert(at);
        }
        let padding = padded(len) - len;
        self.state = State::Extension {
            kind,
            left: len,
            padding,
        };
        if len == 0 {
            self.state = State::Header;
        }
        Ok(())
    }

    /// The next bytes of an extension, at most what is left of it.
    fn extension(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>)) {
        let State::Extension { kind, left, padding } = &mut self.state else {
            return;
        };
        *left -= bytes.len() as u64;
        let (kind, padding, is_last) = (*kind, *padding, *left == 0);
        self.offset += bytes.len() as u64;
        let values = match kind {
            Extension::LongPath => return self.long_name(bytes, is_last, |scanner| &mut scanner.long_path),
            Extension::LongLink => return self.long_name(bytes, is_last, |scanner| &mut scanner.long_link),
            Extension::Pax => &mut self.local,
            Extension::Global { .. } => &mut self.global,
        };
        let mut done = self.records.feed(bytes, values);
        if is_last && done.is_ok() {
            done = self.records.finish(values);
        }
        if let Err(why) = done {
            let at = match kind {
                Extension::Global { offset } => offset,
                _ => self.offset,
            };
            return self.broke_off(at, why);
        }
        if is_last {
            if let Extension::Global { offset } = kind {
                // no file is like another in this
                self.global.sparse = Default::default();
                let end = self.offset + padding;
                each(Event::Global { offset, end });
            }
            self.state = padding_at(self.offset, false);
        }
    }

    /// The next bytes of a long name, which ends at its first zero.
    fn long_name(&mut self, bytes: &[u8], is_last: bool, name: fn(&mut Self) -> &mut Option<Vec<u8>>) {
        let kept = name(self).get_or_insert_default();
        kept.extend_from_slice(bytes);
        if is_last {
            kept.truncate(text(kept).len());
            self.state = padding_at(self.offset, false);
        }
    }

    /// Sets all attributes but those of the data.
    fn fill_member(&mut self, start: u64, header: Header<'_>) -> Result<(), Break> {
        let (member, local, global) = (&mut self.member, &self.local, &self.global);
        member.path.clear();
        // a long name of GNU tar replaces the record, as in Go
        match self.long_path.as_ref().or(set(&local.path, &global.path)) {
            Some(path) => member.path.extend_from_slice(path),
            None => header.path(&mut member.path),
        }
        let kind = match header.type_flag() {
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => Kind::Other(other),
        };
        member.kind = kind;
        member.link.clear();
        if matches!(kind, Kind::HardLink | Kind::Symlink) {
            let long = self.long_link.as_ref().or(set(&local.link, &global.link));
            member.link.extend_from_slice(long.map_or(header.link(), |link| link));
        }
        member.mode = header.mode()?;
        member.uid = set(&local.uid, &global.uid).map_or_else(|| header.uid(), |uid| Ok(*uid))?;
        member.gid = set(&local.gid, &global.gid).map_or_else(|| header.gid(), |gid| Ok(*gid))?;
        member.uname.clear();
        let uname = set(&local.uname, &global.uname).map_or(header.uname(), |name| name);
        member.uname.extend_from_slice(uname);
        member.gname.clear();
        let gname = set(&local.gname, &global.gname).map_or(header.gname(), |name| name);
        member.gname.extend_from_slice(gname);
        member.mtime = match set(&local.mtime, &global.mtime) {
            Some(mtime) => *mtime,
            None => super::Time {
                seconds: header.mtime()?,
                nanos: 0,
            },
        };
        member.device = (0, 0);
        if matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            let major = set(&local.dev_major, &global.dev_major).map_or_else(|| header.dev_major(), |major| Ok(*major));
            let minor = set(&local.dev_minor, &global.dev_minor).map_or_else(|| header.dev_minor(), |minor| Ok(*minor));
            member.device = (major?, minor?);
        }
        member.header_offset = start;
        member.content = Content::Plain;
        // POSIX: links, devices and pipes have no data whatever their size. A hard link of pax may
        // have some; GNU tar, Go and Python expect none, and no known writer stores any.
        let has_data = matches!(kind, Kind::File | Kind::Other(_)) || header.type_flag() == b'D';
        member.stored_len = match set(&local.size, &global.size) {
            _ if !has_data => 0,
            Some(size) => *size,
            None => header.size()?,
        };
        if kind == Kind::File && header.type_flag() != b'S' && member.path.ends_with(b"/") {
            // v7 has no type for it; data, if any, follow all the same
            member.kind = Kind::Directory;
        }
        member.size = if member.kind == Kind::Directory {
            0
        } else {
            member.stored_len
        };
        // 2^63 and more are no file of any system, and would let offsets overflow
        let end = self.offset.checked_add(padded(member.stored_len));
        end.filter(|end| i64::try_from(*end).is_ok())
            .ok_or(Break::Number(Field::Size))?;
        Ok(())
    }

    /// Continues after the header of a member: with the rest of its map, or with its data.
    fn begin_member(&mut self, header: Header<'_>, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Break> {
        self.map.clear();
        if header.type_flag() == b'S' {
            self.member.size = header.gnu_real_size()?;
            let (entries, goes_on) = header.gnu_map()?;
            for entry in entries {
                self.map.push(entry)?;
            }
            return match goes_on {
                true => {
                    self.state = State::GnuMap;
                    Ok(())
                }
                false => self.map_complete(each),
            };
        }
        let sparse = &mut self.local.sparse;
        let in_data = (sparse.major, sparse.minor) == (Some(1), Some(0));
        if self.member.kind != Kind::File || !(in_data || sparse.has_map) {
            self.begin_data(each);
            return Ok(());
        }
        if let Some(name) = sparse.name.take() {
            self.member.path = name;
        }
        self.member.size = sparse.size.ok_or(Break::SparseMap)?;
        if in_data {
            let map = TextMap::default();
            self.state = State::TextMap { map, read: 0 };
            return Ok(());
        }
        self.map = std::mem::take(&mut sparse.map);
        self.map_complete(each)
    }

    fn gnu_map_goes_on(&mut self, block: &Block, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Break> {
        let (entries, goes_on) = more_map(block)?;
        for entry in entries {
            self.map.push(entry)?;
        }
        if goes_on { Ok(()) } else { self.map_complete(each) }
    }

    /// The next bytes of a map in the data. Returns how many it took.
    fn text_map(&mut self, bytes: &[u8], each: &mut dyn FnMut(Event<'_>)) -> usize {
        let State::TextMap { map, read } = &mut self.state else {
            return bytes.len();
        };
        let at = self.member.header_offset;
        let stored = self.member.stored_len;
        let len = usize::try_from(stored - *read).unwrap_or(usize::MAX).min(bytes.len());
        let done = match map.feed(&bytes[..len], &mut self.map) {
            Ok(None) if *read + len as u64 == stored => Err(Break::SparseMap), // it does not end
            done => done,
        };
        let taken = match done {
            Ok(Some(end)) => end,
            Ok(None) => len,
            Err(why) => {
                self.broke_off(at, why);
                self.offset += len.max(1) as u64;
                return len.max(1);
            }
        };
        *read += taken as u64;
        self.offset += taken as u64;
        if let Ok(Some(_)) = done {
            let map_len = padded(*read);
            let left = map_len - *read;
            let Some(stored) = stored.checked_sub(map_len) else {
                self.broke_off(at, Break::SparseMap);
                return taken;
            };
            self.member.stored_len = stored;
            match self.map.take(self.member.size, stored) {
                Err(why) => self.broke_off(at, why),
                Ok(content) => {
                    self.member.content = content;
                    self.state = State::MapPadding { left };
                    self.pass(0, each);
                }
            }
        }
        taken
    }

    fn map_complete(&mut self, each: &mut dyn FnMut(Event<'_>)) -> Result<(), Break> {
        self.member.content = self.map.take(self.member.size, self.member.stored_len)?;
        self.begin_data(each);
        Ok(())
    }

    /// Reports the member; its data follow. What belonged to it alone is forgotten.
    fn begin_data(&mut self, each: &mut dyn FnMut(Event<'_>)) {
        self.member.data_offset = self.offset;
        each(Event::Member(&self.member));
        let left = self.member.stored_len;
        self.state = if left == 0 { State::Header } else { State::Data { left } };
        if left == 0 {
            each(Event::End);
        }
        if self.start.take().is_some() {
            self.long_path = None;
            self.long_link = None;
            self.local.clear();
        }
    }
}

/// Padding up to the next block, or the block.
fn padding_at(offset: u64, is_data: bool) -> State {
    match padded(offset) - offset {
        0 => State::Header,
        left => State::Padding { left, is_data },
    }
}

/// The value of a record: of the member's own header, or of a global one. An empty value removes
/// both, and leaves the field of the header.
fn set<'a, T>(local: &'a Set<T>, global: &'a Set<T>) -> Option<&'a T> {
    match local {
        Some(value) => value.as_ref(),
        None => global.as_ref()?.as_ref(),
    }
}

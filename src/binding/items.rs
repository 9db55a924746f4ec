//! The engine's end of a lane: its items, with the bytes that JavaScript pushed or that are read
//! from the files it named.

use super::pipe::{Packet, Pipe};
use super::rest::Rest;
use crate::error::{Error, Result};
use crate::ops::{ItemSpec, ItemStream, SourceFile};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// Largest number of bytes that are read from a file between two checks whether the ingest was
/// stopped.
const READ_LEN: usize = 1 << 20;

/// Called with a warning: a code and a message.
pub type Warn = Box<dyn Fn(&'static str, String) + Send>;

/// The items of one lane, read from its pipe.
pub struct PipeItems {
    pipe: Arc<Pipe>,
    warn: Warn,
    name: String,
    slab: Vec<u8>,
    used: usize,
    file: Option<SourceFile>,
    rest: Option<Rest>,
}

impl PipeItems {
    /// Reads from `pipe`; warnings go to `warn`.
    pub fn new(pipe: Arc<Pipe>, warn: Warn) -> Self {
        Self {
            pipe,
            warn,
            name: String::new(),
            slab: Vec::new(),
            used: 0,
            file: None,
            rest: None,
        }
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::SourceFailed {
            item: self.name.clone(),
            reason: error.to_string(),
        }
    }

    /// Reads from the file of this item; returns 0 at its end, or when the item has no file.
    fn read_file(&mut self, out: &mut [u8]) -> Result<usize> {
        let Some(mut file) = self.file.take() else { return Ok(0) };
        self.pipe.check()?;
        let most = out.len().min(READ_LEN);
        let len = loop {
            match file.read(&mut out[..most]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
                Ok(len) => break len,
            }
        };
        self.pipe.add_file_bytes(len);
        if len > 0 {
            self.file = Some(file);
        } else if let Some(how) = file.change().map_err(|error| self.failed(&error))? {
            let name = &self.name;
            (self.warn)(
                "WARN_SOURCE_CHANGED",
                format!("The file of item {name:?} changed while it was read: {how}"),
            );
        }
        Ok(len)
    }

    /// Reads from the rest of a file; returns 0 at its end, or when there is none.
    fn read_rest(&mut self, out: &mut [u8]) -> Result<usize> {
        let Some(mut rest) = self.rest.take() else { return Ok(0) };
        self.pipe.check()?;
        let most = out.len().min(READ_LEN);
        let len = rest.file.read(&mut out[..most]);
        self.pipe.add_file_bytes(len);
        if len > 0 {
            self.rest = Some(rest);
        }
        Ok(len)
    }

    fn open(&self, path: &Path) -> Result<SourceFile> {
        SourceFile::open(path).map_err(|error| self.failed(&error))
    }
}

impl ItemStream for PipeItems {
    fn next_item(&mut self) -> Result<Option<ItemSpec>> {
        match self.pipe.next_packet()? {
            Some(Packet::Item(spec)) => {
                self.name.clone_from(&spec.name);
                Ok(Some(spec))
            }
            None => Ok(None),
            Some(_) => Err(Error::Internal {
                reason: "bytes were pushed outside of an item".to_owned(),
            }),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        while self.used == self.slab.len() {
            let mut len = self.read_file(out)?;
            if len == 0 {
                len = self.read_rest(out)?;
            }
            if len > 0 {
                return Ok(len);
            }
            if self.slab.capacity() > 0 {
                self.pipe.recycle(std::mem::take(&mut self.slab));
                self.used = 0;
            }
            match self.pipe.next_packet()? {
                Some(Packet::Bytes(slab)) => (self.slab, self.used) = (slab, 0),
                Some(Packet::Path(path)) => self.file = Some(self.open(&path)?),
                Some(Packet::File(file)) => self.file = Some(file),
                Some(Packet::Rest(rest)) => self.rest = Some(rest),
                Some(Packet::ItemEnd) => {
                    self.pipe.item_taken();
                    return Ok(0);
                }
                Some(Packet::Item(_)) | None => {
                    return Err(Error::Internal {
                        reason: "an item did not end".to_owned(),
                    });
                }
            }
        }
        let len = out.len().min(self.slab.len() - self.used);
        out[..len].copy_from_slice(&self.slab[self.used..self.used + len]);
        self.used += len;
        Ok(len)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the files that are read")]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::ops::FileRest;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    fn open_pipe() -> Arc<Pipe> {
        let pipe = Arc::<Pipe>::default();
        pipe.open(usize::MAX);
        pipe
    }

    fn items_of(pipe: &Arc<Pipe>) -> PipeItems {
        PipeItems::new(Arc::clone(pipe), Box::new(|code, text| panic!("{code}: {text}")))
    }

    fn spec(name: &str) -> ItemSpec {
        ItemSpec::new(name, "x")
    }

    /// Reads all bytes of the current item.
    fn read_item(items: &mut PipeItems) -> Vec<u8> {
        let (mut got, mut out) = (Vec::new(), vec![0; 12_345]);
        loop {
            let len = items.read(&mut out).unwrap();
            if len == 0 {
                return got;
            }
            got.extend_from_slice(&out[..len]);
        }
    }

    #[test]
    fn items_arrive_as_they_were_pushed() {
        let pipe = open_pipe();
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        for (name, bytes) in [("a", &data[..]), ("b", b""), ("c", b"z")] {
            pipe.begin_item(spec(name));
            bytes.chunks(70_001).for_each(|piece| {
                pipe.push(piece);
            });
            pipe.end_item();
        }
        pipe.end();
        let mut items = items_of(&pipe);
        for (name, bytes) in [("a", &data[..]), ("b", b""), ("c", b"z")] {
            assert_eq!(items.next_item().unwrap(), Some(spec(name)));
            assert!(read_item(&mut items) == bytes, "{name}");
        }
        assert_eq!(items.next_item().unwrap(), None);
    }

    #[test]
    fn files_are_read_in_order_with_pushed_items() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let pipe = open_pipe();
        for name in ["a", "b", "c", "d"] {
            pipe.begin_item(spec(name));
            match name {
                "b" => pipe.send_path(path.clone()),
                "d" => pipe.send_file(SourceFile::open(&path).unwrap()),
                _ => assert!(pipe.push(name.as_bytes())),
            }
            pipe.end_item();
        }
        pipe.end();
        let (sender, receiver) = channel();
        pipe.on_quiet(Box::new(move |result| sender.send(result.is_ok()).unwrap()));
        let mut items = items_of(&pipe);
        for (name, bytes) in [("a", &b"a"[..]), ("b", &data), ("c", b"c"), ("d", &data)] {
            assert!(receiver.try_recv().is_err());
            assert_eq!(items.next_item().unwrap(), Some(spec(name)));
            assert!(read_item(&mut items) == bytes, "{name}");
        }
        assert_eq!(pipe.file_bytes(), 2 * data.len() as u64);
        assert!(receiver.recv().unwrap(), "on_quiet is called when all items are taken");
        assert_eq!(items.next_item().unwrap(), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_rest_is_read_between_pushed_bytes_and_is_over_when_read_or_when_the_pipe_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let data: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        std::fs::write(&path, &data).unwrap();
        let over = Arc::new(Mutex::new(0));
        let send = |pipe: &Pipe| {
            let file = FileRest::new(
                std::fs::File::open(&path).unwrap(),
                Some(3),
                u64::MAX,
                data[..3].to_vec(),
            );
            let over = Arc::clone(&over);
            pipe.send_rest(Rest::new(file, Box::new(move || *over.lock().unwrap() += 1)));
        };
        let pipe = open_pipe();
        pipe.begin_item(spec("a"));
        pipe.push(&data[..3]);
        send(&pipe);
        pipe.push(b"grown");
        pipe.end_item();
        let mut items = items_of(&pipe);
        items.next_item().unwrap();
        assert_eq!(*over.lock().unwrap(), 0);
        assert!(read_item(&mut items) == [&data[..], b"grown"].concat());
        assert_eq!(*over.lock().unwrap(), 1);
        assert_eq!(pipe.file_bytes(), data.len() as u64 - 3);
        pipe.begin_item(spec("b"));
        send(&pipe);
        items.next_item().unwrap();
        assert_eq!(items.read(&mut [0; 10]).unwrap(), 10);
        send(&pipe);
        pipe.fail(Error::Cancelled);
        assert_eq!(*over.lock().unwrap(), 2, "it is not queued any more");
        assert!(items.read(&mut [0; 10]).is_err());
        assert_eq!(*over.lock().unwrap(), 3, "it is not read any more");
        send(&pipe);
        assert_eq!(*over.lock().unwrap(), 4, "it was not queued");
    }

    #[test]
    fn an_unreadable_file_fails_the_item_and_a_changed_one_warns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![1; 2_000_000]).unwrap();
        let pipe = open_pipe();
        for path in [&path, &folder.path().join("missing")] {
            pipe.begin_item(spec("a"));
            pipe.send_path(path.clone());
            pipe.end_item();
        }
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&warnings);
        let warn: Warn = Box::new(move |code, _| told.lock().unwrap().push(code));
        let mut items = PipeItems::new(Arc::clone(&pipe), warn);
        items.next_item().unwrap();
        items.read(&mut [0; 10]).unwrap();
        std::fs::write(&path, b"short").unwrap();
        read_item(&mut items);
        assert_eq!(*warnings.lock().unwrap(), ["WARN_SOURCE_CHANGED"]);
        items.next_item().unwrap();
        assert_eq!(items.read(&mut [0; 10]).unwrap_err().code(), "ERR_SOURCE_FAILED");
        pipe.fail(Error::Cancelled);
        assert!(items.next_item().is_err());
    }

    #[test]
    fn a_file_is_read_no_further_once_the_pipe_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, vec![1; 100]).unwrap();
        let pipe = open_pipe();
        pipe.begin_item(spec("a"));
        pipe.send_path(path);
        let mut items = items_of(&pipe);
        items.next_item().unwrap();
        assert_eq!(items.read(&mut [0; 10]).unwrap(), 10);
        pipe.fail(Error::Cancelled);
        assert!(matches!(items.read(&mut [0; 10]), Err(Error::Cancelled)));
    }
}

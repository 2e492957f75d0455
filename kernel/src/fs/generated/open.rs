//! Reading and writing generated files.

use super::{Content, Node};
use crate::errno::{Errno, Result};
use crate::fs::inode::Inode;
use crate::fs::transfer::{Sink, Source};
use crate::fs::{File, Operations};
use crate::sync::Mutex;
use alloc::{sync::Arc, vec::Vec};

/// Longest text that a setting accepts.
const MOST: usize = 4096;

/// An open text: made when it is read from the start, then kept, so that a reader in small pieces
/// sees one moment.
pub struct Text {
    node: Arc<Node>,
    made: Mutex<Option<Arc<[u8]>>>,
}

impl Text {
    /// Not made yet.
    pub fn new(node: Arc<Node>) -> Arc<Text> {
        Arc::new(Text { node, made: Mutex::new(None) })
    }
}

impl Node {
    /// The text now.
    pub(super) fn text(&self) -> Result<Vec<u8>> {
        match self.entry.content {
            Content::Text(text) | Content::Setting(text, _) => text(&self.subject),
            _ => Err(Errno::EISDIR),
        }
    }
}

impl Operations for Text {
    fn read(&self, _file: &File, at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        let made = if *at == 0 { None } else { self.made.lock().clone() };
        let text = match made {
            Some(text) => text,
            None => {
                let text: Arc<[u8]> = self.node.text()?.into();
                let old = self.made.lock().replace(text.clone());
                drop(old);
                text
            }
        };
        let done = sink.put_from(&text, *at)?;
        *at += done as u64;
        Ok(done)
    }

    fn write(&self, _file: &File, at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        let Content::Setting(_, write) = self.node.entry.content else { return Err(Errno::EIO) };
        let length = source.remaining();
        if length > MOST {
            return Err(Errno::EINVAL);
        }
        let mut text = Vec::new();
        text.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
        text.resize(length, 0);
        source.take(&mut text)?;
        write(&self.node.subject, &text)?;
        *at += length as u64;
        Ok(length)
    }

    fn seekable(&self) -> bool {
        true
    }
}

impl Operations for Node {
    fn read(&self, _file: &File, _at: &mut u64, _sink: &mut Sink<'_>) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn write(&self, _file: &File, _at: &mut u64, _source: &mut Source<'_>) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn seekable(&self) -> bool {
        self.kind() == crate::fs::inode::Kind::Directory
    }
}

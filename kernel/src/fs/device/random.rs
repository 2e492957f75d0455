//! random and urandom.

use crate::errno::Result;
use crate::fs::transfer::{Sink, Source};
use crate::fs::{File, Operations};
use crate::random;
use crate::task::Breath;

/// Random bytes; what is written is taken and ignored.
pub struct Random;

impl Operations for Random {
    fn read(&self, _file: &File, _at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        let mut done = 0;
        let mut chunk = [0; 256];
        let mut breath = Breath::start();
        while sink.remaining() > 0 {
            let length = sink.remaining().min(chunk.len());
            random::fill(&mut chunk[..length]);
            match sink.put_some(&chunk[..length]) {
                Ok(moved) => {
                    done += moved;
                    if moved < length || breath.ends_after(moved) {
                        break;
                    }
                }
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn write(&self, _file: &File, _at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        let length = source.remaining();
        source.skip(length);
        Ok(length)
    }

    fn devours_seeks(&self) -> bool {
        true
    }
}

//! Words of a tracee's memory, and its code: a page at a time, through the direct map, whatever the
//! program's own rights are.

use crate::errno::{Errno, Result};
use crate::mm::{Mm, PAGE};

/// Reads a word, whatever the program may do with it.
///
/// # Errors
/// `EIO`.
pub(super) fn peek(mm: &Mm, address: u64) -> Result<u64> {
    let mut word = [0; 8];
    let mut done = 0;
    while done < word.len() {
        let at = address.wrapping_add(done as u64);
        let page = mm.page_for_other(at, true).map_err(|_| Errno::EIO)?;
        let offset = (at % PAGE) as usize;
        let part = (PAGE as usize - offset).min(word.len() - done);
        page.read(offset, &mut word[done..done + part]);
        done += part;
    }
    Ok(u64::from_le_bytes(word))
}

/// Writes a word, into a copy of what the program may only read.
///
/// # Errors
/// `EIO`.
pub(super) fn poke(mm: &Mm, address: u64, value: u64) -> Result<()> {
    let word = value.to_le_bytes();
    let mut done = 0;
    while done < word.len() {
        let at = address.wrapping_add(done as u64);
        let part = ((PAGE - at % PAGE) as usize).min(word.len() - done);
        mm.write_for_other(at, &word[done..done + part], true).map_err(|_| Errno::EIO)?;
        done += part;
    }
    Ok(())
}

/// Reads at most 15 bytes of code, as many as there are.
pub(super) fn read_code(mm: &Mm, address: u64) -> ([u8; 15], usize) {
    let mut code = [0; 15];
    let mut done = 0;
    while done < code.len() {
        let at = address.wrapping_add(done as u64);
        let Ok(page) = mm.page_for_other(at, true) else { break };
        let offset = (at % PAGE) as usize;
        let part = (PAGE as usize - offset).min(code.len() - done);
        page.read(offset, &mut code[done..done + part]);
        done += part;
    }
    (code, done)
}

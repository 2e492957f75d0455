//! "#!" lines.

/// Bytes of a file that are looked at to see what it is.
pub const HEAD_BYTES: usize = 256;

/// An interpreter line's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter<'a> {
    /// The interpreter.
    pub path: &'a [u8],
    /// All the rest of the line, as one argument.
    pub argument: Option<&'a [u8]>,
}

/// A script that cannot be run: it names no interpreter, or its name does not end within the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads "#!" lines. `None`: not a script.
///
/// # Errors
/// [`Malformed`].
pub fn interpreter(head: &[u8]) -> Result<Option<Interpreter<'_>>, Malformed> {
    let Some(line) = head.strip_prefix(b"#!") else { return Ok(None) };
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let end = line.iter().position(|byte| *byte == b'\n' || *byte == 0);
    let whole = end.is_some() || head.len() < HEAD_BYTES;
    let line = line[..end.unwrap_or(line.len())].trim_ascii();
    let path_end = line.iter().position(is_blank);
    if line.is_empty() || (path_end.is_none() && !whole) {
        return Err(Malformed);
    }
    let path = &line[..path_end.unwrap_or(line.len())];
    let argument = path_end.map(|end| line[end..].trim_ascii()).filter(|rest| !rest.is_empty());
    Ok(Some(Interpreter { path, argument }))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    /// Interpreter and argument.
    type Line<'a> = (&'a [u8], Option<&'a [u8]>);

    fn read(head: &[u8]) -> Result<Option<Line<'_>>, Malformed> {
        Ok(interpreter(head)?.map(|parts| (parts.path, parts.argument)))
    }

    #[test]
    fn lines() {
        let sh = &b"/bin/sh"[..];
        assert_eq!(read(b"\x7fELF"), Ok(None));
        assert_eq!(read(b""), Ok(None));
        assert_eq!(read(b"#!/bin/sh\necho"), Ok(Some((sh, None))));
        assert_eq!(read(b"#!/bin/sh"), Ok(Some((sh, None))));
        assert_eq!(read(b"#! \t/bin/sh  -e  x \n"), Ok(Some((sh, Some(&b"-e  x"[..])))));
        assert_eq!(read(b"#!\n/bin/sh"), Err(Malformed));
        assert_eq!(read(b"#!   "), Err(Malformed));
    }

    #[test]
    fn a_name_that_may_go_on_is_refused() {
        let mut head = std::vec![b'a'; HEAD_BYTES];
        head[..2].copy_from_slice(b"#!");
        assert_eq!(read(&head), Err(Malformed));
        // The same name is whole once something follows it.
        head[200] = b' ';
        assert_eq!(read(&head).unwrap().unwrap().0.len(), 198);
    }
}

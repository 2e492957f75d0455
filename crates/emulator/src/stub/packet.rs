//! Packets of the gdb remote protocol: `$data#checksum`, the checksum being the sum of the data's bytes
//! as two hexadecimal digits (gdb's manual, appendix E.1).
//!
//! QEMU compresses nothing, so a `*` in what it sends means nothing special here.

/// Escapes the byte after it, which is then xored with [`FLIP`].
const ESCAPE: u8 = b'}';
const FLIP: u8 = 0x20;

/// A packet with this data. No caller sends a byte that wants escaping.
pub(super) fn frame(data: &str) -> Vec<u8> {
    debug_assert!(!data.contains(['$', '#', '}', '*']));
    format!("${data}#{:02x}", checksum(data.as_bytes())).into_bytes()
}

/// What [`take`] found at the start of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Not yet a whole packet.
    Part,
    /// A packet's data, and how many bytes it and what stood before it took.
    Whole(Vec<u8>, usize),
    /// A packet whose checksum is wrong: the stream is no gdb stub's.
    Damaged,
}

/// The first packet of `stream`. Acknowledgements before it are skipped.
pub(super) fn take(stream: &[u8]) -> Taken {
    let Some(start) = stream.iter().position(|byte| *byte == b'$') else { return Taken::Part };
    let body = &stream[start + 1..];
    let Some(length) = body.iter().position(|byte| *byte == b'#') else { return Taken::Part };
    let (data, rest) = (&body[..length], &body[length + 1..]);
    let Some(digits) = rest.first_chunk::<2>() else { return Taken::Part };
    let sent = std::str::from_utf8(digits).ok().and_then(|text| u8::from_str_radix(text, 16).ok());
    if sent != Some(checksum(data)) {
        return Taken::Damaged;
    }
    Taken::Whole(unescape(data), start + 1 + length + 1 + digits.len())
}

/// The CPU that a stop is about: `T05thread:02;`, threads being counted from 1.
pub(super) fn stopped_cpu(answer: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(answer).ok()?;
    let digits = text.split_once("thread:")?.1.split(';').next()?;
    usize::from_str_radix(digits.rsplit('.').next()?, 16).ok()?.checked_sub(1)
}

/// The bytes that a text of hexadecimal digits stands for; `None` if it is no such text.
pub(super) fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = text.as_chunks::<2>();
    let pair = |&[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    rest.is_empty().then(|| pairs.iter().map(pair).collect()).flatten()
}

/// The hexadecimal digits of `bytes`.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn checksum(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

fn unescape(data: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(data.len());
    let mut bytes = data.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            ESCAPE => result.extend(bytes.next().map(|next| next ^ FLIP)),
            _ => result.push(byte),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_names_its_cpu() {
        assert_eq!(stopped_cpu(b"T05thread:02;"), Some(1));
        assert_eq!(stopped_cpu(b"T05thread:p1.0a;swbreak:;"), Some(9));
        assert_eq!(stopped_cpu(b"S05"), None);
        assert_eq!(stopped_cpu(b"T05thread:0;"), None);
    }

    #[test]
    fn what_is_framed_is_taken() {
        let mut stream = b"+".to_vec();
        stream.extend(frame("vCont;s"));
        let length = stream.len();
        stream.extend(b"+$OK");
        assert_eq!(take(&stream), Taken::Whole(b"vCont;s".to_vec(), length));
        assert_eq!(take(&stream[length..]), Taken::Part);
    }

    #[test]
    fn every_cut_is_a_part() {
        let whole = frame("g");
        for length in 0..whole.len() {
            assert_eq!(take(&whole[..length]), Taken::Part);
        }
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        assert_eq!(take(b"$OK#9b"), Taken::Damaged);
        assert_eq!(take(b"$OK#zz"), Taken::Damaged);
    }

    #[test]
    fn escaped_bytes_come_back() {
        let sum = checksum(b"m<}\x03>");
        let stream = format!("$m<}}\x03>#{sum:02x}");
        assert_eq!(take(stream.as_bytes()), Taken::Whole(b"m<#>".to_vec(), stream.len()));
    }

    #[test]
    fn digits_are_bytes_and_back() {
        assert_eq!(bytes(b"00ffA5"), Some(vec![0, 255, 0xa5]));
        assert_eq!(bytes(b"0"), None);
        assert_eq!(bytes(b"0x"), None);
        assert_eq!(digits(&[0, 255, 0xa5]), "00ffa5");
    }
}

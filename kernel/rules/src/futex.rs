//! FUTEX_WAKE_OP's operation word.
//!
//! ```text
//!   31     30..28     27..24      23..12    11..0
//!   shift  operation  comparison  argument  comparison's argument     both signed, 12 bits
//! ```

/// A 12-bit signed field.
fn field(operation: u32, shift: u32) -> i32 {
    (operation << (20 - shift)).cast_signed() >> 20
}

/// The word's new value, from its old one. `None`: there is no such operation.
pub fn operate(operation: u32, old: u32) -> Option<u32> {
    let mut argument = field(operation, 12).cast_unsigned();
    let code = operation >> 28;
    if code & 8 != 0 {
        argument = 1u32.wrapping_shl(argument);
    }
    Some(match code & 7 {
        0 => argument,
        1 => old.wrapping_add(argument),
        2 => old | argument,
        3 => old & !argument,
        4 => old ^ argument,
        _ => return None,
    })
}

/// Whether the second futex's waiters are woken too. `None`: there is no such comparison.
pub fn compare(operation: u32, old: u32) -> Option<bool> {
    let argument = field(operation, 0);
    let old = old.cast_signed();
    Some(match operation >> 24 & 15 {
        0 => old == argument,
        1 => old != argument,
        2 => old < argument,
        3 => old >= argument,
        4 => old <= argument,
        5 => old > argument,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(operation: u32, comparison: u32, argument: i32, other: i32) -> u32 {
        let field = |value: i32| value.cast_unsigned() & 0xfff;
        operation << 28 | comparison << 24 | field(argument) << 12 | field(other)
    }

    #[test]
    fn operations() {
        assert_eq!(operate(word(0, 0, 5, 0), 9), Some(5));
        assert_eq!(operate(word(0, 0, -1, 0), 9), Some(u32::MAX));
        assert_eq!(operate(word(1, 0, -1, 0), 9), Some(8));
        assert_eq!(operate(word(2, 0, 6, 0), 9), Some(15));
        assert_eq!(operate(word(3, 0, 8, 0), 9), Some(1));
        assert_eq!(operate(word(4, 0, 8, 0), 9), Some(1));
        assert_eq!(operate(word(8, 0, 31, 0), 9), Some(1 << 31));
        assert_eq!(operate(word(5, 0, 0, 0), 9), None);
    }

    #[test]
    fn comparisons_are_signed() {
        let minus_one = u32::MAX;
        let expected = [true, false, false, true, true, false];
        for (comparison, expected) in (0..).zip(expected) {
            assert_eq!(compare(word(0, comparison, 0, -1), minus_one), Some(expected));
        }
        assert_eq!(compare(word(0, 2, 0, 0), minus_one), Some(true));
        assert_eq!(compare(word(0, 6, 0, 0), 0), None);
    }
}

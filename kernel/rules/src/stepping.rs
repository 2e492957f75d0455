//! Whether an instruction loads TF itself, so that a debugger that steps over it does not own the TF
//! that stands afterwards.
//!
//! SDM vol. 2, POPF and IRET; 2.1.1 and 2.2.1 (prefixes).

/// Whether the 64-bit code that begins with `code` is a POPF or an IRET.
pub fn sets_flags(code: &[u8]) -> bool {
    for byte in code {
        match byte {
            // POPF, IRET.
            0x9d | 0xcf => return true,
            // Operand and address size, segments, LOCK, repeats, REX.
            0x66 | 0x67 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => {}
            0x40..=0x4f => {}
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::sets_flags;

    #[test]
    fn only_popf_and_iret_do() {
        assert!(sets_flags(&[0x9d]));
        assert!(sets_flags(&[0x48, 0xcf]));
        assert!(sets_flags(&[0x66, 0x9d, 0x90]));
        assert!(!sets_flags(&[0x9c]), "PUSHF");
        assert!(!sets_flags(&[0x90, 0x9d]), "a NOP before it");
        assert!(!sets_flags(&[0x0f, 0x05]), "SYSCALL");
        assert!(!sets_flags(&[]));
        assert!(!sets_flags(&[0x48; 15]));
    }
}

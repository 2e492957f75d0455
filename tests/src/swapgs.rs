//! CVE-2019-1125, in the bytes of an entry text: what a CPU may do that predicts a branch wrongly.
//!
//! A branch decides whether SWAPGS is executed. Behind it, on either side, the GS base may be the wrong one
//! until the branch is resolved, so nothing may use GS before an LFENCE, or before GS base is written:
//!
//! ```text
//!            gate ──► branch ──┬──► SWAPGS ──► LFENCE ──► GS ...
//!                              └─────────────► LFENCE ──► GS ...
//! ```
//!
//! The walk follows every path from every gate through the call of a handler to the end. On the way out,
//! GS is the kernel's on all paths, so that only a SWAPGS that another side does not have matters, and one
//! that IRETQ or SYSRET follows does not. Serialising instructions such as the CR3 write would do as well as an
//! LFENCE, but an entry text that counts on them has nothing left without isolation: they do not count here.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, Register};

/// IA32_GS_BASE.
const GS_BASE: u64 = 0xc000_0101;

/// What the walk has seen.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Offsets of each SWAPGS that a branch decided.
    pub conditional: BTreeSet<u64>,
    /// Offsets of each of them that the next instruction does not fence.
    pub unfenced: BTreeSet<u64>,
    /// Offsets of each use of GS that a wrong prediction may reach.
    pub exposed: BTreeSet<u64>,
}

/// Where a path is, and what is behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    offset: u64,
    /// Some branch was passed since the gate.
    branched: bool,
    /// That branch is resolved, or GS base does not depend on it.
    safe: bool,
    /// The handler has returned.
    out: bool,
    /// SWAPGS was executed on the way in or out, whichever this is.
    swapped: bool,
    /// ECX, if the path has loaded it with a constant: WRMSR's register.
    ecx: u64,
}

/// Walks `text`, a page of code with offset 0 at its start, from the offsets `gates` on.
pub fn walk(text: &[u8], gates: impl IntoIterator<Item = u64>) -> Findings {
    let start = |offset| Path { offset, ..Path::default() };
    let mut todo: Vec<Path> = gates.into_iter().map(start).collect();
    let mut seen = BTreeSet::new();
    let mut findings = Findings::default();
    while let Some(path) = todo.pop() {
        if seen.insert(path) {
            step(text, path, &mut findings, &mut todo);
        }
    }
    findings
}

fn decode(text: &[u8], offset: u64) -> Instruction {
    let code = text.get(offset as usize..).unwrap_or_default();
    Decoder::with_ip(64, code, offset, DecoderOptions::NONE).decode()
}

fn step(text: &[u8], path: Path, findings: &mut Findings, todo: &mut Vec<Path>) {
    let instruction = decode(text, path.offset);
    assert!(!instruction.is_invalid(), "no instruction at {:#x}", path.offset);
    let exposed = path.branched && !path.safe && (path.swapped || !path.out);
    if exposed && instruction.segment_prefix() == Register::GS {
        findings.exposed.insert(path.offset);
    }
    let next = Path { offset: instruction.next_ip(), ..path };
    let target = Path { offset: instruction.near_branch_target(), ..path };
    match instruction.mnemonic() {
        Mnemonic::Jmp if instruction.is_jmp_short_or_near() => todo.push(target),
        Mnemonic::Call if instruction.is_call_near_indirect() => {
            todo.push(Path { offset: next.offset, out: true, ..Path::default() });
        }
        Mnemonic::Jmp | Mnemonic::Iretq | Mnemonic::Sysret | Mnemonic::Sysretq => {}
        Mnemonic::Ret | Mnemonic::Int3 => {}
        Mnemonic::Call => todo.extend([next, target]),
        Mnemonic::Swapgs => {
            let then = decode(text, next.offset).mnemonic();
            let leaves = matches!(then, Mnemonic::Iretq | Mnemonic::Sysret | Mnemonic::Sysretq);
            if path.branched && !leaves {
                findings.conditional.insert(path.offset);
                if then != Mnemonic::Lfence {
                    findings.unfenced.insert(path.offset);
                }
            }
            todo.push(Path { safe: false, swapped: true, ..next });
        }
        Mnemonic::Lfence | Mnemonic::Wrgsbase => todo.push(Path { safe: true, ..next }),
        Mnemonic::Wrmsr if path.ecx == GS_BASE => todo.push(Path { safe: true, ..next }),
        Mnemonic::Mov if instruction.code() == Code::Mov_r32_imm32 => {
            let loads_ecx = instruction.op0_register() == Register::ECX;
            let ecx = if loads_ecx { u64::from(instruction.immediate32()) } else { path.ecx };
            todo.push(Path { ecx, ..next });
        }
        _ if instruction.is_jcc_short_or_near() => {
            todo.extend([next, target].map(|side| Path { branched: true, ..side }));
        }
        _ => todo.push(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```text
    ///    test al, 3
    ///    jz 1f
    ///    swapgs
    ///    lfence, or not
    ///    mov rax, gs:[0]
    ///    call [rax]
    ///    iretq
    /// 1: lfence, or not; the same from there
    /// ```
    fn text(fenced_user: bool, fenced_kernel: bool) -> Vec<u8> {
        let fence = |on: bool| if on { &[0x0f, 0xae, 0xe8][..] } else { &[][..] };
        let load = [0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0xff, 0x10, 0x48, 0xcf];
        let user = [&[0x0f, 0x01, 0xf8], fence(fenced_user), &load].concat();
        let kernel = [fence(fenced_kernel), &load].concat();
        [&[0xa8, 0x03, 0x74, user.len() as u8][..], &user, &kernel].concat()
    }

    #[test]
    fn fenced_on_both_sides_is_sound() {
        let findings = walk(&text(true, true), [0]);
        assert_eq!(findings.conditional.len(), 1);
        assert!(findings.unfenced.is_empty() && findings.exposed.is_empty(), "{findings:?}");
    }

    #[test]
    fn each_side_without_its_fence_is_found() {
        let user = walk(&text(false, true), [0]);
        assert_eq!((user.unfenced.len(), user.exposed.len()), (1, 1), "{user:?}");
        let kernel = walk(&text(true, false), [0]);
        assert_eq!((kernel.unfenced.len(), kernel.exposed.len()), (0, 1), "{kernel:?}");
    }

    #[test]
    fn without_a_branch_there_is_nothing_to_fence() {
        let findings = walk(&text(false, false)[4..], [0]);
        assert!(findings.conditional.is_empty() && findings.exposed.is_empty(), "{findings:?}");
    }
}

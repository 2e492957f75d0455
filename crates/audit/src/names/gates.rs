//! The IDT's gates: where interrupts and exceptions go, and on which stack.
//!
//! ```text
//!    127        96 95         64 63     48 47    40 39 32 31     16 15      0
//!   | reserved    | target 63:32| 31:16   | P DPL type|IST| selector | 15:0  |
//! ```
//!
//! Intel SDM vol. 3, 6.14.1, figure 6-8. What is not present, or no gate of 64-bit mode, leads nowhere.

use crate::cpu::Table;
use crate::tables::Tables;

/// Bytes of a gate.
pub const GATE: u64 = 16;
/// More vectors than this the CPU does not have.
const VECTORS: u64 = 256;

/// One present gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The vector that leads through it.
    pub vector: u8,
    /// Where it leads.
    pub target: u64,
    /// 1 to 7: the stack of the TSS's interrupt stack table; 0: none of them.
    pub stack: u8,
    /// Virtual address of the gate.
    pub address: u64,
}

/// The present interrupt and trap gates of `idt`, by vector. Gates that cannot be read are left out.
pub fn gates(space: &Tables, idt: Table) -> Vec<Gate> {
    let count = ((u64::from(idt.limit) + 1) / GATE).min(VECTORS);
    let vectors = (0..count).filter_map(|index| u8::try_from(index).ok());
    vectors.filter_map(|vector| gate(space, idt.base, vector)).collect()
}

fn gate(space: &Tables, base: u64, vector: u8) -> Option<Gate> {
    let address = base.wrapping_add(u64::from(vector) * GATE);
    let (low, high) = (space.word(address)?, space.word(address.wrapping_add(8))?);
    let kind = (low >> 40) & 0x1f;
    let present = low & (1 << 47) != 0;
    // 14 is an interrupt gate, 15 a trap gate.
    if !present || !matches!(kind, 14 | 15) {
        return None;
    }
    let target = (low & 0xffff) | ((low >> 32) & 0xffff_0000) | (high << 32);
    Some(Gate { vector, target, stack: ((low >> 32) & 7) as u8, address })
}

/// The manuals' name of a vector: `#PF`, `NMI`, `vector 0x20`.
pub fn vector_name(vector: u8) -> String {
    let name = match vector {
        0 => "#DE",
        1 => "#DB",
        2 => "NMI",
        3 => "#BP",
        4 => "#OF",
        5 => "#BR",
        6 => "#UD",
        7 => "#NM",
        8 => "#DF",
        10 => "#TS",
        11 => "#NP",
        12 => "#SS",
        13 => "#GP",
        14 => "#PF",
        16 => "#MF",
        17 => "#AC",
        18 => "#MC",
        19 => "#XM",
        20 => "#VE",
        21 => "#CP",
        28 => "#HV",
        29 => "#VC",
        30 => "#SX",
        other => return format!("vector {other:#x}"),
    };
    name.into()
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

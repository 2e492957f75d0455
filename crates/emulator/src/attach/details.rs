//! What `info registers` leaves out: IA32_KERNEL_GS_BASE and IA32_LSTAR of each CPU.
//!
//! Two commands of QMP tell, both without changing the stopped guest:
//!
//! - `dump-guest-memory` of a single page: an ELF core whose notes hold the CPUs' state, with KERNEL_GS_BASE;
//! - `xen-save-devices-state`, which is there without Xen, too: the state of all devices without RAM, as a migration
//!   would send it. Each CPU's part has the sequence EFER, STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE in it, eight
//!   bytes each, high byte first.
//!
//! The sequence is looked for by the values that are known already, in the part of the CPU whose RIP it holds; where
//! it is not there exactly once, LSTAR stays unknown. Nothing here is worth an error.

use serde_json::json;

use super::scratch::Scratch;
use super::shared::Shared;
use crate::dump::Core;
use crate::ranges::MemoryRange;
use crate::{Error, Registers};

/// A page of memory and the notes of 4,096 CPUs take less.
const LONGEST_CORE: usize = 8 << 20;
/// The devices of a large machine take less.
const LONGEST_STATE: usize = 32 << 20;
/// One CPU's part takes less.
const LONGEST_PART: usize = 64 << 10;
const WORD: usize = 8;
const PAGE: u64 = 4096;

/// Completes what can be completed.
pub(super) fn complete(shared: &Shared, ranges: &[MemoryRange], cpus: &mut [Registers]) {
    // The second is made only if the first was of no use.
    let files = || [Scratch::in_memory, Scratch::on_disk].into_iter().flat_map(|make| make());
    for scratch in files() {
        if let Some(core) = core(shared, ranges, &scratch) {
            for cpu in cpus.iter_mut() {
                let same = core.iter().find(|other| other.index == cpu.index);
                let same = same.filter(|other| (other.rip, other.cr3) == (cpu.rip, cpu.cr3));
                cpu.kernel_gs_base = same.and_then(|other| other.kernel_gs_base);
            }
            break;
        }
    }
    for scratch in files() {
        if let Some(state) = devices(shared, &scratch) {
            for cpu in cpus.iter_mut() {
                cpu.lstar = lstar(&state, cpu);
            }
            break;
        }
    }
}

fn core(shared: &Shared, ranges: &[MemoryRange], scratch: &Scratch) -> Option<Vec<Registers>> {
    let first = ranges.iter().find(|range| range.end - range.start >= PAGE)?;
    let arguments = json!({
        "paging": false,
        "protocol": format!("file:{}", scratch.path()),
        "begin": first.start,
        "length": PAGE,
    });
    ask(shared, "dump-guest-memory", arguments).ok()?;
    let bytes = scratch.contents(LONGEST_CORE).ok()??;
    let notes = Core::from_bytes(bytes).ok()?;
    notes.registers().ok().map(<[Registers]>::to_vec)
}

fn devices(shared: &Shared, scratch: &Scratch) -> Option<Vec<u8>> {
    // `live` stands for a migration, at whose end the disks would be let go.
    let arguments = json!({ "filename": scratch.path(), "live": false });
    ask(shared, "xen-save-devices-state", arguments).ok()?;
    let bytes = scratch.contents(LONGEST_STATE).ok()??;
    (!bytes.is_empty()).then_some(bytes)
}

fn ask(shared: &Shared, command: &str, arguments: serde_json::Value) -> Result<(), Error> {
    shared.monitor().execute(command, arguments).map(drop)
}

/// LSTAR of one CPU, from the state of all devices.
fn lstar(state: &[u8], cpu: &Registers) -> Option<u64> {
    // A section's name with its length, and then: instance, version, the general registers, RIP.
    const NAME: &[u8] = b"\x03cpu";
    const RIP: usize = NAME.len() + 4 + 4 + 16 * WORD;
    let efer = cpu.efer?;
    let mut found = None;
    for (start, _) in state.windows(NAME.len()).enumerate().filter(|(_, name)| *name == NAME) {
        let part = &state[start..(start + LONGEST_PART).min(state.len())];
        let instance = part.get(NAME.len()..).and_then(<[u8]>::first_chunk).copied();
        // CPUs with APX have 16 more general registers.
        let rip = [RIP, RIP + 16 * WORD].into_iter().find(|at| word(part, *at) == Some(cpu.rip));
        let (Some(rip), Some(index)) = (rip, instance.map(u32::from_be_bytes)) else { continue };
        if index != cpu.index {
            continue;
        }
        for at in rip + WORD..part.len() {
            if word(part, at) != Some(efer) {
                continue;
            }
            let place = |number: usize| word(part, at + number * WORD);
            let (Some(lstar), Some(mask), Some(base)) = (place(2), place(4), place(5)) else {
                break;
            };
            let canonical = (lstar << 16) as i64 >> 16 == lstar as i64 || lstar >> 56 == 0xff;
            let mask_has_32_bits = mask >> 32 == 0;
            let known = cpu.kernel_gs_base.is_none_or(|known| known == base);
            if canonical && mask_has_32_bits && known {
                // A second match means that one of them is chance. The next section of the same CPU is no second.
                if found.is_some_and(|other| other != lstar) {
                    return None;
                }
                found = Some(lstar);
            }
        }
        break;
    }
    found
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LSTAR: u64 = 0xffff_ffff_9ae0_0080;
    const CPU: Registers = Registers {
        index: 1,
        cpl: 3,
        halted: false,
        rip: 0x40_1632,
        rsp: 0,
        cr0: 0,
        cr2: 0,
        cr3: 0,
        cr4: 0,
        efer: Some(0xd01),
        gs_base: None,
        kernel_gs_base: Some(0xff33_69bc_beb0_0000),
        lstar: None,
        gdt: crate::Table { base: 0, limit: 0 },
        idt: crate::Table { base: 0, limit: 0 },
        tss: crate::Table { base: 0, limit: 0 },
        ldt: crate::Table { base: 0, limit: 0 },
    };

    fn part(index: u32, rip: u64, lstar: u64) -> Vec<u8> {
        let mut bytes = b"\x04\0\0\0\x0c\x03cpu".to_vec();
        bytes.extend(index.to_be_bytes());
        bytes.extend(12_u32.to_be_bytes());
        bytes.extend([0x5a; 16 * WORD]);
        bytes.extend(rip.to_be_bytes());
        bytes.extend([0; 333]);
        for word in [0xd01, 0x23_0010 << 32, lstar, LSTAR + 0x100, 0x25_7fd5] {
            bytes.extend(u64::to_be_bytes(word));
        }
        bytes.extend(CPU.kernel_gs_base.unwrap_or(0).to_be_bytes());
        bytes.extend([0; 500]);
        bytes
    }

    #[test]
    fn the_right_cpus_word_is_found() {
        let mut state = part(0, CPU.rip, 0x1000);
        state.extend(part(1, CPU.rip, LSTAR));
        assert_eq!(lstar(&state, &CPU), Some(LSTAR));
        assert_eq!(lstar(&state, &Registers { index: 2, ..CPU }), None);
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let state = part(1, CPU.rip, LSTAR);
        assert_eq!(lstar(&state, &Registers { rip: 1, ..CPU }), None);
        assert_eq!(lstar(&state, &Registers { efer: None, ..CPU }), None);
        assert_eq!(lstar(&state, &Registers { efer: Some(0x500), ..CPU }), None);
        assert_eq!(lstar(&state, &Registers { kernel_gs_base: Some(8), ..CPU }), None);
        assert_eq!(lstar(&part(1, CPU.rip, 0x1234_5678_9abc_def0), &CPU), None);
        for length in 0..state.len() {
            let cut = lstar(&state[..length], &CPU);
            assert!(cut.is_none_or(|found| found == LSTAR));
        }
    }
}

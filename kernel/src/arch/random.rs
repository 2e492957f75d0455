//! A random number for boot: from RDSEED or RDRAND where the CPU has them, mixed with the TSC.

use super::clock::ticks;
use raw_cpuid::CpuId;

fn rdseed() -> Option<u64> {
    let (value, ok): (u64, u8);
    // SAFETY: the caller checked CPUID for RDSEED.
    unsafe {
        core::arch::asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack));
    }
    (ok != 0).then_some(value)
}

fn rdrand() -> Option<u64> {
    let (value, ok): (u64, u8);
    // SAFETY: the caller checked CPUID for RDRAND.
    unsafe {
        core::arch::asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack));
    }
    (ok != 0).then_some(value)
}

/// One step of SplitMix64's output function: spreads every input bit over all output bits.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// 64 bits, as random as this machine can make them before it runs.
pub fn seed() -> u64 {
    let cpuid = CpuId::new();
    let has_rdseed = cpuid.get_extended_feature_info().is_some_and(|leaf| leaf.has_rdseed());
    let has_rdrand = cpuid.get_feature_info().is_some_and(|leaf| leaf.has_rdrand());
    let mut value = mix(ticks());
    for _ in 0..10 {
        // RDSEED may have nothing for a while where RDRAND has.
        let seeded = has_rdseed.then(rdseed).flatten();
        let hardware = seeded.or_else(|| has_rdrand.then(rdrand).flatten());
        if let Some(hardware) = hardware {
            value ^= hardware;
            break;
        }
        value = mix(value ^ ticks());
    }
    mix(value)
}

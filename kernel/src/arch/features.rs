//! CPU features that the kernel turns on: protections first, then state.

use raw_cpuid::CpuId;
use ringwall::policy::CpuidFacts;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// What this CPU has of what the kernel asks about again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// RDFSBASE and its kin.
    pub fsgsbase: bool,
    /// Process-context identifiers.
    pub pcid: bool,
    /// INVPCID.
    pub invpcid: bool,
}

/// Turns on what this CPU has of WP, SMEP, SMAP, UMIP, FSGSBASE, PKU, SSE and XSAVE. PGE stays off: with
/// two roots no kernel translation may be global.
///
/// # Errors
/// A sentence for the console, if the CPU lacks what the kernel cannot do without.
pub fn enable() -> Result<Features, &'static str> {
    let cpuid = CpuId::new();
    let basic = cpuid.get_feature_info().ok_or("this CPU has no CPUID leaf 1")?;
    if !basic.has_xsave() {
        return Err("this CPU has no XSAVE; use another (QEMU: -cpu max)");
    }
    let extended = cpuid.get_extended_feature_info();
    let has = |test: fn(&raw_cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(test);
    let smap = has(|leaf| leaf.has_smap());
    let fsgsbase = has(|leaf| leaf.has_fsgsbase());
    let mut control = Cr4::read();
    control.remove(Cr4Flags::PAGE_GLOBAL);
    control.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE | Cr4Flags::OSXSAVE);
    // Without it a machine check resets the machine and says nothing.
    control.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, basic.has_mce());
    control.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, has(|leaf| leaf.has_smep()));
    control.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, smap);
    control.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, has(|leaf| leaf.has_umip()));
    control.set(Cr4Flags::FSGSBASE, fsgsbase);
    control.set(Cr4Flags::PROTECTION_KEY_USER, has(|leaf| leaf.has_pku()));
    // SAFETY: CPUID has each of them, and the kernel touches user memory only between STAC and CLAC.
    unsafe { Cr4::write(control) };
    if smap {
        super::smap::enabled();
    }
    let mut base = Cr0::read();
    base.insert(
        Cr0Flags::WRITE_PROTECT
            | Cr0Flags::MONITOR_COPROCESSOR
            | Cr0Flags::NUMERIC_ERROR
            | Cr0Flags::ALIGNMENT_MASK,
    );
    base.remove(Cr0Flags::EMULATE_COPROCESSOR | Cr0Flags::TASK_SWITCHED);
    // SAFETY: the FPU is there, and the kernel writes to no read-only page.
    unsafe { Cr0::write(base) };
    enable_state(&cpuid);
    let invpcid = has(|leaf| leaf.has_invpcid());
    Ok(Features { smap, fsgsbase, pcid: basic.has_pcid(), invpcid })
}

/// XCR0: what Linux turns on of what the CPU has, so that signal frames are as large as there.
fn enable_state(cpuid: &CpuId<raw_cpuid::CpuIdReaderNative>) {
    let Some(leaf) = cpuid.get_extended_state_info() else { return };
    let mut state = XCr0Flags::X87 | XCr0Flags::SSE;
    if leaf.xcr0_supports_avx_256() {
        state |= XCr0Flags::AVX;
    }
    if leaf.xcr0_supports_mpx_bndregs() && leaf.xcr0_supports_mpx_bndcsr() {
        state |= XCr0Flags::BNDREG | XCr0Flags::BNDCSR;
    }
    if leaf.xcr0_supports_avx512_opmask() {
        state |= XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM;
    }
    if leaf.xcr0_supports_mpx_bndregs() && leaf.xcr0_supports_mpx_bndcsr() {
        state |= XCr0Flags::BNDREG | XCr0Flags::BNDCSR;
    }
    let keys = Cr4::read().contains(Cr4Flags::PROTECTION_KEY_USER);
    if leaf.xcr0_supports_pkru() && keys {
        state |= XCr0Flags::MPK;
    }
    // SAFETY: CPUID leaf 13 has each of them; CR4.OSXSAVE is set.
    unsafe { XCr0::write(state) };
}

/// What the isolation policy asks of this CPU.
pub fn facts() -> CpuidFacts {
    /// IA32_ARCH_CAPABILITIES.
    const ARCH_CAPABILITIES: u32 = 0x10a;
    let leaf = |number| {
        let leaf = core::arch::x86_64::__cpuid_count(number, 0);
        [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
    };
    let leaf_7 = if leaf(0)[0] >= 7 { leaf(7) } else { [0; 4] };
    let facts = CpuidFacts::from_leaves(leaf(0), leaf(1), leaf_7);
    if !facts.has_arch_capabilities() {
        return facts;
    }
    // SAFETY: CPUID says that the register exists.
    let value = unsafe { x86_64::registers::model_specific::Msr::new(ARCH_CAPABILITIES).read() };
    facts.with_arch_capabilities(value)
}

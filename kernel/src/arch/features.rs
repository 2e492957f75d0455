//! CPU features that the kernel turns on: protections first, then state.

use raw_cpuid::CpuId;
use ringwall::core::hardening::IBRS_ALL;
use ringwall::policy::{CpuFacts, CpuidFacts, exposure};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

/// What a CPU has of what the kernel turns on, and of what it decided by at boot. Every CPU has to have the same.
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
    smep: bool,
    umip: bool,
    keys: bool,
    machine_check: bool,
    /// What XCR0 is to be: all CPUs save and load programs' state in one layout.
    state: XCr0Flags,
    judged: Judged,
}

/// What isolation and the hardening measures are decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judged {
    affected: bool,
    md_clear: bool,
    spec_ctrl: bool,
    enhanced_ibrs: bool,
}

impl Features {
    /// Of the CPU that this runs on; changes nothing.
    ///
    /// # Errors
    /// A sentence for the console, if the CPU lacks what the kernel cannot do without.
    pub fn read() -> Result<Features, &'static str> {
        let cpuid = CpuId::new();
        let basic = cpuid.get_feature_info().ok_or("this CPU has no CPUID leaf 1")?;
        if !basic.has_xsave() {
            return Err("this CPU has no XSAVE; use another (QEMU: -cpu max)");
        }
        let leaf = cpuid.get_extended_feature_info();
        let has = |test: fn(&raw_cpuid::ExtendedFeatures) -> bool| leaf.as_ref().is_some_and(test);
        let keys = has(|leaf| leaf.has_pku());
        let facts = facts();
        Ok(Features {
            smap: has(|leaf| leaf.has_smap()),
            fsgsbase: has(|leaf| leaf.has_fsgsbase()),
            pcid: basic.has_pcid(),
            invpcid: has(|leaf| leaf.has_invpcid()),
            smep: has(|leaf| leaf.has_smep()),
            umip: has(|leaf| leaf.has_umip()),
            keys,
            machine_check: basic.has_mce(),
            state: state(&cpuid, keys),
            judged: Judged {
                affected: exposure(&facts).affected(),
                md_clear: facts.md_clear(),
                spec_ctrl: facts.spec_ctrl(),
                enhanced_ibrs: facts.arch_capabilities().unwrap_or(0) & IBRS_ALL != 0,
            },
        })
    }

    /// Turns on WP, SMEP, SMAP, UMIP, FSGSBASE, PKU, SSE and XSAVE, as far as they are there. PGE stays off: with two
    /// roots no kernel translation may be global. On the CPU that they were read on.
    pub fn enable(&self) {
        let mut control = Cr4::read();
        control.remove(Cr4Flags::PAGE_GLOBAL);
        control.insert(Cr4Flags::OSFXSR | Cr4Flags::OSXMMEXCPT_ENABLE | Cr4Flags::OSXSAVE);
        // Without it a machine check resets the machine and says nothing.
        control.set(Cr4Flags::MACHINE_CHECK_EXCEPTION, self.machine_check);
        control.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, self.smep);
        control.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, self.smap);
        control.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, self.umip);
        control.set(Cr4Flags::FSGSBASE, self.fsgsbase);
        control.set(Cr4Flags::PROTECTION_KEY_USER, self.keys);
        // SAFETY: CPUID has each of them, and the kernel touches user memory only between STAC and CLAC.
        unsafe { Cr4::write(control) };
        if self.smap {
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
        // SAFETY: CPUID leaf 13 has each of them; CR4.OSXSAVE is set.
        unsafe { XCr0::write(self.state) };
    }
}

/// What Linux turns on in XCR0 of what the CPU has, so that signal frames are as large as there.
fn state(cpuid: &CpuId<raw_cpuid::CpuIdReaderNative>, keys: bool) -> XCr0Flags {
    let mut state = XCr0Flags::X87 | XCr0Flags::SSE;
    let Some(leaf) = cpuid.get_extended_state_info() else { return state };
    if leaf.xcr0_supports_avx_256() {
        state |= XCr0Flags::AVX;
    }
    if leaf.xcr0_supports_mpx_bndregs() && leaf.xcr0_supports_mpx_bndcsr() {
        state |= XCr0Flags::BNDREG | XCr0Flags::BNDCSR;
    }
    if leaf.xcr0_supports_avx512_opmask() {
        state |= XCr0Flags::OPMASK | XCr0Flags::ZMM_HI256 | XCr0Flags::HI16_ZMM;
    }
    if leaf.xcr0_supports_pkru() && keys {
        state |= XCr0Flags::MPK;
    }
    state
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

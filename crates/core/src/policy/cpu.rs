//! What a CPU says about itself, and whether Meltdown reads through it.
//!
//! The kernel executes CPUID (and RDMSR, if CPUID says the MSR is there) and hands over the numbers;
//! nothing here touches a machine. Invariant: a CPU is affected unless a rule below clears it.
//!
//! ```text
//!   leaf 1 EAX   27        20 19    16     13 12 11     8 7      4 3        0
//!               ├ ext. family ┼ ext. model ┼ type ┼ family ┼ model ┼ stepping ┤
//! ```
//!
//! | vendor | not affected |
//! |---|---|
//! | AMD, Hygon | all families: loads check the permission before data is forwarded |
//! | Intel | IA32_ARCH_CAPABILITIES.RDCL_NO; family 6 Bonnell and Saltwell (in order); family 4, 5 |
//! | Centaur | family 4 and 5; RDCL_NO; **not** family 6 and 7 as such |
//! | Zhaoxin, others | RDCL_NO, family 4 |
//!
//! Silvermont, Airmont and Goldmont are out-of-order Atoms and not in the list: Goldmont says RDCL_NO
//! itself, the others are affected. The rules are those of Linux (`arch/x86/kernel/cpu/common.c`).
//!
//! Intel SDM vol. 2, CPUID; vol. 4, table 2-2, MSR 10AH.

use core::fmt;

/// The MSR IA32_ARCH_CAPABILITIES. Read it only if [`CpuidFacts::has_arch_capabilities`].
pub const IA32_ARCH_CAPABILITIES: u32 = 0x10a;
/// IA32_ARCH_CAPABILITIES.RDCL_NO: not susceptible to Rogue Data Cache Load.
pub const RDCL_NO: u64 = 1 << 0;

const LEAF_1_ECX_PCID: u32 = 1 << 17;
const LEAF_1_EDX_GLOBAL: u32 = 1 << 13;
const LEAF_7_EBX_INVPCID: u32 = 1 << 10;
const LEAF_7_EBX_FSGSBASE: u32 = 1 << 0;
const LEAF_7_EBX_SMEP: u32 = 1 << 7;
const LEAF_7_EBX_SMAP: u32 = 1 << 20;
const LEAF_7_EDX_MD_CLEAR: u32 = 1 << 10;
const LEAF_7_EDX_SPEC_CTRL: u32 = 1 << 26;
const LEAF_7_EDX_ARCH_CAPABILITIES: u32 = 1 << 29;

/// Intel's in-order Atoms, family 6: no speculation past a fault.
const IN_ORDER_ATOMS: [u8; 5] = [
    0x1c, // Bonnell: Diamondville, Pineview
    0x26, // Bonnell: Silverthorne, Lincroft
    0x27, // Saltwell: Penwell
    0x35, // Saltwell: Cloverview
    0x36, // Saltwell: Cedarview
];

/// Who made the CPU, from CPUID leaf 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// `GenuineIntel`
    Intel,
    /// `AuthenticAMD`
    Amd,
    /// `HygonGenuine`
    Hygon,
    /// `CentaurHauls`: VIA, and Zhaoxin under its older name
    Centaur,
    /// `  Shanghai  `
    Zhaoxin,
    /// Anybody else.
    Other,
}

impl Vendor {
    /// The vendor that CPUID leaf 0 names, given EAX, EBX, ECX, EDX.
    #[must_use]
    pub fn from_leaf_0(leaf: [u32; 4]) -> Self {
        let [_, ebx, ecx, edx] = leaf;
        let mut name = [0; 12];
        for (bytes, register) in name.chunks_exact_mut(4).zip([ebx, edx, ecx]) {
            bytes.copy_from_slice(&register.to_le_bytes());
        }
        match &name {
            b"GenuineIntel" => Self::Intel,
            b"AuthenticAMD" => Self::Amd,
            b"HygonGenuine" => Self::Hygon,
            b"CentaurHauls" => Self::Centaur,
            b"  Shanghai  " => Self::Zhaoxin,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Intel => "Intel",
            Self::Amd => "AMD",
            Self::Hygon => "Hygon",
            Self::Centaur => "Centaur",
            Self::Zhaoxin => "Zhaoxin",
            Self::Other => "unknown vendor's",
        })
    }
}

/// The facts about a CPU that isolation depends on. A trait, so that a test, or a kernel that has
/// its own CPUID code, can stand in for [`CpuidFacts`].
pub trait CpuFacts {
    /// Who made it.
    fn vendor(&self) -> Vendor;
    /// Display family: the extended one added in.
    fn family(&self) -> u16;
    /// Display model: the extended one put before.
    fn model(&self) -> u8;
    /// Stepping, 0 to 15.
    fn stepping(&self) -> u8;
    /// IA32_ARCH_CAPABILITIES; `None` if there is no such MSR.
    fn arch_capabilities(&self) -> Option<u64>;
    /// Whether CR4.PCIDE may be set.
    fn pcid(&self) -> bool;
    /// Whether INVPCID exists. It may without [`pcid`](Self::pcid), and the other way round.
    fn invpcid(&self) -> bool;
    /// Whether CR4.PGE may be set.
    fn global_pages(&self) -> bool;
    /// Whether CR4.FSGSBASE may be set.
    fn fsgsbase(&self) -> bool;
    /// Whether CR4.SMEP may be set.
    fn smep(&self) -> bool;
    /// Whether CR4.SMAP may be set, and so CLAC exists.
    fn smap(&self) -> bool;
    /// Whether VERW overwrites the CPU's buffers (MD_CLEAR).
    fn md_clear(&self) -> bool;
    /// Whether IA32_SPEC_CTRL.IBRS exists.
    fn spec_ctrl(&self) -> bool;
}

/// [`CpuFacts`] as CPUID gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuidFacts {
    leaf_0: [u32; 4],
    leaf_1: [u32; 4],
    leaf_7: [u32; 4],
    arch_capabilities: Option<u64>,
}

impl CpuidFacts {
    /// The facts in CPUID leaves 0, 1 and 7 (subleaf 0), each as EAX, EBX, ECX, EDX.
    ///
    /// Leaf 7 counts only if leaf 0 says that it exists (EAX at least 7): an older CPU answers it
    /// with another leaf's data, which is ignored here.
    #[must_use]
    pub const fn from_leaves(leaf_0: [u32; 4], leaf_1: [u32; 4], leaf_7: [u32; 4]) -> Self {
        let leaf_7 = if leaf_0[0] >= 7 { leaf_7 } else { [0; 4] };
        Self { leaf_0, leaf_1, leaf_7, arch_capabilities: None }
    }

    /// Whether [`IA32_ARCH_CAPABILITIES`] exists. Read it then, and add it with
    /// [`with_arch_capabilities`](Self::with_arch_capabilities); elsewhere reading it is #GP.
    #[must_use]
    pub const fn has_arch_capabilities(&self) -> bool {
        self.leaf_7[3] & LEAF_7_EDX_ARCH_CAPABILITIES != 0
    }

    /// The same with the value of [`IA32_ARCH_CAPABILITIES`]. Where CPUID does not announce the MSR
    /// the value is dropped.
    #[must_use]
    pub const fn with_arch_capabilities(mut self, value: u64) -> Self {
        if self.has_arch_capabilities() {
            self.arch_capabilities = Some(value);
        }
        self
    }
}

impl CpuFacts for CpuidFacts {
    fn vendor(&self) -> Vendor {
        Vendor::from_leaf_0(self.leaf_0)
    }

    fn family(&self) -> u16 {
        let signature = self.leaf_1[0];
        let family = (signature >> 8 & 0xf) as u16;
        if family == 0xf { family + (signature >> 20 & 0xff) as u16 } else { family }
    }

    fn model(&self) -> u8 {
        let signature = self.leaf_1[0];
        let model = (signature >> 4 & 0xf) as u8;
        if self.family() >= 6 { (signature >> 16 & 0xf) as u8 * 16 + model } else { model }
    }

    fn stepping(&self) -> u8 {
        (self.leaf_1[0] & 0xf) as u8
    }

    fn arch_capabilities(&self) -> Option<u64> {
        self.arch_capabilities
    }

    fn pcid(&self) -> bool {
        self.leaf_1[2] & LEAF_1_ECX_PCID != 0
    }

    fn invpcid(&self) -> bool {
        self.leaf_7[1] & LEAF_7_EBX_INVPCID != 0
    }

    fn global_pages(&self) -> bool {
        self.leaf_1[3] & LEAF_1_EDX_GLOBAL != 0
    }

    fn fsgsbase(&self) -> bool {
        self.leaf_7[1] & LEAF_7_EBX_FSGSBASE != 0
    }

    fn smep(&self) -> bool {
        self.leaf_7[1] & LEAF_7_EBX_SMEP != 0
    }

    fn smap(&self) -> bool {
        self.leaf_7[1] & LEAF_7_EBX_SMAP != 0
    }

    fn md_clear(&self) -> bool {
        self.leaf_7[3] & LEAF_7_EDX_MD_CLEAR != 0
    }

    fn spec_ctrl(&self) -> bool {
        self.leaf_7[3] & LEAF_7_EDX_SPEC_CTRL != 0
    }
}

/// Whether Meltdown reads through a CPU, and what says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Not affected: no CPU of this vendor is.
    Vendor(Vendor),
    /// Not affected: IA32_ARCH_CAPABILITIES.RDCL_NO.
    RdclNo,
    /// Not affected: a CPU of this family and model does not speculate.
    NoSpeculation {
        /// Who made it.
        vendor: Vendor,
        /// Display family.
        family: u16,
        /// Display model.
        model: u8,
    },
    /// Affected, or nothing says that it is not.
    Affected {
        /// Who made it.
        vendor: Vendor,
        /// Display family.
        family: u16,
        /// Display model.
        model: u8,
    },
}

impl Exposure {
    /// Whether the CPU needs isolation.
    #[must_use]
    pub const fn affected(self) -> bool {
        matches!(self, Self::Affected { .. })
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vendor(vendor) => write!(f, "{vendor} CPUs are not affected by Meltdown"),
            Self::RdclNo => f.write_str("the CPU says that Meltdown does not affect it (RDCL_NO)"),
            Self::NoSpeculation { vendor, family, model } => write!(
                f,
                "the {vendor} CPU (family {family:#x}, model {model:#x}) does not speculate, \
                 Meltdown does not affect it"
            ),
            Self::Affected { vendor, family, model } => write!(
                f,
                "the {vendor} CPU (family {family:#x}, model {model:#x}) is affected by Meltdown"
            ),
        }
    }
}

/// Whether Meltdown reads through this CPU: the table at the head of this file.
#[must_use]
pub fn exposure(cpu: &(impl CpuFacts + ?Sized)) -> Exposure {
    let (vendor, family, model) = (cpu.vendor(), cpu.family(), cpu.model());
    let no_speculation = match (vendor, family) {
        (_, 4) | (Vendor::Intel | Vendor::Centaur, 5) => true,
        (Vendor::Intel, 6) => IN_ORDER_ATOMS.contains(&model),
        _ => false,
    };
    if no_speculation {
        Exposure::NoSpeculation { vendor, family, model }
    } else if matches!(vendor, Vendor::Amd | Vendor::Hygon) {
        Exposure::Vendor(vendor)
    } else if cpu.arch_capabilities().is_some_and(|bits| bits & RDCL_NO != 0) {
        Exposure::RdclNo
    } else {
        Exposure::Affected { vendor, family, model }
    }
}

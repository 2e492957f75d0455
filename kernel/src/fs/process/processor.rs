//! /proc/cpuinfo, from CPUID.

use crate::arch::cpu;
use crate::errno::Result;
use crate::fs::generated::Subject;
use alloc::{format, string::String, vec::Vec};
use core::arch::x86_64::{__cpuid, __cpuid_count};
use raw_cpuid::{CpuId, TopologyType};
use ringwall_rules::cpus::Topology;

/// Flag names by leaf, subleaf, register (0 to 3 for EAX to EDX), lowest bit first; "" is not shown.
const FLAGS: &[(u32, u32, usize, &str)] = &[
    (
        1,
        0,
        3,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - \
         dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe",
    ),
    (
        0x8000_0001,
        0,
        3,
        "- - - - - - - - - - - syscall - - - - - - - mp nx - mmxext - - fxsr_opt pdpe1gb rdtscp - \
         lm 3dnowext 3dnow",
    ),
    (
        1,
        0,
        2,
        "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - \
         pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c \
         rdrand hypervisor",
    ),
    (
        0x8000_0001,
        0,
        2,
        "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs \
         xop skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - \
         bpext ptsc perfctr_llc mwaitx - -",
    ),
    (
        7,
        0,
        1,
        "fsgsbase tsc_adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm cqm - mpx rdt_a \
         avx512f avx512dq rdseed adx smap avx512ifma - clflushopt clwb intel_pt avx512pf \
         avx512er avx512cd sha_ni avx512bw avx512vl",
    ),
    (0xd, 1, 0, "xsaveopt xsavec xgetbv1 xsaves"),
    (
        7,
        0,
        2,
        "- avx512vbmi umip pku ospke waitpkg avx512_vbmi2 - gfni vaes vpclmulqdq avx512_vnni \
         avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid",
    ),
    (
        7,
        0,
        3,
        "- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect - md_clear - - - \
         serialize hybrid_cpu tsxldtrk - pconfig arch_lbr ibt - amx_bf16 avx512_fp16 amx_tile \
         amx_int8 - - flush_l1d arch_capabilities - -",
    ),
];

fn leaf(number: u32, subleaf: u32) -> [u32; 4] {
    let most = __cpuid(number & 0x8000_0000).eax;
    if number > most {
        return [0; 4];
    }
    let result = __cpuid_count(number, subleaf);
    [result.eax, result.ebx, result.ecx, result.edx]
}

fn text_of(registers: &[u32]) -> String {
    let bytes: Vec<u8> = registers.iter().flat_map(|register| register.to_le_bytes()).collect();
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().into()
}

fn flags() -> String {
    let mut text = String::new();
    for &(number, subleaf, register, names) in FLAGS {
        let bits = leaf(number, subleaf)[register];
        for (bit, name) in names.split_ascii_whitespace().enumerate() {
            if bits >> bit & 1 != 0 && name != "-" {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(name);
            }
        }
    }
    text
}

/// How APIC identifiers are made up, by CPUID: the same on all CPUs.
fn topology() -> Topology {
    let mut topology = Topology { core: 0, package: 0 };
    let levels = CpuId::new().get_extended_topology_info();
    for level in levels.into_iter().flatten() {
        match level.level_type() {
            TopologyType::SMT => topology.core = level.shift_right_for_next_apic_id(),
            TopologyType::Core => topology.package = level.shift_right_for_next_apic_id(),
            _ => {}
        }
    }
    Topology { package: topology.package.max(topology.core), ..topology }
}

pub fn information(_: &Subject) -> Result<Vec<u8>> {
    let [_, b, c, d] = leaf(0, 0);
    let vendor = text_of(&[b, d, c]);
    let [signature, b1, ..] = leaf(1, 0);
    let base_family = signature >> 8 & 15;
    let extended = if base_family == 15 { signature >> 20 & 255 } else { 0 };
    let high_model = if base_family == 6 || base_family == 15 { signature >> 16 & 15 } else { 0 };
    let model = high_model << 4 | signature >> 4 & 15;
    let names: Vec<u32> = (0x8000_0002..=0x8000_0004).flat_map(|number| leaf(number, 0)).collect();
    let name = match text_of(&names) {
        name if name.is_empty() => String::from("unknown"),
        name => name,
    };
    let sizes = leaf(0x8000_0008, 0)[0];
    let affected = crate::fs::MELTDOWN.get().is_none_or(|status| status != "Not affected");
    let bugs = if affected { "cpu_meltdown" } else { "" };
    let topology = topology();
    let online: Vec<usize> = cpu::online().iter().collect();
    let ids = online.iter().map(|&cpu| cpu::of(cpu).apic_id());
    let flags = flags();
    let line = (b1 >> 8 & 255) * 8;
    let mut text = String::new();
    for &number in &online {
        let id = cpu::of(number).apic_id();
        let (siblings, cores) = topology.neighbours(id, ids.clone());
        text.push_str(&format!(
            "processor\t: {number}\nvendor_id\t: {vendor}\ncpu family\t: {}\nmodel\t\t: {model}\n\
             model name\t: {name}\nstepping\t: {}\nphysical id\t: {}\nsiblings\t: {siblings}\n\
             core id\t\t: {}\ncpu cores\t: {cores}\napicid\t\t: {id}\ninitial apicid\t: {id}\n\
             fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\nflags\t\t: {flags}\n\
             bugs\t\t: {bugs}\nclflush size\t: {line}\ncache_alignment\t: {line}\n\
             address sizes\t: {} bits physical, {} bits virtual\npower management:\n\n",
            base_family + extended,
            signature & 15,
            topology.package_of(id),
            topology.core_of(id),
            leaf(0, 0)[0],
            sizes & 255,
            sizes >> 8 & 255,
        ));
    }
    Ok(text.into_bytes())
}

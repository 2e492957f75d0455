//! What programs can get into a descriptor table, and what they cannot.

use proptest::prelude::*;
use ringwall_core::segment::{Descriptor, Kind, Segment, SegmentError};

const FLAT_DATA: Segment = Segment {
    base: 0,
    limit: 0xf_ffff,
    kind: Kind::Data,
    full: true,
    present: true,
    pages: true,
    wide: true,
    available: false,
};

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Data), Just(Kind::ExpandDown), Just(Kind::Code), Just(Kind::Conforming)]
}

prop_compose! {
    fn segments()(
        base: u32, limit: u32, kind in kinds(), full: bool, present: bool, pages: bool, wide: bool,
        available: bool,
    ) -> Segment {
        Segment { base, limit, kind, full, present, pages, wide, available }
    }
}

/// The descriptor's parts, taken apart in another way than the code does.
struct Parts {
    system: bool,
    ring: u8,
    long: bool,
    kind: u8,
    present: bool,
}

fn parts(bits: u64) -> Parts {
    let bytes = bits.to_le_bytes();
    Parts {
        system: bytes[5] & 0x10 == 0,
        ring: bytes[5] >> 5 & 3,
        long: bytes[6] & 0x20 != 0,
        kind: bytes[5] & 0xf,
        present: bytes[5] & 0x80 != 0,
    }
}

#[test]
fn linuxs_flat_descriptors() {
    let data = Descriptor::for_ldt(&FLAT_DATA).expect("data");
    assert_eq!(data.bits(), 0x00cf_f300_0000_ffff);
    let code = Segment { kind: Kind::Code, ..FLAT_DATA };
    assert_eq!(Descriptor::for_ldt(&code).expect("code").bits(), 0x00cf_fb00_0000_ffff);
    let narrow = Segment { base: 0x1234_5678, limit: 0x1_2345, pages: false, wide: false, ..code };
    assert_eq!(Descriptor::for_ldt(&narrow).expect("code").bits(), 0x1201_fb34_5678_2345);
}

#[test]
fn conforming_code_cannot_be_present() {
    let conforming = Segment { kind: Kind::Conforming, ..FLAT_DATA };
    assert_eq!(Descriptor::for_ldt(&conforming), Err(SegmentError::Conforming));
    assert!(Descriptor::for_ldt(&Segment { present: false, ..conforming }).is_ok());
}

#[test]
fn a_threads_segment_is_present_32_bit_data() {
    assert!(Descriptor::for_thread(&FLAT_DATA).is_ok());
    let refused = |segment| Descriptor::for_thread(&segment).err();
    let narrow = Segment { wide: false, ..FLAT_DATA };
    assert_eq!(refused(narrow), Some(SegmentError::Narrow));
    for kind in [Kind::Code, Kind::Conforming] {
        assert_eq!(refused(Segment { kind, ..FLAT_DATA }), Some(SegmentError::Code));
    }
    let absent = Segment { present: false, ..FLAT_DATA };
    assert_eq!(refused(absent), Some(SegmentError::NotPresent));
}

#[test]
fn gates_and_system_segments_are_no_descriptors() {
    // A call gate, an LDT, a TSS, an interrupt gate, each open to ring 3; 64-bit code; kernel code;
    // conforming code; data that the CPU has yet to mark.
    for bits in [
        0x0000_ec00_0010_1234,
        0x0000_e200_1000_ffff,
        0x0000_e900_1000_0067,
        0x0000_ee00_0010_1234,
        0x00af_fb00_0000_ffff,
        0x00cf_9b00_0000_ffff,
        0x00cf_ff00_0000_ffff,
        0x00cf_f200_0000_ffff,
    ] {
        assert_eq!(Descriptor::from_bits(bits), None, "{bits:#x}");
    }
    assert_eq!(Descriptor::from_bits(0), Some(Descriptor::EMPTY));
}

proptest! {
    #[test]
    fn whatever_is_asked_for_is_harmless(segment in segments()) {
        for made in [Descriptor::for_ldt(&segment), Descriptor::for_thread(&segment)] {
            let Ok(made) = made else { continue };
            let parts = parts(made.bits());
            prop_assert!(!parts.system && parts.ring == 3 && !parts.long);
            prop_assert_eq!(parts.kind & 1, 1, "accessed");
            prop_assert!(!parts.present || parts.kind < 12, "conforming");
            prop_assert_eq!(Descriptor::from_bits(made.bits()), Some(made));
        }
    }

    #[test]
    fn a_descriptor_says_what_was_asked_for(segment in segments()) {
        if let Ok(made) = Descriptor::for_ldt(&segment) {
            let twenty_bits = Segment { limit: segment.limit & 0xf_ffff, ..segment };
            prop_assert_eq!(made.segment(), twenty_bits);
            prop_assert!(!made.is_empty());
        }
    }

    #[test]
    fn bits_are_taken_as_they_are_or_not_at_all(bits: u64) {
        if let Some(taken) = Descriptor::from_bits(bits) {
            prop_assert_eq!(taken.bits(), bits);
            let parts = parts(bits);
            prop_assert!(bits == 0 || !parts.system && parts.ring == 3 && !parts.long);
            if bits != 0 {
                prop_assert_eq!(Descriptor::for_ldt(&taken.segment()), Ok(taken));
            }
        }
    }
}

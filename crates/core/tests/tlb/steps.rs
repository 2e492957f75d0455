//! What may happen, in any order.

use proptest::prelude::*;

use crate::memory::{PAGES, SHARED_PAGES, SPACES};
use crate::world::CPUS;

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Map {
        space: usize,
        page: usize,
    },
    /// Copy on write.
    Copy {
        cpu: usize,
        space: usize,
        page: usize,
    },
    /// Pages `first` to `last`, those that are mapped.
    Unmap {
        cpu: usize,
        space: usize,
        first: usize,
        last: usize,
    },
    /// The table, and whatever is mapped through it.
    UnmapTable {
        cpu: usize,
        space: usize,
    },
    MapShared {
        page: usize,
    },
    /// The first page, or both, which are so far apart that they are not flushed one by one.
    UnmapShared {
        cpu: usize,
        both: bool,
    },
    /// `cpu` answers one of the shootdowns that are under way.
    Message {
        shootdown: usize,
        cpu: usize,
    },
    Switch {
        cpu: usize,
        space: usize,
    },
    Rest {
        cpu: usize,
    },
    /// To ring 3; under the kernel root if it is to be and the space is open.
    Exit {
        cpu: usize,
        open: bool,
    },
    Enter {
        cpu: usize,
    },
    Open {
        space: usize,
    },
    Close {
        cpu: usize,
        space: usize,
    },
    End {
        space: usize,
    },
}

/// Few spaces often, so that CPUs meet in them.
fn spaces() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![4 => 0..2_usize, 1 => 0..SPACES]
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (cpu, space) = (0..CPUS, spaces());
    let step = prop_oneof![
        8 => (space.clone(), 0..PAGES).prop_map(|(space, page)| Step::Map { space, page }),
        2 => (cpu.clone(), space.clone(), 0..PAGES)
            .prop_map(|(cpu, space, page)| Step::Copy { cpu, space, page }),
        5 => (cpu.clone(), space.clone(), 0..PAGES, 0..2_usize)
            .prop_map(|(cpu, space, first, more)| Step::Unmap { cpu, space, first, last: first + more }),
        2 => (cpu.clone(), space.clone()).prop_map(|(cpu, space)| Step::UnmapTable { cpu, space }),
        2 => (0..SHARED_PAGES).prop_map(|page| Step::MapShared { page }),
        2 => (cpu.clone(), any::<bool>())
            .prop_map(|(cpu, both)| Step::UnmapShared { cpu, both }),
        12 => (0..4_usize, cpu.clone())
            .prop_map(|(shootdown, cpu)| Step::Message { shootdown, cpu }),
        6 => (cpu.clone(), space.clone()).prop_map(|(cpu, space)| Step::Switch { cpu, space }),
        2 => cpu.clone().prop_map(|cpu| Step::Rest { cpu }),
        8 => (cpu.clone(), any::<bool>()).prop_map(|(cpu, open)| Step::Exit { cpu, open }),
        4 => cpu.clone().prop_map(|cpu| Step::Enter { cpu }),
        1 => space.clone().prop_map(|space| Step::Open { space }),
        1 => (cpu, space.clone()).prop_map(|(cpu, space)| Step::Close { cpu, space }),
        1 => space.prop_map(|space| Step::End { space }),
    ];
    prop::collection::vec(step, 1..120)
}

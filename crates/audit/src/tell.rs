//! What is said of one view once it is walked: names, what stands in visible memory, and what is wrong.
//!
//! ```text
//!   runs ── names ──► regions ── contents ──► pointers, remains ── findings ──► what is wrong
//! ```

use crate::contents::{Contents, Effort, search};
use crate::cpu::Cpu;
use crate::document::{CpuView, Finding, Region, View};
use crate::findings::{Differences, Seen, WHOLE, find};
use crate::names::symbols::Symbols;
use crate::names::{Names, Scene};
use crate::tables::{TableCache, Tables};

/// What the walk knows of a view and the document does not keep.
#[derive(Default)]
pub struct Halves {
    /// Where the two roots disagree about user memory.
    pub differences: Differences,
    /// User memory that the kernel's root leaves executable.
    pub executable: Vec<Region>,
}

/// Names a view's regions, searches them, fills in what is counted, and says what is wrong. `registers` are those of
/// all CPUs, also of those that have no view.
pub fn tell(
    cache: &TableCache,
    (index, view): (usize, &mut View),
    halves: &Halves,
    (cpus, registers): (&[CpuView], &[Cpu]),
    symbols: Option<&Symbols>,
    effort: &mut Effort,
) -> Vec<Finding> {
    let here = || cpus.iter().filter(|cpu| cpu.view == index);
    let Some(first) = here().next() else { return Vec::new() };
    let user = Tables::new(cache, view.user_root, first.paging);
    let kernel = view.kernel_root.map(|root| Tables::new(cache, root, first.paging));
    let numbers: Vec<u32> = here().map(|cpu| cpu.cpu.index).collect();
    let (visible, hidden) = (std::mem::take(&mut view.visible), std::mem::take(&mut view.kernel));
    let scene = Scene {
        user: &user,
        kernel: kernel.as_ref().unwrap_or(&user),
        visible: &visible,
        hidden: &hidden,
        cpus: registers,
        here: &numbers,
    };
    let names = Names::new(&scene, symbols);
    view.visible = names.name(visible, &user);
    if let Some(kernel) = &kernel {
        view.kernel = names.name(hidden, kernel);
    }
    // What maps the kernel whole has all the kernel's contents: no need to list them.
    let mut contents = Contents::default();
    if kernel.is_some() || view.totals.visible_bytes < WHOLE {
        contents = search(&user, kernel.as_ref(), &view.visible, &names, effort);
    }
    view.totals.pointers = contents.pointer_count;
    view.filled = std::mem::take(&mut contents.filled);
    let (view, contents, kernel) = (&*view, &contents, kernel.as_ref());
    find(cpus, &Seen { index, view, names: &names, contents, halves, kernel })
}

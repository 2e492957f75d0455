//! What others want to know of all processes: found, listed, counted.

use super::lock;
use crate::task::{Process, Thread};
use alloc::{sync::Arc, vec::Vec};

/// Finds a process by identifier.
pub fn find(pid: u32) -> Option<Arc<Process>> {
    lock().process(pid).cloned()
}

/// Finds a thread by identifier.
pub fn find_thread(tid: u32) -> Option<Arc<Thread>> {
    lock().thread(tid).cloned()
}

/// A list of as many as `most`; an empty one if there is no memory for it.
pub(in crate::task) fn collected<T>(most: usize, items: impl Iterator<Item = T>) -> Vec<T> {
    let mut list = Vec::new();
    if list.try_reserve_exact(most).is_ok() {
        list.extend(items.take(most));
    }
    list
}

/// All processes, for /proc, by identifier.
pub fn all() -> Vec<Arc<Process>> {
    let mut processes = {
        let table = lock();
        let nodes = table.entries.values().filter_map(|entry| entry.node.as_ref());
        collected(table.processes, nodes.map(|node| Arc::clone(&node.process)))
    };
    processes.sort_unstable_by_key(|process| process.pid);
    processes
}

/// The processes of a group.
pub fn members(group: u32) -> Vec<Arc<Process>> {
    let table = lock();
    collected(table.group(group).count(), table.group(group).cloned())
}

/// Runs `each` for all processes, or for those of a group, with the table locked.
pub fn for_each(group: Option<u32>, mut each: impl FnMut(&Process)) {
    let table = lock();
    match group {
        Some(group) => table.group(group).for_each(|process| each(process)),
        None => table.processes().for_each(|process| each(process)),
    }
}

/// Whether a process has children.
pub fn has_children(pid: u32) -> bool {
    lock().has_child(pid)
}

/// Number of processes and of threads, threads made since boot, and the last identifier given
/// out, for /proc/loadavg, /proc/stat and sysinfo.
pub fn counts() -> (usize, usize, u64, u32) {
    let table = lock();
    (table.processes, table.threads, table.forks, table.last)
}

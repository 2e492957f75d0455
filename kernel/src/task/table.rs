//! Who is who: identifiers, parents and children, process groups, sessions.
//!
//! One table behind one lock keeps all relations, so that they can change together. Identifiers
//! are handed out in turn, as Linux does; one is in use as long as a thread, a process that was
//! not collected, a group or a session has it. No operation looks at all processes but those that
//! are about all of them.
//!
//! Lock order: the table's lock comes before every other lock of this area.

use super::{Process, Thread};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, MutexGuard};
use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};
use core::hash::{BuildHasherDefault, Hasher};
use core::sync::atomic::Ordering;
use hashbrown::HashMap;

/// One more than the greatest identifier (Linux's default pid_max).
pub const IDENTIFIERS: u32 = 32_768;
/// Where counting starts again after the last: Linux keeps the first for daemons.
const FIRST_AGAIN: u32 = 300;

/// What an identifier stands for.
#[derive(Default)]
struct Entry {
    thread: Option<Arc<Thread>>,
    node: Option<Box<Node>>,
    /// Processes of the group of that name.
    group: Vec<u32>,
    /// Number of processes in the session of that name.
    session: u32,
}

/// A process's relations.
struct Node {
    process: Arc<Process>,
    /// Key among the parent's children.
    order: u64,
    /// Place in its group's list.
    group_slot: usize,
    /// All children, oldest first, and those that have ended.
    children: BTreeMap<u64, u32>,
    ended: BTreeMap<u64, u32>,
    /// Threads that its threads trace.
    tracees: Vec<Arc<Thread>>,
}

/// The table.
pub struct Table {
    entries: HashMap<u32, Entry, BuildHasherDefault<Spread>>,
    last: u32,
    order: u64,
    processes: usize,
    threads: usize,
    forks: u64,
}

/// Spreads identifiers over the hash table: one multiplication.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, value: u32) {
        // The golden ratio's bits: neighbours land far apart, in the upper bits too.
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20);
    }
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    entries: HashMap::with_hasher(BuildHasherDefault::new()),
    last: 0,
    order: 0,
    processes: 0,
    threads: 0,
    forks: 0,
});

/// The table, locked.
pub(super) fn lock() -> MutexGuard<'static, Table> {
    TABLE.lock()
}

impl Table {
    /// Takes an identifier for a thread that is being made.
    pub(super) fn take_identifier(&mut self) -> Result<u32> {
        if self.entries.len() >= IDENTIFIERS as usize - 1 {
            return Err(Errno::EAGAIN);
        }
        self.entries.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let mut candidate = self.last;
        loop {
            candidate += 1;
            if candidate >= IDENTIFIERS {
                candidate = FIRST_AGAIN;
            }
            if let hashbrown::hash_map::Entry::Vacant(vacant) = self.entries.entry(candidate) {
                vacant.insert(Entry::default());
                self.last = candidate;
                return Ok(candidate);
            }
            if candidate == self.last {
                return Err(Errno::EAGAIN);
            }
        }
    }

    /// Gives an identifier back if nothing has it any more.
    pub(super) fn release(&mut self, id: u32) {
        if let hashbrown::hash_map::Entry::Occupied(entry) = self.entries.entry(id) {
            let it = entry.get();
            if it.thread.is_none() && it.node.is_none() && it.group.is_empty() && it.session == 0 {
                entry.remove();
            }
        }
    }

    fn node(&self, pid: u32) -> Option<&Node> {
        self.entries.get(&pid)?.node.as_deref()
    }

    fn node_mut(&mut self, pid: u32) -> Option<&mut Node> {
        self.entries.get_mut(&pid)?.node.as_deref_mut()
    }

    /// All processes, in no order.
    pub(super) fn processes(&self) -> impl Iterator<Item = &Arc<Process>> {
        self.entries.values().filter_map(|entry| Some(&entry.node.as_ref()?.process))
    }

    /// The process of an identifier, ended or not.
    pub(super) fn process(&self, pid: u32) -> Option<&Arc<Process>> {
        Some(&self.node(pid)?.process)
    }

    /// The thread of an identifier.
    pub(super) fn thread(&self, tid: u32) -> Option<&Arc<Thread>> {
        self.entries.get(&tid)?.thread.as_ref()
    }

    /// Enters a thread under its identifier, which was taken before.
    pub(super) fn add_thread(&mut self, thread: &Arc<Thread>) {
        if let Some(entry) = self.entries.get_mut(&thread.tid()) {
            entry.thread = Some(Arc::clone(thread));
            self.threads += 1;
            self.forks += 1;
        }
    }

    /// Takes a thread out; the caller drops it after unlocking.
    pub(super) fn remove_thread(&mut self, tid: u32) -> Option<Arc<Thread>> {
        let thread = self.entries.get_mut(&tid)?.thread.take();
        if thread.is_some() {
            self.threads -= 1;
        }
        self.release(tid);
        thread
    }

    /// Enters a process as child of `parent`, in its group and session. Process 1 and its like,
    /// without parent, are in group and session 0 at first, as Linux has it.
    pub(super) fn add_process(&mut self, process: &Arc<Process>, parent: Option<&Process>) {
        let pid = process.pid;
        self.order += 1;
        let order = self.order;
        let node = Box::new(Node {
            process: Arc::clone(process),
            order,
            group_slot: 0,
            children: BTreeMap::new(),
            ended: BTreeMap::new(),
            tracees: Vec::new(),
        });
        if let Some(entry) = self.entries.get_mut(&pid) {
            entry.node = Some(node);
            self.processes += 1;
        }
        if let Some(parent) = parent {
            process.parent.store(parent.pid, Ordering::Relaxed);
            if let Some(node) = self.node_mut(parent.pid) {
                node.children.insert(order, pid);
            }
        }
        let (group, session) = parent.map_or((0, 0), |parent| (parent.group(), parent.session()));
        self.join_group(process, group);
        self.join_session(process, session);
    }

    /// Makes room for one more in `group`: joining it cannot fail then.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn reserve_member(&mut self, group: u32) -> Result<()> {
        let Some(entry) = self.entries.get_mut(&group) else { return Ok(()) };
        entry.group.try_reserve(1).map_err(|_| Errno::ENOMEM)
    }

    fn join_group(&mut self, process: &Process, group: u32) {
        process.group.store(group, Ordering::Relaxed);
        let entry = self.entries.entry(group).or_default();
        let slot = entry.group.len();
        entry.group.push(process.pid);
        if let Some(node) = self.node_mut(process.pid) {
            node.group_slot = slot;
        }
    }

    /// `slot`: its place in the group's list.
    fn leave_group(&mut self, process: &Process, slot: usize) {
        let group = process.group();
        let Some(entry) = self.entries.get_mut(&group) else { return };
        if entry.group.get(slot) != Some(&process.pid) {
            return;
        }
        entry.group.swap_remove(slot);
        if let Some(moved) = entry.group.get(slot).copied()
            && let Some(node) = self.node_mut(moved)
        {
            node.group_slot = slot;
        }
        if group != process.pid {
            self.release(group);
        }
    }

    fn leave_own_group(&mut self, process: &Process) {
        if let Some(slot) = self.node(process.pid).map(|node| node.group_slot) {
            self.leave_group(process, slot);
        }
    }

    fn join_session(&mut self, process: &Process, session: u32) {
        process.session.store(session, Ordering::Relaxed);
        self.entries.entry(session).or_default().session += 1;
    }

    fn leave_session(&mut self, process: &Process) {
        let session = process.session();
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.session = entry.session.saturating_sub(1);
        }
        if session != process.pid {
            self.release(session);
        }
    }

    /// Moves a process to a group of its session (setpgid).
    pub(super) fn set_group(&mut self, process: &Process, group: u32) {
        if process.group() != group {
            self.leave_own_group(process);
            self.join_group(process, group);
        }
    }

    /// Makes a process leader of a new session and group (setsid).
    pub(super) fn set_session(&mut self, process: &Process) {
        self.leave_own_group(process);
        self.leave_session(process);
        self.join_group(process, process.pid);
        self.join_session(process, process.pid);
    }

    /// The session of a group's members.
    pub(super) fn session_of_group(&self, group: u32) -> Option<u32> {
        let first = *self.entries.get(&group)?.group.first()?;
        Some(self.process(first)?.session())
    }

    /// Processes of a group.
    pub(super) fn group(&self, group: u32) -> impl Iterator<Item = &Arc<Process>> {
        let members = self.entries.get(&group).map_or(&[][..], |entry| &entry.group);
        members.iter().filter_map(|pid| self.process(*pid))
    }

    /// Children of a process, oldest first.
    pub(super) fn children(&self, pid: u32) -> impl Iterator<Item = &Arc<Process>> {
        let children = self.node(pid).map(|node| node.children.values());
        children.into_iter().flatten().filter_map(|pid| self.process(*pid))
    }

    /// Ended children that were not collected, oldest first.
    pub(super) fn ended_children(&self, pid: u32) -> impl Iterator<Item = &Arc<Process>> {
        let ended = self.node(pid).map(|node| node.ended.values());
        ended.into_iter().flatten().filter_map(|pid| self.process(*pid))
    }

    /// Whether a process has any child.
    pub(super) fn has_child(&self, pid: u32) -> bool {
        self.node(pid).is_some_and(|node| !node.children.is_empty())
    }

    /// Notes that a process has ended and waits for its parent.
    pub(super) fn note_ended(&mut self, process: &Process) {
        process.set_zombie();
        let Some(order) = self.node(process.pid).map(|node| node.order) else { return };
        if let Some(parent) = self.node_mut(process.parent_id()) {
            parent.ended.insert(order, process.pid);
        }
    }

    /// Gives all children of `pid` to `reaper`. Their identifiers, for their notifications: in what
    /// they were kept in, since an ending process cannot be refused memory.
    pub(super) fn reparent(&mut self, pid: u32, reaper: u32) -> BTreeMap<u64, u32> {
        let children = match self.node_mut(pid) {
            Some(node) if !node.children.is_empty() => {
                node.ended.clear();
                core::mem::take(&mut node.children)
            }
            _ => return BTreeMap::new(),
        };
        for &child in children.values() {
            self.order += 1;
            let order = self.order;
            let Some(node) = self.node_mut(child) else { continue };
            node.order = order;
            let process = Arc::clone(&node.process);
            process.parent.store(reaper, Ordering::Relaxed);
            if let Some(node) = self.node_mut(reaper) {
                node.children.insert(order, child);
                if process.is_zombie() && !process.withheld.load(Ordering::Relaxed) {
                    node.ended.insert(order, child);
                }
            }
        }
        children
    }

    /// Threads that a process's threads trace.
    pub(super) fn tracees(&self, pid: u32) -> &[Arc<Thread>] {
        self.node(pid).map_or(&[], |node| &node.tracees)
    }

    /// Enters a thread that a thread of `pid` traces.
    ///
    /// # Errors
    /// `ENOMEM`; `ESRCH` if there is no such process.
    pub(super) fn add_tracee(&mut self, pid: u32, thread: &Arc<Thread>) -> Result<()> {
        let node = self.node_mut(pid).ok_or(Errno::ESRCH)?;
        node.tracees.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        node.tracees.push(Arc::clone(thread));
        Ok(())
    }

    /// Takes out a thread that nobody traces any more; the caller drops it after unlocking.
    pub(super) fn remove_tracee(&mut self, pid: u32, thread: &Thread) -> Option<Arc<Thread>> {
        let node = self.node_mut(pid)?;
        let place =
            node.tracees.iter().position(|tracee| core::ptr::eq(&raw const **tracee, thread))?;
        Some(node.tracees.remove(place))
    }

    /// Takes an ended process out, if nobody has yet: a wait of its parent's and its own end may both want to. The caller
    /// drops it after unlocking.
    pub(super) fn collect(&mut self, process: &Process) -> Option<Arc<Process>> {
        let is_own = |node: &mut Box<Node>| core::ptr::eq(&raw const *node.process, process);
        let node = self.entries.get_mut(&process.pid)?.node.take_if(is_own)?;
        self.leave_group(process, node.group_slot);
        self.leave_session(process);
        self.processes -= 1;
        if let Some(parent) = self.node_mut(process.parent_id()) {
            parent.children.remove(&node.order);
            parent.ended.remove(&node.order);
        }
        self.release(process.pid);
        Some(node.process)
    }
}

/// Finds a process by identifier.
pub fn find(pid: u32) -> Option<Arc<Process>> {
    lock().process(pid).cloned()
}

/// Finds a thread by identifier.
pub fn find_thread(tid: u32) -> Option<Arc<Thread>> {
    lock().thread(tid).cloned()
}

/// A list of as many as `most`; an empty one if there is no memory for it.
pub(super) fn collected<T>(most: usize, items: impl Iterator<Item = T>) -> Vec<T> {
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

/// Whether a process has children.
pub fn has_children(pid: u32) -> bool {
    lock().has_child(pid)
}

/// Whether no member of a group has a parent in the same session but another group, who could let
/// it go on after a stop: what a terminal asks before it stops a group.
pub fn group_is_orphaned(group: u32) -> bool {
    let table = lock();
    is_orphaned(&table, group, None)
}

/// As [`group_is_orphaned`], as if `ignored` had ended.
pub(super) fn is_orphaned(table: &Table, group: u32, ignored: Option<&Process>) -> bool {
    table.group(group).all(|member| {
        if ignored.is_some_and(|ignored| ignored.pid == member.pid) || member.is_zombie() {
            return true;
        }
        let Some(parent) = table.process(member.parent_id()) else { return true };
        parent.pid == 1 || parent.group() == group || parent.session() != member.session()
    })
}

/// Number of processes and of threads, threads made since boot, and the last identifier given
/// out, for /proc/loadavg, /proc/stat and sysinfo.
pub fn counts() -> (usize, usize, u64, u32) {
    let table = lock();
    (table.processes, table.threads, table.forks, table.last)
}

/// setpgid: moves `pid` (0: the caller) to `group` (0: one of its own).
///
/// # Errors
/// `ESRCH`, `EPERM`, `EACCES`, `EINVAL`.
pub fn set_group(pid: i32, group: i32) -> Result<()> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Arc::clone(&super::current().process);
    let mut table = lock();
    let process = match pid {
        0 => Arc::clone(&caller),
        pid => Arc::clone(table.process(pid.cast_unsigned()).ok_or(Errno::ESRCH)?),
    };
    if process.pid != caller.pid {
        if process.parent_id() != caller.pid {
            return Err(Errno::ESRCH);
        }
        if process.session() != caller.session() {
            return Err(Errno::EPERM);
        }
        if process.has_executed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    }
    if process.session() == process.pid {
        return Err(Errno::EPERM);
    }
    let group = if group == 0 { process.pid } else { group.cast_unsigned() };
    if group != process.pid && table.session_of_group(group) != Some(process.session()) {
        return Err(Errno::EPERM);
    }
    table.reserve_member(group)?;
    table.set_group(&process, group);
    Ok(())
}

/// setsid: the process leaves its group and session for new ones of its own.
///
/// # Errors
/// `EPERM` if it leads a session, or there is a group of its name.
pub fn set_session(process: &Process) -> Result<()> {
    let mut table = lock();
    if process.session() == process.pid || table.group(process.pid).next().is_some() {
        return Err(Errno::EPERM);
    }
    table.set_session(process);
    Ok(())
}

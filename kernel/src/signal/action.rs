//! What a process does about each signal.
//!
//! Few programs change more than a handful of the 64 actions, and every fork copies them: only the
//! changed ones are kept, in order of their numbers, found by counting the bits of a set.

use super::{IGNORED_BY_DEFAULT, bit};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::{sync::Arc, vec::Vec};
use linux_raw_sys::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Handler value for the default action.
pub const DEFAULT: u64 = 0;
/// Handler value for ignoring.
pub const IGNORE: u64 = 1;

/// One signal's action, as rt_sigaction passes it.
#[derive(Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Action {
    /// [`DEFAULT`], [`IGNORE`] or the handler's address.
    pub handler: u64,
    /// SA_* flags.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

impl Action {
    /// Whether an SA_* flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }
}

/// All actions of a process. Shared by CLONE_SIGHAND.
pub struct Actions(Mutex<Table>);

#[derive(Clone, Default)]
struct Table {
    changed: u64,
    /// Handler is a function.
    caught: u64,
    /// Handler is [`IGNORE`].
    ignored: u64,
    list: Vec<Action>,
}

impl Table {
    fn place(&self, signal: u32) -> usize {
        (self.changed & (bit(signal) - 1)).count_ones() as usize
    }

    fn get(&self, signal: u32) -> Action {
        if self.changed & bit(signal) == 0 {
            return Action::default();
        }
        self.list[self.place(signal)]
    }

    fn set(&mut self, signal: u32, action: Action) -> Result<()> {
        let (place, bit) = (self.place(signal), bit(signal));
        if self.changed & bit != 0 {
            self.list[place] = action;
        } else if action != Action::default() {
            self.list.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            self.list.insert(place, action);
            self.changed |= bit;
        }
        let mark = |set: u64, on: bool| if on { set | bit } else { set & !bit };
        self.caught = mark(self.caught, action.handler > IGNORE);
        self.ignored = mark(self.ignored, action.handler == IGNORE);
        Ok(())
    }
}

impl Default for Actions {
    fn default() -> Self {
        Actions::new()
    }
}

impl Actions {
    /// Everything default.
    pub fn new() -> Actions {
        Actions(Mutex::new(Table::default()))
    }

    /// A copy (fork).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<Actions>> {
        let table = self.0.lock();
        let mut list = Vec::new();
        list.try_reserve_exact(table.list.len()).map_err(|_| Errno::ENOMEM)?;
        list.extend_from_slice(&table.list);
        let copy = Table { list, ..Table { list: Vec::new(), ..*table } };
        drop(table);
        Ok(Arc::new(Actions(Mutex::new(copy))))
    }

    /// The actions of a program that begins: handlers are gone, ignored signals stay ignored.
    pub fn for_exec(&self) -> Arc<Actions> {
        let ignored = self.0.lock().ignored;
        let actions = Actions::new();
        {
            let mut table = actions.0.lock();
            let each = Action { handler: IGNORE, ..Action::default() };
            table.list.resize(ignored.count_ones() as usize, each);
            table.changed = ignored;
            table.ignored = ignored;
        }
        Arc::new(actions)
    }

    /// Puts every handler back to the default (CLONE_CLEAR_SIGHAND).
    pub fn without_handlers(&self) -> Arc<Actions> {
        self.for_exec()
    }

    /// A signal's action.
    pub fn get(&self, signal: u32) -> Action {
        self.0.lock().get(signal)
    }

    /// Changes a signal's action; gives the old one.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn set(&self, signal: u32, action: Action) -> Result<Action> {
        let mut table = self.0.lock();
        let old = table.get(signal);
        table.set(signal, action)?;
        Ok(old)
    }

    /// Takes a signal's action for delivery: SA_RESETHAND puts it back to the default.
    pub(super) fn take(&self, signal: u32) -> Action {
        let mut table = self.0.lock();
        let action = table.get(signal);
        if action.has(raw::SA_RESETHAND) && action.handler > IGNORE {
            // The entry exists, so this cannot fail.
            let _ = table.set(signal, Action { handler: DEFAULT, ..action });
        }
        action
    }

    /// Puts a signal back to its default.
    pub(super) fn reset(&self, signal: u32) {
        let mut table = self.0.lock();
        let action = table.get(signal);
        // Without an entry it is the default already; with one this cannot fail.
        let _ = table.set(signal, Action { handler: DEFAULT, ..action });
    }

    /// Signals whose handler is [`IGNORE`].
    pub fn ignored(&self) -> u64 {
        self.0.lock().ignored
    }

    /// Signals with a handler.
    pub fn caught(&self) -> u64 {
        self.0.lock().caught
    }

    /// Signals that do nothing when they are delivered: ignored, or by default.
    pub fn without_effect(&self) -> u64 {
        let table = self.0.lock();
        table.ignored | (IGNORED_BY_DEFAULT & !table.caught)
    }
}

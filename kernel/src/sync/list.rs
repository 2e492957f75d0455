//! Lists whose members lie on their owners' task stacks: no allocation, and any member leaves in a
//! few instructions.
//!
//! Invariant: everything that is in a list is alive. Who puts a member in promises to take it out
//! before it goes away; the lock around the list makes that promise one that can be kept.

use core::cell::Cell;
use core::ptr;

/// A member's place in a list.
pub struct Links<T> {
    previous: Cell<*const T>,
    next: Cell<*const T>,
    linked: Cell<bool>,
}

impl<T> Default for Links<T> {
    fn default() -> Self {
        Links::new()
    }
}

impl<T> Links<T> {
    /// Of a member that is in no list.
    pub const fn new() -> Links<T> {
        Links {
            previous: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
            linked: Cell::new(false),
        }
    }
}

/// What can be in a [`List`].
pub trait Linked: Sized {
    /// Its place.
    fn links(&self) -> &Links<Self>;
}

/// The list itself: first in, first out. Whoever has the lock around it may use its members' links.
pub struct List<T> {
    head: Cell<*const T>,
    tail: Cell<*const T>,
}

// SAFETY: members are alive by the invariant, whichever thread looks at them, and only whoever has
// the list, by its lock, does.
unsafe impl<T> Send for List<T> {}

impl<T: Linked> Default for List<T> {
    fn default() -> Self {
        List::new()
    }
}

impl<T: Linked> List<T> {
    /// An empty list.
    pub const fn new() -> List<T> {
        List { head: Cell::new(ptr::null()), tail: Cell::new(ptr::null()) }
    }

    fn at(&self, member: *const T) -> Option<&T> {
        // SAFETY: null, or a member, which is alive by the invariant.
        unsafe { member.as_ref() }
    }

    /// The first member.
    pub fn first(&self) -> Option<&T> {
        self.at(self.head.get())
    }

    /// The member after `member`, which is in this list.
    pub fn after(&self, member: &T) -> Option<&T> {
        self.at(member.links().next.get())
    }

    /// Whether `member`, which can be in this list alone, is.
    pub fn contains(&self, member: &T) -> bool {
        member.links().linked.get()
    }

    /// Puts `member` at the end.
    ///
    /// # Safety
    /// `member` is in no list, and is taken out of this one before it moves or goes away.
    pub unsafe fn push(&self, member: &T) {
        let last = self.tail.replace(member);
        member.links().previous.set(last);
        member.links().next.set(ptr::null());
        member.links().linked.set(true);
        match self.at(last) {
            Some(last) => last.links().next.set(member),
            None => self.head.set(member),
        }
    }

    /// Takes `member`, which is in this list, out of it.
    pub fn take_out(&self, member: &T) {
        let links = member.links();
        let (previous, next) = (links.previous.get(), links.next.get());
        match self.at(previous) {
            Some(previous) => previous.links().next.set(next),
            None => self.head.set(next),
        }
        match self.at(next) {
            Some(next) => next.links().previous.set(previous),
            None => self.tail.set(previous),
        }
        links.linked.set(false);
    }
}

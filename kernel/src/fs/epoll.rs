//! epoll: a set of files to wait for that outlives the wait.
//!
//! Every wait looks at each file of the set. That is linear where Linux is not, and short: it keeps
//! no hooks in the files, so nothing has to be undone when one is closed. A file whose last
//! descriptor is gone leaves the set by itself, because the set holds it weakly.

use super::File;
use super::file::{Operations, Origin};
use super::nameless::Nameless;
use super::poll;
use super::transfer::{Sink, Source};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use crate::sync::{self, WaitQueue};
use crate::task;
use alloc::{
    sync::{Arc, Weak},
    vec::Vec,
};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as abi;

const EDGE: u32 = 1 << 31;
const ONCE: u32 = 1 << 30;
/// Most levels of instances inside instances.
const DEPTH: u32 = 5;

/// Held while an instance is put into another: two that are put into each other at the same time would not see the
/// ring that they make.
static NESTING: Mutex<()> = Mutex::new(());

/// An instance.
pub struct Epoll {
    interests: Mutex<Vec<Interest>>,
    changed: WaitQueue,
    activity: AtomicU32,
    /// What the last look at the set found.
    looked: Mutex<Looked>,
}

struct Interest {
    fd: u32,
    file: Weak<File>,
    events: u32,
    data: u64,
    /// What was reported last, and the file's activity then: for edges.
    reported: u32,
    seen: u32,
}

/// One result.
#[derive(Clone, Copy)]
pub struct Ready {
    /// What there is.
    pub events: u32,
    /// What the program wants to be told with it.
    pub data: u64,
}

/// A new instance.
pub fn create() -> Arc<File> {
    let epoll = Arc::new(Epoll {
        interests: Mutex::new(Vec::new()),
        changed: WaitQueue::new(),
        activity: AtomicU32::new(0),
        looked: Mutex::new(Looked::default()),
    });
    let origin = Origin::Nameless("anon_inode:[eventpoll]");
    File::with(epoll, Nameless::inode(), origin, abi::O_RDWR)
}

/// What one walk over instances found at one of them.
#[derive(Default)]
struct Looked {
    walk: u64,
    /// How many levels below it may have had.
    left: u32,
    ready: bool,
}

/// One walk over instances that watch instances, by number. Walks do not sleep.
struct Walk(u64, bool);

impl Walk {
    /// The walk that the running thread is on, or a new one.
    fn enter() -> Walk {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let on = &task::current().epoll_walk;
        match on.load(Ordering::Relaxed) {
            0 => {
                let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
                on.store(number, Ordering::Relaxed);
                Walk(number, true)
            }
            number => Walk(number, false),
        }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        if self.1 {
            task::current().epoll_walk.store(0, Ordering::Relaxed);
        }
    }
}

impl Epoll {
    /// epoll_ctl on `file`, which is descriptor `fd`.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT`, `EPERM` for a file that is always ready, `EINVAL`, `ELOOP`, `ENOMEM`.
    pub fn control(
        &self,
        operation: u32,
        fd: u32,
        file: &Arc<File>,
        events: u32,
        data: u64,
    ) -> Result<()> {
        let same = |interest: &Interest| {
            interest.fd == fd && core::ptr::eq(interest.file.as_ptr(), Arc::as_ptr(file))
        };
        let mut nesting = None;
        if operation == abi::EPOLL_CTL_ADD {
            if file.queues().iter().all(Option::is_none) && file.operations().epoll().is_none() {
                return Err(Errno::EPERM);
            }
            if let Some(inner) = file.operations().epoll() {
                nesting = Some(NESTING.lock());
                inner.check_depth(self, DEPTH, &Walk::enter())?;
            }
        }
        let mut interests = self.interests.lock();
        interests.retain(|interest| interest.file.strong_count() > 0);
        let place = interests.iter().position(same);
        match (operation, place) {
            (abi::EPOLL_CTL_ADD, Some(_)) => return Err(Errno::EEXIST),
            (abi::EPOLL_CTL_ADD, None) => {
                interests.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                let file = Arc::downgrade(file);
                interests.push(Interest { fd, file, events, data, reported: 0, seen: 0 });
            }
            (abi::EPOLL_CTL_DEL, Some(place)) => drop(interests.swap_remove(place)),
            (abi::EPOLL_CTL_MOD, Some(place)) => {
                let interest = &mut interests[place];
                interest.events = events;
                interest.data = data;
                interest.reported = 0;
            }
            (abi::EPOLL_CTL_DEL | abi::EPOLL_CTL_MOD, None) => return Err(Errno::ENOENT),
            _ => return Err(Errno::EINVAL),
        }
        drop(interests);
        drop(nesting);
        self.activity.fetch_add(1, Ordering::Relaxed);
        self.changed.wake_all();
        Ok(())
    }

    /// Checks that adding this to `outer` makes no ring and no tower.
    fn check_depth(&self, outer: &Epoll, left: u32, walk: &Walk) -> Result<()> {
        if core::ptr::eq(self, outer) || left == 0 {
            return Err(Errno::ELOOP);
        }
        {
            let mut looked = self.looked.lock();
            if looked.walk == walk.0 && looked.left <= left {
                return Ok(());
            }
            *looked = Looked { walk: walk.0, left, ready: false };
        }
        for index in 0.. {
            let Some(watched) = self.watched(index) else { break };
            if let Some((file, _)) = watched
                && let Some(inner) = file.operations().epoll()
            {
                inner.check_depth(outer, left - 1, walk)?;
            }
        }
        Ok(())
    }

    /// File and events at `index`, if the file still is open; `None` past the end. So the set is gone
    /// through without its lock: a watched instance has one of its own, and a handle dropped may be a
    /// file's last. What changes meanwhile may be missed; whoever changes it wakes.
    #[allow(clippy::option_option)]
    fn watched(&self, index: usize) -> Option<Option<(Arc<File>, u32)>> {
        let interests = self.interests.lock();
        let interest = interests.get(index)?;
        Some(interest.file.upgrade().map(|file| (file, interest.events)))
    }

    /// All files that are open.
    fn files(&self) -> Result<Vec<Arc<File>>> {
        let interests = self.interests.lock();
        let mut files = Vec::new();
        files.try_reserve_exact(interests.len()).map_err(|_| Errno::ENOMEM)?;
        files.extend(interests.iter().filter_map(|interest| interest.file.upgrade()));
        Ok(files)
    }

    fn collect(&self, most: usize, into: &mut Vec<Ready>) {
        let _walk = Walk::enter();
        for index in 0.. {
            let Some(watched) = self.watched(index) else { break };
            let Some((file, _)) = watched else { continue };
            if into.len() == most || into.try_reserve(1).is_err() {
                break;
            }
            let (now, activity) = (file.poll(), file.operations().activity());
            let mut interests = self.interests.lock();
            let Some(interest) = interests
                .get_mut(index)
                .filter(|interest| core::ptr::eq(interest.file.as_ptr(), Arc::as_ptr(&file)))
            else {
                continue;
            };
            let now = now & (interest.events | poll::ALWAYS);
            let stale = interest.events & EDGE != 0
                && now & !interest.reported == 0
                && interest.seen == activity;
            let disarmed = interest.events & !(EDGE | ONCE) == 0;
            if now == 0 {
                interest.reported = 0;
            }
            if now == 0 || stale || disarmed {
                continue;
            }
            interest.reported = now;
            interest.seen = activity;
            if interest.events & ONCE != 0 {
                interest.events &= EDGE | ONCE;
            }
            into.push(Ready { events: now, data: interest.data });
        }
    }

    /// Whether a wait would find something. Instances can watch others many times over: in one walk
    /// each is looked at once.
    fn is_ready(&self) -> bool {
        let walk = Walk::enter();
        {
            let mut looked = self.looked.lock();
            if looked.walk == walk.0 {
                return looked.ready;
            }
            *looked = Looked { walk: walk.0, left: 0, ready: false };
        }
        let mut ready = false;
        for index in 0.. {
            let Some(watched) = self.watched(index) else { break };
            ready = watched.is_some_and(|(file, events)| {
                events & !(EDGE | ONCE) != 0 && file.poll() & (events | poll::ALWAYS) != 0
            });
            if ready {
                break;
            }
        }
        *self.looked.lock() = Looked { walk: walk.0, left: 0, ready };
        ready
    }

    /// Waits until something is ready; at most `most` results.
    ///
    /// # Errors
    /// `EINTR`, `ENOMEM`.
    pub fn wait(&self, most: usize, deadline: Option<u64>) -> Result<Vec<Ready>> {
        crate::mm::admit()?;
        let mut ready = Vec::new();
        ready.try_reserve(most.min(64)).map_err(|_| Errno::ENOMEM)?;
        loop {
            let activity = self.activity.load(Ordering::Relaxed);
            self.collect(most, &mut ready);
            if !ready.is_empty() || deadline.is_some_and(|end| end <= crate::time::now()) {
                return Ok(ready);
            }
            let files = self.files()?;
            let mut queues = poll::queues(&files)?;
            queues.push(&self.changed);
            let waited = sync::wait_on_any(&queues, deadline, || {
                self.collect(most, &mut ready);
                let changed = self.activity.load(Ordering::Relaxed) != activity;
                (!ready.is_empty() || changed).then_some(1)
            });
            match waited {
                Err(Errno::ERESTARTSYS) => return Err(Errno::EINTR),
                other => poll::outcome(other)?,
            };
        }
    }
}

impl Operations for Epoll {
    fn read(&self, _file: &File, _at: &mut u64, _sink: &mut Sink<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn write(&self, _file: &File, _at: &mut u64, _source: &mut Source<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn poll(&self, _file: &File) -> u32 {
        if self.is_ready() { abi::POLLIN | abi::POLLRDNORM } else { 0 }
    }

    fn queues(&self, _file: &File) -> [Option<&WaitQueue>; 2] {
        [Some(&self.changed), None]
    }

    fn epoll(&self) -> Option<&Epoll> {
        Some(self)
    }
}

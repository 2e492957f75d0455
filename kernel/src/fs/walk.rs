//! From a path to an inode.
//!
//! One loop over the components: a directory of another mount is entered from its root, `..` stops
//! at the process's root, and a symbolic link puts its text in front of what is left of the path.

use super::inode::{Inode, Jump, Kind};
use super::mount::{self, Mount};
use super::permission::{self, EXECUTE};
use crate::errno::{Errno, Result};
use alloc::{sync::Arc, vec::Vec};

/// Most symbolic links of one walk.
const MOST_LINKS: usize = 40;
/// Longest name.
pub const NAME_MAX: usize = 255;
/// Longest path, its NUL included.
pub const PATH_MAX: usize = 4096;

/// An inode and the mount through which it was reached.
#[derive(Clone)]
pub struct Place {
    /// The mount.
    pub mount: Arc<Mount>,
    /// The inode.
    pub inode: Arc<dyn Inode>,
}

impl Place {
    /// Whether both are one.
    pub fn is(&self, other: &Place) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && self.inode.identity() == other.inode.identity()
    }

    /// The place above this directory, `root` being the highest.
    pub fn above(&self, root: &Place) -> Place {
        let mut at = self.clone();
        loop {
            if at.is(root) {
                return at;
            }
            if at.inode.identity() != at.mount.root.identity() {
                break;
            }
            match &at.mount.covers {
                Some(covers) => at = covers.clone(),
                None => return at,
            }
        }
        let Some((inode, _)) = at.inode.location() else { return at };
        Place { mount: at.mount, inode }.deepest()
    }

    /// The root of whatever is mounted here, or the place itself.
    pub fn deepest(self) -> Place {
        let mut at = self;
        while let Some(mount) = mount::covering(&at) {
            at = mount.top();
        }
        at
    }
}

/// What to do with a symbolic link at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Final {
    /// Go where it leads.
    Follow,
    /// Stop at it; a slash behind it still goes through.
    Stop,
    /// Stop at it always: the name itself is meant (unlink, rename, mkdir).
    Name,
}

/// Last component of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Last {
    /// A name.
    Name(Vec<u8>),
    /// "."
    Dot,
    /// ".."
    DotDot,
    /// Slashes only.
    Root,
}

/// Where a path leads.
pub struct Walked {
    /// The directory of the last component.
    pub directory: Place,
    /// The last component.
    pub last: Last,
    /// What is there; `None` if nothing is.
    pub place: Option<Place>,
    /// An open file that a link of /proc led to.
    pub file: Option<Arc<super::File>>,
    /// A slash stood behind the last component.
    pub slash: bool,
}

impl Walked {
    /// What is there.
    ///
    /// # Errors
    /// `ENOENT`; `ENOTDIR` if a slash demands a directory.
    pub fn found(self) -> Result<Place> {
        let place = self.place.ok_or(Errno::ENOENT)?;
        if self.slash && place.inode.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(place)
    }

    /// The last component's name, which has to be one.
    ///
    /// # Errors
    /// `otherwise`.
    pub fn name(&self, otherwise: Errno) -> Result<&[u8]> {
        match &self.last {
            Last::Name(name) => Ok(name),
            _ => Err(otherwise),
        }
    }
}

/// Walks `path` from `start` (from `root` if it begins with a slash).
///
/// # Errors
/// `ENOENT` (an empty path, or a missing directory on the way), `ENOTDIR`, `EACCES`, `ELOOP`,
/// `ENAMETOOLONG`.
pub fn walk(root: &Place, start: &Place, path: &[u8], end: Final) -> Result<Walked> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut text: Vec<u8>;
    let mut left: &[u8] = path;
    let mut at = if path[0] == b'/' { root.clone() } else { start.clone() };
    let mut links = 0;
    loop {
        let (component, rest, slash) = split(left);
        let Some(component) = component else {
            let found = at.clone();
            return Ok(Walked {
                directory: at,
                last: Last::Root,
                place: Some(found),
                file: None,
                slash: true,
            });
        };
        if at.inode.kind() != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        permission::check(&*at.inode, EXECUTE)?;
        if component.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let is_last = rest.is_empty();
        let last = match component {
            b"." => Last::Dot,
            b".." => Last::DotDot,
            _ => Last::Name(Vec::new()),
        };
        let next = match last {
            Last::Dot => Some(at.clone()),
            Last::DotDot => Some(at.above(root)),
            _ => match at.inode.clone().lookup(component) {
                Ok(inode) => Some(Place { mount: at.mount.clone(), inode }.deepest()),
                Err(Errno::ENOENT) if is_last => None,
                Err(error) => return Err(error),
            },
        };
        let stop = is_last
            && match end {
                Final::Follow => false,
                Final::Stop => !slash,
                Final::Name => true,
            };
        if let Some(place) = &next
            && place.inode.kind() == Kind::Symlink
            && !stop
        {
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP);
            }
            if let Some(jump) = place.inode.jump() {
                match jump? {
                    Jump::Place(place) if !is_last => at = place,
                    Jump::File(file) if !is_last => {
                        at = file.place().ok_or(Errno::ENOTDIR)?;
                    }
                    jump => return Ok(jumped(at, component, slash, jump)),
                }
                left = rest;
                continue;
            }
            let target = place.inode.target()?;
            if target.is_empty() {
                return Err(Errno::ENOENT);
            }
            if target[0] == b'/' {
                at = root.clone();
            }
            let mut joined = target;
            joined.try_reserve(rest.len() + 1).map_err(|_| Errno::ENOMEM)?;
            if slash || !rest.is_empty() {
                joined.push(b'/');
            }
            joined.extend_from_slice(rest);
            text = joined;
            left = &text;
            continue;
        }
        if is_last {
            let last = match last {
                Last::Name(_) => Last::Name(component.to_vec()),
                other => other,
            };
            return Ok(Walked { directory: at, last, place: next, file: None, slash });
        }
        at = next.ok_or(Errno::ENOENT)?;
        left = rest;
    }
}

fn jumped(directory: Place, component: &[u8], slash: bool, jump: Jump) -> Walked {
    let (place, file) = match jump {
        Jump::Place(place) => (Some(place), None),
        Jump::File(file) => {
            let mount = file.place().map_or_else(|| directory.mount.clone(), |place| place.mount);
            (Some(Place { mount, inode: file.inode().clone() }), Some(file))
        }
    };
    Walked { directory, last: Last::Name(component.to_vec()), place, file, slash }
}

/// First component, what is behind it, and whether a slash follows it. Slashes around are skipped.
fn split(path: &[u8]) -> (Option<&[u8]>, &[u8], bool) {
    let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    let path = &path[start..];
    if path.is_empty() {
        return (None, path, false);
    }
    let end = path.iter().position(|&byte| byte == b'/').unwrap_or(path.len());
    let rest = &path[end..];
    let next = rest.iter().position(|&byte| byte != b'/').unwrap_or(rest.len());
    (Some(&path[..end]), &rest[next..], !rest.is_empty())
}

/// Longest path that is put together. A tree can be deeper than any path is useful.
const LONGEST: usize = 16 * PATH_MAX;

/// The path of directory `place` below `root`; `None` if it was removed, or is absurdly long.
pub fn path_of(root: &Place, place: &Place) -> Option<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let mut length = 1;
    let mut at = place.clone();
    while !at.is(root) {
        if at.inode.identity() == at.mount.root.identity() {
            match &at.mount.covers {
                Some(covers) => {
                    at = covers.clone();
                    continue;
                }
                None => break,
            }
        }
        let (inode, name) = at.inode.location()?;
        length += 1 + name.len();
        if length > LONGEST {
            return None;
        }
        parts.push(name);
        at = Place { mount: at.mount, inode };
    }
    let mut path = Vec::new();
    // Callers add a name, or a remark.
    path.try_reserve_exact(length + 2 * NAME_MAX).ok()?;
    for part in parts.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Some(path)
}

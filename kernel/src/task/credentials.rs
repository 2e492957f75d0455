//! Whom a process acts for. Everybody is root here until a program decides otherwise.

use crate::errno::{Errno, Result};
use alloc::{sync::Arc, vec::Vec};

/// Users, groups and capabilities of a process.
#[derive(Clone, Default)]
#[allow(missing_docs)]
pub struct Credentials {
    pub real_user: u32,
    pub effective_user: u32,
    pub saved_user: u32,
    pub real_group: u32,
    pub effective_group: u32,
    pub saved_group: u32,
    /// Supplementary groups.
    pub groups: Arc<Vec<u32>>,
    /// PR_SET_KEEPCAPS.
    pub keep_capabilities: bool,
}

/// "Leave it as it is", in calls that change several identifiers.
pub const SAME: u32 = u32::MAX;

impl Credentials {
    /// Whether it may do what only root may.
    pub fn is_privileged(&self) -> bool {
        self.effective_user == 0
    }

    /// setuid.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`.
    pub fn set_user(&mut self, user: u32) -> Result<()> {
        if user == SAME {
            return Err(Errno::EINVAL);
        }
        if self.is_privileged() {
            self.real_user = user;
            self.saved_user = user;
        } else if user != self.real_user && user != self.saved_user {
            return Err(Errno::EPERM);
        }
        self.effective_user = user;
        Ok(())
    }

    /// setgid.
    ///
    /// # Errors
    /// `EPERM`, `EINVAL`.
    pub fn set_group(&mut self, group: u32) -> Result<()> {
        if group == SAME {
            return Err(Errno::EINVAL);
        }
        if self.is_privileged() {
            self.real_group = group;
            self.saved_group = group;
        } else if group != self.real_group && group != self.saved_group {
            return Err(Errno::EPERM);
        }
        self.effective_group = group;
        Ok(())
    }

    /// setresuid.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_users(&mut self, real: u32, effective: u32, saved: u32) -> Result<()> {
        let now = [self.real_user, self.effective_user, self.saved_user];
        self.check(now, [real, effective, saved])?;
        [self.real_user, self.effective_user, self.saved_user] =
            choose(now, [real, effective, saved]);
        Ok(())
    }

    /// setresgid.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_user_groups(&mut self, real: u32, effective: u32, saved: u32) -> Result<()> {
        let now = [self.real_group, self.effective_group, self.saved_group];
        self.check(now, [real, effective, saved])?;
        [self.real_group, self.effective_group, self.saved_group] =
            choose(now, [real, effective, saved]);
        Ok(())
    }

    fn check(&self, now: [u32; 3], wanted: [u32; 3]) -> Result<()> {
        let allowed = |id: u32| id == SAME || self.is_privileged() || now.contains(&id);
        if wanted.into_iter().all(allowed) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

fn choose(now: [u32; 3], wanted: [u32; 3]) -> [u32; 3] {
    core::array::from_fn(|index| if wanted[index] == SAME { now[index] } else { wanted[index] })
}

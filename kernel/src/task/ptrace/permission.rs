//! Who may look into whom.

use crate::task::{Process, current};

/// PR_SET_DUMPABLE's ordinary value.
const DUMPABLE: u32 = 1;

/// Whether the current process may trace `target`, or reach into its memory: it is its own, or all its
/// users and groups are the caller's real ones and it may be dumped, or the caller is privileged.
pub(super) fn may_access(target: &Process) -> bool {
    let caller = &current().process;
    if caller.pid == target.pid {
        return true;
    }
    let (user, group, privileged) = {
        let own = caller.credentials.lock();
        (own.real_user, own.real_group, own.is_privileged())
    };
    if privileged {
        return true;
    }
    let other = target.credentials.lock();
    let users = [other.real_user, other.effective_user, other.saved_user];
    let groups = [other.real_group, other.effective_group, other.saved_group];
    users.iter().all(|of| *of == user)
        && groups.iter().all(|of| *of == group)
        && target.dumpable() == DUMPABLE
}

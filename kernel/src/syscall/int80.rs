//! INT 80h from 64-bit code: Linux's 32-bit numbers, for calls whose arguments mean the same.
//!
//! Arguments are EBX, ECX, EDX, ESI, EDI, EBP, zero-extended. A call is served by the function of
//! its 64-bit number, on a copy of the frame with the arguments where that function looks for them;
//! only RAX comes back. Calls that pass structures of another layout in 32-bit mode are not served:
//! no 64-bit program has a reason to make them this way.

use super::{Call, TABLE, for_rax, process, segments};
use crate::task::{self, ptrace};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;

/// restart_syscall's 32-bit number.
pub const RESTART_SYSCALL: u32 = 0;

/// One more than the greatest number served.
const NUMBERS: usize = 440;

/// 64-bit number for a 32-bit one; `NONE` if it is not served.
static NUMBER: [u16; NUMBERS] = numbers();
const NONE: u16 = u16::MAX;

const fn numbers() -> [u16; NUMBERS] {
    let mut table = [NONE; NUMBERS];
    let mut index = 0;
    while index < SAME.len() {
        let (legacy, number) = SAME[index];
        table[legacy as usize] = number as u16;
        index += 1;
    }
    table
}

/// Serves the call in `frame` and sets its RAX.
pub fn dispatch(frame: &mut Frame) {
    let number = frame.rax() & 0xffff_ffff;
    // A restart needs it where SYSCALL's entry would have left it.
    frame.set_number(number);
    let mut number = number;
    if task::current().switch_work.load(Ordering::Relaxed) & ptrace::hardware::CALLS != 0 {
        if !ptrace::calls::begin(frame) {
            return;
        }
        number = frame.number() & 0xffff_ffff;
    }
    let value = serve(frame, number);
    frame.set_rax(value);
}

fn serve(frame: &mut Frame, number: u64) -> u64 {
    match number as u32 {
        // These go on with the program's own registers in the child.
        FORK => return for_rax(process::fork(frame)),
        VFORK => return for_rax(process::vfork(frame)),
        CLONE => return for_rax(process::clone_legacy(frame)),
        SET_THREAD_AREA => return for_rax(segments::set_thread_area(frame.rbx() & 0xffff_ffff)),
        GET_THREAD_AREA => return for_rax(segments::get_thread_area(frame.rbx() & 0xffff_ffff)),
        _ => {}
    }
    let served = NUMBER.get(number as usize).filter(|number| **number != NONE);
    let Some(served) = served else {
        return for_rax(Err(super::system::unknown(number, true)));
    };
    let call: Call = TABLE[usize::from(*served)];
    let low = |register: u64| register & 0xffff_ffff;
    let mut shifted = *frame;
    shifted.set_rdi(low(frame.rbx()));
    shifted.set_rsi(low(frame.rcx()));
    shifted.set_rdx(low(frame.rdx()));
    shifted.set_r10(low(frame.rsi()));
    shifted.set_r8(low(frame.rdi()));
    shifted.set_r9(low(frame.rbp()));
    if number as u32 == MMAP2 {
        // Its offset counts pages.
        shifted.set_r9(low(frame.rbp()) << 12);
    }
    call(&mut shifted)
}

const FORK: u32 = 2;
const CLONE: u32 = 120;
const VFORK: u32 = 190;
const SET_THREAD_AREA: u32 = 243;
const GET_THREAD_AREA: u32 = 244;
const MMAP2: u32 = 192;

/// 32-bit number and 64-bit number of calls that mean the same.
const SAME: &[(u32, u32)] = &[
    (RESTART_SYSCALL, raw::__NR_restart_syscall),
    (1, raw::__NR_exit),
    (3, raw::__NR_read),
    (4, raw::__NR_write),
    (5, raw::__NR_open),
    (6, raw::__NR_close),
    (8, raw::__NR_creat),
    (9, raw::__NR_link),
    (10, raw::__NR_unlink),
    (12, raw::__NR_chdir),
    (14, raw::__NR_mknod),
    (15, raw::__NR_chmod),
    (19, raw::__NR_lseek),
    (20, raw::__NR_getpid),
    (21, raw::__NR_mount),
    (24, raw::__NR_getuid),
    (27, raw::__NR_alarm),
    (29, raw::__NR_pause),
    (33, raw::__NR_access),
    (36, raw::__NR_sync),
    (37, raw::__NR_kill),
    (38, raw::__NR_rename),
    (39, raw::__NR_mkdir),
    (40, raw::__NR_rmdir),
    (41, raw::__NR_dup),
    (42, raw::__NR_pipe),
    (45, raw::__NR_brk),
    (47, raw::__NR_getgid),
    (49, raw::__NR_geteuid),
    (50, raw::__NR_getegid),
    (52, raw::__NR_umount2),
    (55, raw::__NR_fcntl),
    (57, raw::__NR_setpgid),
    (60, raw::__NR_umask),
    (61, raw::__NR_chroot),
    (63, raw::__NR_dup2),
    (64, raw::__NR_getppid),
    (65, raw::__NR_getpgrp),
    (66, raw::__NR_setsid),
    (74, raw::__NR_sethostname),
    (83, raw::__NR_symlink),
    (85, raw::__NR_readlink),
    (88, raw::__NR_reboot),
    (91, raw::__NR_munmap),
    (92, raw::__NR_truncate),
    (93, raw::__NR_ftruncate),
    (94, raw::__NR_fchmod),
    (96, raw::__NR_getpriority),
    (97, raw::__NR_setpriority),
    (118, raw::__NR_fsync),
    (121, raw::__NR_setdomainname),
    (122, raw::__NR_uname),
    (123, raw::__NR_modify_ldt),
    (125, raw::__NR_mprotect),
    (132, raw::__NR_getpgid),
    (133, raw::__NR_fchdir),
    (136, raw::__NR_personality),
    (143, raw::__NR_flock),
    (144, raw::__NR_msync),
    (147, raw::__NR_getsid),
    (148, raw::__NR_fdatasync),
    (150, raw::__NR_mlock),
    (151, raw::__NR_munlock),
    (152, raw::__NR_mlockall),
    (153, raw::__NR_munlockall),
    (158, raw::__NR_sched_yield),
    (159, raw::__NR_sched_get_priority_max),
    (160, raw::__NR_sched_get_priority_min),
    (163, raw::__NR_mremap),
    (168, raw::__NR_poll),
    (172, raw::__NR_prctl),
    (183, raw::__NR_getcwd),
    (MMAP2, raw::__NR_mmap),
    (199, raw::__NR_getuid),
    (200, raw::__NR_getgid),
    (201, raw::__NR_geteuid),
    (202, raw::__NR_getegid),
    (203, raw::__NR_setreuid),
    (204, raw::__NR_setregid),
    (205, raw::__NR_getgroups),
    (206, raw::__NR_setgroups),
    (207, raw::__NR_fchown),
    (208, raw::__NR_setresuid),
    (209, raw::__NR_getresuid),
    (210, raw::__NR_setresgid),
    (211, raw::__NR_getresgid),
    (212, raw::__NR_chown),
    (213, raw::__NR_setuid),
    (214, raw::__NR_setgid),
    (218, raw::__NR_mincore),
    (219, raw::__NR_madvise),
    (220, raw::__NR_getdents64),
    (221, raw::__NR_fcntl),
    (224, raw::__NR_gettid),
    (238, raw::__NR_tkill),
    (252, raw::__NR_exit_group),
    (254, raw::__NR_epoll_create),
    (258, raw::__NR_set_tid_address),
    (270, raw::__NR_tgkill),
    (295, raw::__NR_openat),
    (296, raw::__NR_mkdirat),
    (297, raw::__NR_mknodat),
    (298, raw::__NR_fchownat),
    (301, raw::__NR_unlinkat),
    (302, raw::__NR_renameat),
    (303, raw::__NR_linkat),
    (304, raw::__NR_symlinkat),
    (305, raw::__NR_readlinkat),
    (306, raw::__NR_fchmodat),
    (307, raw::__NR_faccessat),
    (310, raw::__NR_unshare),
    (318, raw::__NR_getcpu),
    (323, raw::__NR_eventfd),
    (328, raw::__NR_eventfd2),
    (329, raw::__NR_epoll_create1),
    (330, raw::__NR_dup3),
    (331, raw::__NR_pipe2),
    (340, raw::__NR_prlimit64),
    (353, raw::__NR_renameat2),
    (355, raw::__NR_getrandom),
    (356, raw::__NR_memfd_create),
    (375, raw::__NR_membarrier),
    (383, raw::__NR_statx),
    (436, raw::__NR_close_range),
    (439, raw::__NR_faccessat2),
];

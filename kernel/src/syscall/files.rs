//! System calls: files.

mod arguments;
mod attributes;
mod copy;
mod descriptors;
mod directories;
mod events;
mod locks;
mod mounts;
mod open;
mod read;
mod select;
mod special;
mod status;
mod tree;
mod vector;
mod write;

use super::{Calls, calls};
pub(super) use crate::fs::segments::Segment;
use linux_raw_sys::general as abi;
pub(super) use vector::{list, segments};

/// This area's calls.
pub const CALLS: Calls = calls![
    // Data.
    (abi::__NR_read, read::read),
    (abi::__NR_pread64, read::pread),
    (abi::__NR_readv, vector::readv),
    (abi::__NR_preadv, vector::preadv),
    (abi::__NR_preadv2, vector::preadv2),
    (abi::__NR_write, write::write),
    (abi::__NR_pwrite64, write::pwrite),
    (abi::__NR_writev, vector::writev),
    (abi::__NR_pwritev, vector::pwritev),
    (abi::__NR_pwritev2, vector::pwritev2),
    (abi::__NR_lseek, read::lseek),
    (abi::__NR_sendfile, copy::sendfile),
    (abi::__NR_copy_file_range, copy::copy_file_range),
    (abi::__NR_truncate, attributes::truncate),
    (abi::__NR_ftruncate, attributes::ftruncate),
    (abi::__NR_fallocate, attributes::fallocate),
    (abi::__NR_fadvise64, read::advise),
    (abi::__NR_readahead, read::advise),
    (abi::__NR_fsync, write::sync_file),
    (abi::__NR_fdatasync, write::sync_file),
    (abi::__NR_syncfs, write::sync_file),
    (abi::__NR_sync_file_range, write::sync_file),
    (abi::__NR_sync, write::sync),
    // Descriptors.
    (abi::__NR_open, open::open),
    (abi::__NR_openat, open::openat),
    (abi::__NR_openat2, open::openat2),
    (abi::__NR_creat, open::creat),
    (abi::__NR_close, descriptors::close),
    (abi::__NR_close_range, descriptors::close_range),
    (abi::__NR_dup, descriptors::dup),
    (abi::__NR_dup2, descriptors::dup2),
    (abi::__NR_dup3, descriptors::dup3),
    (abi::__NR_fcntl, descriptors::fcntl),
    (abi::__NR_flock, locks::flock),
    (abi::__NR_ioctl, descriptors::ioctl),
    // Attributes.
    (abi::__NR_stat, status::stat),
    (abi::__NR_fstat, status::fstat),
    (abi::__NR_lstat, status::lstat),
    (abi::__NR_newfstatat, status::fstatat),
    (abi::__NR_statx, status::statx),
    (abi::__NR_statfs, status::statfs),
    (abi::__NR_fstatfs, status::fstatfs),
    (abi::__NR_access, status::access),
    (abi::__NR_faccessat, status::faccessat),
    (abi::__NR_faccessat2, status::faccessat2),
    (abi::__NR_chmod, attributes::chmod),
    (abi::__NR_fchmod, attributes::fchmod),
    (abi::__NR_fchmodat, attributes::fchmodat),
    (abi::__NR_chown, attributes::chown),
    (abi::__NR_fchown, attributes::fchown),
    (abi::__NR_lchown, attributes::lchown),
    (abi::__NR_fchownat, attributes::fchownat),
    (abi::__NR_utime, attributes::utime),
    (abi::__NR_utimes, attributes::utimes),
    (abi::__NR_futimesat, attributes::futimesat),
    (abi::__NR_utimensat, attributes::utimensat),
    (abi::__NR_umask, attributes::umask),
    // Extended attributes: no file system here has any.
    (abi::__NR_getxattr, attributes::no_extended),
    (abi::__NR_lgetxattr, attributes::no_extended),
    (abi::__NR_fgetxattr, attributes::no_extended),
    (abi::__NR_listxattr, attributes::no_extended),
    (abi::__NR_llistxattr, attributes::no_extended),
    (abi::__NR_flistxattr, attributes::no_extended),
    (abi::__NR_setxattr, attributes::no_extended),
    (abi::__NR_lsetxattr, attributes::no_extended),
    (abi::__NR_fsetxattr, attributes::no_extended),
    (abi::__NR_removexattr, attributes::no_extended),
    (abi::__NR_lremovexattr, attributes::no_extended),
    (abi::__NR_fremovexattr, attributes::no_extended),
    // Directories and names.
    (abi::__NR_getdents, directories::getdents),
    (abi::__NR_getdents64, directories::getdents64),
    (abi::__NR_getcwd, directories::getcwd),
    (abi::__NR_chdir, directories::chdir),
    (abi::__NR_fchdir, directories::fchdir),
    (abi::__NR_chroot, directories::chroot),
    (abi::__NR_mkdir, tree::mkdir),
    (abi::__NR_mkdirat, tree::mkdirat),
    (abi::__NR_mknod, tree::mknod),
    (abi::__NR_mknodat, tree::mknodat),
    (abi::__NR_rmdir, tree::rmdir),
    (abi::__NR_unlink, tree::unlink),
    (abi::__NR_unlinkat, tree::unlinkat),
    (abi::__NR_rename, tree::rename),
    (abi::__NR_renameat, tree::renameat),
    (abi::__NR_renameat2, tree::renameat2),
    (abi::__NR_link, tree::link),
    (abi::__NR_linkat, tree::linkat),
    (abi::__NR_symlink, tree::symlink),
    (abi::__NR_symlinkat, tree::symlinkat),
    (abi::__NR_readlink, tree::readlink),
    (abi::__NR_readlinkat, tree::readlinkat),
    (abi::__NR_mount, mounts::mount),
    (abi::__NR_umount2, mounts::unmount),
    (abi::__NR_pivot_root, mounts::pivot_root),
    // Pipes and the like.
    (abi::__NR_pipe, special::pipe),
    (abi::__NR_pipe2, special::pipe2),
    (abi::__NR_eventfd, special::eventfd),
    (abi::__NR_eventfd2, special::eventfd2),
    (abi::__NR_memfd_create, special::memfd_create),
    (abi::__NR_socket, special::no_family),
    (abi::__NR_socketpair, special::no_family),
    // Waiting.
    (abi::__NR_poll, events::poll),
    (abi::__NR_ppoll, events::ppoll),
    (abi::__NR_select, select::select),
    (abi::__NR_pselect6, select::pselect),
    (abi::__NR_epoll_create, events::epoll_create),
    (abi::__NR_epoll_create1, events::epoll_create1),
    (abi::__NR_epoll_ctl, events::epoll_ctl),
    (abi::__NR_epoll_wait, events::epoll_wait),
    (abi::__NR_epoll_pwait, events::epoll_pwait),
    (abi::__NR_epoll_pwait2, events::epoll_pwait2),
];

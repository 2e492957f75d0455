//! The terminal's ioctls.

use super::Terminal;
use crate::errno::{Errno, Result};
use crate::fs::{current, permission};
use crate::{task, user};
use core::sync::atomic::Ordering;
use linux_raw_sys::{general as abi, ioctl};
use ringwall_line::{Settings, WithSpeeds};

impl Terminal {
    pub(super) fn ioctl(&self, request: u32, argument: u64) -> Result<usize> {
        match request {
            ioctl::TCGETS => user::write(argument, &self.settings())?,
            ioctl::TCGETS2 => {
                let settings = self.settings();
                let speeds = [settings.speed(); 2];
                user::write(argument, &WithSpeeds { settings, speeds })?;
            }
            ioctl::TCSETS | ioctl::TCSETSW | ioctl::TCSETSF => {
                self.check_foreground(abi::SIGTTOU)?;
                self.set(user::read(argument)?, request == ioctl::TCSETSF);
            }
            ioctl::TCSETS2 | ioctl::TCSETSW2 | ioctl::TCSETSF2 => {
                self.check_foreground(abi::SIGTTOU)?;
                let with: WithSpeeds = user::read(argument)?;
                self.set(with.settings, request == ioctl::TCSETSF2);
            }
            ioctl::TIOCGWINSZ => {
                user::write(argument, &self.window.load(Ordering::Relaxed))?;
            }
            ioctl::TIOCSWINSZ => {
                let window: u64 = user::read(argument)?;
                let group = self.foreground.load(Ordering::Relaxed);
                if self.window.swap(window, Ordering::Relaxed) != window && group != 0 {
                    let _ = task::signal_group(group, abi::SIGWINCH);
                }
            }
            ioctl::TIOCGPGRP => {
                self.check_own()?;
                user::write(argument, &self.foreground.load(Ordering::Relaxed))?;
            }
            ioctl::TIOCSPGRP => self.set_foreground(argument)?,
            ioctl::TIOCGSID => {
                self.check_own()?;
                user::write(argument, &self.session.load(Ordering::Relaxed))?;
            }
            ioctl::TIOCSCTTY => {
                let force = argument == 1 && permission::check_superuser().is_ok();
                if !self.adopt(force) {
                    return Err(Errno::EPERM);
                }
            }
            ioctl::TIOCNOTTY => {
                self.check_own()?;
                if current::pid() == current::session() {
                    super::leader_ended(current::session());
                }
            }
            ioctl::TCFLSH => {
                self.check_foreground(abi::SIGTTOU)?;
                match argument as u32 {
                    abi::TCIFLUSH | abi::TCIOFLUSH => self.discipline.lock().flush(),
                    abi::TCOFLUSH => {}
                    _ => return Err(Errno::EINVAL),
                }
            }
            ioctl::TCXONC => {
                self.check_foreground(abi::SIGTTOU)?;
                match argument as u32 {
                    abi::TCOOFF => self.discipline.lock().stopped = true,
                    abi::TCOON => {
                        self.discipline.lock().stopped = false;
                        self.restarted.wake_all();
                    }
                    abi::TCIOFF | abi::TCION => {}
                    _ => return Err(Errno::EINVAL),
                }
            }
            ioctl::TCSBRK | ioctl::TCSBRKP | ioctl::TIOCSBRK | ioctl::TIOCCBRK => {
                self.check_foreground(abi::SIGTTOU)?;
            }
            ioctl::FIONREAD => {
                let available = self.discipline.lock().available() as u32;
                user::write(argument, &available)?;
            }
            ioctl::TIOCOUTQ => user::write(argument, &0u32)?,
            ioctl::TIOCGETD => user::write(argument, &0u32)?,
            ioctl::TIOCSETD => {
                let discipline: u32 = user::read(argument)?;
                if discipline != 0 {
                    return Err(Errno::EINVAL);
                }
            }
            ioctl::TIOCMGET => {
                let lines = abi::TIOCM_DTR | abi::TIOCM_RTS | abi::TIOCM_CAR | abi::TIOCM_DSR;
                user::write(argument, &(lines | abi::TIOCM_CTS))?;
            }
            ioctl::TIOCMSET | ioctl::TIOCMBIS | ioctl::TIOCMBIC => {
                let _: u32 = user::read(argument)?;
            }
            ioctl::TIOCEXCL | ioctl::TIOCNXCL => {}
            ioctl::TIOCSTI => {
                permission::check_superuser()?;
                super::input(user::read(argument)?);
            }
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn settings(&self) -> Settings {
        self.discipline.lock().settings
    }

    fn set(&self, settings: Settings, flush: bool) {
        let mut discipline = self.discipline.lock();
        if flush {
            discipline.flush();
        }
        discipline.change(Settings { discipline: 0, ..settings });
        drop(discipline);
        self.readable.wake_all();
    }

    /// # Errors
    /// `ENOTTY` if this is not the caller's controlling terminal.
    fn check_own(&self) -> Result<()> {
        if self.controls_caller() { Ok(()) } else { Err(Errno::ENOTTY) }
    }

    fn set_foreground(&self, argument: u64) -> Result<()> {
        self.check_foreground(abi::SIGTTOU)?;
        self.check_own()?;
        let group: i32 = user::read(argument)?;
        let group = u32::try_from(group).map_err(|_| Errno::EINVAL)?;
        let session = current::session();
        match task::all().iter().find(|process| process.group() == group) {
            None => Err(Errno::ESRCH),
            Some(member) if member.session() != session => Err(Errno::EPERM),
            Some(_) => {
                self.foreground.store(group, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

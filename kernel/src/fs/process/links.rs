//! The links of /proc, and the numbered directories they are in.

use super::process;
use crate::errno::{Errno, Result};
use crate::fs::generated::Subject;
use crate::fs::inode::Jump;
use crate::fs::walk::{self, Place};
use crate::fs::{File, FileTable, current};
use crate::task;
use alloc::{format, sync::Arc, vec::Vec};

type Text = Result<Vec<u8>>;

pub fn own(_: &Subject) -> Text {
    Ok(format!("{}", current::pid()).into_bytes())
}

pub fn own_thread(_: &Subject) -> Text {
    Ok(format!("{}/task/{}", current::pid(), current::tid()).into_bytes())
}

pub fn own_mounts(_: &Subject) -> Text {
    Ok(b"self/mounts".to_vec())
}

pub fn processes(_: &Subject) -> Vec<u32> {
    let all = task::all();
    let mut numbers = Vec::new();
    if numbers.try_reserve_exact(all.len()).is_ok() {
        numbers.extend(all.iter().map(|process| process.pid));
    }
    numbers
}

pub fn find_process(_: &Subject, pid: u32) -> Option<Subject> {
    task::find(pid).map(|_| Subject { process: pid, thread: pid, ..Subject::default() })
}

pub fn threads(subject: &Subject) -> Vec<u32> {
    let mut all = process(subject).map(|process| process.thread_ids()).unwrap_or_default();
    all.sort_unstable();
    all
}

pub fn find_thread(subject: &Subject, tid: u32) -> Option<Subject> {
    threads(subject).contains(&tid).then_some(Subject { thread: tid, is_thread: true, ..*subject })
}

pub fn descriptors(subject: &Subject) -> Vec<u32> {
    files(subject).map(|files| files.descriptors()).unwrap_or_default()
}

pub fn find_descriptor(subject: &Subject, descriptor: u32) -> Option<Subject> {
    let subject = Subject { descriptor, ..*subject };
    file(&subject).ok().map(|_| subject)
}

/// A process's descriptors, unless it has ended.
pub(super) fn files(subject: &Subject) -> Result<Arc<FileTable>> {
    process(subject)?.files.get().ok_or(Errno::ENOENT)
}

fn file(subject: &Subject) -> Result<Arc<File>> {
    files(subject)?.get(subject.descriptor).map_err(|_| Errno::ENOENT)
}

pub fn descriptor_text(subject: &Subject) -> Text {
    Ok(file(subject)?.path_below(&current::paths().top()))
}

pub fn descriptor(subject: &Subject) -> Result<Jump> {
    Ok(Jump::File(file(subject)?))
}

pub fn descriptor_state(subject: &Subject) -> Text {
    let file = file(subject)?;
    let mount = file.place().map_or(0, |place| place.mount.number);
    Ok(format!(
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t{}\nino:\t{}\n",
        file.position(),
        file.flags(),
        mount,
        file.inode().identity().1
    )
    .into_bytes())
}

fn place(subject: &Subject, working: bool) -> Result<Place> {
    let paths = process(subject)?.paths.get().ok_or(Errno::ENOENT)?;
    Ok(if working { paths.working() } else { paths.top() })
}

fn place_text(place: &Place) -> Vec<u8> {
    walk::path_of(&current::paths().top(), place).unwrap_or_else(|| b"/ (deleted)".to_vec())
}

pub fn working_text(subject: &Subject) -> Text {
    Ok(place_text(&place(subject, true)?))
}

pub fn working(subject: &Subject) -> Result<Jump> {
    Ok(Jump::Place(place(subject, true)?))
}

pub fn root_text(subject: &Subject) -> Text {
    Ok(place_text(&place(subject, false)?))
}

pub fn root(subject: &Subject) -> Result<Jump> {
    Ok(Jump::Place(place(subject, false)?))
}

fn program(subject: &Subject) -> Result<Arc<File>> {
    process(subject)?.executable().ok_or(Errno::ENOENT)
}

pub fn executable_text(subject: &Subject) -> Text {
    Ok(program(subject)?.path_below(&current::paths().top()))
}

pub fn executable(subject: &Subject) -> Result<Jump> {
    Ok(Jump::File(program(subject)?))
}

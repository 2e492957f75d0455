//! What expectations make of an audit's findings.
//!
//! ```text
//!   regions ── judge ──► undeclared, too many ─────────► not-declared
//!                        declared, but never seen ─────► missing-declared
//!   sums ─────────────── [limits] ─────────────────────► limit-exceeded
//!   filled ───────────── contents ─────────────────────► contents-not-declared
//!   findings ─────────── only on declared pages ───────► gone
//!                        [[accept]] ───────────────────► Accepted
//! ```

use std::collections::{BTreeMap, HashSet};

use super::form::{Accept, Contents, Per, Visible};
use super::judge::{Share, Verdict, judge, share};
use super::{Accepted, Expectations};
use crate::document::{Audit, Filled, Finding, Place, Region, Severity, View};
use crate::findings::catalogue::{
    CONTENTS_NOT_DECLARED, LIMIT_EXCEEDED, MISSING_DECLARED, NOT_DECLARED, Rule,
};

const PAGE: u64 = 4096;

/// Most parts of pages that are compared with `contents`: 4 GiB of pages that are not zero.
const PARTS: usize = 1 << 20;

/// Findings that say that pages are not what any kernel needs. Where the pages are declared as they are, nothing is
/// wrong.
const OF_PAGES: [&str; 8] = [
    "writable-supervisor-page",
    "executable-supervisor-page",
    "writable-and-executable",
    "kernel-half-user-accessible",
    "global-supervisor-page",
    "task-stack-visible",
    "contents-not-declared",
    "other-cpus-visible",
];

impl Expectations {
    /// Judges an audit: adds what is visible and not declared to its findings, takes out those that speak of
    /// declared pages only, and returns those that are accepted.
    pub fn apply(&self, audit: &mut Audit) -> Vec<Accepted> {
        let verdicts = judge(&self.visible, audit);
        let mut found = vec![
            self.not_declared(audit, &verdicts),
            self.missing(audit, &verdicts),
            self.filled(audit, &verdicts),
        ];
        found.extend(self.beyond_limits(audit, &verdicts).map(Some));

        self.drop_declared(audit, &verdicts);
        let mut accepted = Vec::new();
        for finding in std::mem::take(&mut audit.findings) {
            match self.reason(&finding, &audit.views) {
                Some(reason) => accepted.push(Accepted { finding, reason }),
                None => audit.findings.push(finding),
            }
        }
        audit.findings.extend(found.into_iter().flatten());
        audit.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        accepted
    }

    fn not_declared(&self, audit: &Audit, verdicts: &[Vec<Verdict>]) -> Option<Finding> {
        let mut places = Vec::new();
        let mut bytes = 0_u64;
        let mut known = HashSet::new();
        for (view, region, verdict) in judged(audit, verdicts) {
            let Verdict::Undeclared(why) = verdict else { continue };
            // Each view shows it; once is enough.
            if known.insert((region.address, region.physical, region.bytes, region.rights)) {
                // The same memory again is no more bytes.
                let more = if region.repeats.is_none() { region.bytes } else { 0 };
                bytes = bytes.saturating_add(more);
                places.push(place(view, region.address, region.bytes, why.clone()));
            }
        }
        let count = places.len();
        finding(
            &NOT_DECLARED,
            format!("{bytes} bytes in {count} regions are visible and not declared"),
            places,
        )
    }

    fn missing(&self, audit: &Audit, verdicts: &[Vec<Verdict>]) -> Option<Finding> {
        let mut places = Vec::new();
        for (index, entry) in self.visible.iter().enumerate() {
            if entry.optional {
                continue;
            }
            let declared = Verdict::Declared(index);
            let shown: Vec<(usize, &Region)> = judged(audit, verdicts)
                .filter(|(_, _, verdict)| **verdict == declared)
                .map(|(view, region, _)| (view, region))
                .collect();
            let mut miss = |view, what: String| places.push(place(view, 0, 0, what));
            for view in 0..audit.views.len() {
                if !shown.iter().any(|(shows, _)| *shows == view) {
                    miss(view, format!("{} is not there", entry.what()));
                }
            }
            let names = shown.iter().filter_map(|(_, region)| region.name.as_ref()?.cpu);
            let cpus: HashSet<u32> = names.collect();
            if entry.per == Per::Cpu && !cpus.is_empty() {
                for cpu in audit.cpus.iter().filter(|cpu| !cpus.contains(&cpu.cpu.index)) {
                    miss(
                        cpu.view,
                        format!("{} of CPU {} is not there", entry.what(), cpu.cpu.index),
                    );
                }
            }
        }
        let count = places.len();
        finding(&MISSING_DECLARED, format!("{count} times what is declared is not visible"), places)
    }

    /// What is not zero where `contents` says that it is.
    fn filled(&self, audit: &Audit, verdicts: &[Vec<Verdict>]) -> Option<Finding> {
        let mut places = Vec::new();
        let mut known = HashSet::new();
        let mut parts = 0;
        for (view, region, verdict) in judged(audit, verdicts) {
            let Verdict::Declared(index) = verdict else { continue };
            let contents = self.visible[*index].contents_of(region, audit);
            let Contents::Zero { but } = contents else { continue };
            let all = &audit.views[view].filled;
            // What was not looked at is not known to be zero.
            let unknown = if region.rights.executable {
                Some("executable pages are not looked at")
            } else if all.len() >= View::FILLED {
                Some("more is not zero than is listed")
            } else {
                None
            };
            if let Some(why) = unknown {
                let what = self.visible[*index].what();
                let note = format!("it is not known whether {what} is zero: {why}");
                places.push(place(view, region.address, region.bytes, note));
                continue;
            }
            let from = all.partition_point(|filled| filled.last() < region.address);
            for filled in all[from..].iter().take_while(|filled| filled.address <= region.last()) {
                for (address, bytes) in filled.in_pages(region).take(PARTS - parts) {
                    parts += 1;
                    let offset = address % PAGE;
                    let allowed = but.iter().any(|span| span.holds(offset, offset + (bytes - 1)));
                    if !allowed && known.insert((address, bytes, region.physical)) {
                        let what = self.visible[*index].what();
                        let note = format!("not zero, at offset {offset:#x} of {what}");
                        places.push(place(view, address, bytes, note));
                    }
                }
            }
        }
        let count = places.len();
        let title =
            format!("{count} stretches of visible memory hold something where zero is declared");
        let finding = finding(&CONTENTS_NOT_DECLARED, title, places);
        finding.map(|finding| Finding { severity: Severity::Warning, ..finding })
    }

    fn beyond_limits(
        &self,
        audit: &Audit,
        verdicts: &[Vec<Verdict>],
    ) -> impl Iterator<Item = Finding> {
        let mut over: BTreeMap<String, Vec<Place>> = BTreeMap::new();
        for (index, view) in audit.views.iter().enumerate() {
            let mut check = |what: String, value: u64, limit: Option<u64>| {
                if let Some(limit) = limit.filter(|limit| value > *limit) {
                    let note = format!("{value}, where {limit} is the limit");
                    over.entry(what).or_default().push(place(index, 0, 0, note));
                }
            };
            let limits = &self.limits;
            check("visible bytes".into(), view.totals.visible_bytes, limits.bytes);
            check("pointers".into(), view.totals.pointers, limits.pointers);
            let mut seen = HashSet::new();
            let mut sums: BTreeMap<String, (u64, Option<u64>)> = BTreeMap::new();
            for (region, verdict) in view.visible.iter().zip(&verdicts[index]) {
                if region.repeats.is_some() || !seen.insert((region.physical, region.bytes)) {
                    continue;
                }
                let (whose, limit) = match share(&self.visible, verdict, region) {
                    Share::Machine => ("shared visible bytes".into(), limits.bytes_shared),
                    Share::Process => {
                        ("visible bytes of a process".into(), limits.bytes_per_process)
                    }
                    Share::Cpu(Some(cpu)) => {
                        (format!("visible bytes of CPU {cpu}"), limits.bytes_per_cpu)
                    }
                    Share::Cpu(None) => {
                        let cpus = audit.cpus.len().max(1) as u64;
                        let limit = limits.bytes_per_cpu.map(|bytes| bytes.saturating_mul(cpus));
                        ("visible bytes of all CPUs".into(), limit)
                    }
                };
                let sum = sums.entry(whose).or_insert((0, limit));
                sum.0 = sum.0.saturating_add(region.bytes);
            }
            for (whose, (sum, limit)) in sums {
                check(whose, sum, limit);
            }
        }
        over.into_iter().filter_map(|(what, places)| {
            finding(&LIMIT_EXCEEDED, format!("{what}: {}", places.first()?.note), places)
        })
    }

    /// Takes the places that lie in declared regions out of the findings that are about pages, and the findings
    /// that have none left.
    fn drop_declared(&self, audit: &mut Audit, verdicts: &[Vec<Verdict>]) {
        let views = &audit.views;
        let declared = |place: &Place| {
            let view = views.get(place.view)?;
            let after = view.visible.partition_point(|region| region.address <= place.address);
            let index = after.checked_sub(1)?;
            let region = &view.visible[index];
            let inside = place.bytes <= region.bytes
                && region.contains(place.address)
                && place.address - region.address <= region.bytes - place.bytes;
            let declared = matches!(verdicts[place.view][index], Verdict::Declared(_));
            (inside && declared).then_some(region)
        };
        audit.findings.retain_mut(|finding| {
            // What both roots together do wrong is no page's declared state: pages that are global and not the same.
            let of_both =
                finding.id == "global-supervisor-page" && finding.severity > Severity::Note;
            if !OF_PAGES.contains(&&*finding.id) || of_both {
                return true;
            }
            // The kernel's root may leave open what is declared as it is in the user's.
            let open = finding.id == "kernel-half-user-accessible";
            let before = finding.places.len();
            finding
                .places
                .retain(|place| declared(place).is_none_or(|region| open && !region.rights.user));
            // Places that are not listed cannot be told: they stay.
            finding.count = finding.count.saturating_sub((before - finding.places.len()) as u64);
            finding.count > 0
        });
    }

    /// Why a finding is accepted, if it is.
    fn reason(&self, finding: &Finding, views: &[View]) -> Option<String> {
        if let Some(limit) = self.limits.pointers
            && finding.id == "kernel-pointer"
            && views.iter().all(|view| view.totals.pointers <= limit)
        {
            return Some(format!("[limits] allows {limit} pointers"));
        }
        let fits = self.accept.iter().find(|accept| {
            accept.finding == finding.id
                && accept.most.is_none_or(|most| finding.count <= most)
                && accept.worst().is_none_or(|worst| finding.severity <= worst)
        });
        fits.map(|accept| accept.reason.clone())
    }
}

impl Accept {
    /// The worst severity that is accepted; any if the finding is none of ours.
    fn worst(&self) -> Option<Severity> {
        self.severity.or_else(|| Rule::of(&self.finding).map(|rule| rule.severity))
    }
}

impl Visible {
    /// In words, for people.
    fn what(&self) -> String {
        match (&self.name, self.kind, self.address) {
            (Some(name), ..) => name.to_string(),
            (None, Some(kind), _) => kind.to_string(),
            (None, None, Some(span)) => span.to_string(),
            (None, None, None) => String::new(),
        }
    }
}

impl Filled {
    /// The last address, for what is not empty.
    fn last(&self) -> u64 {
        self.address.saturating_add(self.bytes.saturating_sub(1))
    }

    /// The parts in each 4 KiB page of `region`: address and length.
    fn in_pages(&self, region: &Region) -> impl Iterator<Item = (u64, u64)> {
        let (first, last) = (self.address.max(region.address), self.last().min(region.last()));
        // The page after the last one has no address.
        let mut next = Some(first).filter(|first| *first <= last);
        std::iter::from_fn(move || {
            let at = next?;
            let end = (at | (PAGE - 1)).min(last);
            next = end.checked_add(1).filter(|next| *next <= last);
            Some((at, end - at + 1))
        })
    }
}

/// Every region with its view and its verdict.
fn judged<'a>(
    audit: &'a Audit,
    verdicts: &'a [Vec<Verdict>],
) -> impl Iterator<Item = (usize, &'a Region, &'a Verdict)> {
    let views = audit.views.iter().zip(verdicts).enumerate();
    views.flat_map(|(index, (view, verdicts))| {
        let regions = view.visible.iter().zip(verdicts);
        regions.map(move |(region, verdict)| (index, region, verdict))
    })
}

fn place(view: usize, address: u64, bytes: u64, note: String) -> Place {
    Place { view, address, bytes, value: None, note }
}

/// A finding, if there is any place for it.
fn finding(rule: &Rule, title: String, places: Vec<Place>) -> Option<Finding> {
    (!places.is_empty()).then(|| rule.finding(title, places))
}

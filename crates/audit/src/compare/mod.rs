//! Two audits side by side: isolation on and off, this kernel and another, yesterday and today.
//!
//! ```text
//!   Comparison
//!    |- left, right   what was looked at
//!    |- settings      how the CPUs were set up: isolation, paging, SMEP, ...
//!    |- totals        bytes, pages, pointers
//!    |- regions       what user mode sees, pair by pair
//!    '- findings      what is wrong, pair by pair
//! ```
//!
//! Kernels choose addresses at random, so regions are matched by what they are: kind, CPU, name and order; an
//! address speaks only where nothing has a name. That an address differs is therefore no difference. Every list
//! has its differences first.

mod pairs;

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use crate::cpu::Paging;
use crate::document::{Audit, Finding, Region, Severity, Totals};

/// Two audits, compared.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// [`Audit::source`] of the first.
    pub left: String,
    /// [`Audit::source`] of the second.
    pub right: String,
    /// How many of the entries below differ, and `regions_left_out`.
    pub differences: usize,
    /// How the CPUs were set up.
    pub settings: Vec<Setting>,
    /// Sums of the view that shows most, by visible bytes, of each audit.
    pub totals: Vec<Total>,
    /// What user mode sees, whichever view shows it. At most [`Comparison::REGIONS`].
    pub regions: Vec<RegionPair>,
    /// How many pairs of regions that differ are not in `regions`.
    pub regions_left_out: usize,
    /// What is wrong, worst first among the differences and among the others.
    pub findings: Vec<FindingPair>,
}

impl Comparison {
    /// Most pairs of regions that are listed. A kernel that is mapped whole has thousands.
    pub const REGIONS: usize = 4096;
}

/// Something that a CPU's registers or the pair of roots say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// What: `isolation`, `PCID`, `levels of page tables`.
    pub name: &'static str,
    /// In the first audit; several values where views or CPUs disagree.
    pub left: String,
    /// In the second.
    pub right: String,
    /// Whether the two differ.
    pub differs: bool,
}

/// One sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Total {
    /// What is summed: `visible bytes`.
    pub name: &'static str,
    /// In the first audit.
    pub left: u64,
    /// In the second.
    pub right: u64,
}

/// A region of either audit with its partner in the other. At least one is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegionPair {
    /// In the first audit.
    pub left: Option<Region>,
    /// In the second.
    pub right: Option<Region>,
    /// In what they differ; empty if they are the same thing at, perhaps, other addresses.
    pub differs: Vec<Aspect>,
}

/// In what two regions may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Only the first audit has it.
    OnlyLeft,
    /// Only the second audit has it.
    OnlyRight,
    /// Rights, the global bit or the protection key.
    Rights,
    /// The length.
    Bytes,
    /// The size of its pages.
    PageSize,
}

/// A finding of either audit with its partner in the other. At least one count is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingPair {
    /// [`Finding::id`].
    pub id: String,
    /// The worse of the two.
    pub severity: Severity,
    /// [`Finding::title`] in the first audit.
    pub left: Option<String>,
    /// [`Finding::title`] in the second.
    pub right: Option<String>,
    /// [`Finding::count`] in the first audit; 0 without it.
    pub left_count: u64,
    /// [`Finding::count`] in the second.
    pub right_count: u64,
}

impl FindingPair {
    /// Whether only one audit has it, or one has it in more places.
    pub fn differs(&self) -> bool {
        self.left.is_some() != self.right.is_some() || self.left_count != self.right_count
    }
}

impl Total {
    /// Whether the two sums differ.
    pub fn differs(&self) -> bool {
        self.left != self.right
    }
}

/// Sets two audits side by side.
pub fn compare(left: &Audit, right: &Audit) -> Comparison {
    let (regions, regions_left_out) = pairs::regions(left, right);
    let findings = findings(&left.findings, &right.findings);
    let (settings, totals) = (settings(left, right), totals(left, right));
    let differences = settings.iter().filter(|setting| setting.differs).count()
        + totals.iter().filter(|total| total.differs()).count()
        + regions.iter().filter(|pair| !pair.differs.is_empty()).count()
        + regions_left_out
        + findings.iter().filter(|pair| pair.differs()).count();
    Comparison {
        left: left.source.clone(),
        right: right.source.clone(),
        differences,
        settings,
        totals,
        regions,
        regions_left_out,
        findings,
    }
}

/// What every CPU or view says in words, once each.
fn words<T>(items: &[T], word: impl Fn(&T) -> String) -> String {
    let mut words: Vec<String> = Vec::new();
    for item in items {
        let word = word(item);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

fn on_or_off(on: bool) -> String {
    if on { "on" } else { "off" }.into()
}

fn settings(left: &Audit, right: &Audit) -> Vec<Setting> {
    type Row = (&'static str, fn(&Audit) -> String);
    fn switch(audit: &Audit, on: fn(&Paging) -> bool) -> String {
        words(&audit.cpus, |cpu| on_or_off(on(&cpu.paging)))
    }
    let rows: [Row; 8] = [
        ("isolation", |audit| words(&audit.views, |view| on_or_off(view.kernel_root.is_some()))),
        ("CPUs looked at", |audit| audit.cpus.len().to_string()),
        ("levels of page tables", |audit| words(&audit.cpus, |cpu| cpu.paging.levels.to_string())),
        ("PCID", |audit| switch(audit, |paging| paging.pcid)),
        ("global pages", |audit| switch(audit, |paging| paging.global)),
        ("SMEP", |audit| switch(audit, |paging| paging.smep)),
        ("SMAP", |audit| switch(audit, |paging| paging.smap)),
        ("write protection", |audit| switch(audit, |paging| paging.write_protect)),
    ];
    let mut settings = rows.map(|(name, word)| {
        let (left, right) = (word(left), word(right));
        Setting { name, differs: left != right, left, right }
    });
    settings.sort_by_key(|setting| !setting.differs);
    settings.into()
}

fn totals(left: &Audit, right: &Audit) -> Vec<Total> {
    let most = |audit: &Audit| {
        let totals = audit.views.iter().map(|view| view.totals);
        totals.max_by_key(|totals| totals.visible_bytes).unwrap_or_default()
    };
    let (left, right) = (most(left), most(right));
    let row =
        |name, value: fn(&Totals) -> u64| Total { name, left: value(&left), right: value(&right) };
    let mut totals = [
        row("visible bytes", |totals| totals.visible_bytes),
        row("visible pages", |totals| totals.visible_pages),
        row("writable bytes", |totals| totals.writable_bytes),
        row("executable bytes", |totals| totals.executable_bytes),
        row("pointers to the kernel", |totals| totals.pointers),
    ];
    totals.sort_by_key(|total| !total.differs());
    totals.into()
}

/// Findings by identifier; of several with the same one, by order.
fn findings(left: &[Finding], right: &[Finding]) -> Vec<FindingPair> {
    let mut partners: HashMap<&str, VecDeque<&Finding>> = HashMap::new();
    for finding in right {
        partners.entry(&finding.id).or_default().push_back(finding);
    }
    let mut pairs: Vec<FindingPair> = Vec::new();
    for finding in left {
        let partner = partners.get_mut(&*finding.id).and_then(VecDeque::pop_front);
        pairs.push(finding_pair(Some(finding), partner));
    }
    // Not in the map's order, which differs from run to run.
    for finding in right {
        let waiting = partners.get_mut(&*finding.id).and_then(VecDeque::pop_front);
        pairs.extend(waiting.map(|finding| finding_pair(None, Some(finding))));
    }
    pairs.sort_by_key(|pair| (!pair.differs(), std::cmp::Reverse(pair.severity)));
    pairs
}

fn finding_pair(left: Option<&Finding>, right: Option<&Finding>) -> FindingPair {
    let either = left.or(right);
    let severities = left.iter().chain(&right).map(|finding| finding.severity);
    FindingPair {
        id: either.map(|finding| finding.id.clone()).unwrap_or_default(),
        severity: severities.max().unwrap_or(Severity::Note),
        left: left.map(|finding| finding.title.clone()),
        right: right.map(|finding| finding.title.clone()),
        left_count: left.map_or(0, |finding| finding.count),
        right_count: right.map_or(0, |finding| finding.count),
    }
}

#[cfg(test)]
mod tests;

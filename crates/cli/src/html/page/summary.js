// The verdict and the totals.

const VERDICTS = {
  critical: 'Isolation is broken',
  serious: 'Isolated, but user mode can reach what it must not',
  warning: 'Isolated, with weaknesses',
  note: 'Isolated',
  clean: 'Isolated, no findings',
};

/** The answer in a few words, as the terminal's report gives it in more. */
function verdictOf(guest) {
  // Of a view that one CPU was seen under in ring 3, it is known for all.
  const known = new Set(guest.cpus.filter((cpu) => cpu.caught !== 'root-in-kernel').map((cpu) => cpu.view));
  const seen = guest.cpus.filter((cpu) => known.has(cpu.view) && guest.views[cpu.view]);
  if (seen.length === 0) return 'Not known: no CPU was seen in ring 3';
  const open = seen.filter((cpu) => guest.views[cpu.view].kernel_root === null);
  if (open.length === 0) return VERDICTS[worstOf(guest) || 'clean'];
  if (!guest.shared) return 'Not known: the kernel’s own root was not found';
  if (open.length === seen.length) return 'Not isolated: user mode and the kernel share one root';
  return `Not isolated on CPU ${ranges(open.map((cpu) => cpu.cpu.index))}`;
}

const worstOf = (guest) =>
  guest.findings.reduce((worst, { severity }) => (!worst || worse(severity, worst) ? severity : worst), null);

/** What is summed up for a view: [words, text, more in small letters]. */
function totalsOf({ totals, kernel_root, shared }) {
  const number = (value) => Number(value).toLocaleString('en');
  const pages = plural(totals.visible_pages, 'page');
  return [
    ['Supervisor memory user mode sees', size(totals.visible_bytes), pages],
    ['of it writable', size(totals.writable_bytes)],
    ['of it executable', size(totals.executable_bytes)],
    ['Pointers to kernel-only memory in it', number(totals.pointers)],
    [
      'Kernel maps in its own half',
      kernel_root === null ? (shared ? 'the same root' : 'not found') : size(totals.kernel_bytes),
    ],
    ['Page tables read', number(totals.tables)],
  ];
}

/** How many findings there are of each severity. */
function findingCounts(guest) {
  const plurals = { critical: 'critical', serious: 'serious', warning: 'warnings', note: 'notes' };
  const counts = Object.keys(SEVERITIES).map((severity) => {
    const count = guest.findings.filter((finding) => finding.severity === severity).length;
    const words = ` ${plural(count, severity, plurals[severity])}`;
    return count > 0 && make('span', {}, severityMark(severity, false), words);
  });
  return make('p', { class: 'counts' }, counts);
}

function verdictLine(guest) {
  const worst = worstOf(guest);
  const good = make('span', { class: 'severity clean', 'aria-hidden': 'true' }, '✓');
  const mark = worst ? severityMark(worst, false) : guest.cpus.length > 0 && good;
  return make('div', { class: 'verdict' }, make('h1', {}, mark, ' ', verdictOf(guest)), findingCounts(guest));
}

function totalsBlock(guest) {
  const view = viewOf(guest);
  if (!view) return make('p', {}, 'No view: no CPU’s tables could be looked at.');
  const lines = totalsOf(view).map(([words, text, more]) =>
    make('div', {}, make('dt', {}, words), make('dd', {}, text, more && make('small', {}, ` ${more}`))),
  );
  return [
    guests[guest].views.length > 1 && make('p', { class: 'quietly' }, viewName(view)),
    make('dl', { class: 'totals' }, lines),
  ];
}

const viewName = (view) =>
  `View ${view.index + 1}: ${view.cpus.length === 0 ? 'no CPU' : `CPU ${ranges(view.cpus)}`}`;

/** `0–3, 6` */
function ranges(numbers) {
  const parts = [];
  for (const number of numbers) {
    const last = parts[parts.length - 1];
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(', ');
}

function showVerdict() {
  const blocks = guests.map((guest, side) =>
    make('div', { class: 'guest' }, sideHeading(side), verdictLine(guest), totalsBlock(side)),
  );
  fill(byId('verdict'), blocks);
  byId('verdict').classList.toggle('two', guests.length > 1);
}

function showSource() {
  const [guest, other] = guests;
  fill(byId('source'), guestText(guest.source), other && [' against ', guestText(other.source)]);
  document.title = `${verdictOf(guest)} · ringwall audit · ${guest.source}`;
  fill(byId('foot'), `Made by ${guest.tool}, schema ${guest.schema}. This page loads nothing from anywhere.`);
}

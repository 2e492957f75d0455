// The verdict, the totals, what each CPU runs under, and what is malformed in the tables.

const VERDICTS = {
  critical: 'Isolation is broken',
  serious: 'Isolated, but user mode can reach what it must not',
  warning: 'Isolated, with weaknesses',
  note: 'Isolated',
  clean: 'Isolated, no findings',
};

/** The answer in a few words. A root that user mode and the kernel share is no isolation, whatever else was found. */
function verdictOf(guest) {
  const open = guest.cpus.filter((cpu) => guest.views[cpu.view] && guest.views[cpu.view].kernel_root === null);
  if (guest.cpus.length === 0) return 'No CPU was looked at';
  if (open.length === guest.cpus.length) return 'Not isolated: user mode and the kernel share one root';
  if (open.length > 0) return `Not isolated on CPU ${ranges(open.map((cpu) => cpu.cpu.index))}`;
  return VERDICTS[worstOf(guest) || 'clean'];
}

const CAUGHT = {
  'ring3': 'stopped in ring 3',
  'pair-in-kernel': 'in the kernel, on a pair’s kernel root; the other root is shown',
  'root-in-kernel': 'in the kernel, on a root without a partner; that root is shown',
};

const worstOf = (guest) => guest.findings.reduce((worst, { severity }) => (!worst || worse(severity, worst) ? severity : worst), null);

/** What is summed up for a view: [words, value to compare, text]. */
function totalsOf(view) {
  const totals = view.totals;
  return [
    ['Supervisor memory user mode sees', totals.visible_bytes, size(totals.visible_bytes), plural(totals.visible_pages, 'page')],
    ['of it writable', totals.writable_bytes, size(totals.writable_bytes)],
    ['of it executable', totals.executable_bytes, size(totals.executable_bytes)],
    ['Pointers to kernel-only memory in it', totals.pointers, Number(totals.pointers).toLocaleString('en')],
    ['Kernel maps in its own half', totals.kernel_bytes, view.kernel_root === null ? 'the same root' : size(totals.kernel_bytes)],
    ['Page tables read', totals.tables, Number(totals.tables).toLocaleString('en')],
  ];
}

function verdictLine(guest) {
  const worst = worstOf(guest);
  const count = Object.keys(SEVERITIES).map((severity) => [severity, guest.findings.filter((finding) => finding.severity === severity).length]);
  return make('div', { class: `verdict ${worst || 'clean'}` },
    make('h1', {}, worst ? severityMark(worst, false) : make('span', { class: 'severity clean', 'aria-hidden': 'true' }, '✓'),
      ' ', verdictOf(guest)),
    make('p', { class: 'counts' }, count.filter(([, number]) => number > 0).map(([severity, number]) =>
      make('span', {}, severityMark(severity, false), ` ${plural(number, SEVERITIES[severity][1].toLowerCase(), severity === 'serious' || severity === 'critical' ? severity : severity + 's')}`))));
}

function totalsBlock(guestIndex) {
  const view = viewOf(guestIndex);
  if (!view) return make('p', {}, 'No view: no CPU’s tables could be looked at.');
  const cpus = view.cpus.length === 0 ? 'no CPU' : `CPU ${ranges(view.cpus)}`;
  const many = guests[guestIndex].views.length > 1;
  return make('div', {}, many && make('p', { class: 'quietly' }, `View ${view.index + 1}, ${cpus}`),
    make('dl', { class: 'totals' }, totalsOf(view).map(([words, , text, more]) =>
      make('div', {}, make('dt', {}, words), make('dd', {}, text, more && make('small', {}, ` ${more}`))))));
}

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
  const two = guests.length > 1;
  fill(byId('verdict'), ...guests.map((guest, index) => make('div', { class: 'guest' },
    two && make('p', { class: 'side' }, make('b', {}, index === 0 ? 'A' : 'B'), ' ', guestText(guest.source)),
    verdictLine(guest), totalsBlock(index))));
  byId('verdict').classList.toggle('two', two);
}

function showSource() {
  const [guest] = guests;
  fill(byId('source'), guestText(guest.source), guests.length > 1 ? ' against ' : '', guests.length > 1 ? guestText(guests[1].source) : '');
  document.title = `${verdictOf(guest)} · ringwall audit · ${guest.source}`;
  fill(byId('foot'), `Made by ${guest.tool}, schema ${guest.schema}. This page loads nothing from anywhere.`);
}

const PAGING = [['no_execute', 'NX'], ['write_protect', 'WP'], ['global', 'PGE'], ['pcid', 'PCID'], ['smep', 'SMEP'],
  ['smap', 'SMAP'], ['user_keys', 'PKU'], ['supervisor_keys', 'PKS']];

function cpuRow(cpu, guest) {
  const { cpu: registers, paging } = cpu;
  const root = (text) => (text === null || text === undefined ? '–' : text);
  return make('tr', {},
    make('th', { scope: 'row' }, guests.length > 1 && `${'AB'[guest]} `, `CPU ${registers.index}`),
    make('td', {}, make('button', { type: 'button', class: 'link', click: () => chooseView(guest, cpu.view) }, `${cpu.view + 1}`)),
    make('td', {}, CAUGHT[cpu.caught] || cpu.caught),
    [registers.cr3, registers.rip, registers.rsp, registers.idt.base, registers.gdt.base, registers.tss.base, registers.lstar]
      .map((value) => make('td', { class: 'mono' }, root(value))),
    make('td', {}, `${paging.levels} levels; ${PAGING.filter(([field]) => paging[field]).map(([, word]) => word).join(' ') || 'none'}`));
}

function showCpus() {
  const heads = ['CPU', 'View', 'How it was caught', 'CR3', 'RIP', 'RSP', 'IDT', 'GDT', 'TSS', 'LSTAR', 'Paging'];
  const rows = guests.flatMap((guest, index) => guest.cpus.map((cpu) => cpuRow(cpu, index)));
  const anomalies = guests.flatMap((guest, index) => guest.views.flatMap((view) => view.anomalies.rows.map((row) => [index, view, row])));
  const hidden = guests.flatMap((guest) => guest.views).reduce((sum, view) => sum + view.anomalies.count - view.anomalies.rows.length, 0);
  fill(byId('cpus'), make('h2', { id: 'cpus-title' }, 'CPUs'),
    make('div', { class: 'scroll', tabindex: '0' }, make('table', {}, make('thead', {}, make('tr', {}, heads.map((head) => make('th', { scope: 'col' }, head)))),
      make('tbody', {}, rows))),
    guests.flatMap((guest, index) => guest.unseen.map(([number, reason]) => make('p', { class: 'help' },
      `${guests.length > 1 ? 'AB'[index] + ' ' : ''}CPU ${number} was not looked at: `, guestText(reason)))),
    anomalies.length > 0 && make('h3', {}, 'Malformed tables'),
    anomalies.length > 0 && make('div', { class: 'scroll', tabindex: '0' }, make('table', {},
      make('thead', {}, make('tr', {}, ['View', 'What', 'Level', 'Entry at', 'Entry', 'Translates from'].map((head) => make('th', { scope: 'col' }, head)))),
      make('tbody', {}, anomalies.map(([guest, view, row]) => make('tr', {},
        make('td', {}, `${guests.length > 1 ? 'AB'[guest] + ' ' : ''}${view.index + 1}`), make('td', {}, row.kind.replaceAll('-', ' ')),
        make('td', {}, String(row.level)), [row.entry_at, row.entry, row.address].map((value) => make('td', { class: 'mono' }, value))))))),
    hidden > 0 && make('p', { class: 'help' }, `${plural(hidden, 'more malformed entry', 'more malformed entries')} not listed.`));
}

// What each CPU runs under, and what is malformed in the tables.

const CAUGHT = {
  ring3: 'stopped in ring 3',
  'pair-in-kernel': 'in the kernel, on a pair’s kernel root; the other root is shown',
  'root-in-kernel': 'in the kernel, on a root without a partner; that root is shown',
};

/** Fields of `paging` that are true or false, by the manuals' names of their bits. */
const PAGING = {
  no_execute: 'NX',
  write_protect: 'WP',
  global: 'PGE',
  pcid: 'PCID',
  smep: 'SMEP',
  smap: 'SMAP',
  user_keys: 'PKU',
  supervisor_keys: 'PKS',
};

function pagingText(paging) {
  const set = Object.keys(PAGING).filter((field) => paging[field]);
  return `${paging.levels} levels; ${set.map((field) => PAGING[field]).join(' ') || 'none'}`;
}

function cpuRow({ cpu, paging, caught, view }, guest) {
  const show = () => chooseView(guest, view);
  const known = guests[guest].views[view];
  const { cr3, rip, rsp, idt, gdt, tss, lstar } = cpu;
  return row(
    rowHead(sideLetter(guest), `CPU ${cpu.index}`),
    cell(known ? make('button', { type: 'button', class: 'link', click: show }, `${view + 1}`) : 'none'),
    cell(CAUGHT[caught] || caught),
    [cr3, rip, rsp, idt.base, gdt.base, tss.base, lstar].map(monoCell),
    cell(pagingText(paging)),
  );
}

function anomalyRow(anomaly, view, guest) {
  return row(
    cell(sideLetter(guest), `${view.index + 1}`),
    cell(anomaly.kind.replaceAll('-', ' ')),
    cell(String(anomaly.level)),
    [anomaly.entry_at, anomaly.entry, anomaly.address].map(monoCell),
  );
}

function showCpus() {
  const heads = ['CPU', 'View', 'How it was caught', 'CR3', 'RIP', 'RSP', 'IDT', 'GDT', 'TSS', 'LSTAR', 'Paging'];
  const cpus = guests.flatMap((guest, side) => guest.cpus.map((cpu) => cpuRow(cpu, side)));
  const unseen = guests.flatMap((guest, side) =>
    guest.unseen.map(([number, reason]) =>
      help(sideLetter(side), `CPU ${number} was not looked at: `, guestText(reason)),
    ),
  );
  const malformed = guests.flatMap((guest, side) =>
    guest.views.flatMap((view) => view.anomalies.rows.map((anomaly) => anomalyRow(anomaly, view, side))),
  );
  const count = guests.flatMap((guest) => guest.views).reduce((sum, view) => sum + view.anomalies.count, 0);
  const more = count - malformed.length;
  fill(
    byId('cpus'),
    make('h2', { id: 'cpus-title' }, 'CPUs'),
    plainTable(heads, cpus),
    unseen,
    count > 0 && make('h3', {}, 'Malformed tables'),
    count > 0 && plainTable(['View', 'What', 'Level', 'Entry at', 'Entry', 'Translates from'], malformed),
    more > 0 && help(`${plural(more, 'more malformed entry', 'more malformed entries')} not listed.`),
  );
}

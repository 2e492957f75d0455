// The table of regions: sorted, filtered, a page of it at a time.

const ROWS = 50;
const table = {
  list: 'visible',
  sort: 'address',
  down: false,
  text: '',
  kind: '',
  found: false,
  page: 0,
  guest: 0,
};

const COLUMNS = [
  ['address', 'Address', (region) => region.address],
  ['size', 'Size', (region) => region.mapped],
  ['pages', 'Pages', (region) => region.pages],
  ['rights', 'Rights', (region) => rightsText(region) + rightsMore(region)],
  ['kind', 'Kind', (region) => kindName(region.kind)],
  ['name', 'Name', (region) => nameOf(region)],
  ['physical', 'Physical', (region) => region.physical],
  ['side', 'Kernel root', (region) => otherSide(region, viewOf(table.guest)) || ''],
  ['findings', 'Findings', (region) => region.findings.length],
];

const LISTS = { visible: 'visible to user mode', kernel: 'kernel root', user: 'user pages' };

/** What the filter looks at. */
function tableText(region) {
  const symbol = (region.name && region.name.symbol) || '';
  const words = [hex(region.address), nameOf(region), symbol, kindName(region.kind), physical(region.physical)];
  return words.join(' ').toLowerCase();
}

function tableRows() {
  const view = viewOf(table.guest);
  if (!view) return [];
  const wanted = table.text.trim().toLowerCase().replace(/^0x/, '');
  const rows = view[table.list].filter(
    (region) =>
      (!table.found || region.findings.length > 0) &&
      (!table.kind || region.kind === table.kind) &&
      (!wanted || tableText(region).includes(wanted)),
  );
  const read = COLUMNS.find(([id]) => id === table.sort)[2];
  const order = table.down ? -1 : 1;
  const keyed = rows.map((region) => [read(region), region]);
  keyed.sort(([a], [b]) => (a < b ? -order : a > b ? order : 0));
  return keyed.map(([, region]) => region);
}

function tableRow(region) {
  const chosen = Boolean(state.chosen && state.chosen.region === region);
  const pages = Number(region.pages).toLocaleString('en');
  const severities = region.findings.map((finding) => finding.severity);
  const worst = severities.reduce((worst, next) => (worse(next, worst) ? next : worst), severities[0]);
  const pick = (event) => {
    event.stopPropagation();
    choose(table.guest, region, true);
    bringMap();
  };
  return make(
    'tr',
    {
      class: chosen && 'chosen',
      'aria-selected': String(chosen),
      click: pick,
      'data-address': hex(region.address),
    },
    rowHead(link(hex(region.address), pick, { class: 'link mono' })),
    numberCell(size(region.mapped)),
    numberCell(region.pageSize ? `${pages} × ${size(region.pageSize)}` : pages),
    cell(make('code', {}, rightsText(region)), ' ', rightsMore(region)),
    cell(swatch(region.kind), ' ', kindName(region.kind)),
    make('td', { class: 'wide' }, guestText(nameOf(region))),
    make('td', { class: 'mono number' }, physical(region.physical)),
    cell(otherSide(region, viewOf(table.guest)) || '–'),
    cell(worst && [severityMark(worst, false), ` ${severities.length}`]),
  );
}

function changeTable(values) {
  Object.assign(table, { page: 0 }, values);
  fillTable();
}

function headCell([id, name]) {
  const sort = () => changeTable({ sort: id, down: table.sort === id ? !table.down : false });
  return make('th', { scope: 'col', 'data-column': id }, press(name, sort, { class: 'head' }));
}

function choiceOf(label, options, change) {
  const items = options.map(([value, text]) => make('option', { value }, text));
  return make('select', { 'aria-label': label, change: (event) => change(event.target.value) }, items);
}

/** The head and the controls, once; `fillTable` does the rest. */
function buildTable() {
  const kinds = [['', 'all kinds'], ...Object.keys(KINDS).map((kind) => [kind, kindName(kind)])];
  const sides = guests.map((guest, side) => [side, `${'AB'[side]} ${guest.source}`]);
  const filter = make('input', {
    type: 'search',
    id: 'filter',
    placeholder: 'address, name, symbol',
    'aria-label': 'Filter',
    input: (event) => changeTable({ text: event.target.value }),
  });
  const found = make('input', {
    type: 'checkbox',
    change: (event) => changeTable({ found: event.target.checked }),
  });
  const bar = make(
    'div',
    { class: 'bar' },
    make('h2', { id: 'regions-title' }, 'Regions'),
    guests.length > 1 && choiceOf('Guest', sides, (side) => changeTable({ guest: Number(side) })),
    make('span', { id: 'lists', class: 'segments', role: 'group', 'aria-label': 'List' }),
    make('span', { class: 'stretch' }),
    filter,
    choiceOf('Kind', kinds, (kind) => changeTable({ kind })),
    make('label', {}, found, ' with findings'),
  );
  const head = make('thead', {}, row(COLUMNS.map(headCell)));
  const rows = make(
    'div',
    { class: 'scroll', tabindex: '0' },
    make('table', { id: 'table' }, head, make('tbody')),
  );
  fill(byId('regions'), bar, rows, make('div', { class: 'bar', id: 'pages' }));
  fillTable();
}

/** Which list is shown; without isolation there is no list of the kernel's own. */
function showLists(view) {
  const lists = Object.keys(LISTS).filter((list) => list !== 'kernel' || (view && view.kernel_root !== null));
  const count = (list) => (view ? view[list].length : 0).toLocaleString('en');
  const options = lists.map((list) => [list, `${LISTS[list]} ${count(list)}`]);
  segments(byId('lists'), options, table.list, (list) => changeTable({ list }));
}

/** How many rows there are, and the way to the others. */
function showTablePages(view, count, last) {
  const all = view ? view.counts[table.list] : 0;
  const listed = view ? view[table.list].length : 0;
  const folded = `; ${plural(all, 'region')} are shown as ${plural(listed, 'row')}, neighbours put together`;
  const turn = (text, page) =>
    press(text, () => changeTable({ page }), { disabled: page < 0 || page > last ? '' : null });
  fill(
    byId('pages'),
    make('span', { class: 'help' }, plural(count, 'row'), listed < all && folded),
    make('span', { class: 'stretch' }),
    last > 0 && [
      turn('Previous', table.page - 1),
      make('span', {}, `${table.page + 1} of ${last + 1}`),
      turn('Next', table.page + 1),
    ],
  );
}

function fillTable() {
  const view = viewOf(table.guest);
  const rows = tableRows();
  const last = Math.max(0, Math.ceil(rows.length / ROWS) - 1);
  table.page = Math.min(table.page, last);
  showLists(view);
  fill(byId('table').tBodies[0], rows.slice(table.page * ROWS, (table.page + 1) * ROWS).map(tableRow));
  for (const head of document.querySelectorAll('#table th[data-column]')) {
    const sorted = table.down ? 'descending' : 'ascending';
    head.setAttribute('aria-sort', head.dataset.column === table.sort ? sorted : 'none');
  }
  showTablePages(view, rows.length, last);
  byId('table').dataset.rows = rows.length;
}

/** Shows the row of the chosen region: turns to its list and page. */
function followTable() {
  if (state.chosen) {
    const { region, guest } = state.chosen;
    Object.assign(table, { list: region.list, guest });
    const index = tableRows().indexOf(region);
    if (index >= 0) table.page = Math.floor(index / ROWS);
  }
  fillTable();
}

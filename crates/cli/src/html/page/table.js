// The table of regions: sorted, filtered, a page of it at a time.

const ROWS = 50;
const table = { list: 'visible', sort: 'address', down: false, text: '', kind: '', found: false, page: 0, guest: 0 };

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

function tableRows() {
  const view = viewOf(table.guest);
  if (!view) return [];
  const wanted = table.text.trim().toLowerCase();
  const rows = view[table.list].filter((region) => (!table.found || region.findings.length > 0) && (!table.kind || region.kind === table.kind)
    && (!wanted || `${hex(region.address)} ${nameOf(region)} ${region.name && region.name.symbol || ''} ${kindName(region.kind)} ${physical(region.physical)}`.toLowerCase().includes(wanted)));
  const read = COLUMNS.find(([id]) => id === table.sort)[2];
  const order = table.down ? -1 : 1;
  return rows.map((region) => [read(region), region]).sort(([a], [b]) => (a < b ? -order : a > b ? order : 0)).map(([, region]) => region);
}

function tableRow(region) {
  const chosen = state.chosen && state.chosen.region === region;
  const view = viewOf(table.guest);
  const pages = `${Number(region.pages).toLocaleString('en')}${region.pageSize ? ` × ${size(region.pageSize)}` : ''}`;
  const worst = region.findings.reduce((found, finding) => (!found || worse(finding.severity, found) ? finding.severity : found), null);
  const pick = () => {
    choose(table.guest, region, true);
    bringMap();
  };
  return make('tr', { class: chosen ? 'chosen' : null, 'aria-selected': String(Boolean(chosen)), click: pick, 'data-address': hex(region.address) },
    make('th', { scope: 'row' }, make('button', { type: 'button', class: 'link mono', click: (event) => { event.stopPropagation(); pick(); } }, hex(region.address))),
    make('td', { class: 'number' }, size(region.mapped)), make('td', { class: 'number' }, pages),
    make('td', {}, make('code', {}, rightsText(region)), rightsMore(region) ? ` ${rightsMore(region)}` : ''),
    make('td', {}, swatch(region.kind), ' ', kindName(region.kind)), make('td', { class: 'wide' }, guestText(nameOf(region))),
    make('td', { class: 'mono number' }, physical(region.physical)), make('td', {}, otherSide(region, view) || '–'),
    make('td', {}, worst ? [severityMark(worst, false), ` ${region.findings.length}`] : ''));
}

/** The head and the controls, once; `fillTable` does the rest. */
function buildTable() {
  const change = (values) => { Object.assign(table, { page: 0 }, values); fillTable(); };
  const head = COLUMNS.map(([id, name]) => make('th', { scope: 'col', 'data-column': id }, make('button', {
    type: 'button', class: 'head', click: () => change({ sort: id, down: table.sort === id ? !table.down : false }),
  }, name)));
  const kinds = make('select', { 'aria-label': 'Kind', change: (event) => change({ kind: event.target.value }) }, make('option', { value: '' }, 'all kinds'),
    Object.keys(KINDS).map((kind) => make('option', { value: kind }, kindName(kind))));
  fill(byId('regions'),
    make('div', { class: 'bar' }, make('h2', { id: 'regions-title' }, 'Regions'),
      guests.length > 1 && make('select', { 'aria-label': 'Guest', change: (event) => change({ guest: Number(event.target.value) }) },
        guests.map((guest, index) => make('option', { value: index }, 'AB'[index], ' ', guest.source))),
      make('span', { id: 'lists', class: 'segments', role: 'group', 'aria-label': 'List' }), make('span', { class: 'stretch' }),
      make('input', { type: 'search', id: 'filter', placeholder: 'address, name, symbol', 'aria-label': 'Filter', input: (event) => change({ text: event.target.value }) }),
      kinds, make('label', {}, make('input', { type: 'checkbox', change: (event) => change({ found: event.target.checked }) }), ' with findings')),
    make('div', { class: 'scroll', tabindex: '0' }, make('table', { id: 'table' }, make('thead', {}, make('tr', {}, head)), make('tbody'))),
    make('div', { class: 'bar', id: 'pages' }));
  fillTable();
}

function fillTable() {
  const view = viewOf(table.guest);
  const rows = tableRows();
  const last = Math.max(0, Math.ceil(rows.length / ROWS) - 1);
  table.page = Math.min(table.page, last);
  const lists = Object.entries(LISTS).filter(([list]) => list !== 'kernel' || (view && view.kernel_root !== null));
  const options = lists.map(([list, words]) => [list, `${words} ${view ? view[list].length.toLocaleString('en') : 0}`]);
  segments(byId('lists'), options, table.list, (list) => { Object.assign(table, { list, page: 0 }); fillTable(); });
  fill(byId('table').tBodies[0], rows.slice(table.page * ROWS, (table.page + 1) * ROWS).map(tableRow));
  for (const cell of document.querySelectorAll('#table th[data-column]')) {
    const sorted = cell.dataset.column === table.sort;
    cell.setAttribute('aria-sort', sorted ? (table.down ? 'descending' : 'ascending') : 'none');
  }
  const turn = (text, page) => make('button', { type: 'button', disabled: page < 0 || page > last ? '' : null, click: () => { table.page = page; fillTable(); } }, text);
  const count = view ? view.counts[table.list] : 0;
  const put = view && view[table.list].length < count ? `; ${plural(count, 'region')} in the tables are shown as ${plural(view[table.list].length, 'row')}, neighbours put together` : '';
  fill(byId('pages'), make('span', { class: 'help' }, `${plural(rows.length, 'row')}${put}`), make('span', { class: 'stretch' }),
    ...(last > 0 ? [turn('Previous', table.page - 1), make('span', {}, `${table.page + 1} of ${last + 1}`), turn('Next', table.page + 1)] : []));
  Object.assign(byId('table').dataset, { rows: rows.length });
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

// The chosen region, in full.

/** What the kernel root shows at a visible page's address. */
const SIDES = {
  'same': 'the same page in the kernel root',
  'split': 'split: another physical page in the kernel root',
  'absent': 'absent in the kernel root',
  'one root': 'one root for both',
  'kernel only': 'kernel root only',
};

function showDetails() {
  const section = byId('details');
  const heading = make('h2', { id: 'details-title' }, 'Region');
  byId('map').dataset.chosen = state.chosen ? hex(state.chosen.region.address) : '';
  if (!state.chosen) {
    fill(section, heading, make('p', { class: 'help' }, 'Choose a region in the map, the table or a finding.'));
    return;
  }
  const { region, view, guest } = state.chosen;
  const side = otherSide(region, view);
  const filled = filledBytes(region, view);
  const lines = [
    ['Addresses', make('span', { class: 'mono' }, hex(region.address), ' – ', make('wbr'), hex(region.last))],
    ['Size', `${size(region.mapped)}: ${plural(region.pages, 'page')}${region.pageSize ? ` of ${size(region.pageSize)}` : ''}`],
    ['Rights', [make('code', {}, rightsText(region)), rightsMore(region) ? `, ${rightsMore(region)}` : '']],
    ['Physical', [make('span', { class: 'mono' }, physical(region.physical)), region.pages > 1 ? (region.contiguous ? ', ascending' : ', not in one piece') : '']],
    side && ['Kernel root', SIDES[side]],
    filled !== null && ['Not zero', filled === 0 ? 'nothing: all zero' : `${size(filled)} of it`],
    region.repeats !== null && ['Repeats', ['the memory at ', make('span', { class: 'mono' }, hex(region.repeats))]],
    region.name && region.name.symbol && ['Symbol', make('code', {}, guestText(region.name.symbol))],
    region.name && region.name.cpu !== null && ['CPU', String(region.name.cpu)],
    region.parts > 1 && ['Stands for', `${plural(region.parts, 'region')} that lie close together${region.mixed ? ', of different kinds' : ''}`],
  ].filter(Boolean);
  fill(section, heading,
    make('p', { class: 'name' }, swatch(region.kind), ' ', guestText(nameOf(region))),
    make('p', { class: 'help' }, KINDS[region.kind][2]),
    make('dl', {}, lines.map(([term, text]) => make('div', {}, make('dt', {}, term), make('dd', {}, text)))),
    make('p', {}, make('button', { type: 'button', click: () => { showRegion(region, view); bringMap(); } }, 'Zoom to it')),
    region.findings.length > 0 && make('h3', {}, plural(region.findings.length, 'finding')),
    region.findings.length > 0 && make('ul', { class: 'plain' }, region.findings.map((finding) => make('li', {},
      make('button', { type: 'button', class: 'link', click: () => openFinding(finding, guest) }, severityMark(finding.severity), ' ', guestText(finding.title))))));
  byId('spoken').textContent = `${nameOf(region)}, ${hex(region.address)}, ${size(region.mapped)}, rights ${rightsText(region)}${side ? ', ' + SIDES[side] : ''}, ${plural(region.findings.length, 'finding')}`;
}

/** The kinds that are in the map, and what its signs mean. */
function showLegend() {
  const seen = new Set(shownViews().flatMap((view) => [...view.visible, ...view.kernel, ...view.user].map((region) => region.kind)));
  fill(byId('legend'),
    make('ul', {}, Object.keys(KINDS).filter((kind) => seen.has(kind)).map((kind) =>
      make('li', { title: KINDS[kind][2] }, swatch(kind), ' ', make('code', {}, kindCode(kind)), ` ${kindName(kind)}`))),
    make('ul', { class: 'signs' },
      make('li', {}, make('i', { class: 'swatch', style: 'background:var(--write)', 'aria-hidden': 'true' }), ' w writable'),
      make('li', {}, make('i', { class: 'swatch', style: 'background:var(--execute)', 'aria-hidden': 'true' }), ' x executable'),
      make('li', {}, make('i', { class: 'stroke' }), ' same page on both sides'),
      make('li', {}, make('i', { class: 'stroke broken' }), ' split: two pages'),
      make('li', {}, make('i', { class: 'swatch hatched' }), ' repeated or mixed'),
      Object.keys(SEVERITIES).map((severity) => make('li', {}, severityMark(severity)))));
}

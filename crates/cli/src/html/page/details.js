// The chosen region, in full.

/** What the kernel root shows at a visible page's address. */
const SIDES = {
  same: 'the same page in the kernel root',
  split: 'split: another physical page in the kernel root',
  absent: 'absent in the kernel root',
  'one root': 'one root for both',
  'kernel only': 'kernel root only',
};

const mono = (...children) => make('span', { class: 'mono' }, children);

/** Terms and what is to be said of them; what does not apply is left out. */
function detailLines(region, view) {
  const { name, pages, pageSize, repeats, parts, mixed } = region;
  const side = otherSide(region, view);
  const filled = filledBytes(region, view);
  const more = rightsMore(region);
  const succession = region.contiguous ? ', ascending' : ', not in one piece';
  const count = `${plural(pages, 'page')}${pageSize ? ` of ${size(pageSize)}` : ''}`;
  const crowd = `${plural(parts, 'region')} that lie close together${mixed ? ', of different kinds' : ''}`;
  const lines = [
    ['Addresses', mono(hex(region.address), ' – ', make('wbr'), hex(region.last))],
    ['Size', `${size(region.mapped)}: ${count}`],
    ['Rights', [make('code', {}, rightsText(region)), more && `, ${more}`]],
    ['Physical', [mono(physical(region.physical)), pages > 1 && succession]],
    side && ['Kernel root', SIDES[side]],
    filled !== null && ['Not zero', filled === 0 ? 'nothing: all zero' : `${size(filled)} of it`],
    repeats !== null && ['Repeats', ['the memory at ', mono(hex(repeats))]],
    name && name.symbol && ['Symbol', make('code', {}, guestText(name.symbol))],
    name && name.cpu !== null && ['CPU', String(name.cpu)],
    parts > 1 && ['Stands for', crowd],
  ];
  return lines.filter(Boolean).map(([term, text]) => make('div', {}, make('dt', {}, term), make('dd', {}, text)));
}

function showDetails() {
  const heading = make('h2', { id: 'details-title' }, 'Region');
  byId('map').dataset.chosen = state.chosen ? hex(state.chosen.region.address) : '';
  if (!state.chosen) {
    fill(byId('details'), heading, help('Choose a region in the map, the table or a finding.'));
    return;
  }
  const { region, view, guest } = state.chosen;
  const zoomTo = () => {
    showRegion(region, view);
    bringMap();
  };
  const findings = region.findings.map((finding) => {
    const words = [severityMark(finding.severity), ' ', guestText(capital(finding.title))];
    return make(
      'li',
      {},
      link(words, () => openFinding(finding, guest)),
    );
  });
  fill(
    byId('details'),
    heading,
    make('p', { class: 'name' }, swatch(region.kind), ' ', guestText(nameOf(region))),
    help(KINDS[region.kind][2]),
    make('dl', {}, detailLines(region, view)),
    make('p', {}, press('Zoom to it', zoomTo)),
    findings.length > 0 && [
      make('h3', {}, plural(findings.length, 'finding')),
      make('ul', { class: 'plain' }, findings),
    ],
  );
  speak(region, view);
}

/** Tells a screen reader which region was chosen in the map. */
function speak(region, view) {
  const side = otherSide(region, view);
  const words = [
    nameOf(region),
    hex(region.address),
    size(region.mapped),
    `rights ${rightsText(region)}`,
    side && SIDES[side],
    plural(region.findings.length, 'finding'),
  ];
  byId('spoken').textContent = words.filter(Boolean).join(', ');
}

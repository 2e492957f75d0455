// The list of findings. A place leads to its region: the map goes there.

/** Places that are listed before somebody asks for all. */
const FIRST_PLACES = 6;

function placeButton(place, guest) {
  const { region, view, note } = place;
  const name = region && region.name ? nameOf(region) : '';
  const go = () => {
    if (!view) return;
    if (state.view[guest] !== view.index) chooseView(guest, view.index);
    if (region) choose(guest, region, true);
    else showPages(pageOf(place.address, view.half), pageOf(place.address, view.half) + 1, 4);
    bringMap();
  };
  return make('li', {},
    make('button', { type: 'button', class: 'link mono place', click: go, 'data-address': hex(place.address) }, hex(place.address)),
    ' ', name && !note.includes(name) ? guestText(name) : null,
    guests[guest].views.length > 1 && view ? make('span', { class: 'quietly' }, ` view ${view.index + 1}`) : null,
    place.value !== null ? make('span', {}, ' holds ', make('code', {}, hex(place.value))) : null,
    note ? make('span', { class: 'quietly' }, ' ', guestText(note)) : null);
}

function findingItem(finding, guest) {
  const list = make('ol', { class: 'places' });
  const show = (all) => {
    const places = all ? finding.places : finding.places.slice(0, FIRST_PLACES);
    fill(list, ...places.map((place) => placeButton(place, guest)));
    if (!all && finding.places.length > FIRST_PLACES) {
      list.append(make('li', {}, make('button', { type: 'button', class: 'link', click: () => show(true) },
        `all ${plural(finding.places.length, 'place')}`)));
    } else if (finding.count > finding.places.length) {
      list.append(make('li', { class: 'quietly' }, `${plural(finding.count - finding.places.length, 'more place')} not listed`));
    }
  };
  show(false);
  const anchor = `finding-${'ab'[guest]}-${finding.index}`;
  return make('article', { class: `finding ${finding.severity}`, id: anchor, tabindex: '-1' },
    make('h3', {}, severityMark(finding.severity), ' ', guestText(finding.title.charAt(0).toUpperCase() + finding.title.slice(1))),
    make('p', {}, guestText(finding.explanation)),
    make('p', { class: 'reference' }, make('code', {}, finding.id), '  ', guestText(finding.reference)),
    finding.places.length > 0 && list);
}

/** Goes to a finding in the list. */
function openFinding(finding, guest) {
  const item = byId(`finding-${'ab'[guest]}-${finding.index}`);
  if (!item) return;
  item.scrollIntoView({ block: 'center' });
  item.focus({ preventScroll: true });
}

function showFindings() {
  const lists = guests.map((guest, index) => make('div', { class: 'guest' },
    guests.length > 1 && make('p', { class: 'side' }, make('b', {}, 'AB'[index]), ' ', guestText(guest.source)),
    guest.findings.length === 0 && make('p', { class: 'none' }, 'None.'),
    guest.findings.map((finding) => findingItem(finding, index)),
    guest.findingCount > guest.findings.length && make('p', { class: 'help' }, `${plural(guest.findingCount - guest.findings.length, 'more finding')} not listed.`)));
  fill(byId('findings'), make('h2', { id: 'findings-title' }, 'Findings'), make('div', { class: guests.length > 1 ? 'two' : '' }, lists));
}

/** Scrolls the map into sight if it is not. */
function bringMap() {
  const box = byId('map-frame').getBoundingClientRect();
  if (box.top < 0 || box.bottom > innerHeight) byId('space').scrollIntoView({ block: 'start' });
}

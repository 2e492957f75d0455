// The list of findings. A place leads to its region: the map goes there.

/** Places that are listed before somebody asks for all. */
const FIRST_PLACES = 6;

function placeItem(place, guest) {
  const { region, view, note } = place;
  const name = region && region.name ? nameOf(region) : '';
  const go = () => {
    if (!view) return;
    if (state.view[guest] !== view.index) chooseView(guest, view.index);
    if (region) choose(guest, region, true);
    else showPages(pageOf(place.address, view.half), pageOf(place.address, view.half) + 1, 4);
    bringMap();
  };
  const several = guests[guest].views.length > 1 && view;
  return make(
    'li',
    {},
    link(hex(place.address), go, { class: 'link mono place', 'data-address': hex(place.address) }),
    ' ',
    name && !note.includes(name) && guestText(name),
    several && quiet(` view ${view.index + 1}`),
    place.value !== null && [' holds ', make('code', {}, hex(place.value))],
    note && quiet(' ', guestText(note)),
  );
}

/** The first places, and at the end the way to all of them, or how many are not there. */
function fillPlaces(list, finding, guest, all) {
  const { places, count } = finding;
  const listed = all ? places : places.slice(0, FIRST_PLACES);
  const more = places.length > listed.length;
  const rest = count - places.length;
  fill(
    list,
    listed.map((place) => placeItem(place, guest)),
    more &&
      make(
        'li',
        {},
        link(`all ${plural(places.length, 'place')}`, () => fillPlaces(list, finding, guest, true)),
      ),
    !more && rest > 0 && make('li', {}, quiet(`${plural(rest, 'more place')} not listed`)),
  );
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const findingId = (finding, guest) => `finding-${'ab'[guest]}-${finding.index}`;

function findingItem(finding, guest) {
  const list = make('ol', { class: 'places' });
  fillPlaces(list, finding, guest, false);
  return make(
    'article',
    { class: 'finding', id: findingId(finding, guest), tabindex: '-1' },
    make('h3', {}, severityMark(finding.severity), ' ', guestText(capital(finding.title))),
    make('p', {}, guestText(finding.explanation)),
    make('p', { class: 'reference' }, make('code', {}, finding.id), '  ', guestText(finding.reference)),
    finding.places.length > 0 && list,
  );
}

/** Goes to a finding in the list. */
function openFinding(finding, guest) {
  const item = byId(findingId(finding, guest));
  item.scrollIntoView({ block: 'center' });
  item.focus({ preventScroll: true });
}

function showFindings() {
  const lists = guests.map((guest, side) => {
    const more = guest.findingCount - guest.findings.length;
    return make(
      'div',
      { class: 'guest' },
      sideHeading(side),
      guest.findings.length === 0 && make('p', {}, 'None.'),
      guest.findings.map((finding) => findingItem(finding, side)),
      more > 0 && help(`${plural(more, 'more finding')} not listed.`),
    );
  });
  const title = make('h2', { id: 'findings-title' }, 'Findings');
  fill(byId('findings'), title, make('div', { class: guests.length > 1 ? 'two' : '' }, lists));
}

/** Scrolls the map into sight if it is not. */
function bringMap() {
  const box = byId('map-frame').getBoundingClientRect();
  if (box.top < 0 || box.bottom > innerHeight) byId('space').scrollIntoView({ block: 'start' });
}

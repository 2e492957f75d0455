// Two guests side by side, what differs first.

/** What a guest's visible memory is called, with the bytes of each name. */
function visibleNames(view) {
  const names = new Map();
  for (const region of view.visible) {
    const name = region.name ? region.name.text : kindName(region.kind);
    names.set(name, (names.get(name) || 0) + region.mapped);
  }
  return names;
}

function differenceRows() {
  const views = guests.map((_, guest) => viewOf(guest));
  const rows = [];
  const ids = [...new Set(guests.flatMap((guest) => guest.findings.map((finding) => finding.id)))];
  for (const id of ids) {
    const sides = guests.map((guest) => guest.findings.find((finding) => finding.id === id));
    const texts = sides.map((finding) => (finding ? `${SEVERITIES[finding.severity][1]}: ${finding.title}` : 'not found'));
    rows.push({ group: 'Findings', what: id, texts, same: texts[0] === texts[1] });
  }
  if (views.every((view) => view !== null)) {
    const totals = views.map(totalsOf);
    totals[0].forEach(([words, , text], index) => {
      rows.push({ group: 'Totals', what: words, texts: [text, totals[1][index][2]], same: text === totals[1][index][2] });
    });
    const names = views.map(visibleNames);
    for (const name of new Set(names.flatMap((map) => [...map.keys()]).slice(0, 400))) {
      const texts = names.map((map) => (map.has(name) ? size(map.get(name)) : 'not visible'));
      rows.push({ group: 'Visible to user mode', what: name, texts, same: texts[0] === texts[1] });
    }
  }
  return rows;
}

function showDifferences() {
  if (guests.length < 2) return;
  const section = byId('differences');
  section.hidden = false;
  const rows = differenceRows();
  const body = (list) => [...new Set(list.map((row) => row.group))].flatMap((group) => [
    make('tr', { class: 'group' }, make('th', { colspan: '3', scope: 'rowgroup' }, group)),
    ...list.filter((row) => row.group === group).map((row) => make('tr', {},
      make('th', { scope: 'row' }, guestText(row.what)), row.texts.map((text) => make('td', {}, guestText(text)))))]);
  const table = (list) => make('div', { class: 'scroll', tabindex: '0' }, make('table', { class: 'compare' },
    make('thead', {}, make('tr', {}, make('th', { scope: 'col' }, ''), guests.map((guest, index) =>
      make('th', { scope: 'col' }, `${'AB'[index]}  `, guestText(guest.source))))),
    make('tbody', {}, body(list))));
  const [different, same] = [rows.filter((row) => !row.same), rows.filter((row) => row.same)];
  section.replaceChildren(make('h2', { id: 'differences-title' }, 'Differences'),
    different.length > 0 ? table(different) : make('p', {}, 'None.'),
    same.length > 0 && make('details', {}, make('summary', {}, `${plural(same.length, 'line')} the same on both sides`), table(same)));
}

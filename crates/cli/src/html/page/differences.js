// Two guests side by side, what differs first. The lines come from `compare` (html/differences.rs).

/** A side of a line: a sum, a region, or words. */
function sideText(group, what, side) {
  if (group === 'Totals') return /bytes/.test(what) ? size(side) : Number(side).toLocaleString('en');
  if (group !== 'User mode sees') return side;
  if (side === null) return 'not visible';
  const [bytes, rights, at] = side;
  const letters = `r${rights & 2 ? 'w' : '-'}${rights & 4 ? 'x' : '-'}`;
  return `${size(bytes)} ${letters}${rights & 8 ? ' global' : ''}${rights & 1 ? ' user' : ''} at ${hex(address(at))}`;
}

/** What makes regions one line: name but for the number of the CPU, and on both sides length and rights. */
function alike([, what, left, right, differs]) {
  const same = (side) => side && side.slice(0, 2);
  return JSON.stringify([what.replace(/\bCPU \d+/, 'CPU'), same(left), same(right), differs]);
}

/** Regions that are alike are one line, with how many more there are; all else is a line each. */
function byCpu(lines) {
  const groups = new Map();
  lines.forEach((line, index) => {
    const key = line[0] === 'User mode sees' ? alike(line) : index;
    if (groups.has(key)) groups.get(key).more += 1;
    else groups.set(key, { line, more: 0 });
  });
  return [...groups.values()];
}

/** Lines of a group below its name. */
function differenceRows(lines) {
  const groups = [...new Set(lines.map((line) => line.group))];
  return groups.flatMap((group) => [
    make('tr', { class: 'group' }, make('th', { colspan: '3', scope: 'rowgroup' }, group)),
    ...lines.filter((line) => line.group === group).map(differenceRow),
  ]);
}

function differenceRow({ what, more, severity, sides }) {
  const head = rowHead(
    severity && [severityMark(severity, false), ' '],
    guestText(what),
    more > 0 && quiet(` and ${more} more alike`),
  );
  return row(
    head,
    sides.map((text) => cell(guestText(text))),
  );
}

function showDifferences() {
  if (guests.length < 2) return;
  const lines = byCpu(DATA.differences.lines).map(({ line, more }) => {
    const [group, what, left, right, differs, severity] = line;
    const sides = [left, right].map((side) => sideText(group, what, side));
    return { group, what, more, severity, differs, sides };
  });
  const heads = () => [
    '',
    ...guests.map((guest, side) => make('span', {}, sideLetter(side), guestText(guest.source))),
  ];
  const table = (some) => plainTable(heads(), differenceRows(some), { class: 'compare' });
  const different = lines.filter((line) => line.differs);
  const same = lines.filter((line) => !line.differs);
  const more = DATA.differences.left_out;
  byId('differences').hidden = false;
  fill(
    byId('differences'),
    make('h2', { id: 'differences-title' }, 'Differences'),
    different.length > 0 ? table(different) : make('p', {}, 'None.'),
    more > 0 && help(`${plural(more, 'more region')} that differ are not listed.`),
    same.length > 0 &&
      make(
        'details',
        {},
        make('summary', {}, `${plural(same.length, 'line')} the same on both sides`),
        table(same),
      ),
  );
}

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

/** Names that differ in the number of the CPU alone are one line: `stack of CPU 0`, `1`, ... */
function byCpu(lines) {
  const groups = new Map();
  for (const line of lines) {
    const [group, what, left, right, differs] = line;
    const alike = group === 'User mode sees' ? `${what.replace(/\bCPU \d+/, 'CPU')}|${left && left.slice(0, 2)}|${right && right.slice(0, 2)}` : what;
    const key = `${group}|${alike}|${differs}`;
    if (groups.has(key)) groups.get(key).more += 1;
    else groups.set(key, { line, more: 0 });
  }
  return [...groups.values()];
}

function showDifferences() {
  if (guests.length < 2) return;
  const section = byId('differences');
  section.hidden = false;
  const rows = byCpu(DATA.differences.lines).map(({ line: [group, what, left, right, differs, severity], more }) => ({
    group, what, more, severity, same: !differs, texts: [left, right].map((side) => sideText(group, what, side)),
  }));
  const body = (list) => [...new Set(list.map((row) => row.group))].flatMap((group) => [
    make('tr', { class: 'group' }, make('th', { colspan: '3', scope: 'rowgroup' }, group)),
    ...list.filter((row) => row.group === group).map((row) => make('tr', {},
      make('th', { scope: 'row' }, row.severity && [severityMark(row.severity, false), ' '], guestText(row.what),
        row.more > 0 && make('span', { class: 'quietly' }, ` and ${row.more} more alike`)), row.texts.map((text) => make('td', {}, guestText(text)))))]);
  const table = (list) => make('div', { class: 'scroll', tabindex: '0' }, make('table', { class: 'compare' },
    make('thead', {}, make('tr', {}, make('th', { scope: 'col' }, ''), guests.map((guest, index) =>
      make('th', { scope: 'col' }, `${'AB'[index]}  `, guestText(guest.source))))),
    make('tbody', {}, body(list))));
  const [different, same] = [rows.filter((row) => !row.same), rows.filter((row) => row.same)];
  fill(section, make('h2', { id: 'differences-title' }, 'Differences'),
    different.length > 0 ? table(different) : make('p', {}, 'None.'),
    DATA.differences.left_out > 0 && make('p', { class: 'help' }, `${plural(DATA.differences.left_out, 'more region')} that differ are not listed.`),
    same.length > 0 && make('details', {}, make('summary', {}, `${plural(same.length, 'line')} the same on both sides`), table(same)));
}

// EntryBleed (CVE-2022-4543): where visible memory was, boot by boot, and what it moves with.

const MOTIONS = {
  'fixed': 'nothing: it is fixed', 'independent': 'nothing: it moves by itself', 'undecided': 'too few boots to tell', 'random': 'random',
};

/** How far each boot's address is from the first one's, as numbers; null where it was not there. */
function moves(addresses) {
  const read = addresses.map((text) => (typeof text === 'string' && /^0x[0-9a-f]{1,16}$/.test(text) ? BigInt(text) : null));
  const first = read.find((value) => value !== null);
  return read.map((value) => (value === null ? null : Number(value - first)));
}

/** A line through the boots. Two things that move together have the same line, whatever their addresses. */
function chart(track, base) {
  const [width, height, edge] = [160, 34, 5];
  const lines = [base && ['base', moves(base.addresses)], ['track', moves(track.addresses)]].filter(Boolean);
  const values = lines.flatMap(([, line]) => line.filter((value) => value !== null));
  const [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
  const x = (index, count) => edge + (index * (width - 2 * edge)) / Math.max(1, count - 1);
  const y = (value) => (high === low ? height / 2 : height - edge - ((value - low) / (high - low)) * (height - 2 * edge));
  const picture = draw('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', class: 'chart' });
  const words = high === low ? 'does not move' : base ? `moves as ${base.name} does` : 'moves';
  picture.append(draw('title', {}, words));
  for (const [kind, line] of lines) {
    const points = line.map((value, index) => (value === null ? null : [x(index, line.length), y(value)])).filter(Boolean);
    picture.append(draw('polyline', { class: kind, points: points.map((point) => point.join(',')).join(' ') }));
    if (kind === 'track') points.forEach(([cx, cy]) => picture.append(draw('circle', { cx, cy, r: 2.5 })));
  }
  return picture;
}

function showBoots() {
  const found = guests.map((guest, index) => [guest, index]).filter(([guest]) => guest.boots);
  const section = byId('boots');
  section.hidden = found.length === 0;
  if (found.length === 0) return;
  const cell = (text) => make('td', { class: 'mono' }, text === null ? '–' : text.replace(/^0x/, ''));
  fill(section, make('h2', { id: 'boots-title' }, 'What moves with the kernel (EntryBleed)'), ...found.flatMap(([guest, index]) => {
    const { boots, bases, tracks } = guest.boots;
    const heads = ['Visible', 'Moves with', 'Gives away', 'Boot by boot', ...Array.from({ length: Math.min(boots, 256) }, (_, boot) => `Boot ${boot + 1}`)];
    const tell = tracks.filter((track) => track.moves_with);
    return [guests.length > 1 && make('p', { class: 'side' }, make('b', {}, 'AB'[index])),
      make('p', {}, tell.length === 0 ? `Over ${plural(boots, 'boot')}, nothing that user mode sees moves with anything that the kernel hides.`
        : `Over ${plural(boots, 'boot')}, ${plural(tell.length, 'visible place')} ${tell.length === 1 ? 'moves' : 'move'} with what the kernel hides. Timing a prefetch of it finds the hidden address.`),
      make('div', { class: 'scroll', tabindex: '0' }, make('table', { class: 'boots' },
        make('thead', {}, make('tr', {}, heads.map((head) => make('th', { scope: 'col' }, head)))),
        make('tbody', {}, tracks.map((track) => make('tr', { class: track.moves_with ? 'tells' : null },
          make('th', { scope: 'row' }, guestText(track.name)), make('td', {}, track.moves_with ? [guestText(track.moves_with), track.motion === 'partly-with-base' && ' (in part)'] : MOTIONS[track.motion] || ''),
          make('td', { class: 'number' }, track.moves_with ? `${Number(track.bits).toFixed(1)} bits` : '–'),
          make('td', {}, chart(track, bases.find((base) => base.name === track.moves_with))), track.addresses.map(cell)))),
        make('tbody', { class: 'bases' }, make('tr', { class: 'group' }, make('th', { colspan: String(heads.length), scope: 'rowgroup' }, 'Chosen at random, and hidden')),
          bases.map((base) => make('tr', {}, make('th', { scope: 'row' }, guestText(base.name)), make('td', {}, MOTIONS[base.motion] || ''),
            make('td', { class: 'number' }, `${Number(base.bits_estimated).toFixed(1)} bits`), make('td', {}, chart(base, null)), base.addresses.map(cell))))))];
  }).filter(Boolean));
}

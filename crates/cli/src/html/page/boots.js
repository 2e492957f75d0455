// EntryBleed (CVE-2022-4543): where visible memory was, boot by boot, and what it moves with.

const MOTIONS = {
  fixed: 'fixed',
  independent: 'moves by itself',
  undecided: 'too few boots to tell',
  random: 'random',
};

/** How far each boot's address is from the first one's, as numbers; null where it was not there. */
function moves(addresses) {
  const read = addresses.map((text) =>
    typeof text === 'string' && /^0x[0-9a-f]{1,16}$/.test(text) ? BigInt(text) : null,
  );
  const first = read.find((value) => value !== null);
  return read.map((value) => (value === null ? null : Number(value - first)));
}

const CHART = { width: 160, height: 34, edge: 5 };

/** A line through the boots. Two things that move together have the same line, whatever their addresses. */
function chart(track, base) {
  const { width, height, edge } = CHART;
  const lines = [base && ['base', moves(base.addresses)], ['track', moves(track.addresses)]].filter(Boolean);
  const values = lines.flatMap(([, line]) => line.filter((value) => value !== null));
  const [low, high] = [Math.min(...values, 0), Math.max(...values, 0)];
  const x = (index, count) => edge + (index * (width - 2 * edge)) / Math.max(1, count - 1);
  const share = (value) => (high === low ? 0.5 : (value - low) / (high - low));
  const y = (value) => height - edge - share(value) * (height - 2 * edge);
  const picture = draw('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', class: 'chart' });
  const words = high === low ? 'does not move' : base ? `moves as ${base.name} does` : 'moves';
  picture.append(draw('title', {}, words));
  for (const [kind, line] of lines) {
    const places = line.map((value, index) => (value === null ? null : [x(index, line.length), y(value)]));
    const points = places.filter(Boolean);
    picture.append(draw('polyline', { class: kind, points: points.join(' ') }));
    if (kind === 'track') picture.append(...points.map(([cx, cy]) => draw('circle', { cx, cy, r: 2.5 })));
  }
  return picture;
}

const bits = (value) => `${Number(value).toFixed(1)} bits`;
const bootCells = (addresses) => addresses.map((text) => monoCell(text && text.replace(/^0x/, '')));

function trackRow(track, bases) {
  const base = bases.find((base) => base.name === track.moves_with);
  const part = track.motion === 'partly-with-base' && ' (in part)';
  const known = track.moves_with !== null;
  return make(
    'tr',
    { class: known && 'tells' },
    rowHead(guestText(track.name)),
    cell(known ? [guestText(track.moves_with), part] : MOTIONS[track.motion] || ''),
    numberCell(known ? bits(track.bits) : '–'),
    cell(chart(track, base)),
    bootCells(track.addresses),
  );
}

function baseRow(base) {
  return row(
    rowHead(guestText(base.name)),
    cell(MOTIONS[base.motion] || ''),
    numberCell(base.bits_estimated > 0 ? bits(base.bits_estimated) : '–'),
    cell(chart(base, null)),
    bootCells(base.addresses),
  );
}

function bootsOf({ boots }, side) {
  const { bases, tracks } = boots;
  const count = Math.max(0, ...[...bases, ...tracks].map((line) => line.addresses.length));
  const numbers = Array.from({ length: count }, (_, boot) => `Boot ${boot + 1}`);
  const heads = ['Visible', 'Moves with', 'Gives away', 'Boot by boot', ...numbers];
  const tell = tracks.filter((track) => track.moves_with !== null).length;
  const over = `Over ${plural(boots.boots, 'boot')}, `;
  const text =
    tell === 0
      ? 'nothing that user mode sees moves with anything that the kernel hides.'
      : `${plural(tell, 'visible place')} ${tell === 1 ? 'moves' : 'move'} with what the kernel hides. ` +
        'Timing a prefetch of such a place finds the hidden address.';
  const hidden = make('th', { colspan: String(heads.length), scope: 'rowgroup' }, 'What the kernel hides');
  const bodies = [
    make(
      'tbody',
      {},
      tracks.map((track) => trackRow(track, bases)),
    ),
    make('tbody', {}, make('tr', { class: 'group' }, hidden), bases.map(baseRow)),
  ];
  return [sideHeading(side), make('p', {}, over, text), plainTable(heads, bodies, { class: 'boots' })];
}

function showBoots() {
  const parts = guests.map((guest, side) => guest.boots && bootsOf(guest, side)).filter(Boolean);
  byId('boots').hidden = parts.length === 0;
  fill(byId('boots'), make('h2', { id: 'boots-title' }, 'What moves with the kernel (EntryBleed)'), parts);
}

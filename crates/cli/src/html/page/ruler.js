// Where the map is: addresses along the ruler, and the trail of page-table indices above it.

/** From a unit of the axis to a place on the canvas. */
const across = (unit, frame) => frame.left + ((unit - state.start) / state.span) * frame.width;

/** From a place on the canvas to a unit. */
const along = (x, frame) => state.start + ((x - frame.left) / frame.width) * state.span;

/** Pages worth a label: about one in `pitch` dots, the roundest there is; folded, the beginning of something mapped. */
function ticks(frame, pitch) {
  const { axis } = state;
  const found = [];
  for (let x = frame.left + pitch / 2; x < frame.left + frame.width; x += pitch) {
    const [from, to] = [x - pitch * 0.4, x + pitch * 0.4].map((place) => axis.toPage(along(place, frame)));
    let page = null;
    if (axis.folded) {
      const index = above(axis.edges, from, (edge) => edge.page);
      for (let at = index; at < axis.edges.length && at < index + 400 && axis.edges[at].page < to; at += 1) {
        const edge = axis.edges[at];
        const begins = !edge.hole && (at === 0 || axis.edges[at - 1].hole);
        if (begins && (page === null || zeros(edge.page) > zeros(page))) page = edge.page;
      }
    }
    if (page === null) page = roundest(from, to);
    if (page !== null && found[found.length - 1] !== page) found.push(page);
  }
  return found;
}

/** Zero bits at the end of a page number. */
function zeros(page) {
  let count = 0;
  while (count < 50 && page % 2 ** (count + 1) === 0) count += 1;
  return count;
}

function paintRuler(context, frame, band) {
  const font = frame.mono;
  context.font = font;
  context.textBaseline = 'middle';
  const wide = context.measureText('0'.repeat(16)).width;
  context.strokeStyle = colour('rule-strong');
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(frame.left, band.bottom - 0.5);
  context.lineTo(frame.left + frame.width, band.bottom - 0.5);
  let free = -Infinity; // where the next label may begin
  for (const page of ticks(frame, wide + 28)) {
    const x = Math.round(across(state.axis.toUnit(page), frame)) + 0.5;
    context.moveTo(x, band.bottom);
    context.lineTo(x, band.bottom - 7);
    const text = hex(addressOf(page, state.axis.half));
    const left = Math.max(frame.left, Math.min(x - wide / 2, frame.left + frame.width - wide));
    if (left < free) continue;
    free = left + wide + 12;
    context.fillStyle = colour('ink');
    context.fillText(text, left, band.top + 9);
  }
  context.stroke();
}

/** Names of the levels of tables from the last up, and the base-2 logarithm of the pages that an entry covers. */
const LEVELS = [
  ['PT', 0],
  ['PD', 9],
  ['PDPT', 18],
  ['PML4', 27],
  ['PML5', 36],
];

/** The roundest page within half a dot of a unit: digits that no eye could tell apart are not shown. */
function nearby(unit) {
  const [low, high] = [-1, 1].map((side) => state.axis.toPage(unit + (side * state.span) / 4000));
  return roundest(Math.max(0, low), Math.min(high, 2 * state.axis.half)) ?? Math.round(state.axis.toPage(unit));
}

function showTrail() {
  const { axis } = state;
  const half = axis.half;
  const from = nearby(state.start);
  const to = Math.max(from + 1, nearby(state.start + state.span));
  const step = (text, low, high, title) =>
    make('button', { type: 'button', class: 'link', title, click: () => showPages(low, high) }, text);
  const steps = [step('Whole space', 0, 2 * half)];
  const lastPage = to - 1;
  if (from >= half) steps.push(step('Kernel half', half, 2 * half));
  else if (lastPage < half) steps.push(step('User half', 0, half));
  if (steps.length === 2) {
    for (const [name, bits] of LEVELS.slice(0, half === halfPages(5) ? 5 : 4).reverse()) {
      const [low, high] = [Math.floor(from / 2 ** bits), Math.floor(lastPage / 2 ** bits)];
      if (low !== high) {
        steps.push(make('span', { class: 'quietly' }, `${name}[${low % 512}–${high % 512}]`));
        break;
      }
      steps.push(
        step(
          `${name}[${low % 512}]`,
          low * 2 ** bits,
          (low + 1) * 2 ** bits,
          `${size(4096 * 2 ** bits)} that one entry covers`,
        ),
      );
    }
  }
  const [first, last] = [addressOf(from, half), addressOf(lastPage, half) + PAGE - 1n];
  const pages = to - from;
  fill(
    byId('trail'),
    make(
      'ol',
      {},
      steps.map((item) => make('li', {}, item)),
    ),
    make('output', { class: 'mono' }, `${hex(first)} – ${hex(last)}`),
    make('span', { class: 'quietly' }, size(pages * 4096)),
  );
  Object.assign(byId('map').dataset, {
    from: hex(first),
    to: hex(last),
    scale: state.folded ? 'folded' : 'true',
  });
}

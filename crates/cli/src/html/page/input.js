// Hands on the map: wheel, drag, pinch, double click, keys, the overview, the buttons; and what is told about the
// region under the pointer.

const pointers = new Map();
let drag = null;

function place(event) {
  const box = byId('map').getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

/** Makes the window `factor` times as wide around a unit that stays where it is. */
function zoom(factor, unit = state.start + state.span / 2, smooth = false) {
  const [, span] = limited(state.start, Math.max(leastSpan(unit), state.span * factor));
  const start = unit - ((unit - state.start) / state.span) * span;
  (smooth ? goTo : setWindow)(start, span);
}

const pan = (part, smooth = false) => (smooth ? goTo : setWindow)(state.start + state.span * part, state.span);

const inOverview = (y) => y < frame.funnel.bottom;

/** How far apart the fingers are, and the place between them. */
function spread() {
  const places = [...pointers.values()].map(([x]) => x);
  const [low, high] = [Math.min(...places), Math.max(...places)];
  return [Math.max(8, high - low), (low + high) / 2];
}

/** Puts the window's middle where the overview was touched. */
function jump(x) {
  setWindow(((x - frame.left) / frame.width) * state.axis.total - state.span / 2, state.span);
}

function pressed(event) {
  const [x, y] = place(event);
  pointers.set(event.pointerId, [x, y]);
  byId('map').setPointerCapture(event.pointerId);
  drag = { x, y, start: state.start, moved: pointers.size > 1, overview: inOverview(y) };
  if (drag.overview) jump(x);
}

function moved(event) {
  const [x, y] = place(event);
  if (!pointers.has(event.pointerId)) return hover(x, y);
  const [was, wasAt] = spread();
  pointers.set(event.pointerId, [x, y]);
  if (pointers.size > 1) {
    // What was between the fingers stays between them.
    const [now, at] = spread();
    const unit = along(wasAt, frame);
    zoom(was / now, unit);
    setWindow(state.start + unit - along(at, frame), state.span);
    drag.moved = true;
  } else if (drag.overview) {
    jump(x);
  } else if (drag.moved || Math.abs(x - drag.x) > 3) {
    if (!drag.moved) Object.assign(drag, { moved: true, x, start: state.start });
    setWindow(drag.start - ((x - drag.x) / frame.width) * state.span, state.span);
    hideTip();
  }
}

function released(event) {
  pointers.delete(event.pointerId);
  if (pointers.size === 1 && drag) {
    // One finger of a pinch is left: it drags on from here.
    Object.assign(drag, { x: [...pointers.values()][0][0], start: state.start, moved: true });
  } else if (pointers.size === 0 && drag) {
    const [x, y] = place(event);
    if (event.type === 'pointerup' && !drag.moved && !drag.overview) clicked(x, y);
    drag = null;
  }
}

function clicked(x, y) {
  const found = hit(x, y);
  choose(found ? found.guest : 0, found ? found.region : null);
}

function hover(x, y) {
  const found = hit(x, y);
  const changed = (found && found.region) !== (state.hovered && state.hovered.region);
  state.hovered = found;
  if (changed) paintSoon();
  if (!found) return hideTip();
  showTip(found, x, y);
}

function showTip(found, x, y) {
  const { region, view } = found;
  const tip = byId('tip');
  const side = otherSide(region, view);
  fill(
    tip,
    make('b', {}, swatch(region.kind), ' ', guestText(nameOf(region))),
    make('span', { class: 'mono' }, `${hex(region.address)} – ${hex(region.last)}`),
    make(
      'span',
      {},
      `${size(region.mapped)}, ${plural(region.pages, 'page')} · `,
      make('code', {}, rightsText(region)),
      rightsMore(region) && ` · ${rightsMore(region)}`,
    ),
    make(
      'span',
      { class: 'mono' },
      `physical ${physical(region.physical)}${region.contiguous || region.pages === 1 ? '' : ' …'}`,
    ),
    side && make('span', {}, SIDES[side] || side),
    region.findings.length > 0 &&
      make(
        'span',
        {},
        [...new Set(region.findings.map((finding) => finding.severity))].map((severity) => severityMark(severity)),
        ` ${plural(region.findings.length, 'finding')}`,
      ),
  );
  tip.hidden = false;
  const room = byId('map').clientWidth;
  tip.style.left = `${Math.max(0, Math.min(x + 14, room - tip.offsetWidth))}px`;
  tip.style.top = `${y + 18}px`;
}

function hideTip() {
  byId('tip').hidden = true;
  if (state.hovered) {
    state.hovered = null;
    paintSoon();
  }
}

/** Chooses the next or previous region of the row that the chosen one is in; the first seen, if none is. */
function step(direction) {
  const guest = state.chosen ? state.chosen.guest : 0;
  const view = viewOf(guest);
  if (!view) return;
  const { region } = state.chosen || {};
  const list =
    region && region.list === 'kernel' ? view.kernel : view.visible.length > 0 ? view.visible : view.seen;
  const index =
    region && list.includes(region) ? list.indexOf(region) + direction : direction > 0 ? 0 : list.length - 1;
  if (index < 0 || index >= list.length) return;
  choose(guest, list[index]);
  const { start, end } = list[index];
  if (start < state.start || end > state.start + state.span) goTo((start + end - state.span) / 2, state.span);
}

const KEYS = {
  '+': () => zoom(0.5, undefined, true),
  '=': () => zoom(0.5, undefined, true),
  '-': () => zoom(2, undefined, true),
  ArrowLeft: () => pan(-0.2, true),
  ArrowRight: () => pan(0.2, true),
  ArrowUp: () => zoom(0.5, undefined, true),
  ArrowDown: () => zoom(2, undefined, true),
  n: () => step(1),
  p: () => step(-1),
  0: showKernelHalf,
  Home: showKernelHalf,
  v: showVisible,
  Enter: () => state.chosen && showRegion(state.chosen.region, state.chosen.view),
  Escape: () => choose(0, null),
};

function listenToMap() {
  const map = byId('map');
  map.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const [x] = place(event);
      const lines = event.deltaMode === 1 ? 30 : 1;
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return pan((event.deltaX * lines) / frame.width);
      zoom(2 ** (Math.max(-240, Math.min(240, event.deltaY * lines)) / 160), along(x, frame));
    },
    { passive: false },
  );
  map.addEventListener('pointerdown', pressed);
  map.addEventListener('pointermove', moved);
  for (const end of ['pointerup', 'pointercancel']) map.addEventListener(end, released);
  map.addEventListener('pointerleave', hideTip);
  map.addEventListener('dblclick', (event) => {
    const found = hit(...place(event));
    if (found) choose(found.guest, found.region, true);
    else zoom(0.25, along(place(event)[0], frame), true);
  });
  map.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key]();
  });
}

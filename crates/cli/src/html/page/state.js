// What is shown: the views, the scale, the window of the map, the chosen region. Whoever changes it says so once,
// and the parts of the page that listen draw themselves anew.

const state = {
  view: guests.map(() => 0), // for each guest, the index of its view
  folded: true,
  axis: null,
  start: 0,
  span: 1, // the window, in the axis's units
  chosen: null, // { guest, view, region }
  hovered: null,
};

const listeners = { view: [], window: [], chosen: [], theme: [] };
const on = (event, listener) => listeners[event].push(listener);
const tell = (event) => listeners[event].forEach((listener) => listener());

const viewOf = (guest) => guests[guest].views[state.view[guest]] || null;
const shownViews = () => guests.map((_, guest) => viewOf(guest)).filter((view) => view !== null);

/** The half's size that all of the map counts in: that of the guest with the most levels. */
const halfShown = () => Math.max(halfPages(4), ...shownViews().map((view) => view.half));

/** A page number of a view, as the map counts. */
const shift = (page, view, half) => (page >= view.half ? page + 2 * (half - view.half) : page);

function makeAxis() {
  const half = halfShown();
  const views = shownViews().map((view) => {
    if (view.half === half) return view;
    const move = (list) =>
      list.map((region) => ({
        repeats: region.repeats,
        from: shift(region.from, view, half),
        to: shift(region.to, view, half),
      }));
    return {
      kernel_root: view.kernel_root,
      user: move(view.user),
      kernel: move(view.kernel),
      visible: move(view.visible),
    };
  });
  state.axis = state.folded ? foldedAxis(views, half) : trueAxis(half);
  shownViews().forEach(placeRegions);
}

/** Notes at each region where it lies along the map, and at each list how far right anything before reaches. */
function placeRegions(view) {
  const { half, toUnit } = state.axis;
  // A supervisor page may well be in the user half.
  const both = (list) => [...view.user, ...list].sort((a, b) => a.from - b.from);
  view.seen = both(view.visible);
  view.mapped = view.kernel_root === null ? view.seen : both(view.kernel);
  for (const list of [view.visible, view.kernel, view.user]) {
    for (const region of list) {
      region.start = toUnit(shift(region.from, view, half));
      region.end = toUnit(shift(region.to, view, half));
    }
  }
  for (const list of [view.seen, view.mapped, view.visible]) {
    let reach = 0;
    list.reach = list.map((region) => (reach = Math.max(reach, region.end)));
  }
  view.found = view.seen.filter((region) => region.findings.length > 0);
  view.found.reach = view.found.map((region) => region.end);
}

/**
 * Visits the regions of a placed list between two units, in order. After one that ends less than `step` beyond the
 * last the others down there are skipped: however long a list is, there are no more visits than dots.
 */
function scan(list, from, to, step, visit) {
  let index = above(list.reach, from);
  while (index < list.length && list[index].start < to) {
    const region = list[index];
    visit(region);
    const next = Math.max(region.start, from) + step;
    index = region.end < next ? Math.max(index + 1, above(list.reach, next)) : index + 1;
  }
}

/** Visits what lies in the window, a region every so many dots at most. */
const scanWindow = (list, dots, visit) =>
  scan(list, state.start, state.start + state.span, (dots * state.span) / frame.width, visit);

/** The least span: one page as wide as the map. */
function leastSpan(unit) {
  const page = Math.floor(state.axis.toPage(unit));
  return Math.max(state.axis.total * 1e-13, state.axis.toUnit(page + 1) - state.axis.toUnit(page));
}

/** Puts a window within its limits: not wider than everything, not narrower than a page. */
function limited(start, span) {
  const { total } = state.axis;
  const width = Math.min(total, Math.max(span, leastSpan(start + span / 2)));
  const middle = start + span / 2;
  return [Math.min(Math.max(0, middle - width / 2), total - width), width];
}

let motion = 0;

function setWindow(start, span) {
  cancelAnimationFrame(motion);
  [state.start, state.span] = limited(start, span);
  tell('window');
}

/** Goes to a window by a short motion that keeps the eye on the place: zoom is even, in octaves. */
function goTo(start, span) {
  const [toStart, toSpan] = limited(start, span);
  const [fromStart, fromSpan] = [state.start, state.span];
  if (matchMedia('(prefers-reduced-motion: reduce)').matches || document.hidden) return setWindow(toStart, toSpan);
  const begin = performance.now();
  const ratio = toSpan / fromSpan;
  const step = (now) => {
    const part = Math.min(1, Math.max(0, (now - begin) / 320));
    const eased = part * part * (3 - 2 * part);
    if (part === 1) return setWindow(toStart, toSpan);
    const width = fromSpan * ratio ** eased;
    // Where zoom is even, the start has to move as the width does.
    const share = Math.abs(ratio - 1) < 1e-9 ? eased : (width - fromSpan) / (toSpan - fromSpan);
    [state.start, state.span] = limited(fromStart + (toStart - fromStart) * share, width);
    tell('window');
    motion = requestAnimationFrame(step);
  };
  cancelAnimationFrame(motion);
  motion = requestAnimationFrame(step);
}

/** Shows these pages, with `margin` times their width on either side. */
function showPages(from, to, margin = 0) {
  const [start, end] = [state.axis.toUnit(from), state.axis.toUnit(to)];
  const span = end - start;
  goTo(start - span * margin, span * (1 + 2 * margin));
}

function showKernelHalf() {
  showPages(state.axis.half, 2 * state.axis.half);
}

/** Shows all that user mode sees of the kernel, in every guest. */
function showVisible() {
  const half = state.axis.half;
  const pages = shownViews().flatMap((view) =>
    view.visible.length === 0
      ? []
      : [shift(view.visible[0].from, view, half), shift(view.visible[view.visible.length - 1].to, view, half)],
  );
  if (pages.length > 0) showPages(Math.min(...pages), Math.max(...pages), 0.03);
}

function showRegion(region, view) {
  const half = state.axis.half;
  const [from, to] = [shift(region.from, view, half), shift(region.to, view, half)];
  // At the end of the space the window cannot be centred; it still holds the region.
  showPages(from, to, 0.5);
}

/** Chooses a region, or none; `zoom` goes there. */
function choose(guest, region, zoom = false) {
  state.chosen = region ? { guest, view: viewOf(guest), region } : null;
  tell('chosen');
  if (region && zoom) showRegion(region, viewOf(guest));
}

/** Shows another view of a guest at the same place of the map. */
function chooseView(guest, index) {
  state.view[guest] = index;
  if (state.chosen && state.chosen.guest === guest) state.chosen = null;
  remakeAxis();
  tell('view');
  tell('chosen');
}

function chooseScale(folded) {
  state.folded = folded;
  remakeAxis();
  tell('view');
}

/** Makes the axis anew and keeps what is seen, as well as that goes. */
function remakeAxis() {
  const [from, to] = [state.axis.toPage(state.start), state.axis.toPage(state.start + state.span)];
  makeAxis();
  const start = state.axis.toUnit(from);
  [state.start, state.span] = limited(start, state.axis.toUnit(to) - start);
  tell('window');
}

// From page numbers to units along the map, and back. The map shows a window of the units.
//
// True scale: a unit is a page. Of 128 TiB a kernel uses a few millionths, so that most of such a map is empty.
// Folded scale: what is mapped is as wide as the logarithm of its size, a hole between two mappings a little more than
// a line, the user half a tenth of all, and what user mode sees of the kernel has more room than the rest. Order and
// neighbourhood stay true; widths compare within one region only.

/** The true scale. */
function trueAxis(half) {
  return {
    folded: false,
    half,
    total: 2 * half,
    toUnit: (page) => page,
    toPage: (unit) => unit,
    edges: null,
  };
}

const HOLE = 0,
  USER = 1,
  KERNEL = 2,
  VISIBLE = 3;

/** Cuts the whole space where any region begins or ends: [first page, class] each. */
function cuts(views, half) {
  const events = [];
  for (const view of views) {
    for (const [list, kind] of [
      [view.user, USER],
      [view.kernel, KERNEL],
      [view.visible, VISIBLE],
    ]) {
      for (const region of list) {
        // More room is for what stays visible behind isolation, once each.
        const rank = kind === VISIBLE && (view.kernel_root === null || region.repeats !== null) ? KERNEL : kind;
        events.push([region.from, rank, 1], [region.to, rank, -1]);
      }
    }
  }
  events.sort((a, b) => a[0] - b[0]);
  const open = [0, 0, 0, 0];
  const found = [[0, HOLE]];
  const put = (page, kind) => {
    const last = found[found.length - 1];
    if (last[0] === page) last[1] = kind;
    else found.push([page, kind]);
  };
  for (const [page, kind, step] of events) {
    open[kind] += step;
    put(page, [VISIBLE, KERNEL, USER].find((kind) => open[kind] > 0) || HOLE);
  }
  // The halves are apart even if nothing is mapped at their ends.
  if (!found.some(([page]) => page === half)) {
    const index = above(found, half, ([page]) => page);
    found.splice(index, 0, [half, found[index - 1][1]]);
  }
  return found.filter(([page], index) => index === 0 || page < 2 * half);
}

/** Holes of up to a gibibyte do not part a crowd. */
const CROWD_HOLE = 2 ** 18;

/** A crowd of kernel-only mappings (stacks, modules) gets room by the logarithm of its number, not by its number. */
function thinCrowds(found, pages, weights) {
  let first = 0;
  const thin = (end) => {
    const members = weights.slice(first, end);
    const count = found.slice(first, end).filter(([, kind]) => kind === KERNEL).length;
    const factor = (24 + 6 * Math.log2(Math.max(1, count))) / members.reduce((sum, weight) => sum + weight, 0);
    if (factor < 1) for (let index = first; index < end; index += 1) weights[index] *= factor;
  };
  found.forEach(([page, kind], index) => {
    const apart = kind === HOLE ? pages[index + 1] - page > CROWD_HOLE : kind !== KERNEL;
    if (!apart) return;
    thin(index);
    first = index + 1;
  });
  thin(found.length);
}

/** The folded scale, for everything that these views hold. */
function foldedAxis(views, half) {
  const found = cuts(views, half);
  const pages = found.map(([page]) => page).concat(2 * half);
  const weights = found.map(([page, kind], index) => {
    const octaves = Math.log2(Math.max(1, pages[index + 1] - page));
    return kind === HOLE ? 0.5 + 0.12 * octaves : 1 + octaves;
  });
  thinCrowds(found, pages, weights);
  const sum = (test) => weights.reduce((all, weight, index) => all + (test(index) ? weight : 0), 0);
  const inUser = (index) => pages[index] < half;
  const isVisible = (index) => !inUser(index) && found[index][1] === VISIBLE;
  const kernel = sum((index) => !inUser(index) && !isVisible(index));
  const visible = sum(isVisible);
  const boost = Math.min(14, Math.max(1, visible > 0 ? (0.6 * kernel) / visible : 1));
  const shrink = Math.min(1, (0.1 * (kernel + visible * boost)) / Math.max(0.001, sum(inUser)));
  const units = [0];
  weights.forEach((weight, index) => {
    units.push(units[index] + weight * (inUser(index) ? shrink : isVisible(index) ? boost : 1));
  });
  const between = (value, from, to) => {
    const index = Math.max(0, Math.min(above(from, value) - 1, from.length - 2));
    return to[index] + ((value - from[index]) / (from[index + 1] - from[index])) * (to[index + 1] - to[index]);
  };
  return {
    folded: true,
    half,
    total: units[units.length - 1],
    edges: found.map(([page, kind]) => ({ page, hole: kind === HOLE })),
    toUnit: (page) => between(page, pages, units),
    toPage: (unit) => between(unit, units, pages),
  };
}

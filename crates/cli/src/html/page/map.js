// The map: an overview of everything with the window in it, a ruler, and per guest two aligned rows.

const OVERVIEW = 18;
let frame = null;
let repaint = 0;

/** Where everything is on the canvas, for this width. */
function layOut(width) {
  const style = getComputedStyle(document.documentElement);
  const mono = style.getPropertyValue('--mono');
  const sans = style.getPropertyValue('--sans');
  const result = {
    left: 12,
    width: Math.max(100, width - 13),
    mono: `11px ${mono}`,
    sans: `12px ${sans}`,
    small: `11px ${sans}`,
    overview: { top: 1, bottom: 1 + OVERVIEW },
    funnel: { top: 1 + OVERVIEW, bottom: 34 },
    ruler: { top: 36, bottom: 62 },
    guests: [],
  };
  let y = 66;
  guests.forEach((_, guest) => {
    const at = {
      guest,
      title: y + 9,
      pins: { top: y + 18, bottom: y + 34 },
      seen: { top: y + 34, bottom: y + 80 },
    };
    at.links = { top: y + 116, bottom: y + 128 };
    at.mapped = { top: y + 128, bottom: y + 174 };
    result.guests.push(at);
    y += 208;
  });
  result.height = y - 10;
  return result;
}

function paintOverview(context) {
  const { overview, funnel, left, width } = frame;
  const { axis } = state;
  const x = (unit) => left + (unit / axis.total) * width;
  context.fillStyle = colour('sunken');
  context.fillRect(left, overview.top, width, OVERVIEW);
  const rows = guests.length * 2;
  guests.forEach((_, guest) => {
    const view = viewOf(guest);
    if (!view) return;
    [view.seen, view.mapped].forEach((list, row) => {
      const top = overview.top + ((guest * 2 + row) * OVERVIEW) / rows;
      scan(list, 0, axis.total, axis.total / width, (region) => {
        const from = x(region.start);
        const to = Math.max(from + 1, x(region.end));
        context.fillStyle = colour(`kind-${region.kind}`);
        context.fillRect(from, top, to - from, OVERVIEW / rows - 1);
      });
    });
  });
  const halfway = Math.round(x(axis.toUnit(axis.half))) + 0.5;
  const from = x(state.start);
  const to = Math.max(from + 3, x(state.start + state.span));
  context.strokeStyle = colour('ink');
  context.setLineDash([2, 2]);
  context.beginPath();
  context.moveTo(halfway, overview.top);
  context.lineTo(halfway, overview.bottom);
  context.stroke();
  context.setLineDash([]);
  context.fillStyle = colour('funnel');
  context.beginPath();
  context.moveTo(from, funnel.top);
  context.lineTo(to, funnel.top);
  context.lineTo(left + width, funnel.bottom);
  context.lineTo(left, funnel.bottom);
  context.fill();
  context.strokeStyle = colour('accent');
  context.lineWidth = 2;
  context.strokeRect(from, overview.top, to - from, OVERVIEW);
  context.lineWidth = 1;
}

function title(context, at, text) {
  context.font = frame.sans;
  context.fillStyle = colour('ink');
  context.textBaseline = 'middle';
  context.fillText(text, frame.left, at);
}

function paintGuest(context, at) {
  const view = viewOf(at.guest);
  if (!view) return 0;
  const who = guests.length > 1 ? `${'AB'[at.guest]}: ` : '';
  const narrow = frame.width < 520;
  const root = (text) => (narrow ? '' : ` · root ${text.replace(/^0*/, '0x')}`);
  const same = view.shared
    ? 'The kernel sees the same: one root'
    : 'The kernel’s own root was not found; this one again';
  title(context, at.title, `${who}User mode sees${root(view.user_root)}`);
  let painted = paintRow(context, frame, at.seen, view.seen);
  paintPins(context, frame, at.pins, view);
  paintLinks(context, frame, at.links, view);
  title(
    context,
    at.links.top - 9,
    view.kernel_root === null ? same : `${who}The kernel sees${root(view.kernel_root)}`,
  );
  painted += paintRow(context, frame, at.mapped, view.mapped);
  for (const [choice, line] of [
    [state.hovered, 1.5],
    [state.chosen, 3],
  ]) {
    if (choice && choice.guest === at.guest && choice.view === view) outline(context, at, choice.region, line);
  }
  return painted;
}

/** A frame around a region in every row that shows it, and a line down so that a narrow one is found. */
function outline(context, at, region, line) {
  const view = viewOf(at.guest);
  const [from, to] = [across(region.start, frame), across(region.end, frame)];
  if (to < frame.left || from > frame.left + frame.width) return;
  const left = Math.max(frame.left - 2, from - 1);
  const right = Math.min(frame.left + frame.width + 2, Math.max(to, from + 2) + 1);
  context.strokeStyle = colour('ink');
  context.lineWidth = line;
  for (const [band, list] of [
    [at.seen, view.seen],
    [at.mapped, view.mapped],
  ]) {
    const there = regionAt(list, region.from);
    if (there && there.from === region.from && there.to === region.to)
      context.strokeRect(left, band.top - 1, right - left, band.bottom - band.top + 2);
  }
  context.lineWidth = 1;
}

function paint() {
  repaint = 0;
  const canvas = byId('map');
  const width = canvas.clientWidth;
  frame = layOut(width);
  const dots = Math.min(3, devicePixelRatio || 1);
  const [wide, high] = [Math.round(width * dots), Math.round(frame.height * dots)];
  if (canvas.width !== wide || canvas.height !== high) {
    [canvas.width, canvas.height] = [wide, high];
    canvas.style.height = `${frame.height}px`;
  }
  const context = canvas.getContext('2d');
  context.setTransform(dots, 0, 0, dots, 0, 0);
  context.clearRect(0, 0, width, frame.height);
  paintOverview(context);
  paintRuler(context, frame, frame.ruler);
  canvas.dataset.painted = String(frame.guests.reduce((sum, at) => sum + paintGuest(context, at), 0));
}

const paintSoon = () => {
  repaint = repaint || requestAnimationFrame(paint);
};

/** What is at a point of the canvas: { guest, region } of the row there, or of the row that is next to it. */
function hit(x, y) {
  if (!frame || y <= frame.ruler.bottom || x < frame.left) return null;
  for (const at of frame.guests) {
    const view = viewOf(at.guest);
    if (!view || y > at.mapped.bottom + 20 || y < at.pins.top) continue;
    const pins = y < at.pins.bottom;
    const list = pins ? view.found : y < at.links.top - 10 ? view.seen : view.mapped;
    let best = null;
    scan(list, along(x - 14, frame), along(x + 14, frame), 0, (region) => {
      const [from, to] = [
        across(region.start, frame),
        Math.max(across(region.end, frame), across(region.start, frame) + 2),
      ];
      const middle = (Math.max(from, frame.left) + Math.min(to, frame.left + frame.width)) / 2;
      const away = pins ? Math.abs(x - middle) : x < from ? from - x : x > to ? x - to : 0;
      if (away <= (pins ? 12 : 4) && (!best || away < best.away)) best = { guest: at.guest, view, region, away };
    });
    return best;
  }
  return null;
}

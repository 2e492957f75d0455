// Paints the map's rows: what user mode sees, what the kernel sees, how both go together, where findings are.

/** Black or white, whichever can be read on a colour of the palette. */
function inkOn(fill) {
  const [red, green, blue] = [1, 3, 5]
    .map((at) => parseInt(fill.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  return light > 0.179 ? '#000000' : '#ffffff';
}

/** Lines across what is not simply itself: memory shown before at other addresses, and rows that stand for several kinds. */
function hatch(context, x, width, band, ink) {
  context.save();
  context.beginPath();
  context.rect(x, band.top, width, band.bottom - band.top);
  context.clip();
  context.strokeStyle = ink;
  context.globalAlpha = 0.35;
  context.lineWidth = 1;
  context.beginPath();
  const height = band.bottom - band.top;
  const first = Math.max(x, -height);
  for (let at = first - height; at < Math.min(x + width, first + 4000); at += 6) {
    context.moveTo(at, band.bottom);
    context.lineTo(at + height, band.top);
  }
  context.stroke();
  context.restore();
}

/** Name, and below it rights and size, as far as there is room. */
function label(context, region, x, width, band, ink, frame) {
  context.fillStyle = ink;
  context.textBaseline = 'middle';
  const middle = (band.top + band.bottom) / 2;
  const room = width - 8;
  context.font = frame.sans;
  const name = nameOf(region);
  const fits = (text) => context.measureText(text).width <= room;
  if (room > 60) {
    let text = name;
    while (text.length > 4 && !fits(text)) text = text.replace(/….*$|.$/u, '').slice(0, -1) + '…';
    context.fillText(text, x + 4, middle - 8);
    context.font = frame.mono;
    const more = `${rightsText(region)} ${size(region.mapped)}`;
    if (fits(more)) context.fillText(more, x + 4, middle + 8);
    else if (fits(rightsText(region))) context.fillText(rightsText(region), x + 4, middle + 8);
  } else if (fits(kindCode(region.kind))) {
    context.fillText(
      kindCode(region.kind),
      x + (width - context.measureText(kindCode(region.kind)).width) / 2,
      middle,
    );
  }
}

/** Height of a lane. */
const LANE = 9;

/** One row of regions, with a lane below it for what is writable and one for what is executable. */
function paintRow(context, frame, band, list) {
  context.fillStyle = colour('sunken');
  context.fillRect(frame.left, band.top, frame.width, band.bottom - band.top);
  const right = frame.left + frame.width;
  let painted = 0;
  let done = -1; // what is left of this has a colour already
  scanWindow(list, 1, (region) => {
    const least = region.list === 'visible' ? 2 : 1;
    const from = Math.max(frame.left, across(region.start, frame));
    const to = Math.min(right, Math.max(from + least, across(region.end, frame)));
    painted += 1;
    if (to - from <= 2 && to <= done) return;
    done = Math.max(done, to);
    const shade = colour(`kind-${region.kind}`);
    // A hair of background keeps neighbours apart.
    const width = to - from > 6 ? to - from - 1 : to - from;
    context.fillStyle = shade;
    context.fillRect(from, band.top, width, band.bottom - band.top);
    if ((region.repeats !== null || region.mixed) && width > 3) hatch(context, from, width, band, inkOn(shade));
    if (width > 16) label(context, region, from, width, band, inkOn(shade), frame);
    lane(context, from, width, band, 0, region.writable, 'write');
    lane(context, from, width, band, 1, region.executable, 'execute');
  });
  if (list.length === 0) note(context, frame, band, 'nothing');
  context.font = frame.mono;
  context.fillStyle = colour('muted');
  context.textBaseline = 'middle';
  context.fillText('w', 0, band.bottom + LANE / 2);
  context.fillText('x', 0, band.bottom + LANE * 1.5);
  return painted;
}

function lane(context, from, width, band, number, set, name) {
  if (!set) return;
  context.fillStyle = colour(name);
  context.fillRect(from, band.bottom + 3 + number * LANE, Math.max(1, width), LANE - 4);
}

function note(context, frame, band, text) {
  context.font = frame.sans;
  context.fillStyle = colour('muted');
  context.textBaseline = 'middle';
  context.fillText(text, frame.left + 8, (band.top + band.bottom) / 2);
}

/** Between the rows: a line where both roots show one physical page, a broken one where they show two. */
function paintLinks(context, frame, band, view) {
  if (view.kernel_root === null) return;
  context.strokeStyle = colour('muted');
  context.lineWidth = 1;
  let done = -Infinity;
  scanWindow(view.visible, 5, (region) => {
    const x =
      Math.round(
        (Math.max(frame.left, across(region.start, frame)) +
          Math.min(frame.left + frame.width, across(region.end, frame))) /
          2,
      ) + 0.5;
    if (x - done < 5) return;
    done = x;
    const side = otherSide(region, view);
    if (side !== 'same' && side !== 'split') return;
    context.setLineDash(side === 'split' ? [2, 3] : []);
    context.lineWidth = side === 'split' ? 1 : 2;
    context.beginPath();
    context.moveTo(x, band.top);
    context.lineTo(x, band.bottom);
    context.stroke();
  });
  context.setLineDash([]);
}

/** A severity's mark, drawn: a shape each, so that colour is not needed. */
function mark(context, severity, x, y) {
  const r = 5;
  context.fillStyle = colour(`severity-${severity}`);
  context.beginPath();
  if (severity === 'critical') context.rect(x - r, y - r, 2 * r, 2 * r);
  else if (severity === 'note') context.arc(x, y, r, 0, 7);
  else {
    const points =
      severity === 'serious'
        ? [
            [0, -r],
            [r, r],
            [-r, r],
          ]
        : [
            [0, -r - 1],
            [r + 1, 0],
            [0, r + 1],
            [-r - 1, 0],
          ];
    points.forEach(([dx, dy], index) =>
      index === 0 ? context.moveTo(x + dx, y + dy) : context.lineTo(x + dx, y + dy),
    );
    context.closePath();
  }
  context.fill();
}

/** The findings' places above the row; where they are close, the worst and how many regions have some. */
function paintPins(context, frame, band, view) {
  const pins = [];
  scanWindow(view.found, 1, (region) => {
    const from = Math.max(frame.left, across(region.start, frame));
    const to = Math.min(frame.left + frame.width, across(region.end, frame));
    const x = Math.max(frame.left + 6, Math.min((from + to) / 2, frame.left + frame.width - 6));
    const severity = region.findings.reduce(
      (worst, finding) => (worse(finding.severity, worst) ? finding.severity : worst),
      'note',
    );
    const last = pins[pins.length - 1];
    if (last && x - last.x < 22) {
      last.count += 1;
      if (worse(severity, last.severity)) last.severity = severity;
    } else pins.push({ x, severity, count: 1 });
  });
  context.font = frame.small;
  context.textBaseline = 'middle';
  for (const pin of pins) {
    mark(context, pin.severity, pin.x, (band.top + band.bottom) / 2);
    context.fillStyle = colour('muted');
    if (pin.count > 1) context.fillText(String(pin.count), pin.x + 8, (band.top + band.bottom) / 2);
  }
}

// The audit, as the page's generator (html/picture.rs) has put it into the data element, made into objects.

const DATA = JSON.parse(byId('data').textContent);

const address = (text) => BigInt('0x' + text);

/** A region, or several neighbours that were put together because there are too many (`parts`). */
function readRegion(row, list, guest, half) {
  const [first, last, mapped, pages, pageSize, at, contiguous, rights, name, repeats, parts, mixed] = row;
  const region = {
    list,
    address: address(first),
    last: address(last),
    mapped,
    pages,
    pageSize,
    physical: address(at),
    contiguous: contiguous === 1,
    parts,
    mixed: mixed === 1,
    findings: [],
    user: (rights & 1) !== 0,
    writable: (rights & 2) !== 0,
    executable: (rights & 4) !== 0,
    global: (rights & 8) !== 0,
    key: rights >> 4,
    name: name === null ? null : guest.names[name],
    repeats: repeats === null ? null : address(repeats),
  };
  region.kind = list === 'user' ? 'user' : region.name ? region.name.kind : 'unknown';
  if (!(region.kind in KINDS)) region.kind = 'unknown';
  region.from = pageOf(region.address, half);
  region.to = Math.max(region.from + 1, pageOf(region.last, half) + 1);
  return region;
}

function readView(view, index, guest) {
  const levels = guest.cpus.some((cpu) => cpu.view === index && cpu.paging.levels === 5) ? 5 : 4;
  const half = halfPages(levels);
  const lists = {};
  for (const list of ['visible', 'kernel', 'user']) {
    lists[list] = view[list].rows.map((row) => readRegion(row, list, guest, half));
  }
  const cpus = guest.cpus.filter((cpu) => cpu.view === index).map((cpu) => cpu.cpu.index);
  return {
    ...view,
    ...lists,
    counts: Object.fromEntries(Object.keys(lists).map((list) => [list, view[list].count])),
    index,
    levels,
    half,
    cpus,
  };
}

/** The region of a sorted list that holds a page, if one does. */
function regionAt(list, page) {
  const index = above(list, page, (region) => region.from) - 1;
  return index >= 0 && page < list[index].to ? list[index] : null;
}

/** What stands at an address in a view: what user mode sees first. */
function lookUp(view, at) {
  const page = pageOf(at, view.half);
  return regionAt(view.visible, page) || regionAt(view.kernel, page) || regionAt(view.user, page);
}

function readFinding(finding, index, guest) {
  const places = finding.places.map(([view, at, bytes, value, note]) => ({
    view: guest.views[view] || null,
    address: address(at),
    bytes,
    value: value === null ? null : address(value),
    note,
  }));
  const result = { ...finding, index, places };
  for (const place of places) {
    place.region = place.view && lookUp(place.view, place.address);
    if (place.region && !place.region.findings.includes(result)) place.region.findings.push(result);
  }
  return result;
}

/** Findings that say that user mode runs on the kernel's root. */
const SHARED = ['kernel-mapped-whole', 'kernel-root-in-ring-3', 'process-open'];

function readGuest(guest) {
  const result = { ...guest };
  result.views = guest.views.map((view, index) => readView(view, index, guest));
  // Without a kernel root, this tells whether there is none or none was found.
  result.shared = guest.findings.rows.some(({ id }) => SHARED.includes(id));
  for (const view of result.views) view.shared = result.shared;
  result.findingCount = guest.findings.count;
  result.findings = guest.findings.rows.map((finding, index) => readFinding(finding, index, result));
  return result;
}

/** One guest, or two to compare. */
const guests = DATA.guests.map(readGuest);

/** Which of two guests, before what belongs to it; nothing if there is one only. */
const sideLetter = (guest) => (guests.length > 1 ? `${'AB'[guest]} ` : '');

/** Says above a part of the page which of two guests it is about. */
function sideHeading(guest) {
  if (guests.length < 2) return null;
  return make('p', { class: 'side' }, make('b', {}, 'AB'[guest]), ' ', guestText(guests[guest].source));
}

/** Bytes of a region that are not zero, or null if nobody searched. */
function filledBytes(region, view) {
  if (view.filled.length === 0 || region.list !== 'visible') return null;
  const end = region.last + 1n;
  return view.filled.reduce((sum, [text, bytes]) => {
    const at = address(text);
    return at >= region.address && at < end ? sum + bytes : sum;
  }, 0);
}

/** `rwx`, and what else the leaves say. */
function rightsText(region) {
  if (region.mixed) return 'mixed';
  return `r${region.writable ? 'w' : '-'}${region.executable ? 'x' : '-'}`;
}

function rightsMore(region) {
  const words = [];
  if (region.user) words.push('user');
  if (region.global) words.push('global');
  if (region.key) words.push(`key ${region.key}`);
  return words.join(', ');
}

/** What a region is called. */
function nameOf(region) {
  const count = region.parts > 1 ? ` (${plural(region.parts, 'region')})` : '';
  return (region.name ? region.name.text : kindName(region.kind)) + count;
}

/**
 * What the kernel root shows where the user root shows this: `same` physical page, `split` (another one), `absent`,
 * `one root` without isolation, or null where it cannot be told.
 */
function otherSide(region, view) {
  if (region.list === 'user') return null;
  if (region.list === 'kernel') return regionAt(view.visible, region.from) ? null : 'kernel only';
  if (view.kernel_root === null) return view.shared ? 'one root' : null;
  const other = regionAt(view.kernel, region.from);
  if (!other) return 'absent';
  const offset = region.address - other.address;
  if (other.parts > 1 || region.parts > 1 || (offset > 0n && !other.contiguous)) return null;
  return other.physical + offset === region.physical ? 'same' : 'split';
}

// Addresses, sizes, and places in the address space.
//
// An address has 64 bits, a JavaScript number 53: so addresses are BigInt where they are written, and page numbers
// where they are drawn. Pages count from 0 through the user half and on through the kernel half: the hole of
// non-canonical addresses between them takes no room.

const PAGE = 4096n;

/** Pages of one half with this many levels of tables: 2^47 or 2^56 bytes. */
const halfPages = (levels) => 2 ** (levels === 5 ? 44 : 35);

/** Number of the page that holds an address; a non-canonical one counts as the kernel half's first. */
function pageOf(address, half) {
  const kernel = (1n << 64n) - BigInt(half) * PAGE;
  if (address >= kernel) return half + Number((address - kernel) / PAGE);
  return Math.min(Number(address / PAGE), half);
}

/** The address at which a page begins. */
function addressOf(page, half) {
  const whole = BigInt(Math.max(0, Math.min(Math.floor(page), 2 * half - 1)));
  return whole < BigInt(half) ? whole * PAGE : (1n << 64n) - (2n * BigInt(half) - whole) * PAGE;
}

/** Sixteen digits, as the field writes addresses. */
const hex = (address) => address.toString(16).padStart(16, '0');

/** A physical address: no leading zeros to read over. */
const physical = (address) => '0x' + address.toString(16);

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** A number of bytes for people: exact when it is a whole number of a unit, else with three digits. */
function size(bytes) {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = Number.isInteger(value) ? String(value) : value.toPrecision(value >= 100 ? 4 : 3);
  return `${digits.includes('e') ? Math.round(value) : digits} ${value === 1 && unit === 0 ? 'byte' : UNITS[unit]}`;
}

/** A count with its word: `1 page`, `2,048 pages`. */
const plural = (count, word, many = word + 's') =>
  `${Number(count).toLocaleString('en')} ${Number(count) === 1 ? word : many}`;

/** The roundest page number in [from, to]: the multiple of the greatest power of two. */
function roundest(from, to) {
  const [low, high] = [Math.ceil(from), Math.floor(to)];
  if (low > high) return null;
  let step = 2 ** Math.ceil(Math.log2(Math.max(1, high)) + 1);
  while (step > 1 && Math.ceil(low / step) * step > high) step /= 2;
  return Math.ceil(low / step) * step;
}

/** The first index of a sorted list whose value is greater than `value`. */
function above(list, value, read = (item) => item) {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (read(list[middle]) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

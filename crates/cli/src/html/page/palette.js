// What kinds and severities are called and which colour they have. The colours themselves are in colours.css, one
// set for light and one for dark; nothing is told by colour alone.

/** Code for narrow places, name, explanation. In the order of the legend. */
const KINDS = {
  idt: ['IDT', 'IDT', 'interrupt descriptor table'],
  gdt: ['GDT', 'GDT', 'global descriptor table'],
  tss: ['TSS', 'TSS', 'task state segment'],
  'gdt-and-tss': ['G+T', 'GDT and TSS', 'one page with both'],
  ldt: ['LDT', 'LDT', 'local descriptor table'],
  'entry-stack': ['ES', 'entry stack', 'the stack of RSP0'],
  'interrupt-stack': ['IST', 'interrupt stack', 'a stack of the interrupt stack table'],
  espfix: ['FIX', 'espfix', 'one stack under many addresses, for returns to 16-bit stacks'],
  'task-stack': ['TSK', 'task stack', 'a task’s kernel stack'],
  'entry-text': ['ET', 'entry text', 'code that SYSCALL or the IDT leads to'],
  text: ['TXT', 'text', 'other code'],
  vsyscall: ['VS', 'vsyscall', 'Linux’s legacy page'],
  'per-cpu': ['PC', 'per-CPU data', 'what GS points to'],
  image: ['IMG', 'kernel image', 'text and data of the kernel'],
  'direct-map': ['DM', 'direct map', 'all of physical memory'],
  data: ['DAT', 'data', 'something else'],
  user: ['U', 'user memory', 'the program’s own pages'],
  unknown: ['?', 'not named', 'nothing says what this is'],
};

const kindCode = (kind) => KINDS[kind][0];
const kindName = (kind) => KINDS[kind][1];

/** Mark, word, in the order worst first. */
const SEVERITIES = {
  critical: ['■', 'Critical'],
  serious: ['▲', 'Serious'],
  warning: ['◆', 'Warning'],
  note: ['●', 'Note'],
};

const worse = (a, b) => Object.keys(SEVERITIES).indexOf(a) < Object.keys(SEVERITIES).indexOf(b);

/** A severity's mark and word. */
function severityMark(severity, word = true) {
  const [mark, name] = SEVERITIES[severity] || SEVERITIES.note;
  return make(
    'span',
    { class: `severity ${severity}`, title: name },
    make('span', { 'aria-hidden': 'true' }, mark),
    word ? ` ${name}` : make('span', { class: 'unseen' }, name),
  );
}

/** A square in a kind's colour. */
const swatch = (kind) =>
  make('i', { class: 'swatch', style: `background:var(--kind-${kind})`, 'aria-hidden': 'true' });

let colourCache = new Map();

/** A colour of the style sheet, as it is in the theme that is on. */
function colour(name) {
  if (!colourCache.has(name)) {
    colourCache.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return colourCache.get(name);
}

const forgetColours = () => {
  colourCache = new Map();
};

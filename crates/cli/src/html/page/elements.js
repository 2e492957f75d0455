// Elements, made so that a guest's string can only ever become a text node or an attribute's value.

/** The element with this id. */
const byId = (id) => document.getElementById(id);

/** A new element. Attributes whose value is a function are event listeners; false and null leave one out. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...shown(children));
  return element;
}

/** Children without those that are left out: `condition && element` is how that is written. */
const shown = (children) =>
  children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);

/** Replaces what is in an element. */
const fill = (element, ...children) => element.replaceChildren(...shown(children));

/** A new SVG element, without event listeners. */
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A guest's string, kept from turning the writing around it. */
const guestText = (text) => make('bdi', {}, text);

/** A group of buttons of which one is pressed; `choose` gets the value. */
function segments(parent, options, current, choose) {
  parent.replaceChildren(
    ...options.map(([value, label, title]) =>
      make(
        'button',
        {
          type: 'button',
          title,
          'aria-pressed': String(value === current),
          'data-value': value,
          click: () => choose(value),
        },
        label,
      ),
    ),
  );
}

const row = (...cells) => make('tr', {}, cells);
const cell = (...children) => make('td', {}, children);
const numberCell = (text) => make('td', { class: 'number' }, text);
const monoCell = (text) => make('td', { class: 'mono' }, text ?? '–');
const rowHead = (...children) => make('th', { scope: 'row' }, children);

/** A table that scrolls sideways by itself where it is wider than the page. `bodies` are rows, or whole bodies. */
function plainTable(heads, bodies, attributes = {}) {
  const cells = heads.map((head) => make('th', { scope: 'col' }, head));
  const whole = bodies.length > 0 && bodies[0].tagName === 'TBODY';
  const table = make(
    'table',
    attributes,
    make('thead', {}, row(cells)),
    whole ? bodies : make('tbody', {}, bodies),
  );
  return make('div', { class: 'scroll', tabindex: '0' }, table);
}

const help = (...children) => make('p', { class: 'help' }, children);

const quiet = (...children) => make('span', { class: 'quietly' }, children);

/** A button; `link` for one that looks like a link. */
const press = (text, click, attributes = {}) => make('button', { type: 'button', click, ...attributes }, text);
const link = (text, click, attributes = {}) => press(text, click, { class: 'link', ...attributes });

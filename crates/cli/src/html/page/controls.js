// The controls around the map: theme, scale, views, buttons, and the field that goes to an address.

const THEMES = { auto: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' };

const SCALES = [
  [
    'folded',
    'Folded',
    'Holes are folded, widths grow with the logarithm of the size, what user mode sees has more room',
  ],
  ['true', 'True', 'Every byte as wide as any other'],
];

function setTheme(theme) {
  const root = document.documentElement;
  if (theme === 'auto') delete root.dataset.theme;
  else root.dataset.theme = theme;
  byId('theme').textContent = THEMES[theme];
  byId('theme').dataset.value = theme;
  forgetColours();
  tell('theme');
}

function nextTheme() {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(byId('theme').dataset.value) + 1) % names.length]);
}

function showChoices() {
  const scale = state.folded ? 'folded' : 'true';
  segments(byId('scales'), SCALES, scale, (scale) => chooseScale(scale === 'folded'));
  const choices = guests.map((guest, side) => {
    if (guest.views.length < 2) return null;
    const options = guest.views.map((view) => [view.index, viewName(view)]);
    const choice = choiceOf('View', options, (index) => chooseView(side, Number(index)));
    choice.value = state.view[side];
    return make('label', {}, sideLetter(side), choice);
  });
  fill(byId('views'), choices);
}

/** Goes to an address: chooses what is there, or shows the empty page. False if it is none. */
function goToAddress(text) {
  const digits = text
    .trim()
    .toLowerCase()
    .replace(/^0x/, '')
    .replaceAll(/[_`' ]/g, '');
  const view = viewOf(0);
  if (!/^[0-9a-f]{1,16}$/.test(digits) || !view) return false;
  const at = address(digits);
  const region = lookUp(view, at);
  const page = shift(pageOf(at, view.half), view, state.axis.half);
  if (region) choose(0, region, true);
  else showPages(page, page + 1, 4);
  return true;
}

function listenToControls() {
  byId('theme').addEventListener('click', nextTheme);
  byId('zoom-in').addEventListener('click', () => zoom(0.4, undefined, true));
  byId('zoom-out').addEventListener('click', () => zoom(2.5, undefined, true));
  byId('zoom-visible').addEventListener('click', showVisible);
  byId('zoom-whole').addEventListener('click', showKernelHalf);
  byId('go').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    byId('go').setAttribute('aria-invalid', String(!goToAddress(byId('go').value)));
  });
}

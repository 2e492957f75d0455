// Puts the parts together.

const THEMES = { auto: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' };

function setTheme(theme) {
  const root = document.documentElement;
  if (theme === 'auto') delete root.dataset.theme;
  else root.dataset.theme = theme;
  byId('theme').textContent = THEMES[theme];
  byId('theme').dataset.value = theme;
  forgetColours();
  tell('theme');
}

function showChoices() {
  segments(byId('scales'), [['folded', 'Folded', 'Holes are folded, widths grow with the logarithm of the size, what user mode sees has more room'],
    ['true', 'True', 'Every byte as wide as any other']], state.folded ? 'folded' : 'true', (scale) => chooseScale(scale === 'folded'));
  fill(byId('views'), ...guests.map((guest, index) => guest.views.length > 1 && make('label', {},
    guests.length > 1 ? `${'AB'[index]} ` : '', make('select', { 'aria-label': 'View', change: (event) => chooseView(index, Number(event.target.value)) },
      guest.views.map((view) => make('option', { value: view.index, selected: view.index === state.view[index] ? '' : null },
        `View ${view.index + 1}: ${view.cpus.length === 0 ? 'no CPU' : `CPU ${ranges(view.cpus)}`}`))))).filter(Boolean));
}

function start() {
  document.body.classList.add(guests.length > 1 ? 'pair' : 'one');
  makeAxis();
  on('window', paintSoon);
  on('window', showTrail);
  on('chosen', paintSoon);
  on('chosen', showDetails);
  on('chosen', followTable);
  on('theme', paintSoon);
  for (const show of [showVerdict, showDifferences, showChoices, showLegend, followTable, paintSoon]) on('view', show);
  showSource();
  showVerdict();
  showDifferences();
  showFindings();
  showChoices();
  showLegend();
  buildTable();
  showDetails();
  showBoots();
  showCpus();
  const half = state.axis.toUnit(state.axis.half);
  setWindow(half, state.axis.total - half);
  listen();
  byId('theme').addEventListener('click', () => {
    const names = Object.keys(THEMES);
    setTheme(names[(names.indexOf(byId('theme').dataset.value) + 1) % names.length]);
  });
  setTheme('auto');
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTheme(byId('theme').dataset.value));
  new ResizeObserver(paintSoon).observe(byId('map-frame'));
  // Paper is white, whatever the screen is.
  let before = 'auto';
  addEventListener('beforeprint', () => { before = byId('theme').dataset.value; setTheme('light'); paint(); });
  addEventListener('afterprint', () => setTheme(before));
  document.documentElement.dataset.ready = 'yes';
}

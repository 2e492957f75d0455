// Puts the parts together.

function start() {
  document.body.classList.add(guests.length > 1 ? 'pair' : 'one');
  makeAxis();
  on('window', paintSoon);
  on('window', showTrail);
  on('chosen', paintSoon);
  on('chosen', showDetails);
  on('chosen', followTable);
  on('theme', paintSoon);
  for (const show of [showVerdict, showChoices, showLegend, followTable, paintSoon]) on('view', show);
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
  setTheme('auto');
  const half = state.axis.toUnit(state.axis.half);
  setWindow(half, state.axis.total - half);
  listenToMap();
  listenToControls();
  const theme = () => byId('theme').dataset.value;
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => setTheme(theme()));
  new ResizeObserver(paintSoon).observe(byId('map-frame'));
  // Paper is white, whatever the screen is.
  let before = 'auto';
  addEventListener('beforeprint', () => {
    before = theme();
    setTheme('light');
    paint();
  });
  addEventListener('afterprint', () => setTheme(before));
  document.documentElement.dataset.ready = 'yes';
}

// The kinds that are in the map, and what its signs mean.

function showLegend() {
  const lists = shownViews().flatMap((view) => [view.visible, view.kernel, view.user]);
  const seen = new Set(lists.flatMap((list) => list.map((region) => region.kind)));
  const kinds = Object.keys(KINDS).filter((kind) => seen.has(kind));
  const square = (name) =>
    make('i', { class: 'swatch', style: `background:var(--${name})`, 'aria-hidden': 'true' });
  const sign = (name) => make('i', { class: name, 'aria-hidden': 'true' });
  const item = (...children) => make('li', {}, children);
  fill(
    byId('legend'),
    make(
      'ul',
      {},
      kinds.map((kind) => {
        const words = [swatch(kind), ' ', make('code', {}, kindCode(kind)), ` ${kindName(kind)}`];
        return make('li', { title: KINDS[kind][2] }, words);
      }),
    ),
    make(
      'ul',
      { class: 'signs' },
      item(square('write'), ' w writable'),
      item(square('execute'), ' x executable'),
      item(sign('stroke'), ' same page on both sides'),
      item(sign('stroke broken'), ' split: two pages'),
      item(sign('swatch hatched'), ' repeated or mixed'),
      Object.keys(SEVERITIES).map((severity) => item(severityMark(severity))),
    ),
  );
}

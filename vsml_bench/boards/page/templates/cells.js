// From a row to its cells.
const dialog = find('#cells');
const cellName = (index) => JSON.stringify([data.rows[index].split, data.labels[index]]);

dialog.addEventListener('close', () => { if (state.cell) change({ cell: '' }); });

function detail(title, content) {
  return make('details', [make('summary', title), make('pre', JSON.stringify(content, null, 1))]);
}

function describe(cell) {
  const facts = {
    'made again by': make('code', cell.command),
    seed: cell.seed,
    status: cell.reason ? `${cell.status}: ${cell.reason}` : cell.status,
    learner: cell.learner,
    key: make('code', cell.key),
    outcomes: cell.outcomes ? make('code', cell.outcomes) : 'none',
    checkpoint: cell.checkpoint ? make('code', cell.checkpoint) : 'none',
    commit: make('code', cell.commit || 'unknown'),
    device: `${cell.device}, ${cell.threads} thread${cell.threads === 1 ? '' : 's'}`,
    seconds: Object.entries(cell.seconds).map(([name, value]) => `${name} ${value}`).join(', '),
    'peak memory': `${Math.round(cell.peak_memory_bytes / 2 ** 20)} MiB`,
    created: cell.created,
    versions: Object.entries(cell.versions).map(([name, value]) => `${name} ${value}`).join(', '),
  };
  for (const [name, hash] of Object.entries(cell.data)) facts[name] = make('code', hash);
  const list = make('dl', Object.entries(facts).flatMap(([name, value]) => [
    make('dt', name), value instanceof Element ? make('dd', [value]) : make('dd', value),
  ]));
  const parts = [make('h3', [`Seed ${cell.seed} `, make('span', cell.badge, { class: 'badge' })]), list];
  parts.push(detail('Configuration', cell.config));
  if (cell.recipe) parts.push(detail('Recipe of meta-training', cell.recipe));
  if (Object.keys(cell.tuned).length) parts.push(detail('Tuned', cell.tuned));
  return make('section', parts);
}

views.push(() => {
  const index = state.cell ? data.rows.findIndex((_, row) => cellName(row) === state.cell) : -1;
  if (index < 0) {
    if (dialog.open) dialog.close();
    return;
  }
  find('#cells-title').textContent = `${data.labels[index]} on ${data.rows[index].split}`;
  const cells = data.cells[index];
  const none = make('p', `No cell was run: ${data.rows[index].reason || data.rows[index].status}.`);
  find('#cells-body').replaceChildren(...(cells.length ? cells.map(describe) : [none]));
  if (!dialog.open) dialog.showModal();
});

// From a row to its cells.
const dialog = find('#cells');
const cellName = (index) => JSON.stringify([data.rows[index].split, data.labels[index]]);

// From a learner of the first table to its first split with cells.
all('#standings tbody th').forEach((name) => {
  const index = data.labels.findIndex((label, at) => label === name.textContent && data.cells[at].length);
  if (index < 0) return;
  const button = make('button', name.textContent, { type: 'button' });
  name.replaceChildren(button);
  button.addEventListener('click', () => change({ cell: cellName(index) }));
});

dialog.addEventListener('close', () => { if (state.cell) change({ cell: '' }); });

function detail(title, content) {
  return make('details', [make('summary', title), make('pre', JSON.stringify(content, null, 1), { tabindex: '0' })]);
}

// How its meta-parameters, or its tuned values, came about.
function describeTraining(cell) {
  const training = data.trainings[cell.checkpoint];
  if (!training) return make('p', 'Its record of meta-training or tuning is not here.');
  const facts = {
    'made again by': make('code', cell.training),
    'made by': make('code', training.command || 'unknown'),
    commit: make('code', training.commit || 'unknown'),
    'begun by': training.begun_by ? make('code', training.begun_by) : '',
    device: training.device,
    seconds: training.seconds,
  };
  const parts = [make('h4', training.trials.length ? 'Tuning' : 'Meta-training'), listed(facts)];
  if (training.history.length) parts.push(trainingCurve(training.history));
  if (training.trials.length) {
    const head = make('tr', ['tried', 'accuracy (%)'].map((title) => make('th', title, { scope: 'col' })));
    const rows = training.trials.map((trial) => make('tr', [
      make('th', Object.entries(trial.values).map(([name, value]) => `${name} ${value}`).join(', '), { scope: 'row' }),
      make('td', points(trial.accuracy), { class: 'n' }),
    ]));
    parts.push(make('table', [make('thead', [head]), make('tbody', rows)]));
  }
  return make('section', parts);
}

function trainingCurve(history) {
  const place = make('figure', null, { class: 'picture training', tabindex: '0', role: 'group', 'aria-label': 'Loss of meta-training' });
  const last = history[history.length - 1];
  const said = make('p', `Loss of validation ${last.validation_loss}, accuracy ${points(last.validation_accuracy)} % after ${last.step} meta-updates.`, { class: 'legend' });
  if (window.vegaEmbed && data.training) {
    const rows = history.flatMap((entry) => [['training', ''], ['validation', 'validation_']].map(([of, prefix]) => (
      { step: entry.step, of, loss: entry[prefix + 'loss'], accuracy: entry[prefix + 'accuracy'] }
    )));
    const specification = { ...data.training, datasets: { history: rows } };
    window.vegaEmbed(place, specification, { actions: false, renderer: 'svg', ast: true }).catch((error) => console.error(error));
  }
  return make('div', [place, said]);
}

function listed(facts) {
  return make('dl', Object.entries(facts).filter(([, value]) => value !== '').flatMap(([name, value]) => [
    make('dt', name), value instanceof Element ? make('dd', [value]) : make('dd', value),
  ]));
}

function describe(stored) {
  const cell = { ...stored };
  for (const name of data.shared_fields) cell[name] = data.shared[stored[name]];
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
  if (cell.speed) facts.speed = make('a', cell.speed.text, { href: cell.speed.address });
  const parts = [make('h3', [`Seed ${cell.seed} `, make('span', cell.badge, { class: 'badge' })]), listed(facts)];
  if (cell.checkpoint) parts.push(describeTraining(cell));
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

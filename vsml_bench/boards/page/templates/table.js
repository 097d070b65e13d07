// The large table: filter, sort, hide columns, download.
const body = find('#results tbody');
const lines = all('tr', body);
const heads = all('#results thead th');
const rowOf = (line) => data.rows[Number(line.dataset.row)];
const FIRST_COST = find('#f-by').value;
const FILTERS = { q: 'f-q', split: 'f-split', relation: 'f-relation', family: 'f-family', cost: 'f-cost', missing: 'f-missing' };
const place = (name) => heads.findIndex((head) => head.dataset.name === name);
const number = (line, name) => {
  const row = rowOf(line);
  if (name in row) return row[name];
  const text = line.cells[place(name)]?.textContent;
  return text ? Number(text.replaceAll(',', '')) : null;
};
const lacking = new Set(lines.map(rowOf).filter((row) => row.mean === null).map((row) => row.split));

heads.forEach((head) => {
  const button = make('button', head.textContent, { type: 'button' });
  head.replaceChildren(button);
  button.addEventListener('click', () => {
    const name = head.dataset.name;
    const again = state.sort === name;
    const down = again ? state.down === '' : 'numeric' in head.dataset && name !== 'rank';
    change({ sort: name, down: down ? '1' : '' });
  });
});

lines.forEach((line) => {
  const name = line.cells[0];
  const button = make('button', name.textContent, { type: 'button' });
  name.replaceChildren(button);
  button.addEventListener('click', () => change({ cell: cellName(Number(line.dataset.row)) }));
});

for (const [name, id] of Object.entries(FILTERS)) {
  find('#' + id).addEventListener('input', (event) => change({ [name]: event.target.value }));
}
find('#f-by').addEventListener('change', (event) => {
  change({ by: event.target.value === FIRST_COST ? '' : event.target.value });
});
find('#filters').addEventListener('submit', (event) => event.preventDefault());
find('#columns').addEventListener('change', () => {
  change({ hide: all('#columns input').filter((box) => !box.checked).map((box) => box.value) });
});
find('#reset').addEventListener('click', () => change(structuredClone(DEFAULTS)));

function wanted(line) {
  const row = rowOf(line);
  const text = line.textContent.toLowerCase();
  const cost = number(line, state.by || FIRST_COST);
  return (
    text.includes(state.q.trim().toLowerCase()) &&
    ['split', 'relation'].every((name) => !state[name] || row[name] === state[name]) &&
    (!state.family || line.cells[place('family')].textContent === state.family) &&
    (state.cost === '' || (cost !== null && cost <= Number(state.cost))) &&
    (state.missing !== 'common' || !lacking.has(row.split))
  );
}

// A row without a score is last in its split, so that failing never pays.
function rank(line) {
  const row = rowOf(line);
  if (row.rank !== null) return row.rank;
  return state.missing === 'last' ? data.rows.filter((of) => of.split === row.split).length : null;
}

function value(line, name) {
  if (name === 'rank') return rank(line);
  const head = heads[place(name)];
  if ('numeric' in head.dataset) return number(line, name);
  return line.cells[place(name)].textContent;
}

function sorted() {
  const order = [...lines].sort((a, b) => a.dataset.row - b.dataset.row);
  if (place(state.sort) < 0) return order;
  const sign = state.down ? -1 : 1;
  return order.sort((left, right) => {
    const [a, b] = [value(left, state.sort), value(right, state.sort)];
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * (typeof a === 'string' ? a.localeCompare(b, 'en') : a - b);
  });
}

views.push(() => {
  for (const [name, id] of Object.entries(FILTERS)) {
    if (find('#' + id).value !== state[name]) find('#' + id).value = state[name];
  }
  find('#f-by').value = state.by || FIRST_COST;
  all('#columns input').forEach((box) => { box.checked = !state.hide.includes(box.value); });
  heads.forEach((head, index) => {
    const hidden = state.hide.includes(head.dataset.name);
    [head, ...lines.map((line) => line.cells[index])].forEach((cell) => { cell.hidden = hidden; });
    if (head.dataset.name === state.sort) head.setAttribute('aria-sort', state.down ? 'descending' : 'ascending');
    else head.removeAttribute('aria-sort');
  });
  const where = place('rank');
  lines.forEach((line) => {
    line.hidden = !wanted(line);
    if (where >= 0 && rowOf(line).rank === null) {
      line.cells[where].textContent = state.missing === 'last' ? `${rank(line)} (last)` : '';
    }
  });
  // Rows that move lose the focus, so they stay where they are right.
  const order = sorted();
  if (order.some((line, index) => body.rows[index] !== line)) body.append(...order);
  const shown = lines.filter((line) => !line.hidden).length;
  find('#shown').textContent = `${shown} of ${lines.length} rows`;
});

// The rows of the view, in its order, with the numbers of board.csv and board.json.
function view() {
  return all('tr', body).filter((line) => !line.hidden).map(rowOf);
}

function field(of) {
  if (of === null || of === undefined) return '';
  if (typeof of !== 'string') return String(of);
  // Spreadsheets would run a text that begins like a formula.
  const text = /^[=+\-@\t\r]/.test(of) ? "'" + of : of;
  return /[",\r\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function download(ending, type, text) {
  const link = make('a', '', { download: `${data.suite}.${ending}` });
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.click();
  URL.revokeObjectURL(link.href);
}

find('#get-csv').addEventListener('click', () => {
  const table = [data.names, ...view().map((row) => data.names.map((name) => row[name]))];
  download('csv', 'text/csv', table.map((row) => row.map(field).join(',') + '\n').join(''));
});
find('#get-json').addEventListener('click', () => {
  const content = { suite: data.suite, board_hash: data.hash, view: location.hash, rows: view() };
  download('json', 'application/json', JSON.stringify(content, null, 1) + '\n');
});

// Two learners side by side.
const [first, second] = [find('#pair-a'), find('#pair-b')];
const standing = all('#standings tbody th').map((name) => name.textContent);

first.addEventListener('change', () => change({ a: first.value }));
second.addEventListener('change', () => change({ b: second.value }));

function choice() {
  const known = (name) => [...first.options].some((option) => option.value === name);
  const a = known(state.a) ? state.a : standing.find((name) => name !== state.b) || '';
  const b = known(state.b) ? state.b : standing.find((name) => name !== a) || '';
  return [a, b];
}

function between(a, b) {
  const found = data.pairs.find(([one, other]) => (one === a && other === b) || (one === b && other === a));
  if (!found) return [];
  return found[2].map(([split, mean, low, high, wins, detectable, decided, forth, back]) => (found[0] === a
    ? { split, mean, low, high, wins, detectable, decided, verdict: forth }
    : { split, mean: 0 - mean, low: 0 - high, high: 0 - low, wins: 1 - wins, detectable, decided, verdict: back }));
}

views.push(() => {
  const [a, b] = choice();
  first.value = a;
  second.value = b;
  const found = between(a, b);
  const overall = found.find((pair) => pair.split === '');
  let said = a === b ? 'Choose two different learners.' : `${a} against ${b}: no verdict on data never seen, since some of its splits lack a score; below are the others.`;
  if (overall) said = overall.verdict;
  find('#verdict').textContent = said;
  const titles = ['split', 'difference (points)', '95 % interval', 'first is better on a fresh lifetime', 'decided', 'detectable (points)'];
  const head = make('thead', [make('tr', titles.map((title) => make('th', title, { scope: 'col' })))]);
  const rows = found.map((pair) => make('tr', [
    make('th', pair.split || 'all with data never seen', { scope: 'row' }),
    make('td', signed(pair.mean), { class: 'n' }),
    make('td', `${signed(pair.low)} to ${signed(pair.high)}`, { class: 'n' }),
    make('td', `${(100 * pair.wins).toFixed(0)} %`, { class: 'n' }),
    make('td', pair.decided, { class: pair.decided === 'yes' ? 'yes' : '' }),
    make('td', pair.detectable === null ? '–' : points(pair.detectable), { class: 'n' }),
  ]));
  find('#pair').replaceChildren(head, make('tbody', rows));
});

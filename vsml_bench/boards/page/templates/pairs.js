// Two learners side by side.
const [first, second] = [find('#pair-a'), find('#pair-b')];
const standing = all('#standings tbody th').map((name) => name.textContent);

first.addEventListener('change', () => change({ a: first.value }));
second.addEventListener('change', () => change({ b: second.value }));

function choice() {
  const a = data.labels.includes(state.a) ? state.a : standing.find((name) => name !== state.b) || '';
  const b = data.labels.includes(state.b) ? state.b : standing.find((name) => name !== a) || '';
  return [a, b];
}

function between(a, b) {
  return data.pairs.flatMap(([one, other, split, mean, low, high, wins, detectable, lifetimes]) => {
    if (one === a && other === b) return [{ split, mean, low, high, wins, detectable, lifetimes }];
    if (one !== b || other !== a) return [];
    return [{ split, mean: 0 - mean, low: 0 - high, high: 0 - low, wins: 1 - wins, detectable, lifetimes }];
  });
}

const decided = (pair) => pair.low > 0 || pair.high < 0;

// How many lifetimes would bring an interval of this width down to the difference.
function needed(pair) {
  const half = (pair.high - pair.low) / 2;
  return pair.mean === 0 ? Infinity : Math.ceil(pair.lifetimes * (half / pair.mean) ** 2);
}

function verdict(a, b, pair) {
  const found = `${a} against ${b} on data never seen: ${signed(pair.mean)} points (${signed(pair.low)} to ${signed(pair.high)})`;
  if (decided(pair)) return `${found}; decided: ${pair.mean > 0 ? a : b} is better.`;
  const more = needed(pair);
  const would = more > 1000 * pair.lifetimes ? 'no affordable number of lifetimes would separate them' : `about ${more.toLocaleString('en')} lifetimes instead of ${pair.lifetimes} would separate a difference of that size, if seeds add nothing`;
  return `${found}; not separable; ${would}.`;
}

views.push(() => {
  const [a, b] = choice();
  first.value = a;
  second.value = b;
  const found = between(a, b);
  const overall = found.find((pair) => pair.split === '');
  let said = a === b ? 'Choose two different learners.' : `${a} and ${b} have no score on all splits with data never seen.`;
  if (overall) said = verdict(a, b, overall);
  find('#verdict').textContent = said;
  const titles = ['split', 'difference (points)', '95 % interval', 'first is better on a fresh lifetime', 'decided', 'detectable (points)'];
  const head = make('thead', [make('tr', titles.map((title) => make('th', title, { scope: 'col' })))]);
  const rows = found.map((pair) => make('tr', [
    make('th', pair.split || 'all with data never seen', { scope: 'row' }),
    make('td', signed(pair.mean), { class: 'n' }),
    make('td', `${signed(pair.low)} to ${signed(pair.high)}`, { class: 'n' }),
    make('td', `${(100 * pair.wins).toFixed(0)} %`, { class: 'n' }),
    make('td', decided(pair) ? 'yes' : 'no', { class: decided(pair) ? 'yes' : '' }),
    make('td', pair.detectable === null ? '–' : points(pair.detectable), { class: 'n' }),
  ]));
  find('#pair').replaceChildren(head, make('tbody', rows));
});

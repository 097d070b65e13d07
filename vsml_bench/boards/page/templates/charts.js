// Pictures that answer to the pointer stand in for the ones without JavaScript.
const chosenCurves = () => {
  const boxes = all('input[name=curve]');
  return state.curve.length ? state.curve : boxes.filter((box) => box.defaultChecked).map((box) => box.value);
};
const curveSplit = () => state.curves || (find('#curve-split option[selected]') || {}).value || '';
let curvesView = null;

function draw(name, specification, wanted) {
  const figure = find(`[data-picture=${name}]`);
  if (!figure || !window.vegaEmbed) return Promise.resolve(null);
  const place = make('div');
  const options = { actions: false, renderer: 'svg', ast: true };
  return window.vegaEmbed(place, specification, options).then(({ view }) => {
    if (wanted && !wanted()) return view;
    figure.replaceChildren(place);
    view.addEventListener('click', (_, item) => {
      const learner = item && item.datum && item.datum.learner;
      if (learner && data.labels.includes(learner)) change({ a: learner, b: state.a === learner ? state.b : state.a });
    });
    document.documentElement.dataset[name] = 'drawn';
    return view;
  }, (error) => console.error(error)); // the static picture stays
}

// The figure has the axis of cost that is named last, however long each takes to draw.
const axis = find('#cost-axis');
const costName = () => (data.costs[state.axis] ? state.axis : axis.querySelector('[selected]').value);
let drawnCost = '';

function drawCost() {
  const chosen = costName();
  drawnCost = chosen;
  return draw('cost', data.costs[chosen], () => drawnCost === chosen);
}

if (axis) {
  axis.addEventListener('change', () => change({ axis: axis.value }));
  find('#cost-form').addEventListener('submit', (event) => event.preventDefault());
  views.push(() => {
    axis.value = costName();
    if (drawnCost && drawnCost !== costName()) drawCost();
  });
}

function curvePoints(split, labels) {
  const percent = (share) => Math.round(1e5 * share) / 1e3;
  return data.curves.flatMap((curve, index) => {
    if (!curve || data.rows[index].split !== split || !labels.includes(data.labels[index])) return [];
    return curve.ends.map((example, at) => ({
      learner: data.labels[index],
      example,
      accuracy: percent(curve.mean[at]),
      accuracy_low: percent(curve.low[at]),
      accuracy_high: percent(curve.high[at]),
      'accuracy range': `${points(curve.mean[at])} % (${points(curve.low[at])} to ${points(curve.high[at])})`,
    }));
  });
}

// From which window on the first of two curves stays above the second.
function overtaking(a, b) {
  const over = a.mean.map((mean, at) => mean - b.mean[at]);
  let at = over.length;
  while (at > 0 && over[at - 1] > 0) at -= 1;
  return at > 0 && at < over.length ? a.ends[at - 1] : null;
}

function overtakings(split, labels) {
  const found = labels.map((label) => data.curves[data.rows.findIndex((row, index) => row.split === split && data.labels[index] === label)]);
  const said = [];
  labels.forEach((a, i) => labels.forEach((b, j) => {
    const at = i !== j && found[i] && found[j] ? overtaking(found[i], found[j]) : null;
    if (at !== null) said.push(`${a} stays above ${b} after example ${at}`);
  }));
  return said.length ? said.join('; ') + '.' : '';
}

if (find('#curve-form')) {
  find('#curve-form').addEventListener('change', () => {
    change({
      curves: find('#curve-split').value,
      curve: all('input[name=curve]').filter((box) => box.checked).map((box) => box.value),
    });
  });
  find('#curve-form').addEventListener('submit', (event) => event.preventDefault());
  views.push(() => {
    const [split, labels] = [curveSplit(), chosenCurves()];
    find('#curve-split').value = split;
    all('input[name=curve]').forEach((box) => { box.checked = labels.includes(box.value); });
    find('#curve-title').textContent = split;
    find('#overtakes').textContent = overtakings(split, labels);
    if (curvesView) curvesView.data('curves', curvePoints(split, labels)).runAsync();
  });
}

queueMicrotask(() => { // when all of the script has run
  const drawn = Object.entries(data.pictures).map(([name, specification]) => draw(name, specification).then((view) => {
    if (name === 'curves' && view) {
      curvesView = view;
      view.data('curves', curvePoints(curveSplit(), chosenCurves())).runAsync();
    }
  }));
  if (axis) drawn.push(drawCost());
  Promise.all(drawn).then(() => { document.documentElement.dataset.ready = 'yes'; });
});

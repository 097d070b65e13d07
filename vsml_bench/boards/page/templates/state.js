// What the reader has chosen; it is kept in the address after '#', so that it can be shared.
const packed = Uint8Array.from(atob(document.getElementById('data').textContent), (char) => char.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
const data = JSON.parse(await new Response(unpacked).text());
if (document.readyState === 'loading') await new Promise((done) => document.addEventListener('DOMContentLoaded', done));
data.rows = data.rows.map((row) => Object.fromEntries(data.columns.map((name, at) => [name, row[at]])));
const find = (selector) => document.querySelector(selector);
const all = (selector, within) => Array.from((within || document).querySelectorAll(selector));
const DEFAULTS = {
  q: '', split: '', relation: '', family: '', cost: '', by: '', missing: '', sort: '', down: '', hide: [],
  a: '', b: '', cell: '', curves: '', curve: [], axis: '',
};
const views = [];
let state = read();

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = {};
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (Array.isArray(value)) found[name] = given.getAll(name);
    else found[name] = given.get(name) || value;
  }
  return found;
}

function change(choices) {
  Object.assign(state, choices);
  const said = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (Array.isArray(value)) value.forEach((each) => said.append(name, each));
    else if (value !== '') said.set(name, value);
  }
  const address = String(said);
  history.replaceState(null, '', address ? '#' + address : '#main');
  show();
}

function show() {
  views.forEach((view) => view());
}

// An element with a text or with children; nothing that a learner is called is ever read as HTML.
function make(tag, content, attributes) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) element.setAttribute(name, value);
  if (Array.isArray(content)) element.append(...content);
  else if (content !== undefined && content !== null) element.textContent = String(content);
  return element;
}

const points = (share) => (100 * share).toFixed(1);
const signed = (share) => (share > 0 ? '+' : '') + points(share);

window.addEventListener('hashchange', () => { state = read(); show(); });
queueMicrotask(() => { // when all of the script has run
  document.documentElement.classList.add('live');
  show();
});

"use strict";
// What moves on the page: tables to sort, pairs to compare, curves to choose, maps to explore.
document.documentElement.classList.add("has-script");

/** An element with attributes and children; texts stay texts. */
function make(name, attributes = {}, ...children) {
  const element = name.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}
const find = (id) => document.getElementById(id);
const data = (id) => JSON.parse(find(id).textContent);
const thousands = (n) => n.toLocaleString("en");
const look = data("look");

/** A list to choose one of: pairs of value and words. */
function choice(words, options, change) {
  const select = make("select", { "aria-label": words, onchange: change });
  for (const [value, text] of options) select.append(make("option", { value }, text));
  return [make("label", { class: "field" }, words, select), select];
}

/** A box to tick. */
function box(children, checked, change) {
  const input = make("input", { type: "checkbox", onchange: change, checked });
  return [make("label", {}, input, ...children), input];
}

// --- shapes, which tell lines and classes apart without colour ----------------------------------

const SHAPES = [
  (x, y) => x * x + y * y <= 1,
  (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.85,
  (x, y) => y <= 0.8 && y >= 2.2 * Math.abs(x) - 1,
  (x, y) => Math.abs(x) + Math.abs(y) <= 1.15,
];
const OUTLINES = ["M-1,0a1,1 0 1,0 2,0a1,1 0 1,0 -2,0", "M-.85,-.85h1.7v1.7h-1.7z", "M0,-1L.9,.8H-.9z", "M0,-1.15L1.15,0L0,1.15L-1.15,0z"];

/** The sign of a line or a class. */
function sign(colour, shape, hollow = false) {
  return make("svg:path", {
    d: OUTLINES[shape % OUTLINES.length], transform: "scale(4)", "vector-effect": "non-scaling-stroke",
    fill: hollow ? "#fff" : colour, stroke: colour, "stroke-width": 1.5,
  });
}

// --- printing -----------------------------------------------------------------------------------

addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not([open])")) details.open = true;
});

// --- tables to sort -----------------------------------------------------------------------------

/** What a cell is sorted by: its value, the number that it begins with, or its words. */
function key(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number.parseFloat(text.replace("−", "-").replaceAll(",", "").replace(/^≈ /, ""));
  return Number.isNaN(number) ? text : number;
}

function sort(table, column, ascending) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
  rows.sort(([a], [b]) => {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    const order = typeof a === "number" ? a - b : a.localeCompare(b);
    return ascending ? order : -order;
  });
  body.append(...rows.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button", onclick: () => {
      const ascending = head.getAttribute("aria-sort") === "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sort(table, column, ascending);
    } }, ...head.childNodes);
    head.append(button);
  });
}

// --- pairs of feature sets ----------------------------------------------------------------------

for (const table of document.querySelectorAll("table.compared")) {
  const pairs = data(table.dataset.pairs);
  if (!Object.keys(pairs).length) continue;
  const output = table.parentElement.nextElementSibling;
  const invite = "Choose two feature sets with their buttons: their difference stands here.";
  output.textContent = invite;
  let picked = [];
  for (const row of table.tBodies[0].rows) {
    const name = row.cells[0].textContent.trim();
    const button = make("button", { type: "button", class: "pick", "aria-pressed": "false", "aria-label": `compare ${name}` }, "compare");
    button.addEventListener("click", () => {
      const one = { place: Number(row.dataset.place), name, button };
      picked = picked.some((p) => p.place === one.place) ? picked.filter((p) => p.place !== one.place) : [...picked, one].slice(-2);
      for (const other of table.querySelectorAll(".pick")) other.setAttribute("aria-pressed", picked.some((p) => p.button === other));
      if (picked.length < 2) { output.textContent = invite; return; }
      const [a, b] = picked.toSorted((p, q) => p.place - q.place);
      const lines = pairs[`${a.place}-${b.place}`] ?? ["There are no results of one of the two."];
      output.textContent = [`${b.name} minus ${a.name}, test accuracy with 95 % intervals on the same images:`, ...lines].join("\n");
    });
    row.cells[0].append(button);
  }
}

// --- curves to choose ---------------------------------------------------------------------------

/** Ticks of an axis: a few round values from low to high. */
function ticks(low, high, logarithmic) {
  if (logarithmic) {
    const first = Math.ceil(Math.log10(low)), last = Math.floor(Math.log10(high));
    const step = Math.max(1, Math.ceil((last - first) / 6));
    const found = [];
    for (let power = first; power <= last; power += step) found.push(10 ** power);
    if (found.length >= 3) return found;
    return [1, 2, 5].flatMap((m) => [first - 1, first, last].map((p) => m * 10 ** p)).filter((v, i, all) => v >= low && v <= high && all.indexOf(v) === i);
  }
  const step = 10 ** Math.floor(Math.log10((high - low) / 4 || 1));
  const wide = [1, 2, 5, 10].map((m) => m * step).find((s) => (high - low) / s <= 6);
  const found = [];
  for (let i = Math.ceil(low / wide); i * wide <= high; i++) found.push(Number((i * wide).toPrecision(6)));
  return found;
}

function chooseCurves(place) {
  const told = data("curves");
  const DASHES = { test: "6 3", train_matched: "", train: "1.5 3" };
  const [datasetField, dataset] = choice("data set", Object.entries(told.datasets), draw);
  const [measureField, measure] = choice("measure", Object.entries(told.quantities).map(([q, { title }]) => [q, title]), draw);
  const [acrossField, across] = choice("across", [["epochs", "epochs"], ["layers", "layers"]], draw);
  const [layerField, layer] = choice("layer", told.layers.map((name) => [name, name]), draw);
  const epochs = [...new Set(told.lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
  const [epochField, epoch] = choice("epoch", [["last", "the last"], ...epochs.map((e) => [e, e ? String(e) : "0, before training"])], draw);
  layer.value = told.layers.at(-1);
  const splits = Object.entries(told.splits).map(([name, words]) => [name, ...box([words], name !== "train", draw)]);
  const shown = make("fieldset", {}, make("legend", {}, "images"), ...splits.map(([, label]) => label));
  const controls = make("div", { class: "controls" }, datasetField, measureField);
  if (told.layers.length > 1) controls.append(acrossField, layerField, epochField);
  controls.append(shown);
  const definition = make("p", { class: "note definition" });
  const about = make("details", {}, make("summary", {}, "What this measure is"), definition);
  const picture = make("div"), legend = make("ul", { class: "legend" }), numbers = make("div", { class: "wide" });
  const values = make("details", { class: "values" }, make("summary", {}, "The numbers of this picture"), numbers);
  place.append(controls, picture, legend, make("p", { class: "note" }, "Lines are means over seeds, bands one standard deviation (ddof = 1), on a logarithmic axis the geometric ones; an accuracy of one seed on test images has its 95 % interval."), about, values);

  function chosen() {
    const which = new Set(splits.filter(([, , input]) => input.checked).map(([name]) => name));
    const lines = told.lines.filter((l) => l.dataset === dataset.value && l.quantity === measure.value && which.has(l.split));
    if (across.value === "epochs") {
      return lines.filter((l) => l.layer === layer.value || l.layer === "").map((l) => ({
        ...l, points: l.epochs.map((x, i) => ({ x, name: `epoch ${x}`, mean: l.mean[i], low: l.low[i], high: l.high[i] })),
      }));
    }
    const found = new Map();
    for (const line of lines) {
      const i = epoch.value === "last" ? line.epochs.length - 1 : line.epochs.indexOf(Number(epoch.value));
      const x = told.layers.indexOf(line.layer);
      if (i < 0 || x < 0) continue;
      const id = JSON.stringify([line.network, line.split]);
      if (!found.has(id)) found.set(id, { ...line, points: [] });
      found.get(id).points.push({ x, name: line.layer, mean: line.mean[i], low: line.low[i], high: line.high[i] });
    }
    for (const line of found.values()) line.points.sort((a, b) => a.x - b.x);
    return [...found.values()];
  }

  function draw() {
    layerField.hidden = across.value === "layers";
    epochField.hidden = !layerField.hidden;
    const { title, logarithmic, definition: words, source } = told.quantities[measure.value];
    definition.textContent = source ? `${words}\n${source}` : words;
    const lines = chosen();
    const points = lines.flatMap((line) => line.points);
    const usable = (v) => v !== null && (v > 0 || !logarithmic);
    const ys = points.flatMap((p) => [p.mean, p.low, p.high]).filter(usable);
    picture.replaceChildren();
    legend.replaceChildren();
    numbers.replaceChildren();
    if (!ys.length) { picture.append(make("p", {}, "There is no value of this measure here.")); return; }
    const xs = points.map((p) => p.x);
    const [first, last] = [Math.min(...xs), Math.max(...xs)];
    const layered = across.value === "layers", far = !layered && last >= look.long;
    const width = Math.max(300, picture.clientWidth), edge = { left: 58, right: 14, top: 30, bottom: 40 };
    let marks = ticks(first, last, false).filter(Number.isInteger).map((v) => [v, String(v)]), upright = false;
    if (far) marks = [0, ...[1, 10, 100, 1000, 10000].flatMap((v) => [v, 3 * v])].filter((v) => v >= first && v <= last).map((v) => [v, String(v)]);
    if (layered) {
      // Of long names the end tells layers apart.
      const names = told.layers.map((name) => name.length > 20 ? `…${name.slice(-19)}` : name);
      const letter = 6.8, widest = letter * Math.max(...names.map((name) => name.length));
      const room = (width - edge.left - widest / 2) / Math.max(1, last - first);
      upright = widest + 8 > room;
      const every = upright ? Math.ceil(14 / room) : 1;
      marks = names.map((name, i) => [i, name]).filter(([i]) => i >= first && i <= last && (last - i) % every === 0);
      if (upright) edge.bottom = widest + 36;
      else edge.right = Math.max(edge.right, letter * names[last].length / 2);
    }
    const height = Math.min(420, 0.7 * width) + edge.bottom - 40;
    const scale = logarithmic ? Math.log10 : (v) => v;
    let [low, high] = [Math.min(...ys), Math.max(...ys)];
    if (logarithmic) [low, high] = low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
    else { const room = 0.05 * (high - low) || 0.5; [low, high] = [low - room, high + room]; }
    // A long training is seen from its first epochs to its last.
    const along = far ? Math.log1p : (v) => v;
    const X = (v) => edge.left + (width - edge.left - edge.right) * (last === first ? 0.5 : (along(v) - along(first)) / (along(last) - along(first)));
    const Y = (v) => height - edge.bottom - (height - edge.top - edge.bottom) * (scale(v) - scale(low)) / (scale(high) - scale(low));
    const svg = make("svg:svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": `${title}; the numbers stand in the table below` });
    for (const v of ticks(low, high, logarithmic)) {
      svg.append(make("svg:line", { x1: edge.left, x2: width - edge.right, y1: Y(v), y2: Y(v), stroke: "#e3e6e8" }),
        make("svg:text", { x: edge.left - 6, y: Y(v) + 4, "text-anchor": "end" }, String(Number(v.toPrecision(3)))));
    }
    for (const [v, name] of marks) {
      const place = upright ? `translate(${X(v) + 4},${height - edge.bottom + 10}) rotate(-90)` : `translate(${X(v)},${height - edge.bottom + 18})`;
      svg.append(make("svg:text", { class: "mark", transform: place, "text-anchor": upright ? "end" : "middle" }, name));
    }
    svg.append(make("svg:text", { x: (edge.left + width) / 2, y: height - 4, "text-anchor": "middle" }, layered ? "layer" : "epoch"),
      make("svg:text", { x: 0, y: 14 }, title));
    const rows = [];
    for (const line of lines) {
      const number = told.networks.indexOf(line.network);
      const colour = look.lines[number % look.lines.length], dash = DASHES[line.split];
      const there = line.points.filter((p) => usable(p.mean));
      const path = (parts) => parts.map(([x, y], i) => `${i ? "L" : "M"}${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join("");
      const band = there.filter((p) => usable(p.low) && usable(p.high));
      if (band.some((p) => p.low !== p.high)) svg.append(make("svg:path", { d: `${path([...band.map((p) => [p.x, p.low]), ...band.toReversed().map((p) => [p.x, p.high])])}Z`, fill: colour, "fill-opacity": 0.15 }));
      svg.append(make("svg:path", { d: path(there.map((p) => [p.x, p.mean])), fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }));
      const words = `${line.network}, ${told.splits[line.split]}`;
      for (const p of there) {
        const spread = p.low === p.high ? "" : ` (${p.low} to ${p.high})`;
        const at = make("svg:g", { class: "point", transform: `translate(${X(p.x)},${Y(p.mean)})` }, sign(colour, number, line.split === "test"));
        at.append(make("svg:title", {}, `${words}, ${p.name}: ${p.mean}${spread}`));
        svg.append(at);
        rows.push([line.network, told.splits[line.split], p.name, `${p.mean}${spread}`]);
      }
    }
    const swatch = (colour, dash, ...signs) => make("svg:svg", { width: 40, height: 14, viewBox: "-20 -7 40 14", "aria-hidden": "true" },
      make("svg:line", { x1: -20, x2: 20, y1: 0, y2: 0, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }), ...signs);
    for (const [number, network] of told.networks.entries()) {
      const colour = look.lines[number % look.lines.length];
      if (lines.some((line) => line.network === network)) legend.append(make("li", {}, swatch(colour, "", sign(colour, number)), ` ${network}`));
    }
    for (const [split, words] of Object.entries(told.splits)) {
      if (lines.some((line) => line.split === split)) legend.append(make("li", {}, swatch("#56606a", DASHES[split]), ` ${words}${split === "test" ? " (hollow)" : ""}`));
    }
    picture.append(svg);
    const head = ["network", "images", layered ? "layer" : "epoch", title];
    numbers.append(make("table", {}, make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col" }, h)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((c) => make("td", {}, c)))))));
  }
  draw();
  let width = picture.clientWidth;
  new ResizeObserver(() => { if (picture.clientWidth !== width) { width = picture.clientWidth; draw(); } }).observe(picture);
}
if (find("chooser")) chooseCurves(find("chooser"));

// --- maps to explore ----------------------------------------------------------------------------

function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
}
const FINEST = 65535, ROWS = 40;

function explore(place) {
  const sets = [...document.querySelectorAll("script.explored")].map((script, number) => ({ number, ...JSON.parse(script.textContent) }));
  for (const set of sets) {
    for (const name of ["labels", "rows", "ids"]) set[name] = new Uint32Array(bytes(set[name]).buffer);
    for (const map of set.maps) {
      map.points = new Uint16Array(bytes(map.points).buffer);
      for (const name of Object.keys(map.wrong)) map.wrong[name] = bytes(map.wrong[name]);
    }
  }
  const urls = new Map();
  const view = { zoom: 1, x: 0.5, y: 0.5 };
  let set, map, hidden = new Set(), visible = [], names = [], chosen = -1, page = ROWS;

  const [setField, setSelect] = choice("data set", sets.map((s, i) => [i, s.label]), changeSet);
  const [mapField, mapSelect] = choice("features", [], changeMap);
  const [byField, by] = choice("right or wrong by", [], filter);
  const [testLabel, test] = box(["test images"], true, filter);
  const [trainLabel, train] = box(["training images (faint)"], false, filter);
  const [wrongLabel, wrong] = box(["mistakes only"], false, filter);
  const canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": "Map of the images. Arrow keys go from image to image, plus and minus zoom. The table below has the same images." });
  const status = make("p", { role: "status", class: "note status" });
  const info = make("div", { class: "hovered", "aria-live": "polite" }, "Point at an image, or press an arrow key on the map.");
  const worth = make("p", { class: "note" }), many = make("p", { class: "note many" });
  const classes = make("fieldset", { class: "classes" });
  const zoomed = (factor) => () => { view.zoom = Math.min(40, Math.max(1, view.zoom * factor)); if (view.zoom === 1) view.x = view.y = 0.5; draw(); };
  const zoom = make("div", { class: "controls" }, make("button", { type: "button", onclick: zoomed(1.6), "aria-label": "larger" }, "+"), make("button", { type: "button", onclick: zoomed(1 / 1.6), "aria-label": "smaller" }, "−"), make("button", { type: "button", onclick: zoomed(0) }, "whole map"));
  const body = make("tbody");
  const more = make("button", { type: "button", onclick: () => { page += 5 * ROWS; list(); } }, "more images");
  const listed = make("details", { class: "list" }, make("summary", {}, "The images that are shown, as a table"), make("div", { class: "wide" }, make("table", {}, make("thead", {}, make("tr", {}, ...["image", "class", "place", "file or row of its source", "classifier"].map((h) => make("th", { scope: "col" }, h)))), body)), more);
  listed.addEventListener("toggle", list);
  place.replaceChildren(
    make("div", { class: "controls" }, ...(sets.length > 1 ? [setField] : []), mapField, byField, make("fieldset", {}, testLabel, trainLabel, wrongLabel)),
    make("div", { class: "view" }, make("div", {}, canvas, zoom), make("div", { class: "side" }, info, status, worth, many, classes)), listed);

  const colour = (label) => set.colours[label % set.colours.length];
  const shape = (label) => Math.floor(label / set.colours.length) % SHAPES.length;
  /** Whether the classifier is wrong about a point; undefined where that is not known. */
  function isWrong(i) {
    const bits = map.wrong[by.value], n = i - set.n_train;
    return bits === undefined || n < 0 ? undefined : Boolean(bits[n >> 3] >> (n & 7) & 1);
  }

  function changeSet() {
    set = sets[setSelect.value];
    mapSelect.replaceChildren(...set.maps.map((m, i) => make("option", { value: i }, m.label)));
    by.replaceChildren(...Object.entries(set.classifiers).map(([name, words]) => make("option", { value: name }, words)));
    byField.hidden = wrongLabel.hidden = !by.options.length;
    hidden = new Set();
    chosen = -1;
    const boxes = set.classes.map((name, label) => box(
      [make("svg:svg", { width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true" }, sign(colour(label), shape(label))), make("bdi", {}, name)], true,
      (event) => { if (event.target.checked) hidden.delete(label); else hidden.add(label); filter(); }));
    const all = (checked) => () => { boxes.forEach(([, input], label) => { input.checked = checked; if (checked) hidden.delete(label); else hidden.add(label); }); filter(); };
    classes.replaceChildren(make("legend", {}, "classes ", make("button", { type: "button", onclick: all(true) }, "all"), " ", make("button", { type: "button", onclick: all(false) }, "none")), ...boxes.map(([label]) => label));
    const signs = set.colours.length * SHAPES.length;
    many.hidden = set.classes.length <= signs;
    many.textContent = `Of ${set.classes.length} classes some share a sign, for there are ${signs}, and the map has no names: point at an image, or choose classes.`;
    zoomed(0)();
    changeMap();
  }
  function changeMap() {
    map = set.maps[mapSelect.value || 0];
    worth.textContent = `t-SNE, perplexity ${map.perplexity}; of each point's 10 nearest neighbours among the features ${Math.round(100 * map.recall)} % are among its 10 nearest on the map.`;
    filter();
    if (chosen >= 0) show(chosen);
  }
  function filter() {
    visible = [];
    let mistakes = 0, tests = 0;
    for (let i = 0; i < set.n; i++) {
      const isTrain = i < set.n_train;
      if ((isTrain ? !train.checked : !test.checked) || hidden.has(set.labels[i])) continue;
      const isMistake = isWrong(i);
      if (wrong.checked && !isMistake) continue;
      visible.push(i);
      if (!isTrain) tests++;
      if (isMistake) mistakes++;
    }
    const counted = by.value in map.wrong ? `; of ${thousands(tests)} test images shown ${thousands(mistakes)} are mistakes of ${set.classifiers[by.value]}` : "";
    status.textContent = `${thousands(visible.length)} of ${thousands(set.n)} images shown${counted}.`;
    page = ROWS;
    names = middles();
    draw();
    list();
  }

  // Pixels are set one by one: fifty thousand points take some milliseconds, on any machine.
  function draw() {
    if (!map) return;
    const ratio = devicePixelRatio || 1, size = Math.round(canvas.clientWidth * ratio);
    if (!size) return;
    canvas.width = canvas.height = size;
    const context = canvas.getContext("2d");
    const picture = context.createImageData(size, size);
    const pixels = new Uint32Array(picture.data.buffer).fill(0xffffffff);
    const radius = Math.max(1.2, ratio * Math.min(6, (visible.length > 8000 ? 1.6 : 3) * Math.sqrt(Math.sqrt(view.zoom))));
    const reach = Math.ceil(radius), { k, x: left, y: top } = frame(size), end = size - reach - 1;
    const stamps = SHAPES.map((inside) => {
      const steps = [];
      for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) if (inside(dx / radius, dy / radius)) steps.push(dy * size + dx);
      return steps;
    });
    const signs = set.classes.map((name, label) => [stamps[shape(label)], abgr(colour(label), 0.3), abgr(colour(label), 1)]);
    // Training images come first, and so lie behind.
    for (const i of visible) {
      const x = Math.round(left + k * map.points[2 * i]), y = Math.round(top + k * map.points[2 * i + 1]);
      if (x < reach || y < reach || x > end || y > end) continue;
      const [steps, faint, full] = signs[set.labels[i]], value = i < set.n_train ? faint : full, start = y * size + x;
      for (let j = 0; j < steps.length; j++) pixels[start + steps[j]] = value;
    }
    context.putImageData(picture, 0, 0);
    // Names tell classes apart without colour.
    context.font = `600 ${12 * ratio}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "#fff";
    context.fillStyle = "#16191c";
    for (const [label, middle] of names) {
      const words = set.classes[label].length > 14 ? `${set.classes[label].slice(0, 13)}…` : set.classes[label];
      const at = [left + k * middle[0], top + k * middle[1]];
      context.strokeText(words, ...at);
      context.fillText(words, ...at);
    }
    if (chosen >= 0) {
      const x = left + k * map.points[2 * chosen], y = top + k * map.points[2 * chosen + 1];
      for (const [width, ink] of [[5, "#fff"], [2.5, "#000"]]) {
        context.beginPath();
        context.arc(x, y, radius + 4 * ratio, 0, 2 * Math.PI);
        context.lineWidth = width * ratio;
        context.strokeStyle = ink;
        context.stroke();
      }
    }
  }
  /** The middle of each class that is shown, unless there are too many: the median of its points, of test images where there are some. */
  function middles() {
    if (!many.hidden) return [];
    const front = visible.filter((i) => i >= set.n_train), byClass = new Map();
    for (const i of front.length ? front : visible) {
      if (!byClass.has(set.labels[i])) byClass.set(set.labels[i], []);
      byClass.get(set.labels[i]).push(i);
    }
    const median = (points, axis) => points.map((i) => map.points[2 * i + axis]).sort((a, b) => a - b)[points.length >> 1];
    return [...byClass].map(([label, points]) => [label, [median(points, 0), median(points, 1)]]);
  }
  function abgr(hex, strength) {
    const [r, g, b] = [1, 3, 5].map((at) => Math.round(255 - strength * (255 - Number.parseInt(hex.slice(at, at + 2), 16))));
    return (0xff000000 | b << 16 | g << 8 | r) >>> 0;
  }
  const MARGIN = 0.03;
  /** From whole numbers to pixels of a canvas of so many: times ``k``, plus ``x`` or ``y``. */
  function frame(size) {
    const k = size * (1 - 2 * MARGIN) * view.zoom / FINEST;
    return { k, x: size / 2 - view.x * FINEST * k, y: size / 2 - view.y * FINEST * k };
  }
  function nearest(event) {
    const area = canvas.getBoundingClientRect(), { k, x: left, y: top } = frame(area.width);
    const x = event.clientX - area.left - left, y = event.clientY - area.top - top;
    let found = -1, least = 14 ** 2;
    for (let at = visible.length - 1; at >= 0; at--) {
      const i = visible[at], dx = k * map.points[2 * i] - x, dy = k * map.points[2 * i + 1] - y;
      // From the last one, which lies on top.
      if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; found = i; }
    }
    return found;
  }

  function thumbnail(i, side) {
    const sheet = Math.floor(i / look.per_side ** 2), at = i % look.per_side ** 2, id = `sheet-${set.number}-${sheet}`;
    if (!urls.has(id)) urls.set(id, URL.createObjectURL(new Blob([bytes(find(id).textContent)], { type: "image/webp" })));
    const across = at % look.per_side * side, down = Math.floor(at / look.per_side) * side;
    return make("span", { class: "thumbnail", style: `width:${side}px;height:${side}px;background-image:url(${urls.get(id)});background-size:${look.per_side * side}px auto;background-position:-${across}px -${down}px` });
  }
  const where = (i) => i < set.n_train ? `training image ${set.rows[i]}` : `test image ${set.rows[i]}`;
  const origin = (i) => set.files ? make("bdi", { class: "file" }, set.files[i]) : `row ${set.ids[i]} of its source`;
  const verdict = (i) => ({ undefined: "", true: `${set.classifiers[by.value]}: wrong`, false: `${set.classifiers[by.value]}: right` })[isWrong(i)];
  function show(i) {
    const lines = [make("bdi", {}, set.classes[set.labels[i]]), where(i), origin(i), verdict(i)].filter(Boolean);
    info.replaceChildren(thumbnail(i, 112), ...lines.map((line) => make("div", {}, line)));
  }
  function choose(i) {
    chosen = i;
    show(i);
    draw();
    for (const row of body.rows) row.setAttribute("aria-current", Number(row.dataset.image) === i);
  }
  function list() {
    if (!listed.open) return;
    body.replaceChildren(...visible.slice(0, page).map((i) => make("tr", { "data-image": i, "aria-current": String(i === chosen) },
      make("td", {}, make("button", { type: "button", "aria-label": `show ${where(i)} on the map`, onclick: () => choose(i) }, thumbnail(i, 42))),
      make("td", {}, make("bdi", {}, set.classes[set.labels[i]])), make("td", {}, where(i)), make("td", {}, origin(i)), make("td", {}, verdict(i)))));
    more.hidden = visible.length <= page;
  }

  let from = null;
  canvas.addEventListener("pointerdown", (event) => { from = { x: event.clientX, y: event.clientY, moved: false, at: { ...view } }; });
  canvas.addEventListener("pointermove", (event) => {
    if (from && event.buttons && view.zoom > 1) {
      const size = canvas.clientWidth * view.zoom * (1 - 2 * MARGIN);
      from.moved ||= Math.hypot(event.clientX - from.x, event.clientY - from.y) > 4;
      view.x = from.at.x - (event.clientX - from.x) / size;
      view.y = from.at.y - (event.clientY - from.y) / size;
      draw();
      return;
    }
    const i = nearest(event);
    if (i >= 0) show(i); else if (chosen >= 0) show(chosen);
  });
  canvas.addEventListener("pointerup", (event) => {
    const i = nearest(event);
    if (from && !from.moved && i >= 0) choose(i);
    from = null;
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step && visible.length) {
      const at = visible.indexOf(chosen);
      choose(visible[at < 0 ? 0 : (at + step + visible.length) % visible.length]);
      event.preventDefault();
    } else if (event.key === "+") zoomed(1.6)();
    else if (event.key === "-") zoomed(1 / 1.6)();
  });
  new ResizeObserver(draw).observe(canvas);
  changeSet();
}
find("open-explorer")?.addEventListener("click", () => explore(find("explorer")));

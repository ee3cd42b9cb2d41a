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
  const picture = make("div"), legend = make("ul", { class: "legend" }), numbers = wide("The numbers of the curves");
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

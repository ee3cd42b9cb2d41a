// --- class means to move through the epochs -----------------------------------------------------

/** The colours of cosines, from farther than in a simplex (purple) over the simplex (grey) to nearer. */
const NEARNESS = ["#2d004b", "#6a51a3", "#999999", "#f2b25c", "#fff0c0"].map((hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)));

/** The colour, [r, g, b], of a place from -1 to 1 on that scale. */
function nearness(place) {
  const along = (Math.min(1, Math.max(-1, place)) + 1) / 2 * (NEARNESS.length - 1), at = Math.min(NEARNESS.length - 2, Math.floor(along));
  return NEARNESS[at].map((value, i) => Math.round(value + (along - at) * (NEARNESS[at + 1][i] - value)));
}

function moveGeometry(place) {
  const told = data("moving"), FINEST_COSINE = 127, MOST_NAMED = 20;
  const number = (v, digits = 2) => v.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace("-", "−");
  const [runField, run] = choice("run", told.runs.map((one, i) => [i, `${one.heading}, ${one.layer}`]), changeRun);
  const slider = make("input", { type: "range", min: 0, step: 1, "aria-label": "epoch", oninput: draw });
  const words = make("output", {});
  const plane = make("svg:svg", { class: "plane", viewBox: "-100 -100 200 200", role: "img", "aria-label": "Class means in their principal plane; the numbers stand in the table below" });
  const SIDES = ["training", "test"];
  const maps = SIDES.map((side, which) => make("canvas", { role: "img", "aria-label": `Cosines of the class means of ${side} images; the table below has the nearest class of each`, onpointermove: (event) => point(event, which), onpointerleave: () => { pointed.textContent = invite; } }));
  const share = make("figcaption"), titles = SIDES.map((side) => make("figcaption", {}, `Cosines, ${side} images`));
  const invite = "Point at a cosine to read it.", pointed = make("p", { class: "note", role: "status" }, invite);
  const scale = make("p", { class: "note" }), note = make("p", { class: "note" });
  const body = make("tbody"), heads = ["class", "x, y, training", "x, y, test", "nearest class (cosine), training", "nearest class (cosine), test"].map((head) => make("th", { scope: "col" }, head));
  const values = make("details", { class: "values" }, make("summary", {}, "The numbers of this picture"), wide("The numbers of the class means", make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body)));
  place.append(
    make("div", { class: "controls" }, ...(told.runs.length > 1 ? [runField] : []), make("label", { class: "field slider" }, words, slider)),
    make("div", { class: "planes" }, make("figure", {}, plane, share), ...maps.map((map, i) => make("figure", {}, map, titles[i]))), scale, pointed, note, values);
  let one, states, classes, short, far, off;

  function changeRun() {
    one = told.runs[run.value];
    classes = told.classes[one.dataset];
    short = told.short[one.dataset];
    const n = classes.length;
    states = one.states.map((state) => {
      const pairs = state.cosines && new Int8Array(bytes(state.cosines).buffer), half = n * (n - 1) / 2;
      return { ...state, means: new Float32Array(bytes(state.means).buffer), pairs: pairs && [pairs.subarray(0, half), pairs.subarray(half)] };
    });
    far = 1.1 * Math.max(...states.flatMap(({ means }) => [...means].filter(Number.isFinite).map(Math.abs)));
    off = 0.05;
    for (const { pairs } of states) for (const value of pairs?.flatMap((side) => [...side]) ?? []) if (value >= -FINEST_COSINE) off = Math.max(off, Math.abs(value / FINEST_COSINE - one.simplex));
    for (const map of maps) { map.width = map.height = n; map.parentElement.hidden = !states[0].pairs; }
    scale.hidden = pointed.hidden = heads[3].hidden = heads[4].hidden = !states[0].pairs;
    const ramp = [-1, -0.5, 0, 0.5, 1].map((t) => `rgb(${nearness(t)})`).join(",");
    scale.replaceChildren(`Cosines: ${number(Math.max(-1, one.simplex - off))}`, make("span", { class: "scale", style: `background:linear-gradient(90deg,${ramp})` }), `${number(Math.min(1, one.simplex + off))}; in the middle of the scale ${number(one.simplex)}, as in a simplex.`);
    const fewer = states.length < one.measured ? ` ${states.length} of ${one.measured} measured epochs are here.` : "";
    const order = n > MOST_NAMED ? " Similar classes stand beside each other." : " Classes stand in their order, from the top and from the left.";
    note.textContent = `Full: training images, as many of each class as there are test images; hollow: test images. Axes are in units of the mean distance of the training means from their centre, and turned so that they differ as little as they can from one epoch to the next. Ellipse: one standard deviation within the classes.${states[0].pairs ? order : " So many classes: their cosines stand in the figure only."}${fewer}`;
    slider.max = states.length - 1;
    slider.value = states.length - 1;
    draw();
  }

  /** The cosine of two classes; undefined where there is none. */
  function cosine(state, side, a, b) {
    const [i, j] = a < b ? [a, b] : [b, a], n = classes.length;
    const value = state.pairs[side][i * (2 * n - i - 1) / 2 + j - i - 1];
    return a === b || value < -FINEST_COSINE ? undefined : value / FINEST_COSINE;
  }
  const at = (state, side, label) => [0, 1].map((axis) => state.means[2 * (side * classes.length + label) + axis]);

  function draw() {
    const state = states[slider.value], n = classes.length, k = 100 / far;
    const nc1 = Object.entries({ training: state.nc1.train_matched, test: state.nc1.test }).filter(([, v]) => v !== null).map(([side, v]) => `${v} on ${side} images`);
    words.textContent = `epoch ${state.epoch}${state.epoch ? "" : ", before training"}${nc1.length ? `: NC1 ${nc1.join(", ")}` : ""}`;
    slider.setAttribute("aria-valuetext", words.textContent);
    share.textContent = `Principal plane: ${Math.round(100 * state.share)} % of the variance of the training means`;
    plane.replaceChildren(make("svg:path", { d: "M-100,0H100M0,-100V100", stroke: "#e3e6e8" }));
    const [xx, xy, yy] = state.ellipse, middle = (xx + yy) / 2, root = Math.hypot((xx - yy) / 2, xy);
    const [rx, ry] = [middle + root, middle - root].map((v) => k * Math.sqrt(Math.max(0, v))), angle = -Math.atan2(2 * xy, xx - yy) / 2 * 180 / Math.PI;
    const mark = (label, side) => {
      const [x, y] = at(state, side, label);
      if (!Number.isFinite(x)) return [];
      const path = sign(colour(label), shape(label), side === 1), size = (n > MOST_NAMED ? 1.5 : 2.2) * (side ? 1.4 : 1);
      path.setAttribute("transform", `translate(${k * x},${-k * y}) scale(${size})`);
      path.setAttribute("stroke-width", 1);
      if (side) path.setAttribute("fill-opacity", 0);
      path.append(make("svg:title", {}, `${classes[label]}, ${SIDES[side]}`));
      return [path];
    };
    const labels = classes.map((name, label) => label);
    for (const label of labels) {
      const [x, y] = at(state, 0, label);
      if (Number.isFinite(x)) plane.append(make("svg:ellipse", { rx, ry, transform: `translate(${k * x},${-k * y}) rotate(${angle})`, fill: colour(label), "fill-opacity": 0.12 }));
    }
    plane.append(...labels.flatMap((label) => mark(label, 0)), ...labels.flatMap((label) => mark(label, 1)));
    if (n <= MOST_NAMED) for (const label of labels) {
      const [x, y] = at(state, 0, label);
      if (Number.isFinite(x)) plane.append(make("svg:text", { x: Math.min(92, Math.max(-92, k * x)), y: -k * y + (y > 0 ? -5 : 9), "text-anchor": k * x > 70 ? "end" : k * x < -70 ? "start" : "middle" }, short[label]));
    }
    if (state.pairs) maps.forEach((map, side) => {
      const context = map.getContext("2d"), picture = context.createImageData(n, n);
      one.order.forEach((a, row) => one.order.forEach((b, column) => {
        const value = cosine(state, side, a, b);
        picture.data.set(value === undefined ? [255, 255, 255, 255] : [...nearness((value - one.simplex) / off), 255], 4 * (row * n + column));
      }));
      context.putImageData(picture, 0, 0);
    });
    const nearest = (side, label) => {
      const others = labels.map((other) => [cosine(state, side, label, other), other]).filter(([value]) => value !== undefined);
      const [value, other] = others.reduce((a, b) => b[0] > a[0] ? b : a, [-Infinity]);
      return other === undefined ? "" : [make("bdi", {}, classes[other]), ` (${number(value)})`];
    };
    const xy_of = (side, label) => { const found = at(state, side, label); return Number.isFinite(found[0]) ? found.map((v) => number(v)).join(", ") : "–"; };
    body.replaceChildren(...labels.map((label) => make("tr", {}, make("td", {}, make("bdi", {}, classes[label])),
      ...[0, 1].map((side) => make("td", {}, xy_of(side, label))), ...(state.pairs ? [0, 1].map((side) => make("td", {}, ...nearest(side, label))) : []))));
  }

  function point(event, side) {
    const area = maps[side].getBoundingClientRect(), n = classes.length;
    const [a, b] = [(event.clientY - area.top) / area.height, (event.clientX - area.left) / area.width].map((v) => one.order[Math.min(n - 1, Math.max(0, Math.floor(v * n)))]);
    const value = cosine(states[slider.value], side, a, b);
    pointed.replaceChildren(`${SIDES[side]} images: `, make("bdi", {}, classes[a]), " and ", make("bdi", {}, classes[b]), value === undefined ? "" : ` ${number(value)}`);
  }
  changeRun();
}
if (find("geometry")) moveGeometry(find("geometry"));

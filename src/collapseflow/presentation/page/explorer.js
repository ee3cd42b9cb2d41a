// --- maps to explore ----------------------------------------------------------------------------

const FINEST = 65535, ROWS = 40, NEAR = 8;

function explore(place) {
  const sets = [...document.querySelectorAll("script.explored")].map((script, number) => ({ number, ...JSON.parse(script.textContent) }));
  for (const set of sets) {
    for (const name of ["labels", "rows", "ids"]) set[name] = new Uint32Array(bytes(set[name]).buffer);
    for (const map of set.maps) {
      map.points = new Uint16Array(bytes(map.points).buffer);
      for (const name of Object.keys(map.wrong)) {
        map.wrong[name] = bytes(map.wrong[name]);
        // The classes of the wrong images, in their order, at the places of these.
        if (!(name in map.taken)) continue;
        const classes = new Uint16Array(bytes(map.taken[name]).buffer), taken = new Uint16Array(set.n - set.n_train);
        for (let n = 0, at = 0; n < taken.length; n++) if (map.wrong[name][n >> 3] >> (n & 7) & 1) taken[n] = classes[at++];
        map.taken[name] = taken;
      }
    }
  }
  const urls = new Map();
  const view = { zoom: 1, x: 0.5, y: 0.5 };
  let set, map, hidden = new Set(), visible = [], names = [], chosen = -1, shown = -1, page = ROWS, order = null;

  const [setField, setSelect] = choice("data set", sets.map((s, i) => [i, s.label]), changeSet);
  const [mapField, mapSelect] = choice("features", [], changeMap);
  const [byField, by] = choice("right or wrong by", [], filter);
  const [takenField, taken] = choice("taken for", [], filter);
  const [testLabel, test] = box(["test images"], true, filter);
  const [trainLabel, train] = box(["training images (faint)"], false, filter);
  const [wrongLabel, wrong] = box(["mistakes only"], false, filter);
  const canvas = make("canvas", { tabindex: 0, role: "application", "aria-label": "Map of the images. Arrow keys go from image to image, plus and minus zoom. The table below has the same images." });
  const status = make("p", { role: "status", class: "note status" });
  const info = make("div", { class: "hovered", "aria-live": "polite" });
  const near = make("div", { class: "near" });
  const worth = make("p", { class: "note" }), many = make("p", { class: "note many" });
  const classes = make("fieldset", { class: "classes" });
  const zoomed = (factor) => () => { view.zoom = Math.min(40, Math.max(1, view.zoom * factor)); if (view.zoom === 1) view.x = view.y = 0.5; draw(); };
  const zoom = make("div", { class: "controls" }, make("button", { type: "button", onclick: zoomed(1.6), "aria-label": "larger" }, "+"), make("button", { type: "button", onclick: zoomed(1 / 1.6), "aria-label": "smaller" }, "−"), make("button", { type: "button", onclick: zoomed(0) }, "whole map"));
  const body = make("tbody");
  const more = make("button", { type: "button", onclick: () => { page += 5 * ROWS; list(); } }, "more images");
  // What a column has of an image: words or an element, and by what it is sorted.
  const COLUMNS = [
    { head: "class", cell: (i) => make("bdi", {}, set.classes[set.labels[i]]), key: (i) => set.labels[i] },
    { head: "taken for", cell: (i) => predicted(i) === undefined ? "" : make("bdi", {}, set.classes[predicted(i)]), key: (i) => predicted(i) ?? Infinity },
    { head: "classifier", cell: (i) => verdict(i), key: (i) => -(isWrong(i) ?? -1) },
    { head: "place", cell: (i) => where(i), key: (i) => i },
    { head: "file", cell: (i) => set.names ? make("bdi", {}, set.names[i]) : "", key: (i) => set.names ? set.names[i] : 0 },
  ];
  const heads = COLUMNS.map(({ head, key }) => make("th", { scope: "col" }, make("button", { type: "button", onclick: (event) => {
    const th = event.currentTarget.parentElement, ascending = th.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    order = { key, sign: ascending ? 1 : -1 };
    list();
  } }, head)));
  const listed = make("details", { class: "list" }, make("summary", {}, "The images that are shown, as a table"), wide("The images that are shown", make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "image"), ...heads)), body)), more);
  listed.addEventListener("toggle", list);
  place.replaceChildren(
    make("div", { class: "controls" }, ...(sets.length > 1 ? [setField] : []), mapField, byField, takenField, make("fieldset", {}, testLabel, trainLabel, wrongLabel)),
    make("div", { class: "view" }, make("div", {}, canvas, zoom), make("div", { class: "side" }, info, near, status, worth, many), classes), listed);

  /** Whether the classifier is wrong about a point; undefined where that is not known. */
  function isWrong(i) {
    const bits = map.wrong[by.value], n = i - set.n_train;
    return bits === undefined || n < 0 ? undefined : Boolean(bits[n >> 3] >> (n & 7) & 1);
  }
  /** The class that the classifier takes a point for; undefined where that is not known. */
  function predicted(i) {
    const isMistake = isWrong(i);
    return isMistake ? map.taken[by.value]?.[i - set.n_train] : isMistake === false ? set.labels[i] : undefined;
  }

  function changeSet() {
    set = sets[setSelect.value];
    // Nothing is drawn before there is a map of it.
    map = undefined;
    mapSelect.replaceChildren(...set.maps.map((m, i) => make("option", { value: i }, m.label)));
    by.replaceChildren(...Object.entries(set.classifiers).map(([name, words]) => make("option", { value: name }, words)));
    byField.hidden = wrongLabel.hidden = !by.options.length;
    taken.replaceChildren(make("option", { value: "" }, "any class"), ...set.classes.map((name, label) => make("option", { value: label }, name)));
    heads.at(-1).hidden = !set.names;
    hidden = new Set();
    chosen = shown = -1;
    info.textContent = "Point at an image, or press an arrow key on the map.";
    near.replaceChildren();
    const boxes = set.classes.map((name, label) => box(
      [make("svg:svg", { width: 12, height: 12, viewBox: "-6 -6 12 12", "aria-hidden": "true" }, sign(colour(label), shape(label))), make("bdi", { title: name }, name)], true,
      (event) => { if (event.target.checked) hidden.delete(label); else hidden.add(label); filter(); }));
    const all = (checked) => () => { boxes.forEach(([, input], label) => { input.checked = checked; if (checked) hidden.delete(label); else hidden.add(label); }); filter(); };
    classes.replaceChildren(make("legend", {}, "classes ", make("button", { type: "button", onclick: all(true) }, "all"), " ", make("button", { type: "button", onclick: all(false) }, "none")), ...boxes.map(([label]) => label));
    const signs = look.colours.length * SHAPES.length;
    many.hidden = set.classes.length <= signs;
    many.textContent = `Of ${set.classes.length} classes some share a sign, for there are ${signs}, and the map has no names: point at an image, or choose classes.`;
    zoomed(0)();
    changeMap();
  }
  function changeMap() {
    map = set.maps[mapSelect.value || 0];
    worth.textContent = `t-SNE, perplexity ${map.perplexity}; of each point's 10 nearest neighbours among the features ${Math.round(100 * map.recall)} % are among its 10 nearest on the map.`;
    filter();
  }
  function filter() {
    visible = [];
    takenField.hidden = heads[1].hidden = !(by.value in map.taken);
    const wanted = takenField.hidden || taken.value === "" ? undefined : Number(taken.value);
    let mistakes = 0, tests = 0;
    for (let i = 0; i < set.n; i++) {
      const isTrain = i < set.n_train;
      if ((isTrain ? !train.checked : !test.checked) || hidden.has(set.labels[i])) continue;
      const isMistake = isWrong(i);
      if (wrong.checked && !isMistake || wanted !== undefined && predicted(i) !== wanted) continue;
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
    if (shown >= 0) show(shown);
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
    const written = [];
    for (const [label, middle] of names) {
      const words = set.short[label];
      const at = [left + k * middle[0], top + k * middle[1]];
      // A name that would lie on another one waits until the map is larger.
      const half = [context.measureText(words).width / 2, 7 * ratio];
      if (written.some((one) => [0, 1].every((j) => Math.abs(one.at[j] - at[j]) < one.half[j] + half[j]))) continue;
      written.push({ at, half });
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
  const verdict = (i) => ({ undefined: "", true: `${set.classifiers[by.value]}: wrong`, false: `${set.classifiers[by.value]}: right` })[isWrong(i)];
  /** The points that are shown and lie nearest to one, the nearest first. */
  function neighbours(i) {
    const [x, y] = [map.points[2 * i], map.points[2 * i + 1]], found = [];
    for (const j of visible) {
      if (j === i) continue;
      const distance = (map.points[2 * j] - x) ** 2 + (map.points[2 * j + 1] - y) ** 2;
      if (found.length === NEAR && distance >= found[NEAR - 1][0]) continue;
      let at = found.length;
      while (at > 0 && found[at - 1][0] > distance) at--;
      found.splice(at, 0, [distance, j]);
      found.length = Math.min(NEAR, found.length);
    }
    return found.map(([, j]) => j);
  }
  function show(i) {
    shown = i;
    const origin = set.names ? make("bdi", {}, set.names[i]) : `row ${set.ids[i]} of its source`;
    const lines = [[make("bdi", {}, set.classes[set.labels[i]])], [where(i)], [origin]];
    const label = predicted(i);
    if (verdict(i)) lines.push(isWrong(i) && label !== undefined ? [`${verdict(i)}, takes it for `, make("bdi", {}, set.classes[label])] : [verdict(i)]);
    info.replaceChildren(thumbnail(i, 112), ...lines.map((line) => make("div", {}, ...line)));
    const others = neighbours(i), alike = others.filter((j) => set.labels[j] === set.labels[i]).length;
    const buttons = others.map((j) => make("button", { type: "button", class: set.labels[j] === set.labels[i] ? "alike" : "other", "aria-label": `${set.classes[set.labels[j]]}, ${where(j)}`, onclick: () => choose(j) }, thumbnail(j, 40), make("bdi", {}, set.classes[set.labels[j]])));
    near.replaceChildren(...(others.length ? [make("div", { class: "note" }, `Nearest on this map, of what is shown: ${alike} of ${others.length} of its class${alike < others.length ? ", others dashed" : ""}.`), make("div", { class: "row" }, ...buttons)] : []));
  }
  function choose(i) {
    chosen = i;
    show(i);
    draw();
    for (const row of body.rows) row.setAttribute("aria-current", Number(row.dataset.image) === i);
  }
  function list() {
    if (!listed.open) return;
    let rows = visible;
    if (order) {
      const keys = new Map(visible.map((i) => [i, order.key(i)]));
      rows = visible.toSorted((i, j) => {
        const [a, b] = [keys.get(i), keys.get(j)];
        return a === b ? i - j : a < b ? -order.sign : order.sign;
      });
    }
    body.replaceChildren(...rows.slice(0, page).map((i) => make("tr", { "data-image": i, "aria-current": String(i === chosen) },
      make("td", {}, make("button", { type: "button", "aria-label": `show ${where(i)} on the map`, onclick: () => choose(i) }, thumbnail(i, 42))),
      ...COLUMNS.map(({ cell }, column) => make("td", { hidden: heads[column].hidden }, cell(i))))));
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
    const found = nearest(event), i = found >= 0 ? found : chosen;
    if (i >= 0 && i !== shown) show(i);
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

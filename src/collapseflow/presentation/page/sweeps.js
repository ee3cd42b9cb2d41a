// --- two swept keys together --------------------------------------------------------------------

function mapSweeps(place) {
  const told = data("curves"), DARK = [0, 68, 119];
  const [mapField, map] = choice("network and recipe", told.sweeps.map(({ heading }, i) => [i, heading]), draw);
  const [datasetField, dataset] = choice("data set", Object.entries(told.datasets), draw);
  const [measureField, measure] = choice("measure", Object.entries(told.quantities).map(([name, { title }]) => [name, title]), draw);
  const [splitField, split] = choice("images", Object.entries(told.splits), draw);
  if ("accuracy" in told.quantities) measure.value = "accuracy";
  const picture = wide("The measure at each pair of values"), note = make("p", { class: "note" });
  place.append(make("div", { class: "controls" }, mapField, datasetField, measureField, splitField), picture, note);

  function draw() {
    const { layer, across: [across, columns], down: [down, rows], cells } = told.sweeps[map.value];
    const { title, logarithmic } = told.quantities[measure.value];
    const usable = (v) => v !== null && v !== undefined && (v > 0 || !logarithmic);
    const found = cells.map((row) => row.map((one) => {
      const [network, last] = one ?? [];
      const line = told.lines.find((l) => l.network === network && l.dataset === dataset.value && l.quantity === measure.value && l.split === split.value && (l.layer === layer || l.layer === ""));
      const at = line ? line.epochs.indexOf(last) : -1;
      return at < 0 ? undefined : { mean: line.mean[at], low: line.low[at], high: line.high[at], epoch: last };
    }));
    const scale = logarithmic ? Math.log : (v) => v;
    const known = found.flat().filter((one) => usable(one?.mean)).map((one) => scale(one.mean));
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const cell = (one) => {
      if (!usable(one?.mean)) return make("td", { class: "none" }, "–");
      const share = high > low ? (scale(one.mean) - low) / (high - low) : 0;
      const colour = DARK.map((value) => Math.round(255 - share * (255 - value)));
      const spread = one.low === one.high ? "" : ` (${one.low} to ${one.high})`;
      return make("td", { style: `background:rgb(${colour});color:${share > 0.5 ? "#fff" : "#16191c"}`, title: `epoch ${one.epoch}${spread}` }, String(Number(one.mean.toPrecision(3))));
    };
    picture.replaceChildren(make("table", { class: "heat" },
      make("caption", {}, `${title}, ${told.splits[split.value]}`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, `${down} ↓, ${across} →`), ...columns.map((value) => make("th", { scope: "col" }, value)))),
      make("tbody", {}, ...rows.map((value, i) => make("tr", {}, make("th", { scope: "row" }, value), ...found[i].map(cell))))));
    note.textContent = `After the last epoch; measures of features at ${layer}; of several seeds the mean${logarithmic ? ", here the geometric one" : ""}. The darker, the larger${logarithmic ? ", by its logarithm" : ""}; –: no value.`;
  }
  draw();
}
if (find("sweeps")) mapSweeps(find("sweeps"));

"use strict";
// What moves on the page: tables to sort and pairs to compare. Curves and maps have files of their own,
// which follow this one in one script.
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

/** A part that is scrolled to the side where it is wider than the screen, with keys as well. */
const wide = (words, ...children) => make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": words }, ...children);

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

/** Colour and shape of a class. */
const colour = (label) => look.colours[label % look.colours.length];
const shape = (label) => Math.floor(label / look.colours.length) % SHAPES.length;

/** The content of base64. */
function bytes(text) {
  const raw = atob(text), found = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) found[i] = raw.charCodeAt(i);
  return found;
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
  /** What stands below the table; an invitation is not printed. */
  const say = (words) => { output.textContent = words; output.classList.toggle("invite", words === invite); };
  say(invite);
  let picked = [];
  for (const row of table.tBodies[0].rows) {
    const name = row.cells[0].textContent.trim();
    const button = make("button", { type: "button", class: "pick", "aria-pressed": "false", "aria-label": `compare ${name}` }, "compare");
    button.addEventListener("click", () => {
      const one = { place: Number(row.dataset.place), name, button };
      picked = picked.some((p) => p.place === one.place) ? picked.filter((p) => p.place !== one.place) : [...picked, one].slice(-2);
      for (const other of table.querySelectorAll(".pick")) other.setAttribute("aria-pressed", picked.some((p) => p.button === other));
      if (picked.length < 2) { say(invite); return; }
      const [a, b] = picked.toSorted((p, q) => p.place - q.place);
      const lines = pairs[`${a.place}-${b.place}`] ?? ["There are no results of one of the two."];
      say([`${b.name} minus ${a.name}, test accuracy with 95 % intervals on the same images:`, ...lines].join("\n"));
    });
    row.cells[0].append(button);
  }
}

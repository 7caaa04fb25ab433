/* What the report does when it is open: sorts, filters, opens studies. report.py puts it into the page. */
"use strict";
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";

function make(name, attributes, ...children) {
  const drawn = /^(svg|image|rect|path|line|text|title)$/.test(name);
  const element = drawn ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
}

const table = one("#list"), body = table.tBodies[0], lines = [...body.rows], form = one("#filters");
const heads = [...table.tHead.rows[0].cells], count = one("#count");
const columns = JSON.parse(one("#columns").textContent), bins = JSON.parse(one("#bins").textContent);
const details = new Map();
let order = "-severity"; /* as the page comes */

const study = line => JSON.parse(one("#d" + line.id.slice(1)).textContent);
const nameOf = line => one(".study", line).textContent;
const layers = pictures => [["data:image/jpeg;base64," + pictures.montage, ""], ["data:image/png;base64," + pictures.overlay, "overlay"]];

/* Sorting: numbers by value, words by name, empty cells last; equal ones keep the order of the work list. */
function sort(wanted) {
  if (wanted === order) return;
  const falling = wanted.startsWith("-"), key = wanted.replace("-", "");
  const at = heads.findIndex(head => head.dataset.key === key);
  heads.forEach(head => head.removeAttribute("aria-sort"));
  let sorted = lines;
  if (at >= 0) heads[at].setAttribute("aria-sort", falling ? "descending" : "ascending");
  if (at >= 0 && wanted !== "-severity") {
    const numeric = heads[at].classList.contains("n"), sign = falling ? -1 : 1;
    const value = line => {
      const text = line.cells[at].textContent.trim();
      return numeric ? parseFloat(text) : text === "–" ? "" : text;
    };
    const empty = found => found === "" || Number.isNaN(found);
    const words = new Intl.Collator("en", {numeric: true});
    sorted = lines.map(line => [line, value(line)]).sort(([, a], [, b]) =>
      empty(a) || empty(b) ? empty(a) - empty(b) : sign * (numeric ? a - b : words.compare(a, b))
    ).map(([line]) => line);
  }
  order = wanted;
  body.append(...sorted.flatMap(line => details.has(line) ? [line, details.get(line)] : [line]));
}

/* Filters: every field of the form must let the study pass. */
function filter() {
  const chosen = new FormData(form), classes = new Set(chosen.getAll("class"));
  const words = chosen.get("q").toLowerCase().split(/\s+/).filter(Boolean);
  const registry = chosen.get("registry") || "", mark = chosen.get("mark");
  let shown = 0;
  for (const line of lines) {
    const text = (nameOf(line) + " " + line.dataset.marks + " " + line.dataset.source).toLowerCase();
    const passes = (!classes.size || classes.has(line.dataset.severity))
      && (!registry || line.dataset.registry === registry)
      && (!mark || line.dataset.marks.split(";").includes(mark))
      && words.every(word => text.includes(word));
    line.hidden = !passes;
    if (details.has(line)) details.get(line).hidden = !passes;
    shown += passes;
  }
  count.textContent = `${shown} of ${lines.length} studies`;
  one("#none").hidden = shown > 0;
}

/* Details of a study, built when it is opened and thrown away when it is closed. */
function toggle(line, wanted = !details.has(line)) {
  if (wanted === details.has(line)) return;
  const button = one(".study", line);
  button.setAttribute("aria-expanded", wanted);
  line.classList.toggle("open", wanted);
  if (wanted) {
    const found = study(line), row = Object.fromEntries(columns.map((name, n) => [name, found.row[n]]));
    const article = make("article", {"aria-label": `Details of ${nameOf(line)}`},
      found.pictures ? planes(found.pictures, nameOf(line)) : make("p", {class: "soft"}, "No pictures of this study: it is not scored, or the page would have grown too big to open."),
      make("div", {class: "facts"}, found.pictures ? histogram(found.pictures) : null, numbers(row, line)));
    const detail = make("tr", {class: "detail", id: "x" + line.id},
      make("td", {colspan: line.cells.length}, article));
    button.setAttribute("aria-controls", detail.id);
    line.after(detail);
    details.set(line, detail);
  } else {
    button.removeAttribute("aria-controls");
    details.get(line).remove();
    details.delete(line);
  }
}

function planes(pictures, name) {
  const [width, height] = pictures.size_px, zoom = {axial: 1.6};
  return make("div", {class: "planes"}, ...pictures.panels.map(([panel, [x, y, wide, high], place, cross]) => {
    const label = place ? `${panel}, ${place}` : panel;
    const side = {axial: "R", coronal: "R", sagittal: "A", MIP: "R", MinIP: "R"}[panel] || "";
    return make("figure", {class: panel},
      make("svg", {viewBox: `${x} ${y} ${wide} ${high}`, width: wide * (zoom[panel] || 1.4), height: high * (zoom[panel] || 1.4), role: "img",
        "aria-label": `${name}: ${label}`},
        ...layers(pictures).map(([href, kind]) => make("image", {href, class: kind, width, height})),
        ...(cross ? ticks(x, y, wide, high, cross) : []),
        make("text", {x: x + 5, y: y + high / 2 + 4}, side)),
      make("figcaption", {}, label));
  }));
}

/* Short lines at the rim, where the other two planes cut this one. */
function ticks(x, y, wide, high, [across, down]) {
  const line = (x1, y1, x2, y2) => make("line", {class: "cross overlay", x1, y1, x2, y2});
  return [line(x + across, y, x + across, y + 9), line(x + across, y + high - 9, x + across, y + high),
    line(x, y + down, x + 9, y + down), line(x + wide - 9, y + down, x + wide, y + down)];
}

function histogram(pictures) {
  const [first, last, step] = bins, lung = pictures.lung_histogram, ill = pictures.lesion_histogram;
  const top = Math.max(...lung, 1), total = lung.reduce((sum, n) => sum + n, 0);
  const x = hu => (hu - first) / (last - first) * 340 + 8, y = n => 104 - n / top * 98;
  const area = counts => "M8 104" + counts.map((n, bin) =>
    `V${y(n).toFixed(1)}H${x(first + (bin + 1) * step).toFixed(1)}`).join("") + "V104Z";
  const peak = first + (lung.indexOf(top) + 0.5) * step;
  const marks = [-1000, -800, -600, -400, -200, 0, 200].flatMap(hu => [
    make("line", {class: "grid", x1: x(hu), x2: x(hu), y1: 6, y2: 104}),
    make("text", {x: x(hu), y: 118, "text-anchor": "middle"}, `${hu}`.replace("-", "−"))]);
  const said = `HU in the lungs, ${total} voxels` + (total ? `, most at ${peak}` : "");
  return make("figure", {}, make("h3", {}, "HU in the lungs"),
    make("svg", {class: "chart", viewBox: "0 0 356 122", role: "img", "aria-label": said}, ...marks,
      make("path", {class: "in-lung", d: area(lung)}), make("path", {class: "in-lesion", d: area(ill)})),
    make("figcaption", {}, "Blue: lung. Orange: lesion."));
}

function numbers(row, line) {
  const written = (value, digits) => value.toFixed(digits).replace("-", "−");
  const said = (name, digits, unit) => typeof row[name] === "number" ? written(row[name], digits) + unit : null;
  const sided = (stem, end, digits, unit) => {
    const [whole, right, left] = ["", "_right", "_left"].map(side => said(stem + side + end, digits, ""));
    return whole && whole + unit + (right && left ? ` (right ${right}, left ${left})` : "");
  };
  const joined = (names, digits, by, unit) => {
    const parts = names.map(name => said(name, digits, ""));
    return parts.includes(null) ? null : parts.join(by) + unit;
  };
  const band = name => row.lesion_ml > 0 && typeof row[name] === "number"
    ? `${written(row[name] / 100 * row.lesion_ml, 1)} mL (${written(row[name], 0)} % of the lesion)` : null;
  const known = [
    ["Lungs", sided("lung", "_ml", 0, " mL")],
    ["Lesion", sided("lesion_percent", "", 1, " %")],
    ["Worse lung", said("lesion_percent_max", 1, " %")],
    ["Lesion volume", said("lesion_ml", 1, " mL")],
    ["Mean density", said("lesion_mean_hu", 0, " HU")],
    ["Ground glass", band("lesion_ground_glass_percent")],
    ["Consolidation", band("lesion_consolidation_percent")],
    ["Lesion outside of the lungs", row.lesion_outside_ml > 0 ? said("lesion_outside_ml", 1, " mL") : null],
    ["Lesion from", {mask: "expert mask", threshold: "estimate from HU"}[row.lesion_source] || row.lesion_source],
    ["Estimate from HU", said("opacity_percent", 1, " %")],
    ["Voxels", joined(["shape_z", "shape_y", "shape_x"], 0, " × ", " (z, y, x)")],
    ["Spacing", joined(["spacing_z_mm", "spacing_y_mm", "spacing_x_mm"], 2, " × ", " mm")],
    ["HU", joined(["hu_min", "hu_max"], 0, " to ", "")],
    ["File", row.source],
    ["Note on the file", row.notes],
  ];
  const told = /^(study_id|category|status|severity|flags|source|notes|lung_(right_|left_)?ml|lesion_(ml|source|mean_hu|ground_glass_percent|consolidation_percent|outside_ml)|lesion_percent.*|opacity_percent|shape_.|spacing_._mm|hu_m..)$/;
  const rest = columns.filter(name => !told.test(name)).map(name => [name.replaceAll("_", " "), row[name]])
    .map(([name, value]) => [name, typeof value === "number" ? written(value, Number.isInteger(value) ? 0 : 2) : value]);
  const marks = all(".mark", line).map(mark => ["Mark", mark.textContent + (mark.title ? ": " + mark.title : "")]);
  return make("dl", {}, ...[...known, ...marks, ...rest].filter(([, value]) => (value ?? "") !== "")
    .flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

/* The view stands in the address, so that it can be reloaded and sent: #study=…&sort=-lung_ml&class=CT-3 */
function remember() {
  const kept = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
  if (order !== "-severity") kept.set("sort", order);
  for (const line of details.keys()) kept.append("study", nameOf(line));
  try { history.replaceState(null, "", "#" + kept); } catch { /* a sandboxed frame has no address to keep it in */ }
}

function recall() {
  const wanted = new URLSearchParams(location.hash.slice(1)), opened = new Set(wanted.getAll("study"));
  for (const field of form.elements) {
    if (field.name === "class") field.checked = wanted.getAll("class").includes(field.value);
    else if (field.name) field.value = wanted.get(field.name) || "";
  }
  sort(wanted.get("sort") || "-severity");
  filter();
  for (const line of lines) toggle(line, opened.has(nameOf(line)));
  lines.find(line => details.has(line))?.scrollIntoView({block: "start"});
}

/* The axial plane, small; drawn from the montage, so that no second picture is kept. */
async function thumbnail(pictures) {
  const [, [x, y, wide, high]] = pictures.panels[0], canvas = make("canvas", {width: 152, height: 96, "aria-hidden": "true"});
  const pen = canvas.getContext("2d"), zoom = Math.min(canvas.width / wide, canvas.height / high);
  const place = [(canvas.width - wide * zoom) / 2, (canvas.height - high * zoom) / 2, wide * zoom, high * zoom];
  for (const [src] of layers(pictures)) {
    const image = new Image();
    image.src = src;
    await image.decode();
    pen.drawImage(image, x, y, wide, high, ...place);
  }
  return canvas;
}

const near = new IntersectionObserver(entries => {
  for (const entry of entries.filter(entry => entry.isIntersecting)) {
    near.unobserve(entry.target);
    const pictures = study(entry.target).pictures;
    if (pictures) thumbnail(pictures).then(small => one(".thumb", entry.target).append(small));
  }
}, {rootMargin: "600px"});

form.addEventListener("input", () => { filter(); remember(); });
form.addEventListener("submit", event => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => { filter(); remember(); }));
table.tHead.addEventListener("click", event => {
  const head = event.target.closest("button")?.parentElement;
  if (!head) return;
  const falling = head.getAttribute("aria-sort") === "ascending"
    || !head.hasAttribute("aria-sort") && (head.classList.contains("n") || head.dataset.key === "severity");
  sort((falling ? "-" : "") + head.dataset.key);
  remember();
});
body.addEventListener("click", event => {
  const line = event.target.closest("tr");
  if (document.readyState === "loading") return;
  if (line.classList.contains("detail") || !getSelection().isCollapsed) return;
  toggle(line);
  remember();
});
one("#overlays").addEventListener("change", event => document.body.classList.toggle("bare", !event.target.checked));
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key], here = event.target.closest?.("tr");
  if (step && here && event.target.matches(".study")) {
    const seen = all("tr:not(.detail):not([hidden])", body);
    one(".study", seen[seen.indexOf(here) + step] || here).focus();
    event.preventDefault();
  } else if (event.key === "Escape" && here?.parentElement === body) {
    const line = here.classList.contains("detail") ? here.previousElementSibling : here;
    toggle(line, false);
    one(".study", line).focus();
    remember();
  } else if (event.key === "o") one("#overlays").click();
  else if (event.key === "/") { one("[name=q]").focus(); event.preventDefault(); }
});
/* The pictures come after this script, so that sorting and filters need not wait for them. */
addEventListener("DOMContentLoaded", () => {
  recall();
  addEventListener("hashchange", recall);
  lines.forEach(line => near.observe(line));
});

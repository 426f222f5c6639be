const layers = ["image", "truth", "prediction", "finest", "errors", "confidence"];
const nodeColors = [world.none, ...world.colors];
for (const space of Object.values(world.spaces)) space.paint = [world.none, ...space.colors];

// ---- maps: unpacked and drawn when an example comes near the screen, dropped when it is far

async function unpack(example) {
  const { bytes, width, height, n } = await inflate(example);
  const [truth, prediction, finest] = [0, 1, 2].map(i => new Uint16Array(bytes, 2 * n * i, n));
  const space = world.spaces[example.dataset.space];
  return { width, height, truth, prediction, finest, confidence: new Uint8Array(bytes, 6 * n, n), space };
}

const verdict = (maps, i) => {
  const { space, truth, prediction } = maps;
  return !truth[i] || !space.evaluated[truth[i] - 1] ? "unlabelled" : truth[i] === prediction[i] ? "right" : prediction[i] ? "wrong" : "outside";
};

function paint(maps, layer, canvas, only) {
  const { width, height, space } = maps, pen = canvas.getContext("2d");
  canvas.width = width; canvas.height = height;
  const picture = pen.createImageData(width, height), data = picture.data;
  for (let i = 0; i < width * height; i++) {
    let rgb, faint = false;
    if (layer === "errors") {
      const said = verdict(maps, i), x = i % width, y = (i - x) / width;
      rgb = world.errors[said];  // stripes for wrong and dots for outside tell them apart without colour
      if (said === "wrong" && (x + y) % 6 < 2 || said === "outside" && x % 4 < 2 && y % 4 < 2) rgb = [0, 0, 0];
    } else if (layer === "confidence") {
      const grey = 255 * maps.confidence[i] / world.sure;
      rgb = [grey, grey, grey];
    } else {
      const value = maps[layer][i];
      rgb = (layer === "finest" ? nodeColors : space.paint)[value];
      const name = layer === "finest" ? world.names[value - 1] ?? "void" : space.labels[value - 1] ?? "no label / outside";
      faint = only && name !== only;
    }
    for (let c = 0; c < 3; c++) data[4 * i + c] = faint ? rgb[c] * .15 + 40 : rgb[c];
    data[4 * i + 3] = 255;
  }
  pen.putImageData(picture, 0, 0);
}

const shown = new Map();  // example to its maps
async function show(example) {
  if (!shown.has(example)) shown.set(example, unpack(example));
  const maps = await shown.get(example);
  if (shown.has(example)) paint(maps, "prediction", example.querySelector("canvas"));
}
function drop(example) {
  shown.delete(example);
  Object.assign(example.querySelector("canvas"), { width: +example.dataset.width, height: +example.dataset.height });
}
const near = new IntersectionObserver(entries => entries.forEach(e => e.isIntersecting ? show(e.target) : drop(e.target)), { rootMargin: "600px" });
examples.forEach(example => { drop(example); near.observe(example); });

function say(maps, x, y, readout) {
  const i = y * maps.width + x, { space } = maps;
  const label = v => v ? space.labels[v - 1] : "none";
  const places = v => v ? space.nodes[v - 1].map(path).filter(Boolean) : [];
  const where = v => places(v).length ? ` (${places(v).slice(0, 3).join(" + ")}${places(v).length > 3 ? " + …" : ""})` : "";
  const t = maps.truth[i], p = maps.prediction[i], n = maps.finest[i];
  const parts = [["Truth", (t ? label(t) : "not labelled") + where(t)],
    ["Prediction", `${p ? label(p) : "outside its labels"}${where(p)}, ${Math.round(100 * maps.confidence[i] / world.sure)} % sure: ${verdict(maps, i)}`],
    ["Finest decision", n ? path(n - 1) : "void"]];
  readout.replaceChildren(...parts.flatMap(([head, text]) => [Object.assign(document.createElement("b"), { textContent: head + ": " }), text, document.createElement("br")]));
}

// ---- one example, large

let layer = "prediction";
async function draw() {
  const maps = open.maps;
  choices.forEach(b => b.setAttribute("aria-pressed", b.dataset.layer === layer));
  if (layer === "image") {
    const photo = open.example.querySelector("img");
    await photo.decode();
    large.width = maps.width; large.height = maps.height;
    large.getContext("2d").drawImage(photo, 0, 0, maps.width, maps.height);
  } else paint(maps, layer, large, only);
  fit(large, maps);
  tellColors(maps);
}
// Names, colours and shares of what the picture shows; a press shows one alone.
function tellColors(maps) {
  const n = maps.width * maps.height, share = {}, colors = {};
  const add = (name, rgb) => { share[name] = (share[name] ?? 0) + 1 / n; colors[name] = rgb; };
  for (let i = 0; i < n; i++) {
    if (layer === "errors") { const said = verdict(maps, i); add(said, world.errors[said]); }
    else if (layer === "finest") add(world.names[maps.finest[i] - 1] ?? "void", nodeColors[maps.finest[i]]);
    else { const v = maps[layer === "truth" ? "truth" : "prediction"][i]; add(maps.space.labels[v - 1] ?? "no label / outside", maps.space.paint[v]); }
  }
  const lines = Object.entries(share).sort((a, b) => b[1] - a[1]), press = layer === "truth" || layer === "prediction" || layer === "finest";
  list.replaceChildren(...lines.map(([name, part]) => {
    const line = make("li", ""), inner = press ? make("button", "", { type: "button" }) : line, box = make("i", "", { className: "box" });
    box.style.background = `rgb(${colors[name]})`;
    inner.append(box, name + " ", make("small", part < .001 ? "<0.1 %" : `${(100 * part).toFixed(part < .1 ? 1 : 0)} %`));
    if (press) {
      inner.setAttribute("aria-pressed", name === only);
      inner.tabIndex = -1;
      inner.addEventListener("click", () => { only = only === name ? "" : name; draw().then(() => list.querySelector("[aria-pressed=true]")?.focus()); });
      line.append(inner);
    }
    return line;
  }));
  const first = list.querySelector("button");
  if (first) first.tabIndex = 0;
}
async function enlarge(example) {
  open = { example, maps: await (shown.get(example) ?? unpack(example)) };
  present(example);
}
const look = name => { layer = name; only = ""; draw(); };
dialog.addEventListener("keydown", event => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key], other = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) look(layers[(layers.indexOf(layer) + step + layers.length) % layers.length]);
  else if (other) turn(other);
  else return;
  event.preventDefault();
});
for (const kind of ["pointermove", "pointerdown"]) frame.addEventListener(kind, event => {
  const [x, y] = at(event, large.getBoundingClientRect(), open.maps);
  say(open.maps, x, y, dialog.querySelector(".readout"));
  mark(x, y, open.maps);
});
examples.forEach(example => example.addEventListener("click", () => enlarge(example)));
document.querySelectorAll(".thumbs").forEach(group => roam(group, () => [...group.querySelectorAll(".example:not([hidden])")]));

// ---- which examples are shown

const filter = { dataset: "", kind: "", node: 0 };
function select() {
  let count = 0;
  for (const example of examples) {
    const d = example.dataset, ok = (!filter.dataset || d.dataset === filter.dataset) && (!filter.kind || d.kind === filter.kind)
      && (!filter.node || d.nodes.split(" ").includes(String(filter.node)));
    example.hidden = !ok;
    count += ok;
  }
  document.querySelectorAll(".of").forEach(part => part.hidden = !part.querySelector(".example:not([hidden])") && examples.length > 0);
  const told = document.getElementById("told"), clear = document.getElementById("clear");
  if (told) told.textContent = `${count} of ${examples.length} images${filter.node ? ` with ${world.names[filter.node]}` : ""}`;
  if (clear) clear.hidden = !filter.node;
}
document.querySelectorAll("[data-filter]").forEach(menu => menu.addEventListener("change", () => { filter[menu.dataset.filter] = menu.value; select(); }));
document.getElementById("clear")?.addEventListener("click", () => { filter.node = 0; select(); });

// ---- the tree

const chosen = document.querySelector(".chosen"), tree = document.querySelector(".tree"), percent = value => `${(100 * value).toFixed(1)} %`;
const items = [...tree.querySelectorAll("[role=treeitem]")], inSight = () => items.filter(item => item.offsetParent);
const fold = (item, open) => item.hasAttribute("aria-expanded") && item.setAttribute("aria-expanded", open);
items.forEach(item => fold(item, false));
document.getElementById("unfold").addEventListener("click", () => items.forEach(item => fold(item, true)));
roam(tree, inSight, {
  ArrowRight: (item, go) => { if (item.ariaExpanded === "false") fold(item, true); else go(item.querySelector("[role=treeitem]")); return true; },
  ArrowLeft: (item, go) => { if (item.ariaExpanded === "true") fold(item, false); else go(item.parentElement.closest("[role=treeitem]")); return true; },
  Enter: item => { choose(item); return true; }, " ": item => { choose(item); return true; },
});
tree.addEventListener("click", event => {
  const item = event.target.closest("[role=treeitem]");
  if (!item) return;
  if (event.target.closest(".fold") || item.ariaSelected === "true") fold(item, item.ariaExpanded === "false");
  choose(item);
});
function choose(item) {
  const node = +item.dataset.node, scores = world.scores[node];
  const count = examples.filter(e => e.dataset.nodes.split(" ").includes(String(node))).length;
  items.forEach(other => other.setAttribute("aria-selected", other === item));
  const lines = scores.map(s => make("p", `${s.dataset}: IoU ${percent(s.iou)}, ${s.pixels.toLocaleString("en")} pixels of ${s.labels.slice(0, 6).join(", ")}${s.labels.length > 6 ? ", …" : ""}. `
    + (s.taken_for.length ? `Missed as ${s.taken_for.map(([name, share]) => `${name} (${percent(share)})`).join(", ")}.` : "None missed.")));
  if (!scores.length) lines.push(make("p", "No dataset has val pixels that are known to be this and nothing wider."));
  const go = make("button", count ? `Show the ${count} example${count > 1 ? "s" : ""} with it` : "No example image shows it"), close = make("button", "Close");
  go.disabled = !count;
  go.addEventListener("click", () => {
    Object.assign(filter, { dataset: "", kind: "", node });
    document.querySelectorAll("[data-filter]").forEach(menu => menu.value = "");
    select();
    document.getElementById("examples").scrollIntoView();
  });
  close.addEventListener("click", () => { chosen.hidden = true; item.setAttribute("aria-selected", false); item.focus(); });
  chosen.replaceChildren(make("h3", path(node)), ...lines, go, " ", close);
  chosen.hidden = false;
}
document.getElementById("by")?.addEventListener("change", event => items.forEach(item => {
  const all = world.scores[item.dataset.node].filter(s => !event.target.value || s.dataset === event.target.value);
  const iou = all.length ? all.reduce((sum, s) => sum + s.iou, 0) / all.length : null, chip = item.querySelector(".iou");
  chip.textContent = iou === null ? "–" : Math.round(100 * iou);
  chip.className = iou === null ? "iou" : `iou q${Math.min(Math.floor(5 * iou), 4)}`;
}));
select();

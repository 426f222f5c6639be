const world = JSON.parse(document.getElementById("world").textContent), layers = ["image", "truth", "prediction", "finest", "errors", "confidence"];
const nodeColors = [world.none, ...world.colors];
for (const space of Object.values(world.spaces)) space.paint = [world.none, ...space.colors];

function path(node) {  // names from below the root to the node
  const names = [];
  for (let n = node; n > 0; n = world.parents[n]) names.unshift(world.names[n]);
  return names.join(" › ");
}

// ---- maps: unpacked and drawn when an example comes near the screen, dropped when it is far

async function unpack(example) {
  const packed = Uint8Array.from(atob(example.querySelector(".maps").textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = await new Response(stream).arrayBuffer();
  const width = +example.dataset.width, height = +example.dataset.height, n = width * height;
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
async function show(example, only = "") {
  if (!shown.has(example)) shown.set(example, unpack(example));
  const maps = await shown.get(example);
  if (shown.has(example)) example.querySelectorAll("canvas").forEach(c => paint(maps, c.dataset.layer, c, only));
}
function drop(example) {
  shown.delete(example);
  example.querySelectorAll("canvas").forEach(c => { c.width = +example.dataset.width; c.height = +example.dataset.height; });
}
const near = new IntersectionObserver(entries => entries.forEach(e => e.isIntersecting ? show(e.target) : drop(e.target)), { rootMargin: "600px" });
const examples = [...document.querySelectorAll(".example")];
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

const at = (event, box, maps) => [[event.clientX - box.left, box.width, maps.width], [event.clientY - box.top, box.height, maps.height]]
  .map(([offset, size, n]) => Math.min(Math.max(Math.floor(offset / size * n), 0), n - 1));
function mark(frames, x, y, maps) {
  for (const frame of frames) {
    let dot = frame.querySelector(".mark");
    if (!dot) { dot = document.createElement("span"); dot.className = "mark"; frame.append(dot); }
    dot.style.left = `${100 * (x + .5) / maps.width}%`; dot.style.top = `${100 * (y + .5) / maps.height}%`;
  }
}
for (const example of examples) {
  const row = example.querySelector(".row"), frames = example.querySelectorAll(".zoom");
  const point = async event => {
    const frame = event.target.closest(".zoom");
    if (!frame || !shown.has(example)) return;
    const box = frame.getBoundingClientRect(), maps = await shown.get(example), [x, y] = at(event, box, maps);
    say(maps, x, y, example.querySelector(".readout"));
    mark(frames, x, y, maps);
  };
  row.addEventListener("pointermove", point);
  row.addEventListener("pointerdown", point);
  frames.forEach(frame => frame.addEventListener("click", () => enlarge(example, frame.dataset.layer)));
  example.querySelectorAll(".legend button").forEach(button => button.addEventListener("click", () => {
    const pressed = button.ariaPressed !== "true";
    example.querySelectorAll(".legend button").forEach(b => b.setAttribute("aria-pressed", b === button && pressed));
    show(example, pressed ? button.dataset.only : "");
  }));
}

// ---- one picture, large

const dialog = document.querySelector("dialog"), stage = dialog.querySelector(".stage"), frame = dialog.querySelector(".frame");
const large = frame.querySelector("canvas"), choice = dialog.querySelector("select");
let open = null, zoom = 1;
async function draw() {
  const maps = open.maps;
  if (choice.value === "image") {
    const photo = open.example.querySelector("img");
    await photo.decode();
    large.width = maps.width; large.height = maps.height;
    large.getContext("2d").drawImage(photo, 0, 0, maps.width, maps.height);
  } else paint(maps, choice.value, large, "");
  const fit = Math.min(stage.clientWidth / maps.width, stage.clientHeight / maps.height);
  large.style.width = `${maps.width * fit * zoom}px`;
}
async function enlarge(example, layer) {
  if (!shown.has(example)) return;
  open = { example, maps: await shown.get(example) };
  zoom = 1; choice.value = layer;
  dialog.showModal();
  draw();
}
function scale(factor) {
  const middle = [(stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth, (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight];
  zoom = Math.min(Math.max(zoom * factor, 1), 16);
  draw().then(() => stage.scrollTo(middle[0] * stage.scrollWidth - stage.clientWidth / 2, middle[1] * stage.scrollHeight - stage.clientHeight / 2));
}
dialog.querySelectorAll("[data-scale]").forEach(b => b.addEventListener("click", () => scale(+b.dataset.scale)));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
choice.addEventListener("change", draw);
dialog.addEventListener("keydown", event => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === "+" || event.key === "-") scale(event.key === "+" ? 1.5 : 1 / 1.5);
  else if (step && event.target !== choice) { choice.selectedIndex = (choice.selectedIndex + step + layers.length) % layers.length; draw(); event.preventDefault(); }
});
for (const kind of ["pointermove", "pointerdown"]) frame.addEventListener(kind, event => {
  const [x, y] = at(event, large.getBoundingClientRect(), open.maps);
  say(open.maps, x, y, dialog.querySelector(".readout"));
  mark([frame], x, y, open.maps);
});

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

const chosen = document.querySelector(".chosen"), percent = value => `${(100 * value).toFixed(1)} %`;
const make = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
document.querySelectorAll(".node").forEach(button => button.addEventListener("click", () => {
  const node = +button.dataset.node, scores = world.scores[node];
  const count = examples.filter(e => e.dataset.nodes.split(" ").includes(String(node))).length;
  document.querySelectorAll(".node").forEach(b => b.setAttribute("aria-pressed", b === button));
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
  close.addEventListener("click", () => { chosen.hidden = true; button.setAttribute("aria-pressed", false); });
  chosen.replaceChildren(make("h3", path(node)), ...lines, go, " ", close);
  chosen.hidden = false;
}));
document.getElementById("by")?.addEventListener("change", event => document.querySelectorAll(".node").forEach(button => {
  const all = world.scores[button.dataset.node].filter(s => !event.target.value || s.dataset === event.target.value);
  const iou = all.length ? all.reduce((sum, s) => sum + s.iou, 0) / all.length : null, chip = button.querySelector(".iou");
  chip.textContent = iou === null ? "–" : Math.round(100 * iou);
  chip.className = iou === null ? "iou" : `iou q${Math.min(Math.floor(5 * iou), 4)}`;
}));
select();

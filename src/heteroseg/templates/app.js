// The page of `heteroseg serve`: it sends bytes to the HTTP endpoint and shows what comes back.
"use strict";
const TREE = "tree", OUTSIDE = [22, 22, 22], UNSURE = [128, 128, 128];
const $ = (id) => document.getElementById(id);
let parts = [];  // of the page, one for each model
let file = null, newest = 0, megapixels = Infinity, seconds = 60, note = "";

async function ask(path, query, body) {
  const chosen = Object.entries(query).filter(([, value]) => value !== undefined);
  const reply = await fetch(`v1/${path}?${new URLSearchParams(chosen)}`, body && { method: "POST", body });
  if (reply.ok) return reply;
  const told = await reply.json().catch(() => ({}));
  throw new Error(told.error ?? `the server answered ${reply.status}`);
}

function say(text, fault = false) {
  $("message").textContent = text;
  $("message").classList.toggle("fault", fault);
}

// Runs `work` unless something newer was asked meanwhile; faults go to the page.
async function newestOnly(work) {
  const mine = ++newest;
  try {
    await work(() => mine === newest);
  } catch (error) {
    if (mine === newest) say(error.message, true);
  }
}

function element(name, text, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

function share(value) {
  if (value > 0 && value < 0.001) return "<0.1 %";
  return `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`;
}

function table(rows, head) {
  const made = document.createElement("table");
  if (head) made.createTHead().append(element("tr", undefined, ...head.map((text) => element("th", text))));
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().append(cell);
  }
  return made;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint16Array(await new Response(stream).arrayBuffer());
}

function query(part) {
  const labels = part.select.value;
  const nodes = labels === TREE ? { depth: $("depth").value, back_off: $("back-off").value, precision: $("precision").value } : {};
  return { model: part.name, labels, ...nodes };
}

// What an id is called and painted. In the tree the root says that no child was likely enough.
function meaning(part, id, name) {
  if (part.select.value !== TREE) return id === part.answer.outside_id ? ["none of these labels", OUTSIDE] : [name];
  return id === part.answer.outside_id ? ["void", OUTSIDE] : name === "root" ? ["not sure", UNSURE] : [name];
}

// Equal names have equal colours in all pictures: those of the first model that has the name.
function learn(part, answer, ids, colors) {
  Object.assign(part, { answer, ids, names: [], rgb: [], only: "" });
  const own = [...answer.labels, { id: answer.outside_id, name: "", color: OUTSIDE, pixels: answer.outside }];
  const lines = [];
  for (const { id, name, color, pixels } of own) {
    const [called, fixed] = meaning(part, id, name);
    if (!colors.has(called)) colors.set(called, fixed ?? color);
    part.names[id] = called;
    part.rgb[id] = colors.get(called);
    if (pixels) lines.push([called, pixels / ids.length]);
  }
  part.labels.replaceChildren(element("ul", undefined, ...lines.map(([name, part_]) => {
    const box = element("i"), button = element("button", undefined, box, element("span", name), element("small", share(part_)));
    box.className = "swatch";
    box.style.background = `rgb(${colors.get(name)})`;
    button.type = "button";
    button.ariaPressed = "false";
    for (const kind of ["pointerenter", "focus"]) button.addEventListener(kind, () => paint(part, name));
    for (const kind of ["pointerleave", "blur"]) button.addEventListener(kind, () => paint(part));
    button.addEventListener("click", () => {
      part.only = part.only === name ? "" : name;
      for (const other of part.labels.querySelectorAll("button")) other.ariaPressed = String(other === button && part.only !== "");
      paint(part);
    });
    return element("li", undefined, button);
  })));
  part.panes.hidden = part.views.hidden = false;
  fit();
}

// Paints the answer; with `only` that label alone, and of two models perhaps only where they differ.
function paint(part, only = part.only) {
  const { answer, ids, canvas } = part, context = canvas.getContext("2d");
  if (!answer) return;
  canvas.width = answer.width;
  canvas.height = answer.height;
  const picture = context.createImageData(answer.width, answer.height), pixels = new Uint32Array(picture.data.buffer);
  const palette = new Uint32Array(2 ** 16);
  part.rgb.forEach(([red, green, blue], id) => {
    palette[id] = ((only && part.names[id] !== only ? 0 : 255) << 24) | (blue << 16) | (green << 8) | red;
  });
  const other = $("difference").checked && parts.find((one) => one !== part);
  ids.forEach((id, i) => { pixels[i] = other?.ids && other.names[other.ids[i]] === part.names[id] ? 0 : palette[id]; });
  context.putImageData(picture, 0, 0);
}

// Pictures are as large as the window allows: beside each other or one below the other, whichever is larger.
function fit() {
  for (const part of parts.filter((one) => one.answer && !one.panes.hidden)) {
    const ratio = part.answer.width / part.answer.height, { views } = part;
    part.panes.style.gridTemplateColumns = "";
    const room = innerHeight - Math.min(part.panes.getBoundingClientRect().top + scrollY, 400) - 20, wide = views.clientWidth;
    const beside = Math.min((wide - 8) / 2, room * ratio), below = Math.min(wide, (room - 8) / 2 * ratio);
    part.panes.style.setProperty("--ratio", ratio);
    part.panes.style.setProperty("--above", `${innerHeight - room}px`);
    const bar = $("view").value === "bar", stacked = !bar && below > beside;
    views.classList.toggle("bar", bar);
    views.classList.toggle("wide", bar || stacked);
    views.classList.toggle("stacked", stacked);
    if (stacked) part.panes.style.gridTemplateColumns = `${Math.floor(below)}px minmax(0, 1fr)`;  // the legend beside it
  }
}

function show() {
  if (!file) return;
  newestOnly(async (current) => {
    say("working ...");
    if (file.type.startsWith("video/")) return showFilms(current);
    const replies = await Promise.all(
      parts.map(async (part) => (await ask("predict", { ...query(part), packed: true }, file)).json()));
    const maps = await Promise.all(replies.map((answer) => unpack(answer.label_map)));
    if (!current()) return;
    const colors = new Map();
    parts.forEach((part, i) => learn(part, replies[i], maps[i], colors));
    parts.forEach((part) => paint(part));
    $("shown").disabled = false;
    $("differ").hidden = parts.length < 2;
    say(note || difference());
  });
}

function difference() {
  if (parts.length < 2 || parts.some((part) => part.ids?.length !== parts[0].ids.length)) return "";
  const [a, b] = parts, differ = a.ids.reduce((sum, id, i) => sum + (a.names[id] !== b.names[b.ids[i]]), 0);
  return `The two answers have other names in ${share(differ / a.ids.length)} of the image.`;
}

async function showFilms(current) {
  const colors = parts[0].select.value;
  $("shown").disabled = true;
  const begun = Date.now(), clock = setInterval(() => { $("progress").value = (Date.now() - begun) / 1000 / seconds / parts.length; }, 300);
  $("progress").hidden = false;
  try {
    for (const part of parts) {
      say(`${part.name} labels the video; that takes at most ${seconds} seconds ...`);
      const reply = await ask("film", { ...query(part), colors }, file);
      if (!current()) return;
      part.video.src = URL.createObjectURL(await reply.blob());
      part.panes.hidden = part.video.hidden = false;
      part.views.hidden = true;
      part.path.replaceChildren(element("p", reply.headers.get("heteroseg-frames")));
      part.labels.replaceChildren(element("ul", undefined, ...JSON.parse(reply.headers.get("heteroseg-labels")).map(([name, color]) => {
        const box = element("i");
        box.className = "swatch";
        box.style.background = `rgb(${color})`;
        return element("li", undefined, box, name);
      })));
    }
    say("");
  } finally {
    clearInterval(clock);
    $("progress").hidden = true;
  }
}

// Where browsers do not show a format, such as PPM or TIFF, the server gives a picture that they do.
function display(picture) {
  const address = URL.createObjectURL(picture);
  for (const img of parts.flatMap((part) => part.imgs)) {
    img.onerror = async () => {
      img.onerror = null;
      try {
        img.src = URL.createObjectURL(await (await ask("picture", {}, picture)).blob());
      } catch {
        img.removeAttribute("src");  // `show` tells why
      }
    };
    img.src = address;
  }
}

// A photograph that is larger than the server takes is made smaller here.
async function fitting(picture) {
  const bitmap = await createImageBitmap(picture).catch(() => null);  // null: a video, or a format for the server
  const scale = bitmap && Math.sqrt(megapixels * 1e6 / (bitmap.width * bitmap.height));
  if (!bitmap || scale >= 1) return picture;
  const canvas = new OffscreenCanvas(Math.floor(bitmap.width * scale), Math.floor(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  note = `The image was made smaller, ${canvas.width} x ${canvas.height}: the server takes ${megapixels} megapixels.`;
  return canvas.convertToBlob();
}

async function choose(chosen) {
  if (!chosen) return;
  note = "";
  const mine = ++newest, fitted = await fitting(chosen);
  if (mine !== newest) return;
  file = fitted;
  for (const part of parts) {
    part.panes.hidden = part.video.hidden = true;
    part.answer = part.ids = undefined;
    part.path.replaceChildren();
    part.labels.replaceChildren();
    for (const dot of part.views.querySelectorAll(".mark")) dot.remove();
  }
  if (!file.type.startsWith("video/")) display(file);
  show();
}

function pixel(part, event) {
  const box = event.currentTarget.getBoundingClientRect();
  const at = (value, size, count) => Math.min(count - 1, Math.max(0, Math.floor(value / size * count)));
  return [at(event.clientX - box.left, box.width, part.canvas.width),
    at(event.clientY - box.top, box.height, part.canvas.height)];
}

function mark(x, y) {
  for (const pane of parts.flatMap((part) => [...part.views.querySelectorAll(".pane")])) {
    const dot = pane.querySelector(".mark") ?? pane.appendChild(Object.assign(element("span"), { className: "mark" }));
    dot.style.left = `${100 * (x + 0.5) / parts[0].canvas.width}%`;
    dot.style.top = `${100 * (y + 0.5) / parts[0].canvas.height}%`;
  }
}

async function showPath(event, part) {
  const [x, y] = pixel(part, event);
  mark(x, y);
  try {
    for (const one of parts) {
      const { path } = await (await ask("path", { model: one.name, x, y }, file)).json();
      const rows = path.map((step, depth) => [String(depth), "\u00a0\u00a0".repeat(depth) + step.node,
        share(step.probability), step.instead.map(([name, p]) => `${name} ${share(p)}`).join(", ")]);
      const head = ["depth", "node", "probability", "instead"];
      one.path.replaceChildren(element("p", `Pixel x ${x}, y ${y}`), table(rows, head));
    }
  } catch (error) {
    say(error.message, true);
  }
}

function addModel(info, i) {
  const section = $("model").content.cloneNode(true).querySelector("section");
  const find = (name) => section.querySelector(name);
  const part = { name: info.name, select: find("select"), panes: find(".panes"), views: find(".views"), imgs: [...section.querySelectorAll("img")],
    canvas: find("canvas"), video: find("video"), path: find(".path"), labels: find(".labels") };
  section.id = `model-${i}`;
  find("h2").textContent = info.name;
  for (const name of Object.keys(info.label_spaces)) {
    part.select.add(new Option(name === TREE ? "the tree of classes" : name === "leaves" ? "the finest classes" : name, name));
  }
  part.select.addEventListener("change", () => { writeValues(); show(); });
  for (const pane of section.querySelectorAll(".pane")) {
    pane.addEventListener("click", (event) => { if (event.target.type !== "range") showPath(event, part); });
    pane.addEventListener("mousemove", (event) => {
      if (!part.ids) return;
      const [x, y] = pixel(part, event);
      find(".under").textContent = part.names[part.ids[y * part.answer.width + x]];
    });
  }
  find(".cut").addEventListener("input", (event) => part.views.style.setProperty("--cut", `${event.target.value}%`));
  $("models").append(section);
  return part;
}

function writeValues() {
  for (const output of document.querySelectorAll("output")) output.textContent = $(output.htmlFor.value).value;
  for (const part of parts) part.canvas.style.opacity = $("alpha").value;
  $("nodes").disabled = parts.every((part) => part.select.value !== TREE);  // what has no effect is off
}

// Drawn scenes, for networks of the demo, which know nothing else.
async function offerExamples(count) {
  for (let i = 0; i < count; i++) {
    const picture = await (await ask(`example/${i}`, {})).blob(), img = element("img"), button = element("button", undefined, img);
    img.src = URL.createObjectURL(picture);
    img.alt = `drawn street ${i + 1}`;
    button.type = "button";
    button.addEventListener("click", () => choose(picture));
    $("examples").querySelector("span").append(button);
  }
  $("examples").hidden = !count;
}

async function begin() {
  const models = await (await ask("models", {})).json();
  parts = models.map(addModel);
  $("title").textContent = document.title = models.map((m) => m.name).join(" and ");
  const deepest = Math.max(...models.map((m) => m.depth));
  ({ megapixels, seconds } = models[0]);
  $("trained").textContent = [...new Set(models.map((m) => {
    const trained = Object.keys(m.label_spaces).filter((name) => name !== TREE && name !== "leaves");
    return `${m.label_spaces.leaves.length} classes in a tree of ${m.depth} levels, trained on ${trained.join(", ") || "nothing that it names"}${m.tta && `; answers are averaged over views of the image (${m.tta})`}`;
  }))].join("; ");
  offerExamples(models[0].examples);
  $("depth").max = deepest;
  $("depth").value = deepest;
  const can = models[0].precisions.filter((p) => models.every((m) => m.precisions.includes(p)));
  can.forEach((p) => $("precision").add(new Option(`${+(100 * p).toFixed(1)} % of the time`, p)));
  $("precision").value = (models[0].precision && can.find((p) => p >= models[0].precision)) || 0;
  $("promise").hidden = !can.length;
  writeValues();
  $("back-off").addEventListener("input", () => { $("precision").value = 0; });  // one rule or the other
  $("precision").addEventListener("input", () => { $("back-off").value = 0; });
  document.addEventListener("input", writeValues);
  addEventListener("resize", fit);
  $("view").addEventListener("change", fit);
  $("difference").addEventListener("change", () => parts.forEach((part) => paint(part)));
  for (const id of ["depth", "back-off", "precision"]) $(id).addEventListener("change", show);
  $("source").addEventListener("click", () => { $("source").value = ""; });  // the same file may have changed
  $("source").addEventListener("change", (event) => choose(event.target.files[0]));
  document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    choose(event.dataTransfer.files[0]);
  });
}
begin().catch((error) => say(error.message, true));

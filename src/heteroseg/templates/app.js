// The page of `heteroseg serve`: it sends bytes to the HTTP endpoint and shows what comes back.
"use strict";
const TREE = "tree", SHOWN = 24, OUTSIDE = [22, 22, 22];
const $ = (id) => document.getElementById(id);
let parts = [];  // of the page, one for each model
let file = null, newest = 0, megapixels = Infinity, note = "";

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
  const nodes = labels === TREE ? { depth: $("depth").value, back_off: $("back-off").value } : {};
  return { model: part.name, labels, ...nodes };
}

// Equal names have equal colours in all pictures: those of the first model that has the name.
function paint(part, answer, ids, colors) {
  const byId = new Map([[answer.outside_id, { name: "outside", color: OUTSIDE }]]);
  for (const label of answer.labels) {
    if (!colors.has(label.name)) colors.set(label.name, label.color);
    byId.set(label.id, { name: label.name, color: colors.get(label.name) });
  }
  const { canvas } = part, context = canvas.getContext("2d");
  canvas.width = answer.width;
  canvas.height = answer.height;
  const picture = context.createImageData(answer.width, answer.height);
  const palette = new Uint32Array(2 ** 16), pixels = new Uint32Array(picture.data.buffer);
  for (const [id, { color: [red, green, blue] }] of byId) palette[id] = (255 << 24) | (blue << 16) | (green << 8) | red;
  ids.forEach((id, i) => { pixels[i] = palette[id]; });
  context.putImageData(picture, 0, 0);
  part.under = (x, y) => byId.get(ids[y * answer.width + x]).name;
  const rows = answer.labels.map((label) => [label.name, label.pixels]);
  if (answer.outside) rows.push(["outside", answer.outside]);
  const told = rows.slice(0, SHOWN).map(([name, pixels]) => {
    const box = element("i");
    box.className = "swatch";
    box.style.background = `rgb(${colors.get(name) ?? OUTSIDE})`;
    return [element("span", undefined, box, name), share(pixels / ids.length)];
  });
  const more = rows.length > SHOWN ? [element("p", `and ${rows.length - SHOWN} more`)] : [];
  part.labels.replaceChildren(table(told), ...more);
  part.stack.hidden = false;
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
    parts.forEach((part, i) => paint(part, replies[i], maps[i], colors));
    say(note);
  });
}

async function showFilms(current) {
  const colors = parts[0].select.value;
  for (const part of parts) {
    say(`${part.name} labels the video ...`);
    const reply = await ask("film", { ...query(part), colors }, file);
    if (!current()) return;
    part.video.src = URL.createObjectURL(await reply.blob());
    part.video.hidden = false;
    part.labels.replaceChildren(element("p", reply.headers.get("heteroseg-frames")));
  }
  say("");
}

// Where browsers do not show a format, such as PPM or TIFF, the server gives a picture that they do.
function display(picture) {
  const address = URL.createObjectURL(picture);
  for (const part of parts) {
    part.img.onerror = async () => {
      part.img.onerror = null;
      try {
        part.img.src = URL.createObjectURL(await (await ask("picture", {}, picture)).blob());
      } catch {
        part.img.removeAttribute("src");  // `show` tells why
      }
    };
    part.img.src = address;
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
    part.stack.hidden = part.video.hidden = true;
    part.path.replaceChildren();
    part.labels.replaceChildren();
  }
  if (!file.type.startsWith("video/")) display(file);
  show();
}

function pixel(part, event) {
  const box = part.canvas.getBoundingClientRect();
  const at = (value, size, count) => Math.min(count - 1, Math.max(0, Math.floor(value / size * count)));
  return [at(event.clientX - box.left, box.width, part.canvas.width),
    at(event.clientY - box.top, box.height, part.canvas.height)];
}

async function showPath(event, part) {
  const [x, y] = pixel(part, event);
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
  const part = { name: info.name, select: find("select"), stack: find(".stack"), img: find("img"), under: () => "",
    canvas: find("canvas"), video: find("video"), path: find(".path"), labels: find(".labels") };
  section.id = `model-${i}`;
  find("h2").textContent = info.name;
  for (const name of Object.keys(info.label_spaces)) {
    part.select.add(new Option(name === TREE ? "the tree (depth and probability count)" : name, name));
  }
  part.select.addEventListener("change", show);
  part.canvas.addEventListener("click", (event) => showPath(event, part));
  part.canvas.addEventListener("mousemove", (event) => {
    find(".under").textContent = part.under(...pixel(part, event));
  });
  $("models").append(section);
  return part;
}

function writeValues() {
  for (const output of document.querySelectorAll("output")) output.textContent = $(output.htmlFor.value).value;
  for (const part of parts) part.canvas.style.opacity = $("alpha").value;
}

async function begin() {
  const models = await (await ask("models", {})).json();
  parts = models.map(addModel);
  $("title").textContent = document.title = models.map((m) => m.name).join(" and ");
  const deepest = Math.max(...models.map((m) => m.depth));
  megapixels = models[0].megapixels;
  $("depth").max = deepest;
  $("depth").value = deepest;
  writeValues();
  document.addEventListener("input", writeValues);
  for (const id of ["depth", "back-off"]) $(id).addEventListener("change", show);
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

// What the pages of pictures share: packed maps, one stop for the tab key in each group, and one picture, large.
const world = JSON.parse(document.getElementById("world").textContent);
function path(node) {  // names from below the root to the node
  const names = [];
  for (let n = node; n > 0; n = world.parents[n]) names.unshift(world.names[n]);
  return names.join(" › ");
}

async function inflate(example) {  // the packed maps of an example, and their size
  const packed = Uint8Array.from(atob(example.querySelector(".maps").textContent), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const width = +example.dataset.width, height = +example.dataset.height;
  return { bytes: await new Response(stream).arrayBuffer(), width, height, n: width * height };
}

const at = (event, box, maps) => [[event.clientX - box.left, box.width, maps.width], [event.clientY - box.top, box.height, maps.height]]
  .map(([offset, size, n]) => Math.min(Math.max(Math.floor(offset / size * n), 0), n - 1));
function mark(x, y, maps) {
  let dot = frame.querySelector(".mark");
  if (!dot) { dot = document.createElement("span"); dot.className = "mark"; frame.append(dot); }
  dot.style.left = `${100 * (x + .5) / maps.width}%`; dot.style.top = `${100 * (y + .5) / maps.height}%`;
}
const make = (tag, text, more = {}) => Object.assign(document.createElement(tag), { textContent: text }, more);

// One stop for the tab key in each group; arrow keys go on from there.
function roam(group, members, keys = {}) {
  const here = () => members().find(m => m.tabIndex === 0);
  const go = member => { if (!member) return; const old = here(); if (old) old.tabIndex = -1; member.tabIndex = 0; member.focus(); };
  group.addEventListener("keydown", event => {
    const all = members(), i = all.indexOf(event.target.closest("[tabindex]"));
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -all.length, End: all.length }[event.key];
    if (i < 0 || keys[event.key]?.(all[i], go) || !step) { if (keys[event.key] && i >= 0) event.preventDefault(); return; }
    event.preventDefault(); event.stopPropagation();
    go(all[Math.min(Math.max(i + step, 0), all.length - 1)]);
  });
  const first = members()[0];
  if (first && !here()) first.tabIndex = 0;
}

// The dialog shows one picture as large as it allows. The page that shares this has the functions `enlarge` (an example),
// `look` (at a layer of it) and `draw`.
const dialog = document.querySelector("dialog"), stage = dialog.querySelector(".stage"), frame = dialog.querySelector(".frame");
const large = frame.querySelector("canvas"), choices = [...dialog.querySelectorAll("[data-layer]")], list = dialog.querySelector(".legend");
const examples = [...document.querySelectorAll(".example")];
let open = null, zoom = 1, only = "";
function present(example) {
  zoom = 1; only = "";
  frame.querySelector(".mark")?.remove();
  document.getElementById("title").textContent = `${example.dataset.dataset}: ${example.dataset.title}`;
  dialog.querySelector(".about").textContent = example.dataset.told;
  if (!dialog.open) dialog.showModal();
  draw();
}
function turn(step) {
  const all = examples.filter(e => !e.hidden);
  enlarge(all[(all.indexOf(open.example) + step + all.length) % all.length]);
}
function fit(canvas, maps) {
  canvas.style.width = `${maps.width * zoom * Math.min(stage.clientWidth / maps.width, stage.clientHeight / maps.height)}px`;
}
function scale(factor) {
  const middle = [(stage.scrollLeft + stage.clientWidth / 2) / stage.scrollWidth, (stage.scrollTop + stage.clientHeight / 2) / stage.scrollHeight];
  zoom = Math.min(Math.max(zoom * factor, 1), 16);
  Promise.resolve(draw()).then(() => stage.scrollTo(middle[0] * stage.scrollWidth - stage.clientWidth / 2, middle[1] * stage.scrollHeight - stage.clientHeight / 2));
}
dialog.querySelectorAll("[data-scale]").forEach(b => b.addEventListener("click", () => scale(+b.dataset.scale)));
addEventListener("resize", () => { if (dialog.open) draw(); });
dialog.addEventListener("keydown", event => {
  if (event.key === "+" || event.key === "-") scale(event.key === "+" ? 1.5 : 1 / 1.5);
});
roam(list, () => [...list.querySelectorAll("button")]);
roam(dialog.querySelector(".choices"), () => choices);
choices.forEach(b => b.addEventListener("click", () => look(b.dataset.layer)));
dialog.querySelectorAll("[data-go]").forEach(b => b.addEventListener("click", () => turn(+b.dataset.go)));
dialog.querySelector(".close").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => open.example.focus());

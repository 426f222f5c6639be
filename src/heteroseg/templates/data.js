const maps = new Map();  // example to its numbers
async function unpack(example) {
  const { bytes, width, height, n } = await inflate(example);
  return { width, height, numbers: new Uint16Array(bytes, 0, n), legend: world.legends[example.dataset.dataset] };
}
function load(example) {
  if (!maps.has(example)) maps.set(example, unpack(example));
  return maps.get(example);
}

// What is taught in its colour; what teaches nothing is hatched, over the photo if there is one.
function paint({ width, height, numbers, legend }, canvas, photo, only) {
  const pen = canvas.getContext("2d");
  canvas.width = width; canvas.height = height;
  if (photo) pen.drawImage(photo, 0, 0, width, height);
  const picture = pen.getImageData(0, 0, width, height), data = picture.data, strength = photo ? .55 : 1;
  for (let i = 0; i < width * height; i++) {
    const entry = legend[numbers[i] - 1], x = i % width, y = (i - x) / width;
    const rgb = entry ? entry.color : (x + y) % 8 < 2 ? [255, 255, 255] : [40, 40, 40];
    const share = only && entry?.label !== only ? strength * .25 : entry ? strength : photo && (x + y) % 8 >= 2 ? .25 : strength;
    for (let c = 0; c < 3; c++) data[4 * i + c] = data[4 * i + c] * (1 - share) + rgb[c] * share;
    data[4 * i + 3] = 255;
  }
  pen.putImageData(picture, 0, 0);
}

const near = new IntersectionObserver(entries => entries.filter(e => e.isIntersecting).forEach(async ({ target }) =>
  paint(await load(target), target.querySelector("canvas"))), { rootMargin: "600px" });
examples.forEach(example => {
  Object.assign(example.querySelector("canvas"), { width: +example.dataset.width, height: +example.dataset.height });
  near.observe(example);
  example.addEventListener("click", () => enlarge(example));
});
document.querySelectorAll(".thumbs").forEach(group => roam(group, () => [...group.querySelectorAll(".example")]));

let layer = "both";
async function draw() {
  const { shown, example } = open, photo = example.querySelector("img");
  choices.forEach(b => b.setAttribute("aria-pressed", b.dataset.layer === layer));
  await photo.decode();
  if (layer === "image") {
    large.width = shown.width; large.height = shown.height;
    large.getContext("2d").drawImage(photo, 0, 0, shown.width, shown.height);
  } else paint(shown, large, layer === "both" && photo, only);
  fit(large, shown);
}
async function enlarge(example) {
  open = { example, shown: await load(example) };
  const counts = {};
  for (const number of open.shown.numbers) counts[number] = (counts[number] ?? 0) + 1;
  list.replaceChildren(...Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([number, pixels]) => {
    const entry = open.shown.legend[number - 1], box = make("i", "", { className: "box" }), button = make("button", "", { type: "button", tabIndex: -1 });
    box.style.background = entry ? `rgb(${entry.color})` : "repeating-linear-gradient(45deg, #fff 0 2px, #282828 2px 5px)";
    button.append(box, entry ? entry.label : "nothing", " ", make("small", `${(100 * pixels / open.shown.numbers.length).toFixed(1)} %`));
    button.setAttribute("aria-pressed", false);
    button.addEventListener("click", () => {
      const pressed = button.ariaPressed !== "true";
      list.querySelectorAll("button").forEach(b => b.setAttribute("aria-pressed", b === button && pressed));
      only = pressed && entry ? entry.label : "";
      draw();
    });
    const line = make("li", "");
    line.append(button);
    return line;
  }));
  const first = list.querySelector("button");
  if (first) first.tabIndex = 0;
  present(example);
}
const look = name => { layer = name; draw(); };
for (const kind of ["pointermove", "pointerdown"]) frame.addEventListener(kind, event => {
  const [x, y] = at(event, large.getBoundingClientRect(), open.shown), entry = open.shown.legend[open.shown.numbers[y * open.shown.width + x] - 1];
  dialog.querySelector(".readout").textContent = !entry ? "Teaches nothing." : `${entry.label}: teaches ${entry.numbers.map(n => path(n) || "anything").join(" or ") || "nothing"}.`;
  mark(x, y, open.shown);
});

// The page of `muse studio`: sends a job, reads its events as they come, and draws them.
"use strict";

const $ = (id) => document.getElementById(id);
const form = $("form"), canvas = $("canvas"), maskCanvas = $("mask"), frame = $("frame");
const SIDES = ["left", "right", "top", "bottom"];
const ink = maskCanvas.getContext("2d", { willReadFrequently: true });
const HATCH = 4; // pixels of a cell's hatching

let running = null; // the AbortController of the job under way
let source = null; // the image that edits begin with: a canvas
let before = null; // what was changed last: its source, and its mask
let shown = null; // the last step

const mode = () => form.elements.mode.value;
const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
const say = (text) => { $("state").textContent = text; };
const complain = (text) => { $("problem").textContent = text; };

function base64Of(canvas) {
  return canvas.toDataURL("image/png").split(",")[1];
}

async function imageOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  return { bytes, bitmap };
}

function copyOf(bitmap) {
  const copy = document.createElement("canvas");
  copy.width = bitmap.width;
  copy.height = bitmap.height;
  copy.getContext("2d").drawImage(bitmap, 0, 0);
  return copy;
}

function show(bitmap, what) {
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  canvas.setAttribute("aria-label", what);
  grow();
}

// What a mode needs is shown, and nothing else.
function arrange() {
  for (const part of document.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").includes(mode());
  }
  $("go").textContent = { generate: "Generate", inpaint: "Inpaint", outpaint: "Outpaint", edit: "Edit", compare: "Compare" }[mode()];
  maskCanvas.hidden = running !== null || mode() !== "inpaint" || !source;
  frame.hidden = running !== null || mode() !== "outpaint" || !source;
  $("sheet").hidden = mode() !== "compare";
  if (source && !running && mode() !== "generate" && mode() !== "compare") {
    show(source, "The image to change");
    fitMask();
  }
  grow();
}

// --- the mask

function fitMask() {
  if (!source || (maskCanvas.width === source.width && maskCanvas.height === source.height)) return;
  maskCanvas.width = source.width;
  maskCanvas.height = source.height;
  count();
}

function count() {
  const { data } = ink.getImageData(0, 0, maskCanvas.width, maskCanvas.height);
  let pixels = 0;
  for (let i = 3; i < data.length; i += 4) pixels += data[i] > 0;
  $("painted").textContent = pixels ? `${pixels} pixels are painted` : "nothing is painted";
  return pixels;
}

let last = null; // where the stroke has come to

function stroke(event) {
  const box = maskCanvas.getBoundingClientRect(), scale = maskCanvas.width / box.width;
  const here = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  [ink.strokeStyle, ink.lineWidth, ink.lineCap] = ["#ff0", 2 * number("brush"), "round"];
  ink.beginPath();
  ink.moveTo(...(last ?? here));
  ink.lineTo(...here);
  ink.stroke();
  last = here;
}

maskCanvas.addEventListener("pointerdown", (event) => {
  maskCanvas.setPointerCapture(event.pointerId);
  last = null;
  stroke(event);
});
maskCanvas.addEventListener("pointermove", (event) => { if (event.buttons) stroke(event); });
maskCanvas.addEventListener("pointerup", count);
$("clear").addEventListener("click", () => {
  ink.clearRect(0, 0, maskCanvas.width, maskCanvas.height);
  count();
});
$("box").addEventListener("click", () => {
  ink.fillStyle = "#ff0";
  ink.fillRect(...["box-x", "box-y", "box-w", "box-h"].map((id) => number(id) ?? 0));
  count();
});

// White where it is painted, of the image's size.
function maskImage() {
  const image = document.createElement("canvas");
  [image.width, image.height] = [maskCanvas.width, maskCanvas.height];
  const pen = image.getContext("2d");
  const painted = ink.getImageData(0, 0, image.width, image.height);
  for (let i = 0; i < painted.data.length; i += 4) {
    painted.data.fill(painted.data[i + 3] > 0 ? 255 : 0, i, i + 3);
    painted.data[i + 3] = 255;
  }
  pen.putImageData(painted, 0, 0);
  return image;
}

// --- the frame of outpainting: dragged, or moved with the arrow keys

// The picture within the frame, as large as the outpainted one will be.
function grow() {
  const added = (side) => (frame.hidden ? 0 : number(side) ?? 0);
  const [left, right, top, bottom] = SIDES.map(added);
  const part = (pixels) => `${100 * pixels / (left + canvas.width + right)}%`;
  Object.assign(canvas.style, { width: part(canvas.width), margin: [top, right, bottom, left].map(part).join(" ") });
}

function add(side, pixels) {
  const value = Math.max(0, Math.min(512, (number(side) ?? 0) + pixels));
  $(side).value = 8 * Math.round(value / 8);
  grow();
}

for (const handle of frame.querySelectorAll("button")) {
  const side = handle.dataset.side;
  const across = side === "left" || side === "right";
  const outward = side === "left" || side === "top" ? -1 : 1;
  handle.addEventListener("keydown", (event) => {
    const keys = across ? ["ArrowLeft", "ArrowRight"] : ["ArrowUp", "ArrowDown"];
    const way = keys.indexOf(event.key);
    if (way < 0) return;
    event.preventDefault();
    add(side, 8 * outward * (2 * way - 1));
  });
  let start = null;
  handle.addEventListener("pointerdown", (event) => {
    handle.setPointerCapture(event.pointerId);
    const scale = source.width / canvas.getBoundingClientRect().width;
    start = { at: across ? event.clientX : event.clientY, value: number(side) ?? 0, scale };
  });
  handle.addEventListener("pointermove", (event) => {
    if (!start || !event.buttons) return;
    const moved = ((across ? event.clientX : event.clientY) - start.at) * outward * start.scale;
    $(side).value = start.value;
    add(side, moved);
  });
  handle.addEventListener("pointerup", () => { start = null; });
}
SIDES.forEach((side) => $(side).addEventListener("input", grow));

// --- jobs

function change() {
  switch (mode()) {
    case "inpaint": return { inpaint: {} };
    case "outpaint": return { outpaint: { margins: Object.fromEntries(SIDES.map((side) => [side, number(side) ?? 0])) } };
    case "edit": return { resample: { iterations: number("iterations"), preserve: number("preserve") } };
    default: return null;
  }
}

function order(seed) {
  const stage = { steps: number("steps"), guidance: number("guidance") };
  const request = { prompt: $("prompt").value, negative: $("negative").value, seed, size: $("size").value, base: stage };
  const order = { request, preview: $("preview").checked };
  const edit = change();
  if (edit) {
    if (!source) throw new Error("Choose an image, or make one first.");
    request.edit = { change: edit };
    order.image = base64Of(source);
    if (mode() === "inpaint") {
      fitMask();
      if (!count()) throw new Error("Paint what is to be made anew, or add a box.");
      order.mask = base64Of(maskImage());
    }
  }
  return order;
}

async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:")).map((line) => line.slice(5)).join("\n");
      if (data) yield JSON.parse(data);
    }
  }
}

async function make(seed, signal) {
  const response = await fetch("jobs", {
    method: "POST", signal, headers: { "Content-Type": "application/json" }, body: JSON.stringify(order(seed)),
  }).catch((error) => { throw error.name === "AbortError" ? error : new Error("The server does not answer."); });
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.error ?? `${response.status} ${response.statusText}`);
  }
  const times = [];
  for await (const event of eventsOf(response)) {
    if (event.event === "queued") say(event.ahead ? `Waiting: ${event.ahead} ahead.` : "Reading the prompt …");
    if (event.event === "failed") throw new Error(event.error);
    if (event.event === "done") return event;
    if (event.event === "step") await step(event, times);
  }
  throw new Error("The server ended the answer early.");
}

async function step(event, times) {
  times.push(event.milliseconds);
  const window = event.windows > 1 ? `, window ${event.window + 1} of ${event.windows}` : "";
  say(`${event.stage}: step ${event.step + 1} of ${event.steps}${window}`);
  const sorted = [...times].sort((a, b) => a - b);
  $("speed").textContent = `${event.milliseconds.toFixed(1)} ms, median ${sorted[sorted.length >> 1].toFixed(1)} ms per step`;
  bars(times);
  shown = event;
  draw();
  if (event.preview) show((await imageOf(event.preview)).bitmap, `The picture after step ${event.step + 1} of ${event.steps}`);
}

function bars(times) {
  const last = times.slice(-60), most = Math.max(...last), width = 240 / Math.max(last.length, 12);
  $("times").replaceChildren(...last.map((time, i) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = 58 * time / most;
    for (const [name, value] of Object.entries({ x: i * width, y: 60 - height, width: 0.8 * width, height })) bar.setAttribute(name, value);
    return bar;
  }));
}

const LEGENDS = {
  tokens: "A colour for every token of the codebook; hatched where it is masked.",
  confidence: "How sure the last step was of what it drew: the brighter, the more. Hatched where it drew none.",
  masks: "Bright: what the last step kept. Grey: what was known before. Hatched: what it masked again.",
};
const view = () => document.querySelector("[name=view]:checked").value;

function draw() {
  $("legend").textContent = LEGENDS[view()];
  if (!shown) return;
  const { grid: [rows, columns], tokens, confidence } = shown;
  const side = Math.max(4, Math.floor(512 / Math.max(rows, columns))), pen = $("tokens").getContext("2d");
  [$("tokens").width, $("tokens").height] = [columns * side, rows * side];
  const compared = confidence.filter((c) => c !== null);
  const least = Math.min(...compared), range = Math.max(...compared) - least || 1;
  const colour = {
    tokens: (token) => token !== null && `hsl(${token * 137.508 % 360} 55% ${35 + token * 31 % 40}%)`,
    confidence: (_, c) => c !== null && `hsl(210 70% ${15 + 75 * (c - least) / range}%)`,
    masks: (token, c) => token !== null && (c === null ? "#888" : "#f2b632"),
  }[view()];
  tokens.forEach((token, i) => {
    const [x, y] = [i % columns * side, Math.floor(i / columns) * side];
    const known = colour(token, confidence[i]);
    pen.fillStyle = known || "#888";
    if (known) pen.fillRect(x, y, side, side);
    else for (let d = 0; d < side; d += HATCH) pen.fillRect(x + d, y + side - 1 - d, 2, 2);
  });
  const masked = tokens.filter((token) => token === null).length;
  const text = `${rows} × ${columns} tokens, ${masked} still masked`;
  $("tokens-said").textContent = text;
  $("tokens").setAttribute("aria-label", text);
  [$("row").max, $("column").max] = [rows, columns];
  cell();
}

// What is known of one token.
function cell() {
  if (!shown) return;
  const [row, column] = [number("row"), number("column")], [rows, columns] = shown.grid;
  const inside = row >= 1 && row <= rows && column >= 1 && column <= columns;
  const i = (row - 1) * columns + column - 1;
  const token = inside && (shown.tokens[i] === null ? "masked" : `token ${shown.tokens[i]}`);
  const drawn = inside && (shown.confidence[i] === null ? "not drawn in this step" : `confidence ${(Math.round(100 * shown.confidence[i]) / 100 || 0).toFixed(2)}`);
  $("cell").textContent = inside ? `${token}, ${drawn}` : "outside of the grid";
}

$("tokens").addEventListener("pointermove", (event) => {
  if (!shown) return;
  const box = $("tokens").getBoundingClientRect();
  $("row").value = 1 + Math.floor((event.clientY - box.top) / box.height * shown.grid[0]);
  $("column").value = 1 + Math.floor((event.clientX - box.left) / box.width * shown.grid[1]);
  cell();
});
for (const id of ["row", "column"]) $(id).addEventListener("input", cell);
for (const radio of document.querySelectorAll("[name=view]")) radio.addEventListener("change", draw);

async function finish(event, prompt, edited) {
  const { bytes, bitmap } = await imageOf(event.image);
  if (edited) {
    before = { source, mask: copyOf(maskCanvas) };
    ink.clearRect(0, 0, maskCanvas.width, maskCanvas.height);
  }
  $("undo").hidden = !edited;
  source = copyOf(bitmap);
  fitMask();
  count();
  show(bitmap, prompt || "The picture");
  const save = $("save");
  URL.revokeObjectURL(save.href);
  save.href = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  save.hidden = false;
  const s = event.seconds, ms = (seconds) => (seconds < 1 ? `${(1e3 * seconds).toFixed(0)} ms` : `${seconds.toFixed(1)} s`);
  const superres = s.superres ? `, super-res ${ms(s.superres)}` : "";
  say(`Done in ${ms(s.all)}: text ${ms(s.text)}, base ${ms(s.base)}${superres}, VQ ${ms(s.vq)}. ${event.notes.join(" ")}`);
}

async function compare(signal) {
  const first = number("seed"), sheet = $("sheet");
  sheet.replaceChildren();
  for (let seed = first; seed < first + number("count"); seed += 1) {
    const event = await make(seed, signal);
    const choice = document.createElement("button"), image = document.createElement("img");
    choice.type = "button";
    image.src = `data:image/png;base64,${event.image}`;
    image.alt = "";
    choice.append(image, `seed ${seed}`);
    choice.addEventListener("click", () => { $("seed").value = seed; finish(event, $("prompt").value, false); });
    sheet.append(choice);
    await finish(event, $("prompt").value, false);
  }
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running) return;
  complain("");
  running = new AbortController();
  arrange();
  [$("go").disabled, $("stop").disabled] = [true, false];
  try {
    if (mode() === "compare") await compare(running.signal);
    else {
      const [prompt, edited] = [$("prompt").value, change() !== null];
      await finish(await make(number("seed"), running.signal), prompt, edited);
    }
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else { say("Not done."); complain(error.message); }
  } finally {
    running = null;
    [$("go").disabled, $("stop").disabled] = [false, true];
    arrange();
  }
});

$("stop").addEventListener("click", () => running?.abort());
$("undo").addEventListener("click", () => {
  source = before.source;
  fitMask();
  ink.drawImage(before.mask, 0, 0);
  count();
  $("undo").hidden = true;
  $("save").hidden = true;
  say("The image before.");
  arrange();
});
$("dice").addEventListener("click", () => { $("seed").value = Math.floor(Math.random() * 2 ** 31); });
$("file").addEventListener("change", async () => {
  const [file] = $("file").files;
  if (!file) return;
  try {
    source = copyOf(await createImageBitmap(file));
    complain("");
    arrange();
  } catch {
    complain(`${file.name} is no picture that the browser can read.`);
  }
});
for (const radio of form.elements.mode) radio.addEventListener("change", arrange);

fetch("model").then((response) => response.json()).then((model) => {
  $("model").textContent = `${model.name}, ${model.dtype}, ${model.device}${model.simulated ? " (a simulator: its times mean nothing)" : ""}`;
  if (model.stages.length < 2) $("preview").checked = false; // a picture of every step takes a second of a large model
}).catch(() => complain("The server does not answer."));
arrange();
draw();

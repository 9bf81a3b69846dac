// The page: drawing, prediction, and their display.
import { open } from "./network.js";
import { draw, ink, SIZE } from "./pen.js";
import { frame, SIDE } from "./prepare.js";

const byId = (id) => document.getElementById(id);
const paper = byId("paper");
// `stroke` is the stroke being drawn, the last of `strokes`, while the pen is down.
const state = { strokes: [], stroke: null, sample: null, cursor: null };
const [card, samples, sampleImages, predict] = await start();
const SHOWN = 10; // bars; of more classes, the most probable ones
const bars = card.labels.slice(0, SHOWN).map(bar);
const kind = card.labels.join("") === "0123456789" ? "digit" : "image";
let [busy, outdated, answered, announcing, pen] = [false, false, 0, 0, null];

async function start() {
  try {
    const names = ["model.json", "model.onnx", "samples.json", "samples.bin"];
    const [cardFile, modelFile, listFile, imageFile] = await Promise.all(names.map(get));
    const [description, model] = [await cardFile.json(), await modelFile.arrayBuffer()];
    await checkSum(model, description.sha256);
    const network = await open(model, description);
    return [description, await listFile.json(), new Uint8Array(await imageFile.arrayBuffer()), network];
  } catch (error) {
    byId("confidence").textContent = `The network failed to load: ${error.message}`;
    byId("announcement").textContent = byId("confidence").textContent;
    throw error;
  }
}

async function get(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} returned status ${response.status}`);
  return response;
}

// An interrupted update of the page can leave one network beside the description of another.
async function checkSum(data, expected) {
  if (!crypto.subtle) return; // only available over https and from localhost
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const digest = Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (digest !== expected) throw new Error("model.json does not match model.onnx; write the page again");
}

// ---- prediction

function bar(label) {
  const line = document.createElement("li");
  const [name, meter, fill, text] = ["span", "div", "div", "span"].map((tag) => document.createElement(tag));
  meter.role = "meter";
  meter.ariaValueMin = 0;
  meter.ariaValueMax = 100;
  meter.append(fill);
  line.append(name, meter, text);
  byId("bars").append(line);
  nameBar({ name, meter }, label);
  return { line, name, meter, text };
}

function nameBar({ name, meter }, label) {
  name.textContent = label;
  meter.ariaLabel = `Probability of ${label}`;
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;
}

// Predicts now, and again if the drawing changed while the network was running.
async function update() {
  render();
  outdated = true;
  if (busy) return;
  busy = true;
  try {
    while (outdated) {
      outdated = false;
      const pixels = state.sample ? state.sample.pixels : frame(ink(state.strokes), SIZE, SIZE);
      showInput(pixels);
      showResult(pixels && (await predict(pixels)));
    }
  } finally {
    busy = false;
  }
}

function showResult(result) {
  const probabilities = result ? result.probabilities : card.labels.map(() => 0);
  const best = result ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  const order = card.labels.map((_, index) => index);
  if (order.length > SHOWN) order.sort((a, b) => probabilities[b] - probabilities[a]);
  bars.forEach((each, place) => {
    const [{ line, meter, text }, index] = [each, order[place]];
    if (order.length > SHOWN) nameBar(each, card.labels[index]);
    line.classList.toggle("best", index === best);
    meter.ariaValueNow = (100 * probabilities[index]).toFixed(1);
    meter.firstChild.style.width = `${100 * probabilities[index]}%`;
    text.textContent = result ? percent(probabilities[index]) : "";
  });
  const source = state.sample ? `test ${kind} ${state.sample.index}, label ${state.sample.label} · ` : "";
  byId("label").textContent = result ? card.labels[best] : "–";
  byId("confidence").textContent = result ? `confidence ${percent(probabilities[best])}` : "Waiting for a drawing";
  byId("time").textContent = result ? `${source}${result.milliseconds.toFixed(2)} ms in this browser` : "\u00a0";
  byId("time").dataset.milliseconds = result ? result.milliseconds : "";
  document.body.dataset.answered = ++answered;
  if (result && byId("inside").open) result.hidden.forEach(showLayer);
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    byId("announcement").textContent = result
      ? `Predicted ${card.labels[best]}, confidence ${percent(probabilities[best])}`
      : "No drawing";
  }, 700);
}

function showInput(pixels) {
  const context = byId("seen").getContext("2d");
  paint(context, pixels ?? new Uint8Array(SIDE * SIDE), SIDE, SIDE, 255);
  byId("seen").pixels = pixels;
}

function paint(context, values, width, height, max) {
  const image = context.createImageData(width, height);
  values.forEach((value, index) => {
    image.data.fill((255 * value) / max, 4 * index, 4 * index + 3);
    image.data[4 * index + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

// Shows a hidden layer as tiles: one square per unit, or one feature map per channel.
function showLayer({ name, shape, values }) {
  let canvas = document.querySelector(`canvas[data-layer="${name}"]`);
  if (canvas === null) {
    canvas = document.createElement("canvas");
    canvas.dataset.layer = name;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Hidden layer ${name}`);
    byId("layers").append(canvas);
  }
  const side = shape.length === 4 ? shape[2] : 1;
  const units = shape[1];
  const columns = Math.ceil(Math.sqrt(units * (side > 1 ? 2 : 4)));
  const [width, height] = [columns * side, Math.ceil(units / columns) * side];
  const tiled = new Float32Array(width * height);
  values.forEach((value, index) => {
    const [unit, pixel] = [Math.floor(index / side ** 2), index % side ** 2];
    const y = Math.floor(unit / columns) * side + Math.floor(pixel / side);
    tiled[y * width + (unit % columns) * side + (pixel % side)] = Math.max(0, value);
  });
  [canvas.width, canvas.height] = [width, height];
  const max = tiled.reduce((largest, value) => Math.max(largest, value), 0);
  paint(canvas.getContext("2d"), tiled, width, height, max || 1);
}

// ---- drawing

function render() {
  const context = paper.getContext("2d");
  const scale = paper.width / SIZE;
  context.clearRect(0, 0, paper.width, paper.height);
  context.strokeStyle = "#fff";
  if (state.sample) {
    const small = new OffscreenCanvas(SIDE, SIDE);
    paint(small.getContext("2d"), state.sample.pixels, SIDE, SIDE, 255);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, paper.width, paper.height);
  }
  draw(context, state.strokes, scale);
  if (state.cursor) {
    const [x, y] = state.cursor.map((value) => value * scale);
    context.lineWidth = 4;
    context.strokeStyle = state.stroke ? "#ff9d2e" : "#7fb0ff";
    context.beginPath();
    context.arc(x, y, 26, 0, 2 * Math.PI);
    context.stroke();
  }
  byId("hint").hidden = state.strokes.length > 0 || state.sample !== null || state.cursor !== null;
}

// The position of a pointer in drawing units.
function position(event) {
  const { left, top, width, height } = paper.getBoundingClientRect();
  return [((event.clientX - left) / width) * SIZE, ((event.clientY - top) / height) * SIZE];
}

function begin(point) {
  state.sample = null;
  state.stroke = [point];
  state.strokes.push(state.stroke);
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || pen !== null) return; // one pointer at a time, so that a palm draws nothing
  pen = event.pointerId;
  paper.setPointerCapture(event.pointerId);
  state.cursor = null;
  begin(position(event));
  update();
});
paper.addEventListener("pointermove", (event) => {
  if (!state.stroke || event.pointerId !== pen) return;
  const coalesced = event.getCoalescedEvents?.() ?? [];
  for (const part of coalesced.length ? coalesced : [event]) state.stroke.push(position(part));
  update();
});
paper.addEventListener("lostpointercapture", (event) => {
  if (event.pointerId === pen) [pen, state.stroke] = [null, null]; // lifted, or canceled by the system
});

function clear() {
  Object.assign(state, { strokes: [], stroke: null, sample: null });
  update();
}

function undo() {
  state.strokes.pop();
  state.stroke = null;
  update();
}

function sample() {
  const index = Math.floor(Math.random() * samples.labels.length);
  const pixels = sampleImages.slice(784 * index, 784 * (index + 1));
  const label = card.labels[samples.labels[index]];
  Object.assign(state, { strokes: [], stroke: null, cursor: null });
  state.sample = { pixels, label, index: samples.indices[index] };
  update();
}

byId("clear").addEventListener("click", clear);
byId("undo").addEventListener("click", undo);
byId("sample").addEventListener("click", sample);
byId("inside").addEventListener("toggle", update);

// ---- keyboard

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

paper.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if ((!arrow && event.key !== " ") || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  state.cursor ??= [SIZE / 2, SIZE / 2];
  if (arrow) {
    const step = event.shiftKey ? 4 : 12;
    state.cursor = state.cursor.map((value, axis) => Math.min(Math.max(value + step * arrow[axis], 0), SIZE));
    state.stroke?.push(state.cursor);
  } else if (event.repeat) {
    return; // key repeat
  } else if (state.stroke) {
    state.stroke = null;
  } else {
    begin(state.cursor);
  }
  update();
});
paper.addEventListener("blur", () => {
  [state.cursor, state.stroke] = [null, null];
  render();
});
document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  const plain = !(event.ctrlKey || event.metaKey || event.altKey);
  if (key === "z" && !event.altKey && !event.shiftKey) undo();
  else if (key === "c" && plain) clear();
  else if (key === "r" && plain && !byId("sample").hidden) sample();
});

// ---- description of the network

const longest = Math.max(...card.labels.map((label) => label.length));
byId("bars").style.setProperty("--name", `${Math.min(longest, 12)}ch`);
if (kind !== "digit") {
  document.title = byId("title").textContent = `Draw one of ${card.labels.length} classes`;
  byId("hint").textContent = `draw here, ${card.labels[0]} to ${card.labels.at(-1)}`;
  byId("sample").textContent = "Random test image";
  byId("bars").ariaLabel = "Probability of each class";
}
const share = card.test_accuracy;
const accuracy = typeof share === "number" ? `, test accuracy ${(100 * share).toFixed(2)} %` : "";
const parts = [`${card.preset ?? "A network"}, trained on ${card.dataset ?? "digits"}${accuracy}`];
byId("model").textContent = [...parts, `model.onnx, ${Math.round(card.bytes / 1000)} kB, in onnxruntime-web`].join(" · ");
byId("sample").hidden = samples.labels.length === 0;
await update();
document.body.dataset.ready = "yes";

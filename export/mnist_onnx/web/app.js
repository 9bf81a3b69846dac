// The page: what is drawn, what the network says of it, and how both are shown.
import { open } from "./network.js";
import { draw, ink, SIZE } from "./pen.js";
import { frame, SIDE } from "./prepare.js";

const at = (id) => document.getElementById(id);
const paper = at("paper");
// `stroke` is the one that is being drawn: the last of `strokes`, while a pen is down.
const state = { strokes: [], stroke: null, sample: null, cursor: null };
const [card, samples, pictures, answer] = await start();
const bars = card.labels.map(bar);
let [busy, again, answered, announcing, pen] = [false, false, 0, 0, null];

async function start() {
  try {
    const names = ["model.json", "model.onnx", "samples.json", "samples.bin"];
    const [about, file, listed, digits] = await Promise.all(names.map(get));
    const [described, model] = [await about.json(), await file.arrayBuffer()];
    await checkSum(model, described.sha256);
    const network = await open(model, described);
    return [described, await listed.json(), new Uint8Array(await digits.arrayBuffer()), network];
  } catch (error) {
    at("sure").textContent = `The network could not be started: ${error.message}`;
    at("said").textContent = at("sure").textContent;
    throw error;
  }
}

async function get(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name} is not here (${response.status})`);
  return response;
}

// A page that was written over, and not to the end, can hold one network and the description of another.
async function checkSum(data, expected) {
  if (!crypto.subtle) return; // browsers have it for https and for this machine alone
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const found = Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== expected) throw new Error("model.json describes another file than model.onnx; write the page again");
}

// ---- what the network says

function bar(label) {
  const line = document.createElement("li");
  const [name, meter, fill, text] = ["span", "div", "div", "span"].map((tag) => document.createElement(tag));
  name.textContent = label;
  meter.role = "meter";
  meter.ariaLabel = `Probability of ${label}`;
  meter.ariaValueMin = 0;
  meter.ariaValueMax = 100;
  meter.append(fill);
  line.append(name, meter, text);
  at("bars").append(line);
  return { line, meter, text };
}

function percent(share) {
  return `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;
}

// Asks at once, and once more if something was drawn while the network was at work.
async function look() {
  render();
  again = true;
  if (busy) return;
  busy = true;
  try {
    while (again) {
      again = false;
      const pixels = state.sample ? state.sample.pixels : frame(ink(state.strokes), SIZE, SIZE);
      show(pixels);
      say(pixels && (await answer(pixels)));
    }
  } finally {
    busy = false;
  }
}

function say(found) {
  const probabilities = found ? found.probabilities : card.labels.map(() => 0);
  const best = found ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  bars.forEach(({ line, meter, text }, index) => {
    line.classList.toggle("best", index === best);
    meter.ariaValueNow = (100 * probabilities[index]).toFixed(1);
    meter.firstChild.style.width = `${100 * probabilities[index]}%`;
    text.textContent = found ? percent(probabilities[index]) : "";
  });
  const drawn = state.sample ? `test digit ${state.sample.index}, labelled ${state.sample.label} · ` : "";
  at("label").textContent = found ? card.labels[best] : "–";
  at("sure").textContent = found ? `${percent(probabilities[best])} sure` : "Waiting for a drawing";
  at("time").textContent = found ? `${drawn}${found.milliseconds.toFixed(2)} ms in this browser` : "\u00a0";
  at("time").dataset.milliseconds = found ? found.milliseconds : "";
  document.body.dataset.answered = ++answered;
  if (found && at("inside").open) found.hidden.forEach(layer);
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    at("said").textContent = found ? `Looks like ${card.labels[best]}, ${percent(probabilities[best])} sure` : "Empty";
  }, 700);
}

function show(pixels) {
  const context = at("seen").getContext("2d");
  paint(context, pixels ?? new Uint8Array(SIDE * SIDE), SIDE, SIDE, 255);
  at("seen").pixels = pixels;
}

function paint(context, values, width, height, most) {
  const image = context.createImageData(width, height);
  values.forEach((value, index) => {
    image.data.fill((255 * value) / most, 4 * index, 4 * index + 3);
    image.data[4 * index + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

// A hidden layer as squares: a row of units, or the pictures of a convolution side by side.
function layer({ name, shape, values }) {
  let canvas = document.querySelector(`canvas[data-layer="${name}"]`);
  if (canvas === null) {
    canvas = document.createElement("canvas");
    canvas.dataset.layer = name;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Hidden layer ${name}`);
    at("layers").append(canvas);
  }
  const side = shape.length === 4 ? shape[2] : 1;
  const units = shape[1];
  const across = Math.ceil(Math.sqrt(units * (side > 1 ? 2 : 4)));
  const [width, height] = [across * side, Math.ceil(units / across) * side];
  const tiled = new Float32Array(width * height);
  values.forEach((value, index) => {
    const [unit, pixel] = [Math.floor(index / side ** 2), index % side ** 2];
    const y = Math.floor(unit / across) * side + Math.floor(pixel / side);
    tiled[y * width + (unit % across) * side + (pixel % side)] = Math.max(0, value);
  });
  [canvas.width, canvas.height] = [width, height];
  const most = tiled.reduce((largest, value) => Math.max(largest, value), 0);
  paint(canvas.getContext("2d"), tiled, width, height, most || 1);
}

// ---- what is drawn

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
  at("hint").hidden = state.strokes.length > 0 || state.sample !== null || state.cursor !== null;
}

function place(event) {
  const { left, top, width, height } = paper.getBoundingClientRect();
  return [((event.clientX - left) / width) * SIZE, ((event.clientY - top) / height) * SIZE];
}

function begin(point) {
  state.sample = null;
  state.stroke = [point];
  state.strokes.push(state.stroke);
}

paper.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || pen !== null) return; // one pen at a time: a palm draws nothing
  pen = event.pointerId;
  paper.setPointerCapture(event.pointerId);
  state.cursor = null;
  begin(place(event));
  look();
});
paper.addEventListener("pointermove", (event) => {
  if (!state.stroke || event.pointerId !== pen) return;
  const between = event.getCoalescedEvents?.() ?? [];
  for (const part of between.length ? between : [event]) state.stroke.push(place(part));
  look();
});
paper.addEventListener("lostpointercapture", (event) => {
  if (event.pointerId === pen) [pen, state.stroke] = [null, null]; // lifted, or taken away by the system
});

function clear() {
  Object.assign(state, { strokes: [], stroke: null, sample: null });
  look();
}

function undo() {
  state.strokes.pop();
  state.stroke = null;
  look();
}

function sample() {
  const index = Math.floor(Math.random() * samples.labels.length);
  const pixels = pictures.slice(784 * index, 784 * (index + 1));
  const label = card.labels[samples.labels[index]];
  Object.assign(state, { strokes: [], stroke: null, cursor: null });
  state.sample = { pixels, label, index: samples.indices[index] };
  look();
}

at("clear").addEventListener("click", clear);
at("undo").addEventListener("click", undo);
at("sample").addEventListener("click", sample);
at("inside").addEventListener("toggle", look);

// ---- by keyboard

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
    return; // the key is held
  } else if (state.stroke) {
    state.stroke = null;
  } else {
    begin(state.cursor);
  }
  look();
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
  else if (key === "r" && plain && !at("sample").hidden) sample();
});

// ---- what it is

const share = card.test_accuracy;
const accuracy = typeof share === "number" ? `, ${(100 * share).toFixed(2)} % right on its test set` : "";
const parts = [`${card.preset ?? "a network"}, trained on ${card.dataset ?? "digits"}${accuracy}`];
at("model").textContent = [...parts, `model.onnx, ${Math.round(card.bytes / 1000)} kB, in onnxruntime-web`].join(" · ");
at("sample").hidden = samples.labels.length === 0;
await look();
document.body.dataset.ready = "yes";

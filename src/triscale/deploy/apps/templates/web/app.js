// The page: load the model, take a photo, show the answer.
"use strict";

const RUNTIME = "ort.wasm.min.js";
// Where ONNX Runtime is looked for: in the folder ort, for use without a network, or at a CDN.
const LOCAL = "ort/";
const CDN = "https://cdn.jsdelivr.net/npm/onnxruntime-web@1.17.3/dist/";
const INTEGRITY = "sha384-IIbXcAhgJQi54B2BSFW89jOHuticITcB+QZcTVdOax8V9g6V4t9a3y6VoS0Psk+A";
const SHOWN = 5;

const at = id => document.getElementById(id);
const percent = p => (100 * p).toFixed(1) + "%";
let model = null, session = null, last = 0;

function loadScript(address, integrity) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    if (integrity) Object.assign(script, { integrity, crossOrigin: "anonymous" });
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${address} cannot be loaded`));
    script.src = address;
    document.head.append(script);
  });
}

async function loadRuntime() {
  const here = await fetch(LOCAL + RUNTIME, { method: "HEAD" }).then(found => found.ok, () => false);
  const folder = here ? new URL(LOCAL, location.href).href : CDN;
  await loadScript(folder + RUNTIME, here ? "" : INTEGRITY).catch(() => {
    throw new Error("ONNX Runtime cannot be loaded. Connect to the network, or put it into the folder ort: README.md says how.");
  });
  ort.env.wasm.wasmPaths = folder;
  ort.env.wasm.numThreads = 1;  // more need headers that few servers send
}

async function start() {
  if (location.protocol === "file:") throw new Error("Open this page through a server: README.md has the command.");
  [model] = await Promise.all([fetch("model.json").then(found => found.json()), loadRuntime()]);
  const [, height, width] = model.input_size;
  at("about").textContent += ` · ${width === height ? width : `${width} × ${height}`} px`;
  session = await ort.InferenceSession.create("model.onnx", { executionProviders: ["wasm"] });
  at("file").disabled = false;
  at("status").textContent = "";
  document.documentElement.dataset.ready = "true";
}

async function classify(image) {
  const input = new ort.Tensor("float32", prepare(image, model), [1, ...model.input_size]);
  const outputs = await session.run({ [session.inputNames[0]]: input });
  return answer(Array.from(outputs[session.outputNames[0]].data), model);
}

async function show(file) {
  const number = ++last, started = performance.now();
  at("result").hidden = true;
  at("problem").hidden = true;
  at("status").textContent = `Classifying ${file.name}`;
  try {
    const image = await decode(file).catch(() => { throw new Error(`${file.name} is not an image that this browser reads. Choose a JPEG, PNG or WebP file.`); });
    const found = await classify(image);
    if (number !== last) return;
    URL.revokeObjectURL(at("photo").src);
    at("photo").src = URL.createObjectURL(file);
    at("photo").alt = file.name;
    at("scores").replaceChildren(...found.ranking.slice(0, SHOWN).map(index => score(index, found)));
    at("doubts").replaceChildren(...doubts(found).map(text => make("li", text)));
    at("result").hidden = false;
    at("status").textContent = `${file.name}: ${(performance.now() - started).toFixed(0)} ms`;
  } catch (error) { if (number === last) complain(error) }
}

function score(index, { probabilities, chosen }) {
  const row = make("li", ""), bar = make("span", ""), fill = make("i", "");
  row.className = chosen.includes(index) ? "chosen" : "";
  bar.className = "bar";
  fill.style.width = percent(probabilities[index]);
  bar.append(fill);
  row.append(make("span", model.names[index]), make("span", percent(probabilities[index])), bar);
  row.dataset.probability = probabilities[index];
  return row;
}

function doubts({ chosen, likely, unknown, multi }) {
  const found = [], names = likely && likely.map(index => model.names[index]).join(", ");
  if (unknown) found.push("Unknown: the photo is unlike the images that the model was made for.");
  if (multi && !chosen.length) found.push("No label holds.");
  if (likely && (multi || likely.length > 1)) found.push(`${multi ? "All labels are among" : "One of"}: ${names || "none"} (right for ${percent(model.coverage)} of images).`);
  return found;
}

function make(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function complain(error) {
  at("status").textContent = "";
  at("problem").textContent = error.message;
  at("problem").hidden = false;
}

at("file").addEventListener("change", event => { if (event.target.files[0]) show(event.target.files[0]); event.target.value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
  event.preventDefault();  // a file dropped outside the area must not replace the page
  at("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop" && session && event.dataTransfer.files[0]) show(event.dataTransfer.files[0]);
});
start().catch(complain);

// onnxruntime-web (WASM), in Node.js: npm install --ignore-scripts onnxruntime-web
const fs = require("node:fs");
const ort = require("onnxruntime-web/wasm");
const { main } = require("./contract.cjs");

async function load(path) {
  const session = await ort.InferenceSession.create(fs.readFileSync(path), { executionProviders: ["wasm"] });
  return async (type, pixels, shape) => {
    const outputs = await session.run({ images: new ort.Tensor(type, pixels, shape) });
    return outputs[session.outputNames[0]].data;
  };
}

main(load, ort.env.versions.web);

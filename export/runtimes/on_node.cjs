// onnxruntime-node, in Node.js: npm install --ignore-scripts onnxruntime-node
const ort = require("onnxruntime-node");
const { main } = require("./contract.cjs");

async function load(path) {
  const session = await ort.InferenceSession.create(path);
  return async (type, pixels, shape) => {
    const outputs = await session.run({ images: new ort.Tensor(type, pixels, shape) });
    return outputs[session.outputNames[0]].data;
  };
}

main(load, ort.env.versions.node);

// The network: `model.onnx` in onnxruntime-web, on the visitor's device.
import * as ort from "./ort/ort.wasm.min.mjs";

export async function open(model, card) {
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = 1; // more threads need headers that many static hosts do not send
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const [output, ...hidden] = session.outputNames;
  const bytes = card.input_range === "0..255";

  // Maps 784 gray levels to class probabilities, the outputs of the hidden layers, and the time it took.
  return async (pixels) => {
    const values = bytes ? pixels : Float32Array.from(pixels, (value) => value / 255);
    const images = new ort.Tensor(bytes ? "uint8" : "float32", values, [1, 1, 28, 28]);
    const begin = performance.now();
    const outputs = await session.run({ images });
    const milliseconds = performance.now() - begin;
    return {
      probabilities: Array.from(outputs[output].data),
      hidden: hidden.map((name) => ({ name, shape: outputs[name].dims, values: outputs[name].data })),
      milliseconds,
    };
  };
}

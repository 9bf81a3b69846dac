// The network: `model.onnx` in onnxruntime-web, on this device alone.
import * as ort from "./ort/ort.wasm.min.mjs";

export async function open(model, card) {
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.numThreads = 1; // more need headers that many static hosts don't send
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  const [output, ...hidden] = session.outputNames;
  const bytes = card.input_range === "0..255";

  // 784 grey levels to ten probabilities, the hidden layers' numbers by name, and the milliseconds it took.
  return async (pixels) => {
    const values = bytes ? pixels : Float32Array.from(pixels, (value) => value / 255);
    const images = new ort.Tensor(bytes ? "uint8" : "float32", values, [1, 1, 28, 28]);
    const begin = performance.now();
    const found = await session.run({ images });
    const milliseconds = performance.now() - begin;
    return {
      probabilities: Array.from(found[output].data),
      hidden: hidden.map((name) => ({ name, shape: found[name].dims, values: found[name].data })),
      milliseconds,
    };
  };
}

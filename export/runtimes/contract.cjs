// The command line of contract.py, for programs in JavaScript.
const fs = require("node:fs");

exports.main = async (load, version) => {
  const [model, images, outputs, ...sizes] = process.argv.slice(2);
  const type = images.split(".").pop();
  const Pixels = { uint8: Uint8Array, float32: Float32Array }[type];
  const bytes = fs.readFileSync(images);
  const pixels = new Pixels(bytes.buffer, bytes.byteOffset, bytes.byteLength / Pixels.BYTES_PER_ELEMENT);
  const batches = [];
  for (let start = 0, index = 0; start < pixels.length / 784; index++) {
    const size = Number(sizes[Math.min(index, sizes.length - 1)]);
    const batch = pixels.slice(784 * start, 784 * (start + size));
    batches.push([type, batch, [batch.length / 784, 1, 28, 28]]);
    start += size;
  }

  const run = await load(model);
  for (const batch of new Map(batches.map((batch) => [batch[2][0], batch])).values()) await run(...batch);
  const begin = performance.now();
  const results = [];
  for (const batch of batches) results.push(Buffer.from(Float32Array.from(await run(...batch)).buffer));
  const seconds = (performance.now() - begin) / 1000;
  fs.writeFileSync(outputs, Buffer.concat(results));
  console.log(JSON.stringify({ version, seconds }));
};

# /// script
# dependencies = ["playwright"]
# ///
"""onnxruntime-web (WASM) in Chromium, from the files that npm installs into NODE_PATH.

The command line is that of contract.py.
"""

import array
import json
import os
import shutil
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright

MODEL, IMAGES, OUTPUTS, *SIZES = sys.argv[1:]
SCRIPT = """
async ({ type, sizes }) => {
  ort.env.wasm.wasmPaths = "/onnxruntime-web/dist/";
  const session = await ort.InferenceSession.create("/model");
  const Pixels = { uint8: Uint8Array, float32: Float32Array }[type];
  const pixels = new Pixels(await (await fetch("/images")).arrayBuffer());
  const run = async (start, size) => {
    const batch = pixels.slice(784 * start, 784 * (start + size));
    const images = new ort.Tensor(type, batch, [batch.length / 784, 1, 28, 28]);
    return (await session.run({ images }))[session.outputNames[0]].data;
  };
  for (const size of sizes) await run(0, size);
  const begin = performance.now();
  const outputs = [];
  for (let start = 0, index = 0; start < pixels.length / 784; index++) {
    const size = sizes[Math.min(index, sizes.length - 1)];
    outputs.push(...(await run(start, size)));
    start += size;
  }
  return [outputs, (performance.now() - begin) / 1000, ort.env.versions.web];
}
"""


class Files(SimpleHTTPRequestHandler):
    def translate_path(self, path):
        files = {"/model": MODEL, "/images": IMAGES}
        return files.get(path) or super().translate_path(path)

    def log_message(self, *arguments):
        pass


os.chdir(os.environ["NODE_PATH"])
server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
threading.Thread(target=server.serve_forever, daemon=True).start()
with sync_playwright() as playwright:
    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/onnxruntime-web/")
    page.add_script_tag(url="/onnxruntime-web/dist/ort.wasm.min.js")
    request = {"type": IMAGES.rpartition(".")[2], "sizes": list(map(int, SIZES))}
    outputs, seconds, version = page.evaluate(SCRIPT, request)
    version = f"{version}, Chromium {browser.version}"
    browser.close()
with Path(OUTPUTS).open("wb") as file:
    array.array("f", outputs).tofile(file)
print(json.dumps({"version": version, "seconds": seconds}))

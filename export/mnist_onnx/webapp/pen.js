// Strokes: painting them on a canvas, and rasterizing them to ink for the network.

export const SIZE = 280; // side of a drawing, in drawing units
export const WIDTH = 22; // of a stroke, in drawing units

// Paints strokes, lists of [x, y] in drawing units. A stroke of one point is a dot.
export function draw(context, strokes, scale) {
  context.lineWidth = WIDTH * scale;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * scale, stroke[0][1] * scale);
    for (const [x, y] of stroke) context.lineTo(x * scale, y * scale);
    context.stroke();
  }
}

// The ink of strokes, 0 to 255, as a Float64Array of SIZE x SIZE.
export function ink(strokes) {
  const canvas = new OffscreenCanvas(SIZE, SIZE);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.strokeStyle = "#fff";
  draw(context, strokes, 1);
  const { data } = context.getImageData(0, 0, SIZE, SIZE);
  return Float64Array.from({ length: SIZE * SIZE }, (_, index) => data[4 * index + 3]);
}

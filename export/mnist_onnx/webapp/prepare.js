// MNIST preprocessing of a drawing: `frame` of mnist_jax/data/preprocess.py, in JavaScript.
//
// Scales the ink to 20 pixels on its longer side by area averaging, scales its brightest pixel to 255, and
// places it in 28x28 with its center of mass in the middle (LeCun, Cortes, Burges: The MNIST database).

export const SIDE = 28;
const BOX = 20;

// Takes nonnegative ink, row by row, `height` x `width`; returns a Uint8Array of 784, or null without ink.
export function frame(ink, height, width) {
  const box = boundingBox(ink, height, width);
  if (box === null) return null;
  const [top, left, rows, columns] = box;
  const digit = new Float64Array(rows * columns);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) digit[y * columns + x] = ink[(top + y) * width + left + x];
  }
  const scale = BOX / Math.max(rows, columns);
  const tall = Math.max(1, round(rows * scale));
  const wide = Math.max(1, round(columns * scale));
  const small = resize(digit, rows, columns, tall, wide);
  const brightest = small.reduce((most, value) => Math.max(most, value), 0);
  const gray = Uint8Array.from(small, (value) => round((255 / brightest) * value));

  const masses = [new Float64Array(tall), new Float64Array(wide)];
  gray.forEach((value, index) => {
    masses[0][Math.floor(index / wide)] += value;
    masses[1][index % wide] += value;
  });
  const [down, right] = [offset(masses[0]), offset(masses[1])];
  const framed = new Uint8Array(SIDE * SIDE);
  gray.forEach((value, index) => {
    framed[(down + Math.floor(index / wide)) * SIDE + right + (index % wide)] = value;
  });
  return framed;
}

// Rounds halves to even, as Python does.
function round(value) {
  const up = Math.round(value);
  return up - value === 0.5 && up % 2 !== 0 ? up - 1 : up;
}

function boundingBox(ink, height, width) {
  let [top, bottom, left, right] = [height, -1, width, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (ink[y * width + x] > 0) {
        [top, bottom] = [Math.min(top, y), y];
        [left, right] = [Math.min(left, x), Math.max(right, x)];
      }
    }
  }
  return bottom < 0 ? null : [top, left, bottom - top + 1, right - left + 1];
}

function resize(image, height, width, tall, wide) {
  const down = weights(height, tall);
  const across = weights(width, wide);
  const narrow = new Float64Array(height * wide);
  for (let y = 0; y < height; y++) {
    across.forEach((shares, x) => {
      for (const [from, share] of shares) narrow[y * wide + x] += share * image[y * width + from];
    });
  }
  const small = new Float64Array(tall * wide);
  down.forEach((shares, y) => {
    for (const [from, share] of shares) {
      for (let x = 0; x < wide; x++) small[y * wide + x] += share * narrow[from * wide + x];
    }
  });
  return small;
}

// For each new pixel, the old pixels it covers and their weights: area averaging to shrink, bilinear to enlarge.
function weights(old, size) {
  const scale = old / size;
  return Array.from({ length: size }, (_, index) => {
    const shares = [];
    if (scale <= 1) {
      const center = Math.min(Math.max((index + 0.5) * scale - 0.5, 0), old - 1);
      for (let from = Math.floor(center); from <= Math.min(Math.ceil(center), old - 1); from++) {
        shares.push([from, 1 - Math.abs(center - from)]);
      }
      return shares;
    }
    const [start, end] = [index * scale, (index + 1) * scale];
    for (let from = Math.floor(start); from < Math.min(Math.ceil(end), old); from++) {
      shares.push([from, Math.max(0, Math.min(end, from + 1) - Math.max(start, from)) / scale]);
    }
    return shares;
  });
}

// The offset that puts the center of mass at 13.5 to 14.5, where those of all MNIST digits are.
function offset(mass) {
  const total = mass.reduce((sum, value) => sum + value, 0);
  const center = mass.reduce((sum, value, index) => sum + value * index, 0) / total;
  return Math.min(Math.max(Math.floor(14.5 - center), 0), SIDE - mass.length);
}

// A drawing -> the 28x28 that MNIST would have made of it: `frame` of mnist_jax/prepare.py, in JavaScript.
//
// The ink is scaled to 20 pixels on its longer side, by means over areas, its brightest pixel becomes 255, and
// it is put into 28x28 with its centre of mass in the middle (LeCun, Cortes, Burges: The MNIST database).

export const SIDE = 28;
const BOX = 20;

// Ink as numbers of at least 0, row by row, `height` x `width`; gives a Uint8Array of 784, or null without ink.
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
  const grey = Uint8Array.from(small, (value) => round((255 / brightest) * value));

  const masses = [new Float64Array(tall), new Float64Array(wide)];
  grey.forEach((value, index) => {
    masses[0][Math.floor(index / wide)] += value;
    masses[1][index % wide] += value;
  });
  const [down, right] = [offset(masses[0]), offset(masses[1])];
  const framed = new Uint8Array(SIDE * SIDE);
  grey.forEach((value, index) => {
    framed[(down + Math.floor(index / wide)) * SIDE + right + (index % wide)] = value;
  });
  return framed;
}

// Halves to the even side, as Python does.
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

function resize(picture, height, width, tall, wide) {
  const down = weights(height, tall);
  const across = weights(width, wide);
  const narrow = new Float64Array(height * wide);
  for (let y = 0; y < height; y++) {
    across.forEach((shares, x) => {
      for (const [from, share] of shares) narrow[y * wide + x] += share * picture[y * width + from];
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

// For each new pixel, the old ones that are in it and how much of it each is: areas to shrink, bilinear to grow.
function weights(old, size) {
  const scale = old / size;
  return Array.from({ length: size }, (_, index) => {
    const shares = [];
    if (scale <= 1) {
      const centre = Math.min(Math.max((index + 0.5) * scale - 0.5, 0), old - 1);
      for (let from = Math.floor(centre); from <= Math.min(Math.ceil(centre), old - 1); from++) {
        shares.push([from, 1 - Math.abs(centre - from)]);
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

// Where a row of that mass begins, so that its centre is at 13.5 to 14.5, where all of MNIST's are.
function offset(mass) {
  const total = mass.reduce((sum, value) => sum + value, 0);
  const centre = mass.reduce((sum, value, index) => sum + value * index, 0) / total;
  return Math.min(Math.max(Math.floor(14.5 - centre), 0), SIDE - mass.length);
}

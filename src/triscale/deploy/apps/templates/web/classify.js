// From a photo to an answer. Nothing here needs a browser, except decode().
"use strict";

const GRAY = 128;  // transparent pixels show it
const BITS = 22;   // fractional bits of filter weights

const FILTERS = {
  bilinear: { support: 1, weight: x => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: x => {
      const a = -0.5, t = Math.abs(x);
      if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
      return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
    },
  },
};

// Decode a file to upright RGBA values; transparent pixels are drawn over gray.
async function decode(file) {
  const options = { imageOrientation: "from-image", colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options);
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  // Where there is a float16 canvas, blending rounds once; elsewhere half-transparent pixels may be one level off.
  const context = canvas.getContext("2d", { willReadFrequently: true, colorType: "float16" });
  context.fillStyle = `rgb(${GRAY}, ${GRAY}, ${GRAY})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Return the channels of an RGBA image as one array of values from 0 to 255 each: red, green and blue, or gray.
function planes({ data, width, height }, channels) {
  const found = Array.from({ length: channels }, () => new Uint8Array(width * height));
  for (let pixel = 0; pixel < width * height; pixel++) {
    const [red, green, blue] = [data[4 * pixel], data[4 * pixel + 1], data[4 * pixel + 2]];
    if (channels === 1) found[0][pixel] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16;
    else [found[0][pixel], found[1][pixel], found[2][pixel]] = [red, green, blue];
  }
  return found;
}

// Return the largest centered rectangle of a ratio, as left, top, right and bottom in fractions of pixels. They are
// rounded to 32 bits, as in Pillow.
function centerBox(width, height, target, crop) {
  const gcd = (a, b) => (b ? gcd(b, a % b) : a), divisor = gcd(target.width, target.height);
  const across = target.width / divisor, down = target.height / divisor;
  const unit = crop * Math.min(width / across, height / down);
  const left = (width - unit * across) / 2, top = (height - unit * down) / 2;
  return [left, top, left + unit * across, top + unit * down].map(Math.fround);
}

// Return for each pixel of a resized row the first pixel that it is made of, and the weights of these.
function partsOf(size, low, high, target, filter) {
  const scale = Math.fround(high - low) / target, stretch = Math.max(1, scale);  // antialiasing: the filter grows with the pixels
  const support = filter.support * stretch, found = [];
  for (let index = 0; index < target; index++) {
    const center = low + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const last = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter.weight((x - center + 0.5) / stretch));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    found.push({ first, weights: weights.map(weight => roundAway((weight / total) * 2 ** BITS)) });
  }
  return found;
}

const roundAway = value => Math.trunc(value + (value < 0 ? -0.5 : 0.5));
const toByte = sum => Math.min(255, Math.max(0, Math.floor((sum + 2 ** (BITS - 1)) / 2 ** BITS)));

function alongRows(values, width, height, parts) {
  const found = new Uint8Array(parts.length * height);
  for (let y = 0; y < height; y++) {
    parts.forEach(({ first, weights }, x) => {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += values[y * width + first + i] * weights[i];
      found[y * parts.length + x] = toByte(sum);
    });
  }
  return found;
}

function alongColumns(values, width, parts) {
  const found = new Uint8Array(width * parts.length);
  parts.forEach(({ first, weights }, y) => {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += values[(first + i) * width + x] * weights[i];
      found[y * width + x] = toByte(sum);
    }
  });
  return found;
}

// Resize a box of one channel along rows and columns, rounding to 8 bits after each. Pillow 13 begins with the columns of
// tall images; earlier versions always begin with the rows, which may change a value by one.
function resize(values, width, height, box, target, interpolation) {
  if (interpolation === "nearest") return nearest(values, width, box, target);
  const filter = FILTERS[interpolation], shrinks = height > target.height;
  const columns = partsOf(width, box[0], box[2], target.width, filter);
  const rows = partsOf(height, box[1], box[3], target.height, filter);
  if (shrinks && height - target.height > 2 * (width - target.width)) {
    return alongRows(alongColumns(values, width, rows), width, target.height, columns);
  }
  return alongColumns(alongRows(values, width, height, columns), target.width, rows);
}

function nearest(values, width, box, target) {
  const places = (low, high, size) => {
    const step = Math.fround(high - low) / size, found = [];
    for (let place = low + step * 0.5; found.length < size; place += step) found.push(Math.trunc(place));
    return found;
  };
  const columns = places(box[0], box[2], target.width), rows = places(box[1], box[3], target.height);
  return Uint8Array.from(rows.flatMap(y => columns.map(x => values[y * width + x])));
}

// Return the input of the model, [channels, height, width] in one array, for an RGBA image.
function prepare(image, model) {
  const [channels, height, width] = model.input_size, target = { width, height };
  const box = centerBox(image.width, image.height, target, model.crop);
  const input = new Float32Array(channels * height * width);
  planes(image, channels).forEach((plane, channel) => {
    const resized = resize(plane, image.width, image.height, box, target, model.interpolation);
    const mean = model.mean[channel], std = model.std[channel];
    resized.forEach((value, index) => { input[channel * height * width + index] = (value / 255 - mean) / std; });
  });
  return input;
}

// Return what logits mean: classes by probability, those that are the answer, the likely ones, and whether it is unknown.
function answer(logits, model) {
  const multi = model.activation === "sigmoid", temperature = model.temperature ?? 1, highest = Math.max(...logits);
  const exponentials = logits.map(logit => Math.exp((logit - highest) / temperature));
  const total = exponentials.reduce((sum, value) => sum + value, 0);
  const probabilities = multi ? logits.map(logit => 1 / (1 + Math.exp(-logit / temperature))) : exponentials.map(e => e / total);
  const ranking = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  const chosen = multi ? ranking.filter(index => probabilities[index] >= (model.thresholds?.[index] ?? 0.5)) : [ranking[0]];
  const likely = model.set_threshold === undefined ? null :
    ranking.filter((index, place) => probabilities[index] >= model.set_threshold || (!multi && place === 0));
  const softplus = logit => Math.max(0, logit) + Math.log1p(Math.exp(-Math.abs(logit)));
  const energy = multi ? logits.reduce((sum, logit) => sum + softplus(logit), 0) :
    highest + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
  return { probabilities, ranking, chosen, likely, unknown: energy < (model.unknown_threshold ?? -Infinity), multi };
}

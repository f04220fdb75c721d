// From pixels to what the model sees, as visionclip/data/images.py prepares them; and what that takes of OpenCV.

function prepare(image, size, field = find(image)) {
  const square = cut(image, field);
  return square.width > size ? shrunk(square, size, size, square.width / size) : enlarged(square, size);
}

function even(value) { // to the nearest whole number, halves to the even one
  const floor = Math.floor(value), rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2) ? floor + 1 : floor;
}

function median(values) {
  const sorted = Float64Array.from(values).sort(), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

const middle = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);

function windowOf({ width, data }, x0, y0, x1, y1) {
  const out = new Uint8Array(3 * (x1 - x0) * (y1 - y0));
  for (let y = y0; y < y1; y++) out.set(data.subarray(3 * (y * width + x0), 3 * (y * width + x1)), 3 * (y - y0) * (x1 - x0));
  return { width: x1 - x0, height: y1 - y0, data: out };
}

// --- resizing: INTER_AREA and INTER_CUBIC ---------------------------------------------------------------------------
function areaWeights(from, to, scale) {
  return Array.from({ length: to }, (_, place) => {
    const start = place * scale, end = start + scale, cell = Math.min(scale, from - start);
    const last = Math.min(Math.floor(end), from - 1), first = Math.min(Math.ceil(start), last);
    const parts = [];
    if (first - start > 1e-3) parts.push([first - 1, (first - start) / cell]);
    for (let index = first; index < last; index++) parts.push([index, 1 / cell]);
    if (end - last > 1e-3) parts.push([last, Math.min(end - last, 1, cell) / cell]);
    return parts;
  });
}

function cubicWeights(from, to) {
  return Array.from({ length: to }, (_, place) => {
    const at = ((place + 0.5) * from) / to - 0.5, first = Math.floor(at), x = at - first, a = -0.75;
    const far = (t) => ((a * t - 5 * a) * t + 8 * a) * t - 4 * a, near = (t) => ((a + 2) * t - (a + 3)) * t * t + 1;
    const weights = [far(x + 1), near(x), near(1 - x)];
    weights.push(1 - weights[0] - weights[1] - weights[2]);
    return weights.map((weight, step) => [Math.min(Math.max(first - 1 + step, 0), from - 1), weight]);
  });
}

const shrunk = (image, width, height, scale) =>
  resampled(image, areaWeights(image.width, width, scale), areaWeights(image.height, height, scale));
const enlarged = (image, size) => resampled(image, cubicWeights(image.width, size), cubicWeights(image.height, size));

function resampled({ width, data }, columns, rows) {
  const out = new Uint8ClampedArray(3 * columns.length * rows.length), line = new Float32Array(3 * width);
  rows.forEach((parts, y) => {
    line.fill(0);
    for (const [row, weight] of parts)
      for (let place = 0, start = 3 * row * width; place < line.length; place++) line[place] += weight * data[start + place];
    columns.forEach((cells, x) => {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (const [column, weight] of cells) sum += weight * line[3 * column + channel];
        out[3 * (y * columns.length + x) + channel] = sum; // rounded, halves to the even number
      }
    });
  });
  return { width: columns.length, height: rows.length, data: new Uint8Array(out.buffer) };
}

// --- filters; pixels beyond the rim are those inside of it, mirrored ----------------------------------------------------
function mirrored(place, length) {
  while (place < 0 || place >= length) place = place < 0 ? -place : 2 * length - 2 - place;
  return place;
}

function smoothed({ width, height, data }, sigma) { // GaussianBlur of 8 bits
  const radius = (even(6 * sigma + 1) | 1) >> 1;
  const weights = Array.from({ length: 2 * radius + 1 }, (_, place) => Math.exp(-((place - radius) ** 2) / (2 * sigma ** 2)));
  const total = weights.reduce((one, other) => one + other, 0);
  const columns = Array.from({ length: width }, (_, x) =>
    weights.map((weight, step) => [mirrored(x + step - radius, width), weight / total]));
  const rows = Array.from({ length: height }, (_, y) =>
    weights.map((weight, step) => [mirrored(y + step - radius, height), weight / total]));
  return resampled({ width, height, data }, columns, rows);
}

function boxSums(plane, width, height, radius) {
  const across = new Float32Array(plane.length), sums = new Float32Array(plane.length);
  const run = (from, to, length, start, step) => {
    let sum = 0;
    for (let place = -radius; place <= radius; place++) sum += from[start + step * mirrored(place, length)];
    for (let place = 0; place < length; place++) {
      to[start + step * place] = sum;
      sum += from[start + step * mirrored(place + radius + 1, length)] - from[start + step * mirrored(place - radius, length)];
    }
  };
  for (let y = 0; y < height; y++) run(plane, across, width, y * width, 1);
  for (let x = 0; x < width; x++) run(across, sums, height, x, width);
  return sums;
}

// --- masks: a brush is, for each of its rows, the first and the last column about its middle ------------------------------
function ellipse(size) {
  const radius = size >> 1;
  return Array.from({ length: size }, (_, row) => {
    const reach = radius ? even(radius * Math.sqrt((radius ** 2 - (row - radius) ** 2) / radius ** 2)) : 0;
    return [-reach, reach];
  });
}

function dilated(mask, width, height, brush) {
  const out = new Uint8Array(mask.length), radius = brush.length >> 1;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (mask[y * width + x])
        brush.forEach(([first, last], row) => {
          const to = y + row - radius;
          if (to >= 0 && to < height)
            out.fill(1, to * width + Math.max(x + first, 0), to * width + Math.min(x + last, width - 1) + 1);
        });
  return out;
}

function eroded(mask, width, height, brush) { // what lies beyond the picture is empty
  const reach = brush.length >> 1, wide = width + 2 * reach, high = height + 2 * reach;
  const empty = new Uint8Array(wide * high).fill(1);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) empty[(y + reach) * wide + x + reach] = 1 - mask[y * width + x];
  const eaten = dilated(empty, wide, high, brush);
  return mask.map((_, place) => 1 - eaten[(Math.floor(place / width) + reach) * wide + (place % width) + reach]);
}

function pieces(mask, width, height) { // eight neighbours; label 0 is what is empty
  const labels = new Int32Array(mask.length), areas = [0];
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    const open = [start];
    labels[start] = areas.length;
    let count = 0;
    while (open.length) {
      const place = open.pop(), x = place % width, y = (place - x) / width;
      count++;
      for (let v = Math.max(y - 1, 0); v <= Math.min(y + 1, height - 1); v++)
        for (let u = Math.max(x - 1, 0); u <= Math.min(x + 1, width - 1); u++)
          if (mask[v * width + u] && !labels[v * width + u]) {
            labels[v * width + u] = areas.length;
            open.push(v * width + u);
          }
    }
    areas.push(count);
  }
  return { labels, areas };
}

// --- convex outlines: lists of [x, y] --------------------------------------------------------------------------------
function hull(mask, width) { // Andrew's monotone chain
  const points = [];
  for (let start = 0; start < mask.length; start += width) {
    const row = mask.subarray(start, start + width), first = row.indexOf(1);
    if (first < 0) continue;
    const last = row.lastIndexOf(1);
    points.push([first, start / width]);
    if (last > first) points.push([last, start / width]);
  }
  points.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
  const turn = ([ax, ay], [bx, by], [cx, cy]) => (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
  const chain = (ordered) => {
    const kept = [];
    for (const point of ordered) {
      while (kept.length > 1 && turn(kept[kept.length - 2], kept[kept.length - 1], point) <= 0) kept.pop();
      kept.push(point);
    }
    return kept.slice(0, -1);
  };
  return points.length > 1 ? [...chain(points), ...chain([...points].reverse())] : points;
}

function area(outline) {
  const twice = outline.reduce((sum, [x, y], place) => {
    const [u, v] = outline[(place + 1) % outline.length];
    return sum + x * v - u * y;
  }, 0);
  return Math.abs(twice) / 2;
}

function line([x0, y0], [x1, y1], visit) { // Bresenham's
  const dx = Math.abs(x1 - x0), dy = -Math.abs(y1 - y0), right = x0 < x1 ? 1 : -1, down = y0 < y1 ? 1 : -1;
  for (let error = dx + dy; ; ) {
    visit(x0, y0);
    if (x0 === x1 && y0 === y1) return;
    const twice = 2 * error;
    if (twice >= dy) (error += dy), (x0 += right);
    if (twice <= dx) (error += dx), (y0 += down);
  }
}

function filled({ width, height }, outline) { // 1 inside of it and on its rim
  const first = new Int32Array(height).fill(width), last = new Int32Array(height).fill(-1);
  const corners = outline.map((point) => point.map(even));
  corners.forEach((corner, place) =>
    line(corner, corners[(place + 1) % corners.length], (x, y) => {
      if (y < 0 || y >= height) return;
      first[y] = Math.min(first[y], Math.max(x, 0));
      last[y] = Math.max(last[y], Math.min(x, width - 1));
    }));
  const inside = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) if (first[y] <= last[y]) inside.fill(1, y * width + first[y], y * width + last[y] + 1);
  return inside;
}

// The field of view of a photograph, as visionclip/data/field_of_view.py finds and cuts it: function for function, with
// what it takes of OpenCV in images.js. Pictures are {width, height, data}, data a Uint8Array of RGB.
const BLACK = 12, SIDE = 320, EDGE = 1.5, ROUNDS = 3;

function find(image) {
  const { width, height } = image;
  const scale = Math.min(1, SIDE / Math.max(width, height));
  let copy = scale < 1 ? shrunk(image, even(width * scale), even(height * scale), 1 / scale) : image;
  const whole = { width: copy.width, height: copy.height };
  const bays = new Uint8Array(whole.width * whole.height);
  let offset = [0, 0], kept = null, surround = "none";
  for (let round = 0; round < ROUNDS; round++) {
    let [outline, kind, own] = outlined(copy);
    if (!outline) break;
    outline = outline.map(([x, y]) => [x + offset[0], y + offset[1]]);
    if (kept) {
      outline = common(whole, grown(kept, -3), outline);
      if (!outline || area(outline) > 0.93 * area(kept)) break; // nothing new
    }
    kept = outline;
    surround = surround === "coloured" ? surround : kind;
    if (kind !== "coloured") break;
    for (let y = 0; y < copy.height; y++)
      for (let x = 0; x < copy.width; x++)
        bays[(y + Math.trunc(offset[1])) * whole.width + x + Math.trunc(offset[0])] |= own[y * copy.width + x];
    [copy, offset] = within(copy, kept.map(([x, y]) => [x - offset[0], y - offset[1]]), offset);
  }
  if (!kept) return { x0: 0, y0: 0, x1: width, y1: height, outline: null, surround, bays: null };
  return { ...inPixels(kept, scale, surround, image), bays: bays.some(Boolean) ? { ...whole, data: bays } : null };
}

function within(image, outline, offset) {
  const inner = grown(outline, -3);
  const xs = inner.map(([x]) => x), ys = inner.map(([, y]) => y);
  const x0 = Math.max(Math.trunc(Math.min(...xs)), 0), y0 = Math.max(Math.trunc(Math.min(...ys)), 0);
  const x1 = Math.min(Math.trunc(Math.max(...xs)) + 1, image.width);
  const y1 = Math.min(Math.trunc(Math.max(...ys)) + 1, image.height);
  return [windowOf(blackened(image, inner), x0, y0, x1, y1), [offset[0] + x0, offset[1] + y0]];
}

function cut(image, field) {
  let inside = windowOf(image, field.x0, field.y0, field.x1, field.y1);
  if (field.outline) {
    const outline = field.outline.map(([x, y]) => [x - field.x0, y - field.y0]);
    const edge = field.surround === "coloured" ? (EDGE / SIDE) * Math.max(image.width, image.height) : 0;
    inside = edge ? mended(inside, outline, edge) : blackened(inside, outline);
  }
  const { width, height, data } = inside;
  if (field.bays) {
    const { width: across, height: down, data: bays } = field.bays;
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const row = Math.floor(((y + field.y0) * down) / image.height);
        const column = Math.floor(((x + field.x0) * across) / image.width);
        if (bays[row * across + column]) data.fill(0, 3 * (y * width + x), 3 * (y * width + x) + 3);
      }
  }
  const side = Math.max(width, height), top = (side - height) >> 1, left = (side - width) >> 1;
  const square = new Uint8Array(side * side * 3);
  for (let y = 0; y < height; y++)
    square.set(data.subarray(3 * y * width, 3 * (y + 1) * width), 3 * ((y + top) * side + left));
  return { width: side, height: side, data: square };
}

function mended(image, outline, edge) {
  const { width, height, data } = image;
  const whole = filled(image, outline), sound = filled(image, grown(outline, -edge));
  const radius = even(2 * edge);
  const weight = boxSums(Float32Array.from(sound), width, height, radius);
  const out = new Uint8Array(data.length), plane = new Float32Array(width * height);
  for (let channel = 0; channel < 3; channel++) {
    for (let place = 0; place < plane.length; place++) plane[place] = data[3 * place + channel] * sound[place];
    const near = boxSums(plane, width, height, radius);
    for (let place = 0; place < plane.length; place++)
      out[3 * place + channel] =
        whole[place] > sound[place] && weight[place] > 0 ? Math.trunc(near[place] / weight[place]) : plane[place];
  }
  return { width, height, data: out };
}

function outlined(image) {
  const none = new Uint8Array(image.width * image.height);
  for (const [colour, noise] of surrounds(image)) {
    const highest = colour.reduce((one, other) => Math.max(one, other), 0);
    const dark = highest <= BLACK;
    const blur = Math.min(noise / 8, SIDE / 96);
    const distance = distances(image, dark ? [0, 0, 0] : colour, blur);
    const left = noise / (1 + 2 * blur); // of the noise, once it is smoothed
    const level = dark ? BLACK + highest / 2 : BLACK / 2 + highest / 16 + 2 * left;
    const other = Uint8Array.from(distance, (value) => value > level);
    const found = largest(other, image.width, image.height);
    if (!found) continue;
    const outline = rounded(found, distance, image);
    const outside = filled(image, grown(outline, 2)).map((inside) => 1 - inside);
    const count = outside.reduce((one, two) => one + two, 0);
    let strange = 0;
    outside.forEach((out, place) => (strange += out & other[place]));
    strange = count ? strange / count : 1;
    const share = count / outside.length;
    if (dark) return [outline, strange * share > 2e-4 ? "marked" : "black", none];
    const evenly = count && median(distance.filter((_, place) => outside[place])) < 2 + 1.2 * left;
    const flat = strange < 0.05 && share > 0.1;
    if (evenly && share > 0.01 && strange < 0.15 && (flat || sharp(distance, outline, image))) {
      const alike = Uint8Array.from(distance, (value) => value < 2 + 2 * left);
      return [outline, "coloured", bayed(alike, outside, image)];
    }
  }
  return [null, "none", none];
}

function bayed(alike, outside, { width, height }) {
  const { labels } = pieces(alike.map((value, place) => value | outside[place]), width, height);
  const beyond = new Set(labels.filter((_, place) => outside[place]));
  const reached = alike.map((value, place) => (value && !outside[place] && beyond.has(labels[place]) ? 1 : 0));
  return dilated(reached, width, height, [[-1, 1], [-1, 1], [-1, 1]]);
}

function* surrounds({ width, height, data }) {
  const side = Math.max(Math.floor(Math.min(width, height) / 24), 1);
  const corners = [[0, 0], [width - side, 0], [0, height - side], [width - side, height - side]];
  const colours = [], noises = [];
  for (const [left, top] of corners) {
    const channels = [[], [], []];
    for (let y = top; y < top + side; y++)
      for (let x = left; x < left + side; x++)
        for (let channel = 0; channel < 3; channel++) channels[channel].push(data[3 * (y * width + x) + channel]);
    const own = channels.map(median);
    colours.push(own);
    noises.push(1.5 * Math.max(...channels.map((values, one) => median(values.map((v) => Math.abs(v - own[one]))))));
  }
  const gap = (one, other) => Math.max(...one.map((value, channel) => Math.abs(value - other[channel])));
  const gaps = colours.map((one) => colours.map((other) => gap(one, other)));
  if (Math.max(...gaps.flat()) > BLACK) {
    const shaded = new Float32Array(width * height * 3);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        for (let channel = 0; channel < 3; channel++) {
          const [a, b, c, d] = colours.map((colour) => colour[channel]);
          const right = x / Math.max(width - 1, 1), down = y / Math.max(height - 1, 1);
          const upper = a + right * (b - a), lower = c + right * (d - c);
          shaded[3 * (y * width + x) + channel] = upper + down * (lower - upper);
        }
    yield [shaded, Math.max(...noises)];
  }
  const alike = gaps.map((row) => row.filter((value) => value <= BLACK).length);
  const order = [0, 1, 2, 3].sort((i, j) => alike[j] - alike[i] || Math.max(...colours[i]) - Math.max(...colours[j]));
  const tried = [];
  for (const place of order)
    if (tried.every((other) => gaps[place][other] > BLACK)) {
      tried.push(place);
      yield [colours[place], noises[place]];
    }
  let rim = 0;
  const black = (x, y) => (Math.max(...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3)) <= BLACK ? 1 : 0);
  for (let x = 0; x < width; x++) rim += black(x, 0) + black(x, height - 1);
  for (let y = 0; y < height; y++) rim += black(0, y) + black(width - 1, y);
  if (Math.min(...colours.map((colour) => Math.max(...colour))) > BLACK && rim / (2 * (width + height)) > 0.3)
    yield [[0, 0, 0], 0]; // black, but for what lies in the corners
}

function distances(image, colour, blur) {
  const { data } = blur > 0.3 ? smoothed(image, blur) : image;
  const each = colour.length > 3;
  return Float32Array.from({ length: data.length / 3 }, (_, place) => {
    let most = 0;
    for (let channel = 0; channel < 3; channel++)
      most = Math.max(most, Math.abs(data[3 * place + channel] - colour[each ? 3 * place + channel : channel]));
    return most;
  });
}

function largest(mask, width, height) {
  const brush = ellipse(Math.floor(Math.max(width, height) / 40) | 1);
  const { labels, areas } = pieces(dilated(eroded(mask, width, height, brush), width, height, brush), width, height);
  const most = Math.max(0, ...areas.slice(1));
  if (!most || most < 0.1 * mask.length) return null;
  const own = areas.indexOf(most, 1);
  return hull(labels.map((label) => (label === own ? 1 : 0)), width);
}

function rounded(outline, distance, shape) {
  const round = circle(outline, shape);
  if (!round) return outline;
  const inside = filled(shape, outline), whole = filled(shape, round);
  const missing = distance.filter((_, place) => whole[place] && !inside[place]);
  const outside = distance.filter((_, place) => !whole[place] && !inside[place]);
  const level = outside.length ? median(outside) : 0;
  if (missing.length / distance.length > 0.01 && median(missing) > 1.5 * level + 1) return round;
  const shared = common(shape, outline, round);
  return !shared || area(shared) < 0.8 * area(outline) ? outline : shared;
}

function circle(outline, { width, height }) {
  const traced = new Uint8Array(width * height);
  const corners = outline.map(([x, y]) => [Math.trunc(x), Math.trunc(y)]);
  corners.forEach((corner, place) =>
    line(corner, corners[(place + 1) % corners.length], (x, y) => {
      if (x >= 2 && y >= 2 && x < width - 2 && y < height - 2) traced[y * width + x] = 1;
    }));
  const points = [];
  traced.forEach((value, place) => value && points.push([place % width, Math.floor(place / width)]));
  if (points.length < 24) return null;
  const [x0, y0] = middle(outline);
  const angles = points.map(([x, y]) => Math.atan2(x - x0, y - y0));
  const order = points.map((_, place) => place).sort((i, j) => angles[i] - angles[j]);
  const spread = Array.from({ length: 128 }, (_, place) => points[order[Math.trunc((place * (points.length - 1)) / 127)]]);
  const some = spread.filter((_, place) => place >= 8 && (place - 8) % 9 === 0);
  let best = null, most = -1;
  for (let i = 0; i < 14; i++)
    for (let j = i + 1; j < 14; j++)
      for (let k = j + 1; k < 14; k++) {
        const found = through(some[i], some[j], some[k]);
        const count = found ? spread.filter((point) => on(point, found)).length : 0;
        if (count > most) [best, most] = [found, count];
      }
  for (let round = 0; round < 3 && best; round++) best = fitted(points.filter((point) => on(point, best)));
  if (!best || points.filter((point) => on(point, best)).length / points.length < 0.5) return null;
  const [x, y, radius] = best;
  return Array.from({ length: 180 }, (_, place) => {
    const turn = (2 * Math.PI * place) / 180;
    return [x + radius * 1.005 * Math.cos(turn), y + radius * 1.005 * Math.sin(turn)];
  });
}

const on = ([px, py], [x, y, radius]) => Math.abs(Math.hypot(px - x, py - y) - radius) < 0.01 * radius;

function through([ax, ay], [bx, by], [cx, cy]) {
  const [p, q, r, s] = [bx - ax, by - ay, cx - ax, cy - ay];
  const determinant = p * s - q * r;
  if (Math.abs(determinant) < 1e-6) return null;
  const u = (bx * bx - ax * ax + by * by - ay * ay) / 2, v = (cx * cx - ax * ax + cy * cy - ay * ay) / 2;
  const x = (u * s - q * v) / determinant, y = (p * v - u * r) / determinant;
  return [x, y, Math.hypot(ax - x, ay - y)];
}

function fitted(points) {
  if (points.length < 3) return null;
  const [mx, my] = middle(points); // least squares about the mean, where its equations part
  let xx = 0, xy = 0, yy = 0, xr = 0, yr = 0, rr = 0;
  for (const point of points) {
    const x = point[0] - mx, y = point[1] - my, r = x * x + y * y;
    xx += x * x; xy += x * y; yy += y * y; xr += x * r; yr += y * r; rr += r;
  }
  const determinant = 2 * (xx * yy - xy * xy);
  if (!determinant) return null;
  const x = (xr * yy - yr * xy) / determinant, y = (yr * xx - xr * xy) / determinant;
  return [x + mx, y + my, Math.sqrt(rr / points.length + x * x + y * y)];
}

function sharp(distance, outline, shape) {
  const [inner, inside, outside] = [-10, -3, 2].map((margin) => along(distance, grown(outline, margin), shape));
  const seen = outside.map((value) => !Number.isNaN(value));
  if (seen.filter(Boolean).length < 8) return false;
  const jump = median(inside.map((value, place) => Math.abs(value - outside[place])).filter((_, place) => seen[place]));
  const drift = median(inside.map((value, place) => Math.abs(value - inner[place])).filter((_, place) => seen[place]));
  return jump > (2 * drift > BLACK / 2 ? 2 * drift : BLACK / 2);
}

function along(values, outline, { width, height }) {
  const corners = [...outline, outline[0]];
  const way = [0];
  for (let place = 1; place < corners.length; place++)
    way.push(way[place - 1] + Math.hypot(corners[place][0] - corners[place - 1][0], corners[place][1] - corners[place - 1][1]));
  let place = 0;
  return Array.from({ length: 180 }, (_, step) => {
    const distance = (way[way.length - 1] * step) / 179;
    while (place < way.length - 2 && way[place + 1] < distance) place++;
    const part = way[place + 1] > way[place] ? (distance - way[place]) / (way[place + 1] - way[place]) : 0;
    const [x, y] = [0, 1].map((axis) => even(corners[place][axis] + part * (corners[place + 1][axis] - corners[place][axis])));
    return x >= 0 && y >= 0 && x < width && y < height ? values[y * width + x] : NaN;
  });
}

function grown(outline, margin) {
  const [x0, y0] = middle(outline);
  return outline.map(([x, y]) => {
    const factor = 1 + margin / Math.max(Math.hypot(x - x0, y - y0), 1);
    return [x0 + (x - x0) * factor, y0 + (y - y0) * factor];
  });
}

function common(shape, one, other) {
  const second = filled(shape, other);
  const shared = filled(shape, one).map((value, place) => value & second[place]);
  return shared.some(Boolean) ? hull(shared, shape.width) : null;
}

function blackened(image, outline) {
  const inside = filled(image, outline);
  const data = image.data.slice();
  inside.forEach((value, place) => value || data.fill(0, 3 * place, 3 * place + 3));
  return { ...image, data };
}

function inPixels(outline, scale, surround, { width, height }) {
  const coloured = surround === "coloured";
  outline = grown(outline, coloured ? -0.5 : 0);
  const ends = [0, 1].map((axis) => {
    const values = outline.map((point) => point[axis]);
    const limit = axis ? height : width;
    return [Math.max(even(Math.min(...values) / scale), 0), Math.min(even((Math.max(...values) + 1) / scale), limit)];
  });
  const placed = (coloured ? outline : grown(outline, 1)).map((point) => point.map((v) => even((v + 0.5) / scale - 0.5)));
  return { x0: ends[0][0], x1: ends[0][1], y0: ends[1][0], y1: ends[1][1], outline: placed, surround };
}

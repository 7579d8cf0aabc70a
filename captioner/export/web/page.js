"use strict";
// Photographs in, captions out, in the browser alone: scaling as Pillow does it, two graphs, a beam search.

const facts = JSON.parse(document.getElementById("data").textContent);
const ESCAPE = "=".charCodeAt(0);
const WRONG_IMAGE = "is no image that this browser reads; convert it to JPEG or PNG";
const byId = (id) => document.getElementById(id);
let ort, encoder, step;

// What is packed in the page.

function bytes(id) {
  const text = byId(id).textContent, units = new Uint16Array(text.length);
  let count = 0;
  for (let index = 1; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    units[count++] = unit === ESCAPE ? text.charCodeAt(++index) ^ 0x8000 : unit;
  }
  return new Uint8Array(units.buffer, 0, 2 * count - Number(text[0]));
}

async function unpack(id) {
  const stream = new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const content = new Uint8Array(await new Response(stream).arrayBuffer());
  byId(id).remove();
  return content;
}

async function prepare() {
  if (typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined") {
    throw new Error("this browser is too old; update it");
  }
  const [script, wasm, one, other] = await Promise.all(["runtime", "wasm", "encoder", "step"].map(unpack));
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.numThreads = 1; // more need headers that a file from disk has not
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  const options = { executionProviders: ["wasm"] };
  encoder = await ort.InferenceSession.create(one, options);
  step = await ort.InferenceSession.create(other, options);
}

// Scaling, to the bit as Pillow's resize with a box and its antialiased filters on 8 bits.

const PRECISION = 22, HALF = 2 ** (PRECISION - 1);
const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: (x) => {
      const a = -0.5, d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
};

function coefficients(size, from, to, wanted, filter) {
  const scale = (to - from) / wanted, wide = Math.max(scale, 1), support = filter.support * wide;
  const rows = [];
  for (let index = 0; index < wanted; index++) {
    const center = from + (index + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = [];
    let sum = 0;
    for (let place = begin; place < end; place++) {
      weights.push(filter.weight((place - center + 0.5) * (1 / wide)));
      sum += weights[weights.length - 1];
    }
    const rounded = weights.map((weight) => {
      const share = (sum === 0 ? weight : weight / sum) * 2 ** PRECISION;
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    rows.push([begin, Int32Array.from(rounded)]);
  }
  return rows;
}

function clip(sum) {
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** PRECISION)));
}

// Passes read pixels of `stride` bytes, row by row, and write pixels of 3.

function horizontally(data, stride, width, height, table) {
  const scaled = new Uint8Array(table.length * height * 3);
  for (let y = 0, to = 0; y < height; y++) {
    for (const [begin, weights] of table) {
      let r = HALF, g = HALF, b = HALF;
      for (let k = 0, at = stride * (y * width + begin); k < weights.length; k++, at += stride) {
        r += data[at] * weights[k];
        g += data[at + 1] * weights[k];
        b += data[at + 2] * weights[k];
      }
      scaled[to++] = clip(r);
      scaled[to++] = clip(g);
      scaled[to++] = clip(b);
    }
  }
  return scaled;
}

function vertically(data, stride, width, table) {
  const scaled = new Uint8Array(table.length * width * 3);
  let to = 0;
  for (const [begin, weights] of table) {
    for (let x = 0; x < width; x++) {
      let r = HALF, g = HALF, b = HALF;
      for (let k = 0, at = stride * (begin * width + x); k < weights.length; k++, at += stride * width) {
        r += data[at] * weights[k];
        g += data[at + 1] * weights[k];
        b += data[at + 2] * weights[k];
      }
      scaled[to++] = clip(r);
      scaled[to++] = clip(g);
      scaled[to++] = clip(b);
    }
  }
  return scaled;
}

function resize(rgba, width, height, box, side, filter) {
  const across = coefficients(width, box[0], box[2], side, filter);
  const down = coefficients(height, box[1], box[3], side, filter);
  // Between the passes values are rounded to 8 bits, so their order matters: Pillow begins where more is to be saved.
  if (height > side && height - side > 2 * (width - side)) {
    return horizontally(vertically(rgba, 4, width, down), 3, width, side, across);
  }
  const first = down[0][0], last = down[side - 1][0] + down[side - 1][1].length;
  const used = rgba.subarray(4 * first * width, 4 * last * width);
  const between = horizontally(used, 4, width, last - first, across);
  return vertically(between, 3, side, down.map(([begin, weights]) => [begin - first, weights]));
}

function region(width, height) {
  if (facts.transform.resize === "squash") return [0, 0, width, height];
  const side = Math.min(width, height), left = (width - side) / 2, top = (height - side) / 2;
  return [left, top, left + side, top + side];
}

async function pixelsOf(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw new Error(WRONG_IMAGE);
  }
  const { width, height } = bitmap;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("is too large for this browser; scale it down");
  context.fillStyle = "white"; // under what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const box = region(width, height), side = facts.transform.size;
  const rgba = context.getImageData(0, 0, width, height).data;
  const pixels = resize(rgba, width, height, box, side, FILTERS[facts.transform.interpolation]);
  return { pixels, box: [box[0] / width, box[1] / height, box[2] / width, box[3] / height] };
}

// Beam search, by the rules of the Python package.

function chosenRows(tensor, parents) {
  const length = tensor.data.length / tensor.dims[1];
  const data = new tensor.data.constructor(parents.length * length);
  parents.forEach((parent, row) => data.set(tensor.data.subarray(parent * length, (parent + 1) * length), row * length));
  return new ort.Tensor(tensor.type, data, [1, parents.length, ...tensor.dims.slice(2)]);
}

function greatest(values, offset, length, count) {
  const found = [];
  for (let index = 0; index < length; index++) {
    const value = values[offset + index];
    if (found.length === count && !(value > found[count - 1][0])) continue;
    let place = found.length;
    while (place > 0 && value > found[place - 1][0]) place--;
    found.splice(place, 0, [value, index]);
    if (found.length > count) found.pop();
  }
  return found;
}

// The last word, and the words that would end a sequence of this size that a hypothesis has already.
function repeating(words, size) {
  if (!size) return [];
  const begun = words.slice(words.length - size + 1);
  return words.filter((word, end) => end === words.length - 1 || (end >= size - 1 && begun.every((word, place) => word === words[end - size + 1 + place])));
}

async function write(pixels) {
  const { special, beam } = facts, side = facts.transform.size;
  const encoded = await encoder.run({ pixels: new ort.Tensor("uint8", pixels, [1, side, side, 3]) });
  const after = step.outputNames.filter((name) => name.startsWith("next_")).map((name) => name.slice(5));
  let recurrent = {};
  const fixed = {};
  for (const [name, tensor] of Object.entries(encoded)) {
    if (after.includes(name)) recurrent[name] = new ort.Tensor(tensor.type, tensor.data, [1, 1, ...tensor.dims.slice(1)]);
    else if (step.inputNames.includes(name)) fixed[name] = tensor;
  }
  const rank = (each) => each.score / each.values.length ** beam.penalty;
  let hypotheses = [{ words: [], values: [], maps: [], score: 0, finished: false, row: 0 }];
  for (let position = 0; position < beam.maxWords; position++) {
    const open = hypotheses.filter((each) => !each.finished);
    const parents = open.map((each) => each.row);
    for (const name of after) recurrent[name] = chosenRows(recurrent[name], parents);
    const last = BigInt64Array.from(open.map((each) => BigInt(position ? each.words[position - 1] : special.start)));
    const told = await step.run({ words: new ort.Tensor("int64", last, [1, open.length]), ...fixed, ...recurrent });
    recurrent = Object.fromEntries(after.map((name) => [name, told["next_" + name]]));
    const values = told.log_probabilities.data, vocabulary = values.length / open.length;
    const cells = told.attention ? told.attention.data.length / open.length : 0;
    const candidates = [];
    let row = -1;
    for (const each of hypotheses) {
      if (each.finished) {
        candidates.push(each);
        continue;
      }
      row++;
      for (const word of [...special.never, ...repeating(each.words, beam.repeat)]) values[row * vocabulary + word] = -Infinity;
      const map = cells ? told.attention.data.slice(row * cells, (row + 1) * cells) : null;
      for (const [value, word] of greatest(values, row * vocabulary, vocabulary, beam.size)) {
        candidates.push({
          words: [...each.words, word],
          values: [...each.values, value],
          maps: [...each.maps, map],
          score: each.score + value,
          finished: word === special.end,
          row,
        });
      }
    }
    candidates.sort((one, other) => rank(other) - rank(one));
    hypotheses = candidates.slice(0, beam.size);
    const wanted = hypotheses.slice(0, beam.captions);
    const hope = Math.max(...hypotheses.filter((e) => !e.finished).map((e) => e.score / beam.maxWords ** beam.penalty));
    if (wanted.every((each) => each.finished) && !(rank(wanted[wanted.length - 1]) < hope)) break;
  }
  return hypotheses.slice(0, beam.captions).map((each) => describe(each, encoded));
}

function describe(hypothesis, encoded) {
  const { values, maps, score } = hypothesis;
  const ids = hypothesis.words.filter((word) => word !== facts.special.end);
  const words = withArticles(ids);
  const confidence = facts.confidence && confidenceOf(ids, values, encoded);
  return { words, text: joined(words), values, maps, logProbability: score, confidence };
}

function withArticles(ids) {
  const words = ids.map((id) => facts.words[id]);
  if (!facts.vowels) return words;
  const vowels = new Set(facts.vowels);
  return words.map((word, place) =>
    (word === "a" || word === "an") && place + 1 < ids.length ? (vowels.has(ids[place + 1]) ? "an" : "a") : word);
}

function joined(words) {
  let text = "";
  for (const word of words) {
    const attached = !text || word === "n't" || (word.startsWith("'") && word.length > 1);
    text += attached ? word : " " + word;
  }
  return text;
}

// Confidence, from the features that the Python package lists.

const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0);
const least = (values) => (values.length ? Math.min(...values) : 0);
const sigmoid = (logOdds) => 1 / (1 + Math.exp(-logOdds));

function confidenceOf(ids, values, encoded) {
  const { weights, things, concepts } = facts.confidence, odds = encoded.concept_log_odds.data;
  const ofWords = new Map(), ofThings = new Map(), named = new Map();
  concepts.forEach((word, place) => {
    ofWords.set(word, odds[place]);
    if (things[word]) ofThings.set(things[word], Math.max(odds[place], ofThings.get(things[word]) ?? -Infinity));
  });
  ids.forEach((word, place) => {
    if (things[word] && !named.has(things[word])) named.set(things[word], values[place]);
  });
  const known = (keys, map) => [...keys].filter((key) => map.has(key)).map((key) => map.get(key));
  const logs = [...named.values()], thingOdds = known(named.keys(), ofThings), wordOdds = known(new Set(ids), ofWords);
  const features = [
    mean(values), least(values), ids.length, named.size, mean(logs), least(logs), mean(thingOdds), least(thingOdds),
    mean(wordOdds), least(wordOdds), concepts.length ? Math.max(...odds) : 0,
  ];
  const right = features.reduce((sum, value, place) => sum + value * weights[place], encoded.right_log_odds.data[0]);
  return sigmoid(encoded.photograph_log_odds.data[0]) * sigmoid(right);
}

// The list.

const results = [];
let queue = Promise.resolve();
const percent = (value) => `${Math.round(100 * value)} %`;
const tell = (text) => { byId("status").textContent = text; };

function add(files) {
  for (const file of files) {
    const item = byId("entry").content.firstElementChild.cloneNode(true);
    const result = { name: file.name || "pasted image" };
    item.querySelector("figcaption").textContent = result.name;
    item.querySelector(".caption").textContent = "…";
    item.querySelectorAll("button, details").forEach((each) => { each.hidden = true; });
    item.setAttribute("aria-busy", "true");
    byId("list").prepend(item);
    results.push(result);
    queue = queue.then(() => captionOne(file, item, result));
  }
}

async function captionOne(file, item, result) {
  tell(`Captioning ${result.name} …`);
  try {
    await ready;
    const begin = performance.now();
    const { pixels, box } = await pixelsOf(file);
    const captions = await write(pixels);
    item.dataset.milliseconds = String(Math.round(performance.now() - begin));
    Object.assign(result, { captions, box });
    show(item, file, result);
    tell(`${result.name}: ${captions[0].text}`);
  } catch (error) {
    result.error = String(error.message || error).split("\n")[0];
    item.querySelector(".picture").remove();
    item.querySelector(".caption").classList.add("error");
    item.querySelector(".caption").textContent = `${result.name}: ${result.error}`;
    tell(`${result.name}: ${result.error}`);
  }
  item.setAttribute("aria-busy", "false");
  byId("save").hidden = false;
}

function show(item, file, result) {
  const image = item.querySelector("img");
  image.src = URL.createObjectURL(file);
  const others = item.querySelector(".others");
  const choose = (caption, chosen) => {
    others.querySelectorAll("button").forEach((each) => each.setAttribute("aria-pressed", String(each === chosen)));
    image.alt = caption.text;
    item.querySelector(".caption").textContent = caption.text;
    const sure = facts.confidence
      ? `Confidence: ${percent(caption.confidence)}. `
      : `Probability of a word: ${percent(Math.exp(mean(caption.values)))} on average. `;
    item.querySelector(".about").textContent = sure +
      (facts.grid ? "Choose a word to see where the model looked." : "This model has no attention to show.");
    const words = item.querySelector(".words");
    words.replaceChildren(...caption.words.map((word, place) => wordButton(item, result, caption, word, place)));
    paint(item, result, null);
  };
  result.captions.forEach((caption) => {
    const button = document.createElement("button"), value = document.createElement("span");
    button.type = "button";
    button.textContent = caption.text;
    button.addEventListener("click", () => choose(caption, button));
    value.className = "soft";
    value.textContent = `log-probability ${caption.logProbability.toFixed(2).replace("-", "−")}`;
    const row = document.createElement("li");
    row.append(button, " ", value);
    others.append(row);
  });
  item.querySelectorAll("button, details").forEach((each) => { each.hidden = false; });
  item.querySelector(".copy").addEventListener("click", () => copy(item.querySelector(".caption").textContent));
  choose(result.captions[0], others.querySelector("button"));
}

function wordButton(item, result, caption, word, place) {
  const button = document.createElement("button"), small = document.createElement("small");
  button.type = "button";
  small.textContent = percent(Math.exp(caption.values[place]));
  button.append(word, small);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const pressed = button.getAttribute("aria-pressed") === "true";
    item.querySelectorAll(".words button").forEach((each) => each.setAttribute("aria-pressed", "false"));
    button.setAttribute("aria-pressed", String(!pressed));
    paint(item, result, pressed ? null : caption.maps[place]);
  });
  return button;
}

const colors = bytes("palette");

function paint(item, result, map) {
  const canvas = item.querySelector("canvas");
  canvas.hidden = !map || !facts.grid;
  if (canvas.hidden) return;
  const [rows, columns] = facts.grid, [left, top, right, bottom] = result.box;
  canvas.width = columns;
  canvas.height = rows;
  canvas.style.left = `${100 * left}%`;
  canvas.style.top = `${100 * top}%`;
  canvas.style.width = `${100 * (right - left)}%`;
  canvas.style.height = `${100 * (bottom - top)}%`;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  const peak = Math.max(...map.subarray(0, rows * columns), Number.MIN_VALUE);
  for (let cell = 0; cell < rows * columns; cell++) {
    const color = Math.round((255 * map[cell]) / peak);
    image.data.set([...colors.subarray(3 * color, 3 * color + 3), 255], 4 * cell);
  }
  context.putImageData(image, 0, 0);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page from disk may have no clipboard of that kind
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  tell("Copied.");
}

function rowsOf() {
  return results.filter((each) => each.captions || each.error).map((each) =>
    each.error
      ? { image: each.name, error: each.error }
      : {
          image: each.name,
          caption: each.captions[0].text,
          log_probability: each.captions[0].logProbability,
          confidence: each.captions[0].confidence,
        });
}

function quoted(value) {
  const text = String(value ?? "");
  const plain = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text; // no formula
  return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

function save(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

byId("csv").addEventListener("click", () => {
  const header = ["image", "caption", "log_probability", "confidence", "error"];
  const lines = [header, ...rowsOf().map((row) => header.map((name) => row[name]))];
  save("captions.csv", "text/csv", lines.map((line) => line.map(quoted).join(",") + "\r\n").join(""));
});
byId("jsonl").addEventListener("click", () => {
  save("captions.jsonl", "application/x-ndjson", rowsOf().map((row) => JSON.stringify(row) + "\n").join(""));
});
for (const id of ["files", "camera"]) {
  byId(id).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
}
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("drop").classList.add("over");
});
document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));

const ready = prepare();
ready.then(
  () => { tell("Ready."); document.body.dataset.ready = String(Math.round(performance.now())); },
  (error) => tell(`The page cannot caption: ${String(error.message || error).split("\n")[0]}`),
);

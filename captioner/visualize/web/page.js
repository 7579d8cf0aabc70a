"use strict";

// Shows one photograph with its captions, in the elements of page.html; `view` changes the photograph.
const [picture, canvas, words, status, play, strength, choices, heading, photograph] =
  ["picture", "map", "words", "status", "play", "strength", "choices", "caption", "photograph"]
    .map((id) => document.getElementById(id));
const WORD_MILLISECONDS = 900;
const LONGEST_SIDE = 256; // of the drawn map, in pixels; the browser enlarges it further
const EMPTY_BAR = -6; // log-probability at which the bar is empty
const UNSEEN = [232, 232, 232]; // what the encoder never saw: a grey that the palette does not have

let data = null;
let palette = null; // 256 colours, 3 bytes each
let across = null; // `taps` of the columns of pixels and of the rows
let down = null;
let caption = null;
let chosen = null; // the word last focused, tapped or played: it stays when the pointer leaves
let timer = null;

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// For each pixel of a side: which four cells it lies between, and their weights in a Catmull-Rom cubic. The outermost
// cells go on beyond the edge; pixels outside the region have none.
function taps(pixels, start, end, cells) {
  return Array.from({ length: pixels }, (_, pixel) => {
    const place = ((pixel + 0.5) / pixels - start) / (end - start);
    if (place < 0 || place > 1) return null;
    const position = place * cells - 0.5;
    const first = Math.floor(position);
    const t = position - first;
    const weights = [
      ((2 - t) * t - 1) * t / 2, ((3 * t - 5) * t * t + 2) / 2, ((4 - 3 * t) * t + 1) * t / 2, (t - 1) * t * t / 2,
    ];
    return weights.map((weight, k) => [Math.min(Math.max(first - 1 + k, 0), cells - 1), weight]);
  });
}

function draw(index) {
  const cells = data.rows * data.columns;
  const map = bytes(caption.maps).subarray(index * cells, (index + 1) * cells);
  const image = new ImageData(canvas.width, canvas.height);
  for (let y = 0; y < canvas.height; y++) {
    const row = down[y] && Array.from({ length: data.columns }, (_, column) =>
      down[y].reduce((sum, [cell, weight]) => sum + weight * map[cell * data.columns + column], 0));
    for (let x = 0; x < canvas.width; x++) {
      const at = 4 * (y * canvas.width + x);
      let colour = UNSEEN;
      if (row && across[x]) {
        let value = 0;
        for (const [cell, weight] of across[x]) value += weight * row[cell];
        const entry = 3 * Math.round(Math.min(Math.max(value, 0), 255));
        colour = palette.subarray(entry, entry + 3);
      }
      image.data.set(colour, at);
      image.data[at + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function number(value) {
  return value.toFixed(2).replace("-", "−");
}

function percent(share) {
  return share < 0.01 ? "less than 1\u00a0%" : `${Math.round(100 * share)}\u00a0%`;
}

function place(index) {
  const [row, column] = caption.peaks[index].cell;
  const [left, top, right, bottom] = data.region;
  const x = left + (column + 0.5) / data.columns * (right - left);
  const y = top + (row + 0.5) / data.rows * (bottom - top);
  const vertical = ["upper", "middle", "lower"][Math.min(Math.floor(3 * y), 2)];
  const horizontal = ["left", "centre", "right"][Math.min(Math.floor(3 * x), 2)];
  return vertical === "middle" && horizontal === "centre" ? "centre" : `${vertical} ${horizontal}`;
}

function show(index) {
  [...words.children].forEach((button, k) => button.classList.toggle("shown", k === index));
  const mapped = index !== null && caption.maps !== null;
  picture.classList.toggle("mapped", mapped);
  if (!mapped) {
    delete canvas.dataset.word;
    canvas.setAttribute("aria-hidden", "true");
    if (index !== null) status.textContent = `${chance(index)}.`;
    return;
  }
  draw(index);
  const word = caption.words[index];
  const where = `strongest at the ${place(index)}`;
  canvas.dataset.word = index;
  canvas.removeAttribute("aria-hidden");
  canvas.setAttribute("aria-label", `Map of ${data.measure} for “${word}”, ${where}`);
  status.textContent = `${chance(index)}. Its ${data.measure} is ${where}, ${percent(caption.peaks[index].share)} of it in one cell `
    + `of ${data.rows}\u00a0×\u00a0${data.columns}.${away(index)}`;
}

function chance(index) {
  const value = caption.logProbabilities[index];
  return `“${caption.words[index]}”, word ${index + 1} of ${caption.words.length}: log-probability ${number(value)}, `
    + `a chance of ${percent(Math.exp(value))}`;
}

function away(index) {
  return caption.lookingAway ? ` The decoder looked away by ${percent(caption.lookingAway[index])}.` : "";
}

function choose(index, focus) {
  chosen = index;
  [...words.children].forEach((button, k) => { button.tabIndex = k === (index ?? 0) ? 0 : -1; });
  if (focus && index !== null) words.children[index].focus();
  show(index);
}

function stop() {
  clearInterval(timer);
  timer = null;
  play.textContent = "Play";
}

function start() {
  if (!caption.words.length) return;
  choose(chosen === null || chosen === caption.words.length - 1 ? 0 : chosen + 1);
  play.textContent = "Pause";
  timer = setInterval(() => {
    if (chosen === null || chosen >= caption.words.length - 1) stop();
    else choose(chosen + 1);
  }, WORD_MILLISECONDS);
}

function toggle() {
  if (timer === null) start();
  else stop();
}

function read(index) {
  stop();
  caption = data.captions[index];
  heading.textContent = photograph.alt = caption.text;
  words.replaceChildren(...caption.words.map((word, k) => {
    const button = document.createElement("button");
    const value = caption.logProbabilities[k];
    button.type = "button";
    button.className = "word";
    button.setAttribute("aria-label", `${word}, log-probability ${number(value)}`);
    button.append(word, bar(value), element("span", "number", number(value)));
    button.addEventListener("focus", () => { if (timer === null) choose(k); });
    button.addEventListener("click", () => { stop(); choose(k, true); });
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") { stop(); show(k); }
    });
    return button;
  }));
  choose(null);
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function bar(value) {
  const whole = element("span", "bar", "");
  const part = document.createElement("span");
  part.style.width = `${100 * Math.min(Math.max(1 - value / EMPTY_BAR, 0), 1)}%`;
  whole.append(part);
  return whole;
}

function paintScale() {
  const scale = document.getElementById("scale");
  scale.width = 256;
  scale.height = 1;
  const image = new ImageData(256, 1);
  for (let k = 0; k < 256; k++) image.data.set([...palette.subarray(3 * k, 3 * k + 3), 255], 4 * k);
  scale.getContext("2d").putImageData(image, 0, 0);
}

words.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") show(chosen); });
play.addEventListener("click", toggle);
strength.addEventListener("input", () => picture.style.setProperty("--strength", strength.value / 100));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || data === null) return;
  if (event.target.closest("input:not([type=radio], [type=range])")) return; // where letters are typed, or files chosen
  const inWords = words.contains(event.target);
  const native = !inWords && event.target.closest("button, input, a, summary");
  const last = caption.words.length - 1;
  const moves = {
    ArrowRight: chosen === null ? 0 : Math.min(chosen + 1, last),
    ArrowLeft: chosen === null ? 0 : Math.max(chosen - 1, 0),
    Home: 0,
    End: last,
  };
  if (event.key in moves && last >= 0 && (inWords || !native)) {
    stop();
    choose(moves[event.key], true);
  } else if ((event.key === " " && !native) || event.key.toLowerCase() === "p") {
    toggle();
  } else if (event.key === "Escape") {
    stop();
    choose(null);
  } else if (/^[1-9]$/.test(event.key) && choices.querySelectorAll("input")[event.key - 1]) {
    choices.querySelectorAll("input")[event.key - 1].checked = true;
    read(event.key - 1);
  } else {
    return;
  }
  event.preventDefault();
});

function offer(each, index) {
  const label = element("label", "choice", "");
  const input = document.createElement("input");
  input.type = "radio";
  input.name = "caption";
  input.checked = index === 0;
  input.addEventListener("change", () => read(index));
  label.append(input, element("span", "text", each.text), element("span", "number", number(each.logProbability)));
  return label;
}

function view(shown) {
  data = shown;
  palette = bytes(data.palette);
  const longest = Math.max(data.width, data.height);
  canvas.width = Math.max(1, Math.round(data.width / longest * LONGEST_SIDE));
  canvas.height = Math.max(1, Math.round(data.height / longest * LONGEST_SIDE));
  const [left, top, right, bottom] = data.region;
  across = taps(canvas.width, left, right, data.columns);
  down = taps(canvas.height, top, bottom, data.rows);
  picture.style.setProperty("--aspect", data.width / data.height);
  document.getElementById("unseen").hidden = across.every(Boolean) && down.every(Boolean);
  choices.replaceChildren(choices.firstElementChild, ...data.captions.map(offer));
  paintScale();
  read(0);
}

const embedded = document.getElementById("data");
if (embedded) view(JSON.parse(embedded.textContent));

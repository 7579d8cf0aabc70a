"use strict";

// Pictures in, captions by the server, shown by page.js.
const [drop, files, camera, progress, result, album, photos, copy, nameLine, tokenForm, tokenInput] =
  ["drop", "files", "camera", "progress", "result", "album", "photos", "copy", "name", "token-form", "token"]
    .map((id) => document.getElementById(id));
const colours = document.getElementById("palette").textContent.trim();
const HINT = status.textContent;
const CAPTIONS = 5; // to choose from
const AT_ONCE = 4; // requests
const TRIES = 5; // where the server is busy
const TOKEN = "captioner token";

const entries = []; // {file, url, button, shown, answer, error} for each picture
const waiting = [];
let working = 0;
let current = null;
let asked = null; // the promise of a token, while one is asked for

function askForToken() {
  asked ??= new Promise((resolve) => {
    tokenForm.hidden = false;
    tokenInput.focus();
    tokenForm.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, tokenInput.value);
      tokenInput.value = "";
      tokenForm.hidden = true;
      asked = null;
      resolve();
    }, { once: true });
  });
  return asked;
}

function pause(seconds) {
  return new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });
}

// What the server says of a picture; throws what is to be shown where it says nothing good.
async function requestCaption(file) {
  for (let tries = 1; ; tries++) {
    const token = sessionStorage.getItem(TOKEN);
    let response;
    try {
      response = await fetch(`caption?maps=true&num_captions=${CAPTIONS}`, {
        method: "POST", body: file, headers: token ? { Authorization: `Bearer ${token}` } : {},
      });
    } catch {
      throw new Error("the server cannot be reached");
    }
    if (response.status === 401) {
      await askForToken();
    } else if (response.status === 503 && tries < TRIES) {
      await pause(Number(response.headers.get("Retry-After")) || 1);
    } else {
      const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
      if (!response.ok) throw new Error(answer.error.replace(/^image: /, ""));
      return answer;
    }
  }
}

// A caption as page.js takes it.
function toView(answer) {
  const text = answer.caption || "(no words)";
  const view = {
    text, words: answer.words, logProbability: answer.log_probability,
    logProbabilities: answer.word_log_probabilities, lookingAway: answer.looking_away, peaks: [], maps: null,
  };
  if (!answer.attention) return view;
  const maps = [];
  for (const map of answer.attention) {
    const weights = map.flat();
    const share = Math.max(...weights);
    const peak = weights.indexOf(share);
    view.peaks.push({ cell: [Math.floor(peak / map[0].length), peak % map[0].length], share });
    maps.push(...weights.map((weight) => String.fromCharCode(Math.round(255 * weight / (share || 1)))));
  }
  view.maps = btoa(maps.join(""));
  return view;
}

function grid(answer) {
  const map = answer.captions.map((each) => each.attention?.[0]).find(Boolean);
  return map ? [map.length, map[0].length] : [1, 1];
}

// Width and height of the upright photograph, which the browser may be unable to show.
async function sizeOf(url) {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return [image.naturalWidth, image.naturalHeight];
  } catch {
    return [3, 2];
  }
}

async function present(entry) {
  current = entry;
  const [width, height] = await sizeOf(entry.url);
  if (current !== entry) return;
  entries.forEach((each) => each.button.setAttribute("aria-pressed", each === entry));
  result.hidden = false;
  photograph.src = entry.url;
  const [rows, columns] = grid(entry.answer);
  const { confidence, region } = entry.answer;
  status.textContent = HINT;
  nameLine.textContent = entry.file.name + (confidence == null ? "" : `, confidence ${percent(confidence)}`);
  view({ measure: "attention", width, height, region, rows, columns, palette: colours,
    captions: entry.answer.captions.map(toView) });
}

function tellProgress() {
  const done = entries.filter((entry) => entry.answer || entry.error).length;
  const failed = entries.filter((entry) => entry.error);
  let line = done < entries.length ? `Captioning: ${done} of ${entries.length} done.` : "";
  if (done === entries.length && done > 1) line = `${done - failed.length} pictures captioned.`;
  if (failed.length) line += ` ${failed.at(-1).file.name}: ${failed.at(-1).error}.`;
  progress.textContent = line.trim();
  album.hidden = entries.length < 2;
}

async function work() {
  working++;
  while (waiting.length) {
    const entry = waiting.shift();
    const text = entry.button.querySelector(".caption");
    try {
      entry.answer = await requestCaption(entry.file);
      text.textContent = entry.answer.caption || "(no words)";
      entry.button.disabled = false;
      if (current === null || current === entry) await present(entry);
    } catch (error) {
      entry.error = error.message;
      text.textContent = error.message;
      text.classList.add("failed");
    }
    tellProgress();
  }
  working--;
}

function add(given) {
  const images = [...given];
  if (!images.length) return;
  images.forEach((file, index) => {
    const entry = { file, url: URL.createObjectURL(file), button: document.createElement("button") };
    const thumbnail = document.createElement("img");
    thumbnail.src = entry.url;
    thumbnail.alt = "";
    thumbnail.loading = "lazy";
    thumbnail.addEventListener("error", () => thumbnail.removeAttribute("src")); // what the browser cannot show
    entry.button.type = "button";
    entry.button.disabled = true;
    entry.button.append(thumbnail, element("span", "caption", "…"), element("span", "soft", file.name));
    entry.button.addEventListener("click", () => present(entry));
    const item = document.createElement("li");
    item.append(entry.button);
    photos.append(item);
    entries.push(entry);
    waiting.push(entry);
    if (index === 0) current = entry;
  });
  tellProgress();
  while (working < Math.min(AT_ONCE, waiting.length + working)) work();
}

function save(content, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// A spreadsheet would run what begins like a formula.
function cell(value) {
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value ?? "");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function table() {
  return entries.filter((entry) => entry.answer || entry.error).map(({ file, answer, error }) => (error
    ? { image: file.name, error }
    : { image: file.name, caption: answer.caption, log_probability: answer.log_probability,
      ...(answer.confidence == null ? {} : { confidence: answer.confidence }) }));
}

document.getElementById("csv").addEventListener("click", () => {
  const names = ["image", "caption", "log_probability", "confidence", "error"];
  const lines = table().map((row) => names.map((name) => cell(row[name])).join(","));
  save(`${[names.join(","), ...lines].join("\r\n")}\r\n`, "captions.csv", "text/csv");
});
document.getElementById("jsonl").addEventListener("click", () => {
  save(table().map((row) => `${JSON.stringify(row)}\n`).join(""), "captions.jsonl", "application/jsonl");
});
copy.addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(heading.textContent);
    progress.textContent = "Copied.";
  } catch { // only pages from https and from this machine may write there
    getSelection().selectAllChildren(heading);
    progress.textContent = "Selected; copy it with Ctrl+C.";
  }
});

for (const input of [files, camera]) {
  input.addEventListener("change", () => { add(input.files); input.value = ""; });
}
document.addEventListener("paste", (event) => {
  const pasted = [...event.clipboardData.files];
  if (pasted.length) event.preventDefault();
  add(pasted);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});

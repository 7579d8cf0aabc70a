"use strict";

const [search, count, photos] = ["search", "count", "photos"].map((id) => document.getElementById(id));
const entries = [...photos.children].map((item) => ({
  item, text: [...item.querySelectorAll("span")].map((span) => span.textContent.toLowerCase()).join("\n"),
}));
const INPUT_MILLISECONDS = 80; // a screen reader should hear one count, not one for every letter
let timer = null;

function filter() {
  // Kept in the address, so that going back from a photograph finds the same photographs.
  if (search.value || location.hash) history.replaceState(null, "", `#${new URLSearchParams({ q: search.value })}`);
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const { item, text } of entries) {
    const matches = wanted.every((word) => text.includes(word));
    item.hidden = !matches;
    found += matches;
  }
  count.textContent = wanted.length ? `${found} of ${entries.length} photographs` : `${entries.length} photographs`;
}

search.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(filter, INPUT_MILLISECONDS);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && event.target !== search && !event.ctrlKey && !event.altKey && !event.metaKey) {
    event.preventDefault();
    search.focus();
  }
});
search.value = new URLSearchParams(location.hash.slice(1)).get("q") ?? "";
filter();

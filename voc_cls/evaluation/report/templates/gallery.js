// Filters the images of the page by kind, class and name of the file, and enlarges them; gallery.py says what is in the JSON.
const { classes, models, thresholds, images, filters } = JSON.parse(document.getElementById("gallery").textContent);
const STEP = 28; // images that are shown at first, and more at each click
const MOST_CASES = 3; // lines below an image
const WORDS = { right: "recognised", wrong: "not there", missed: "missed", ignored: "not counted" };
const form = document.querySelector(".choices"), { kind, column, file } = form.elements;
const [list, more, dialog] = [".gallery", "#more", "#enlarged"].map((selector) => document.querySelector(selector));
const percent = (values, digits) => `${values.map((value) => (100 * value).toFixed(digits)).join(" → ")} %`;
let found = [], current = 0;

function element(name, className, ...content) {
  const made = Object.assign(document.createElement(name), { className });
  made.append(...content);
  return made;
}

function filter() {
  const { kinds, totals } = filters[kind.value], text = file.value.trim().toLowerCase();
  [...column.options].forEach((option, place) => { option.text = `${classes[place - 1] ?? "all"} (${totals[place].toLocaleString("en")})`; });
  const fits = ([name, of]) => kinds.includes(name) && (column.value === "" || of === Number(column.value));
  found = images.map((image) => ({ ...image, cases: image.cases.filter(fits) }))
    .filter((image) => image.cases.length && image.file.toLowerCase().includes(text))
    .sort((a, b) => b.cases[0][2] - a.cases[0][2]);
  const all = text ? found.length : totals[column.value === "" ? 0 : Number(column.value) + 1];
  const of = found.length < all ? ` of ${all.toLocaleString("en")}` : "";
  document.querySelector("output").textContent = `${found.length}${of} ${all === 1 ? "image" : "images"}`;
  list.replaceChildren();
  show(STEP);
}

function show(number) {
  list.append(...found.slice(list.children.length, number).map(card));
  more.hidden = list.children.length === found.length;
  more.textContent = `Show more: ${found.length - list.children.length} are left`;
}

function card(image) {
  const button = element("button", "", Object.assign(new Image(), { src: image.picture, alt: "", decoding: "async" }));
  const probabilities = new Map(image.labels.map(([of, , values]) => [of, values]));
  for (const [name, of] of image.cases.slice(0, MOST_CASES)) {
    button.append(element("span", name, element("b", "", classes[of]), ` ${percent(probabilities.get(of), 0)} ${WORDS[name] ?? name}`));
  }
  const rest = image.cases.length - MOST_CASES;
  button.append(element("span", "soft", rest > 0 ? `and ${rest} more · ` : "", image.file));
  button.addEventListener("click", () => enlarge(found.indexOf(image)));
  return element("li", "", button);
}

function enlarge(place) {
  current = (place + found.length) % found.length;
  const image = found[current], on = image.labels.filter(([, state]) => state === 1).map(([of]) => classes[of]);
  dialog.querySelector("h3").textContent = image.file;
  dialog.querySelector("p").textContent = `${current + 1} of ${found.length} · in the labels: ${on.join(", ") || "none of the classes"}`;
  dialog.querySelector("figure").replaceChildren(Object.assign(new Image(), { src: image.picture, alt: image.file }));
  const scores = dialog.querySelector("#scores");
  scores.className = models.length > 1 ? "two" : "";
  scores.replaceChildren(...models.map((model, number) => element("div", "", element("span", "soft", model), ...image.labels.map(
    (label) => score(label, number, Math.max(...image.labels.map(([, , values]) => values[number])))))));
  if (!dialog.open) dialog.showModal();
}

// The probability of a label by one model, as voc-serve's page shows it.
function score([of, state, values], model, highest) {
  const row = document.getElementById("score").content.firstElementChild.cloneNode(true);
  const find = (selector) => row.querySelector(selector), threshold = thresholds[model]?.[of];
  const seen = values[model] >= (threshold ?? highest);
  const verdict = state < 0 ? "ignored" : seen ? (state ? "right" : "wrong") : state ? "missed" : "";
  row.className = `label ${seen ? "seen" : ""} ${verdict}`;
  find(".name").textContent = classes[of];
  find(".value").append(verdict && element("b", "", WORDS[verdict]), ` ${percent([values[model]], 1)}`);
  find("i").style.width = `${100 * values[model]}%`;
  if (threshold !== undefined) {
    find("u").hidden = false;
    find("u").style.left = `${100 * threshold}%`;
    find(".unseen").textContent = `, threshold ${percent([threshold], 1)}`;
  }
  return row;
}

kind.append(...filters.map(({ title }, place) => new Option(title, place)));
column.append(new Option("all", ""), ...classes.map((name, place) => new Option(name, place)));
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", () => show(list.children.length + STEP));
dialog.addEventListener("submit", (event) => {
  if (!event.submitter.value) return;
  event.preventDefault();
  enlarge(current + Number(event.submitter.value));
});
dialog.addEventListener("keydown", ({ key }) => {
  if (key === "ArrowLeft" || key === "ArrowRight") enlarge(current + (key === "ArrowLeft" ? -1 : 1));
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  show(Math.max(list.children.length, current + 1));
  list.children[current].firstElementChild.focus();
});
filter();

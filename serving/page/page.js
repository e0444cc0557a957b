// The page: which versions are asked, and the images that come by choosing, dropping, pasting and the camera.
import { describe, versions } from "./calls.js";
import { offerPhotos } from "./camera.js";
import { element, facts, modelCard, title } from "./card.js";
import { Result } from "./result.js";

const find = (id) => document.getElementById(id);
const selects = ["first", "second"].map((id) => find(id).querySelector("select"));
// each lane asks about one image after the other, so that other callers of the server have their turn
const lanes = Array.from({ length: 4 }, () => Promise.resolve());
let models = [], results = [], lane = 0;

function fail(text) {
  find("failure").textContent = text;
  find("failure").hidden = !text;
}

const say = (text) => find("status").append(element("p", text));

function ask(result) {
  lane = (lane + 1) % lanes.length;
  lanes[lane] = lanes[lane].then(() => results.includes(result) && result.ask());
}

async function add(files, problem = "") {
  await ready;
  if (!models.length) return;
  fail(problem);
  const added = files.map((file) => new Result(file, models, say));
  find("results").querySelector("ol").prepend(...added.map((result) => result.element));
  results.push(...added);
  find("results").hidden = !results.length;
  for (const result of added) result.element.querySelector(".remove").onclick = () => remove([result]);
  added.forEach(ask);
}

// Removes results; one beside them, or else the choice of images, gets the focus.
function remove(gone) {
  const { nextElementSibling, previousElementSibling } = gone[0].element;
  for (const { element, file, url } of gone) {
    URL.revokeObjectURL(url);
    element.remove();
    say(`${file.name} is removed`);
  }
  results = results.filter((result) => !gone.includes(result));
  find("results").hidden = !results.length;
  const beside = results.length && (nextElementSibling ?? previousElementSibling);
  (beside ? beside.querySelector(".remove") : find("files")).focus();
}

// Asks the chosen versions from now on, also about the images that are shown.
async function use(chosen) {
  models = await Promise.all(chosen.map(async (version) => ({ ...await describe(version), ...version })));
  find("name").textContent = models.map(title).join(" beside ");
  document.title = `${find("name").textContent} · voc-serve`;
  find("facts").replaceChildren(...(models.length > 1 ? [] : facts(models[0])).map((fact) => element("li", fact)));
  find("hint").hidden = !models.some(({ explains }) => explains);
  find("cards").querySelector(".cards").replaceChildren(...models.map(modelCard));
  find("cards").hidden = false;
  for (const result of results) result.show(models);
  results.forEach(ask);
}

async function start() {
  const all = await versions();
  if (!all.length) throw new Error("No version of a model is ready yet: reload this page in a moment.");
  const options = () => all.map((version) => new Option(title(version)));
  selects[0].append(...options());
  selects[1].append(new Option("nothing"), ...options());
  const choose = () => use([...new Set([all[selects[0].selectedIndex], all[selects[1].selectedIndex - 1]])].filter(Boolean));
  for (const select of selects) {
    select.parentElement.hidden = all.length < 2;
    select.addEventListener("change", () => choose().catch((error) => fail(error.message)));
  }
  await choose();
}

find("files").addEventListener("change", ({ target }) => {
  add([...target.files]);
  target.value = ""; // so that the same file can be chosen again
});
document.addEventListener("paste", ({ clipboardData }) => clipboardData.files.length && add([...clipboardData.files]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") add([...event.dataTransfer.files]);
  });
}
offerPhotos(find("photo"), add);
find("clear").addEventListener("click", () => remove(results));
const ready = start().catch((error) => fail(error.message));

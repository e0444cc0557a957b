// One image with the answer of each version: its labels, the time it took, or the error; and heat maps over the image.
import { classify } from "./calls.js";
import { percent, title } from "./card.js";

const FEWEST = 5; // labels that are shown at first, and all that count as seen
const DEFAULT_THRESHOLD = 0.5; // of models without thresholds, as voc-predict has it
const clone = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

export class Result {
  // `models`: descriptions of versions; `say` tells screen readers what came.
  constructor(file, models, say) {
    Object.assign(this, { file, say, element: clone("result"), url: URL.createObjectURL(file) });
    this.element.querySelector("h3").textContent = file.name;
    this.element.querySelector(".remove").ariaLabel = `Remove ${file.name}`;
    this.show(models);
  }

  show(models) {
    this.panels = models.map((model) => new Panel(this, model, models.length > 1 ? title(model) : ""));
    const panels = this.element.querySelector(".panels");
    panels.classList.toggle("two", models.length > 1);
    panels.replaceChildren(...this.panels.map((panel) => panel.element));
  }

  async ask() {
    const panels = this.panels;
    const answers = await Promise.allSettled(panels.map(({ model }) => classify(model, this.file)));
    const best = new Map(); // label → its highest probability, for one order in all panels
    for (const { label, probability } of answers.flatMap(({ value }) => value?.labels ?? [])) {
      best.set(label, Math.max(probability, best.get(label) ?? 0));
    }
    const order = [...best.keys()].sort((a, b) => best.get(b) - best.get(a));
    answers.forEach((answer, number) => panels[number].fill(answer, order));
    for (const { name, summary } of this.element.isConnected ? panels : []) this.say(`${[this.file.name, name].filter(Boolean).join(", ")}: ${summary}`);
    this.choose(this.label);
  }

  // Shows the heat maps of a label, or none.
  choose(label) {
    this.label = label;
    for (const panel of this.panels) panel.explain(label);
  }
}

class Panel {
  constructor(result, model, name) {
    Object.assign(this, { result, model, name, element: clone("panel"), summary: "" });
    const image = this.find("img");
    image.alt = result.file.name;
    image.src = result.url;
    image.addEventListener("error", () => image.replaceWith("This browser cannot show this file."));
    this.find(".model").textContent = name;
  }

  find(selector) { return this.element.querySelector(selector); }

  fill({ value, reason }, order) {
    if (reason) {
      this.find(".labels p").textContent = this.summary = reason.message;
      this.find(".labels p").className = "error";
      return;
    }
    const time = `answered in ${Math.round(value.milliseconds)} ms`;
    this.find(".model").textContent = this.name ? `${this.name}, ${time}` : time;
    const probabilities = new Map(value.labels.map(({ label, probability }) => [label, probability]));
    const thresholds = new Map(this.model.labels.map(({ name, threshold }) => [name, threshold]));
    const rows = order.filter((label) => probabilities.has(label))
      .map((label) => this.row(label, probabilities.get(label), thresholds.get(label), label === value.labels[0].label));
    const seen = rows.filter((row) => row.classList.contains("seen"));
    this.summary = seen.map(({ dataset }) => `${dataset.label} ${dataset.percent} %`).join(", ") || "no label reaches its threshold";
    this.find(".labels").replaceChildren(...rows);
    const more = this.find(".more");
    const show = (all) => {
      rows.forEach((row, place) => { row.hidden = !all && place >= FEWEST && !seen.includes(row); });
      more.textContent = all ? "Show fewer labels" : `Show all ${rows.length} labels`;
      more.onclick = () => show(!all);
    };
    show(false);
    more.hidden = !rows.some((row) => row.hidden);
  }

  row(label, probability, threshold, first) {
    const row = clone("label"), softmax = this.model.activation === "softmax";
    const seen = softmax ? first : probability >= (threshold ?? DEFAULT_THRESHOLD);
    row.dataset.label = label;
    row.dataset.percent = percent(probability);
    row.querySelector(".name").textContent = label;
    row.querySelector(".value").textContent = `${percent(probability)} %`;
    row.querySelector("i").style.width = `${100 * probability}%`;
    row.classList.toggle("seen", seen);
    if (threshold !== undefined) {
      const mark = row.querySelector("u");
      mark.hidden = false;
      mark.style.left = `${100 * threshold}%`;
      row.querySelector(".rule").textContent = `, ${seen ? "at or above" : "below"} its threshold of ${percent(threshold)} %`;
    }
    row.disabled = !this.model.explains;
    row.addEventListener("click", () => this.result.choose(this.result.label === label ? null : label));
    return row;
  }

  async explain(label) {
    const canvas = this.find("canvas"), caption = this.find("figcaption");
    for (const row of this.element.querySelectorAll(".label")) row.setAttribute("aria-pressed", row.dataset.label === label);
    canvas.hidden = true;
    caption.textContent = "";
    if (!label) return;
    caption.textContent = "Computing the heat map …";
    try {
      this.maps ??= classify(this.model, this.result.file, { heat_maps: true });
      const found = (await this.maps).labels.find((scored) => scored.label === label)?.heat_map;
      if (this.result.label !== label) return; // another one was chosen meanwhile
      caption.textContent = found ? `Heat map of ${label}` : `No heat map of ${label}`;
      if (found) canvas.setAttribute("aria-label", `${caption.textContent}, strongest ${draw(canvas, found)}`);
      canvas.hidden = !found;
    } catch (error) {
      this.maps = null; // so that another click asks again
      caption.textContent = error.message;
    }
    this.result.say(canvas.hidden ? caption.textContent : canvas.getAttribute("aria-label"));
  }
}

// Draws a heat map, cold parts darkened and hot ones glowing as in the report, and says where it is strongest.
function draw(canvas, { height, width, values }) {
  const heat = Uint8Array.from(atob(values), (letter) => letter.charCodeAt(0));
  const pixels = new ImageData(width, height), small = new OffscreenCanvas(width, height);
  heat.forEach((value, place) => {
    const t = value / 255; // black, purple, orange, yellow: near matplotlib's inferno
    pixels.data.set([Math.min(1, 1.6 * t), t * t, 0.5 * Math.sin(Math.PI * t), 0.25 + 0.45 * t].map((part) => 255 * part), 4 * place);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  [canvas.width, canvas.height] = [32 * width, 32 * height]; // smoother than what CSS makes of a few cells
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  const strongest = heat.indexOf(Math.max(...heat));
  const third = (place, size, names) => names[Math.floor((3 * place) / size)];
  return `at the ${third(Math.floor(strongest / width), height, ["top", "middle", "bottom"])} ${
    third(strongest % width, width, ["left", "centre", "right"])}`;
}

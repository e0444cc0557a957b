// A model card: what GetModel says of a version.
const NAMES = { map: "mAP, area (VOC2010+)", map_11pt: "mAP, 11-point (VOC2007)", cf1: "CF1, mean over classes",
  of1: "OF1, all labels pooled", accuracy: "Accuracy" };
export const percent = (value) => (100 * value).toFixed(1);

export function element(name, text, style) {
  const made = document.createElement(name);
  made.textContent = text;
  if (style) made.className = style;
  return made;
}

export const title = ({ model, version }) => `${model}, version ${version}`;

// Short facts for the head of the page.
export function facts({ net, labels, activation, metrics }) {
  const [key, name] = Object.entries({ map: "mean AP", accuracy: "accuracy" }).find(([key]) => key in metrics) ?? [];
  return [net, `${labels.length} labels`, activation === "softmax" ? "single-label" : "multi-label",
    ...(key ? [`${name} ${percent(metrics[key])} %`] : [])];
}

export function modelCard(description) {
  const { net, labels, activation, calibration, metrics, preprocessing, training_data, versions, weights_digest } = description;
  const card = document.getElementById("card").content.cloneNode(true);
  card.querySelector(".about").textContent = `${title(description)}. ${activation === "softmax"
    ? "An image has one label; the probabilities of all labels sum to 100 %, also for an image of something else."
    : "Each label has its own probability; they do not sum to 100 %."} ${calibration
    ? `Probabilities are calibrated (${calibration}).` : "Probabilities are the network's own, not calibrated."}`;
  for (const [key, name] of Object.entries(NAMES)) {
    if (!(key in metrics)) continue;
    const tile = element("div", "", "tile"), value = element("div", percent(metrics[key]), "value");
    value.append(element("small", " %"));
    tile.append(element("div", name, "name"), value);
    card.querySelector(".tiles").append(tile);
  }
  for (const { name, threshold, average_precision: precision } of labels) {
    const row = card.querySelector("tbody").insertRow();
    row.append(element("th", name));
    row.firstChild.scope = "row";
    for (const value of [threshold, precision]) row.insertCell().textContent = value === undefined ? "–" : percent(value);
  }
  const { size, resize, channels, mean = [], std = [] } = preprocessing;
  const entries = { "training data": training_data, network: net, input: `${size} × ${size} pixels, ${channels}, ${resize}`,
    "minus mean": mean.join(", "), "divided by": std.join(", "), "weights, SHA-256": weights_digest,
    versions: versions.map(({ version, state, labels: named }) =>
      `${[version, ...named].join(" ")} (${state.replace("STATE_", "").toLowerCase()})`).join(", ") };
  for (const [key, value] of Object.entries(entries)) {
    if (value) card.querySelector("dl").append(element("dt", key), element("dd", value));
  }
  return card;
}

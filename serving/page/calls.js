// Calls of the server: with a key where it wants one, again where it is busy, and errors as sentences.
const TRIES = 5;
const dialog = document.getElementById("key");
let key = sessionStorage.getItem("voc-serve-key") ?? "";
let asking = null; // one dialog for all calls that were refused

function askForKey(why) {
  asking ??= new Promise((resolve, reject) => {
    const input = dialog.querySelector("input");
    input.value = "";
    dialog.querySelector("p").textContent = why;
    dialog.querySelector("form").onsubmit = () => {
      key = input.value.trim();
      sessionStorage.setItem("voc-serve-key", key);
      resolve();
    };
    dialog.oncancel = () => reject(new Error("This server needs a key: reload the page to enter one."));
    dialog.showModal();
  }).finally(() => { asking = null; });
  return asking;
}

// The answer as an object, and how many milliseconds it took. `path` is relative, as a proxy may serve below a folder.
async function call(path, content) {
  for (let tries = 1; ; tries++) {
    const used = key, begin = performance.now();
    const response = await fetch(path, {
      method: content ? "POST" : "GET", body: content && JSON.stringify(content), cache: "no-store",
      headers: used ? { authorization: `Bearer ${used}` } : {},
    }).catch(() => { throw new Error("The server cannot be reached. Is it still running?"); });
    const answer = await response.json().catch(() => ({ error: `The server answered with status ${response.status}.` }));
    const milliseconds = performance.now() - begin;
    if (response.ok) return { answer, milliseconds };
    if (response.status === 401 || response.status === 403) {
      if (used === key) await askForKey(used ? answer.error : "Its operator gives them out.");
    } else if (response.headers.has("retry-after") && tries < TRIES) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * response.headers.get("retry-after")));
    } else {
      throw new Error(answer.error);
    }
  }
}

// Versions that answer calls, the newest of each model first: [{model, version}, …].
export async function versions() {
  const { answer } = await call("v1/models");
  return answer.models.flatMap(({ name, model_version_status }) => model_version_status
    .filter(({ state }) => state === "AVAILABLE").reverse().map(({ version }) => ({ model: name, version })));
}

// GetModel of a version.
export async function describe({ model, version }) {
  return (await call(`v1/models/${encodeURIComponent(model)}/versions/${version}/description`)).answer;
}

// The labels of an image, {label, probability, heat_map}, the most probable first, and the milliseconds it took.
export async function classify({ model, version }, file, more = {}) {
  const pictures = [{ content: await base64(file) }];
  const { answer, milliseconds } = await call("v1/classify", { model, version, pictures, ...more });
  const [{ labels, error }] = answer.classifications;
  if (error) throw new Error(error.message.replace(/^pictures\[0\] is /, "This is "));
  return { labels, milliseconds };
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The browser cannot read this file."));
    reader.readAsDataURL(file);
  });
}

// Filters by class and kind, and a walk through the pictures by keyboard; without scripts all pictures are shown.
const cards = [...document.querySelectorAll(".suspect")], dialog = document.querySelector("dialog");
const box = (id) => document.getElementById(id);
let left = cards, current = -1;

function show(index) {
  if (!left[index]) return;
  current = index;
  left[index].focus();
  if (!dialog.open) return;
  dialog.dataset.index = index;  // closing it moves the focus back to where it was opened
  dialog.replaceChildren(...[...left[index].children].map((child) => child.cloneNode(true)));
}
function enlarge() {
  if (!left[current] || dialog.open) return;
  dialog.showModal();
  show(current);
}
for (const select of [box("class"), box("kind")]) {
  select.addEventListener("change", () => {
    left = cards.filter((card) => (!box("class").value || JSON.parse(card.dataset.classes).includes(box("class").value))
      && (!box("kind").value || card.dataset.kind === box("kind").value));
    for (const card of cards) card.hidden = !left.includes(card);
    current = -1;
    box("count").value = `${left.length} picture${left.length === 1 ? "" : "s"}`;
  });
}
for (const card of cards) {
  card.addEventListener("focus", () => { current = left.indexOf(card); });
  card.addEventListener("click", () => { current = left.indexOf(card); enlarge(); });
}
dialog.addEventListener("click", () => dialog.close());
dialog.addEventListener("close", () => show(Number(dialog.dataset.index)));
document.addEventListener("keydown", (event) => {
  const actions = { ArrowRight: () => show(current + 1), ArrowLeft: () => show(current - 1), Enter: enlarge,
    b: () => box("show-boxes").click(), h: () => box("show-heat").click() };
  if (event.target.matches("select") || event.ctrlKey || event.metaKey || event.altKey || !(event.key in actions)) return;
  event.preventDefault();
  actions[event.key]();
});

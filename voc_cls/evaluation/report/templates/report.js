// A click on a column's title sorts the table of classes by it; without scripts the page lacks nothing else.
for (const button of document.querySelectorAll(".classes thead button")) {
  button.addEventListener("click", () => {
    const cell = button.closest("th"), row = cell.parentElement;
    const column = [...row.children].indexOf(cell);
    const rising = cell.getAttribute("aria-sort") === "descending" || (column === 0 && !cell.hasAttribute("aria-sort"));
    for (const other of row.children) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = cell.closest("table").tBodies[0];
    const key = (line) => line.children[column].dataset.value ?? line.children[column].textContent;
    const compare = (a, b) => column === 0 ? key(a).localeCompare(key(b)) : Number(key(a)) - Number(key(b));
    body.append(...[...body.rows].sort((a, b) => rising ? compare(a, b) : compare(b, a)));
  });
}
// What a cell of co-occurrence counts; written into every cell, it would be a third of a page about 80 classes.
for (const matrix of document.querySelectorAll(".matrix:not(.confusion)")) {
  matrix.addEventListener("mouseover", ({ target: cell }) => {
    if (cell.matches("td")) cell.title = `${cell.parentElement.cells[0].textContent} and ${matrix.rows[0].cells[cell.cellIndex].textContent}: ${cell.textContent || 0}`;
  });
}

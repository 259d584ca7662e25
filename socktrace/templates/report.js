"use strict";
for (const table of document.querySelectorAll("table.sorted")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  if (body.rows.length < 2) continue;
  const text = (row, column) => row.cells[column].textContent;
  const byValue = (a, b) => parseFloat(a) - parseFloat(b);
  const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });
  const sort = (column, isDown) => {
    const compare = heads[column].classList.contains("n") ? byValue : byName;
    const isUnknown = (row) => text(row, column) === "–";
    const rows = [...body.rows];
    rows.sort((a, b) => {
      // What is not known comes last, whichever way.
      if (isUnknown(a) || isUnknown(b)) return isUnknown(a) - isUnknown(b);
      return compare(text(a, column), text(b, column)) * (isDown ? -1 : 1);
    });
    body.append(...rows);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", isDown ? "descending" : "ascending");
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sort(column, now ? now === "ascending" : head.classList.contains("n"));
    });
  });
}

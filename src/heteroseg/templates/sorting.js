document.querySelectorAll("table.sortable th button").forEach(button => button.addEventListener("click", () => {
  const head = button.parentElement, column = head.cellIndex, table = head.closest("table"), body = table.tBodies[0];
  const numbers = [...body.rows].some(row => row.cells[column].dataset.v !== undefined);
  const first = numbers ? "descending" : "ascending";
  const order = head.ariaSort !== first ? first : numbers ? "ascending" : "descending";
  table.querySelectorAll("th").forEach(h => h.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1, value = row => row.cells[column].dataset.v;
  const compare = (a, b) => {
    if (!numbers) return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
    if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");  // n/a comes last
    return sign * (value(a) - value(b));
  };
  body.append(...[...body.rows].sort(compare));
}));

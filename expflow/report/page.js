"use strict";
// Draws the charts, and sorts and filters tables. What the page shows is in the page before: without this script its
// tables and pictures are there all the same.
(() => {
  const charts = JSON.parse(document.getElementById("chart-data").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = { responsive: true, displayModeBar: false };
  const places = () => document.querySelectorAll(".chart");
  const resize = (width) => places().forEach((place) => Plotly.relayout(place, width ? { width } : { autosize: true, width: null }));

  document.documentElement.classList.add("live");
  for (const place of places()) {
    const { data, layout } = charts[place.id];
    if (touch) layout.dragmode = false; // a finger scrolls the page
    if (innerWidth < 600) layout.height += 20 * data.filter((trace) => trace.showlegend !== false).length; // a long legend
    Plotly.newPlot(place, data, layout, config);
  }
  addEventListener("beforeprint", () => resize(640)); // the width of a sheet, in pixels
  addEventListener("afterprint", () => resize(0));

  for (const tools of document.querySelectorAll(".tools")) {
    const table = tools.parentElement.querySelector("table");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const search = tools.querySelector("input");
    const shown = tools.querySelector("output");
    const texts = rows.map((row) => `${row.dataset.words} ${row.textContent}`.toLowerCase());

    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/);
      rows.forEach((row, at) => { row.hidden = !words.every((word) => texts[at].includes(word)); });
      shown.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
    };
    search.addEventListener("input", filter);
    filter();

    const sort = (column, down) => {
      const key = (row) => row.cells[column].dataset.key ?? "";
      const compare = (one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays below
        const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
        return down ? -order : order;
      };
      body.append(...[...rows].sort(compare));
    };
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const down = head.ariaSort === "ascending";
        for (const other of table.tHead.rows[0].cells) other.ariaSort = null;
        head.ariaSort = down ? "descending" : "ascending";
        sort(column, down);
      });
    });
  }
})();

"use strict";
// Everything is on the page without this script; it adds filtering, sorting, and figures that open large.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // --- filter: every table that can be filtered, by text and by verdict ---
  const text = document.getElementById("filter-text");
  const verdict = document.getElementById("filter-verdict");
  const count = document.getElementById("filter-count");
  const tables = all("table.filtered").map((table) => {
    const note = document.createElement("p");
    note.className = "none";
    note.textContent = "No row fits the filter.";
    note.hidden = true;
    table.parentElement.after(note);
    const groups = all("tbody", table).map((body) => {
      const head = body.querySelector("tr.group");
      const title = head ? head.textContent.toLowerCase() : "";
      const rows = all("tr:not(.group)", body);
      return { head, rows: rows.map((row) => ({ row, words: title + " " + row.textContent.toLowerCase() })) };
    });
    return { box: table.parentElement, note, groups };
  });

  function filter() {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = verdict.value;
    let shown = 0, total = 0;
    for (const { box, note, groups } of tables) {
      let left = 0;
      for (const group of groups) {
        let here = 0;
        for (const item of group.rows) {
          const fits = (!wanted || item.row.dataset.verdict === wanted) && words.every((w) => item.words.includes(w));
          item.row.hidden = !fits;
          here += fits;
        }
        if (group.head) group.head.hidden = !here;
        left += here;
        total += group.rows.length;
      }
      shown += left;
      box.hidden = !left;
      note.hidden = left > 0;
    }
    count.value = words.length || wanted ? `${shown} of ${total} rows` : "";
  }
  text.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  text.form.addEventListener("submit", (event) => event.preventDefault());
  for (const button of all("[data-filter]")) {
    button.title = "Show only these rows; again for all";
    button.addEventListener("click", () => {
      verdict.value = verdict.value === button.dataset.filter ? "" : button.dataset.filter;
      filter();
    });
  }

  // --- sort: within each group of rows; up, down, and as it was ---
  function value(row, column) {
    const cell = row.children[column];
    const raw = (cell.dataset.sort ?? cell.textContent).trim();
    if (!raw || raw === "—") return null;
    const number = /^[+\-−]?(\d+\.?\d*|\.\d+)/.exec(raw.replace(/^\[/, ""));
    return number ? Number(number[0].replace("−", "-")) : raw.toLowerCase();
  }
  function compare(a, b) {
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
  }
  for (const table of all("table.data")) {
    const heads = all("thead th", table);
    const bodies = all("tbody", table).map((body) => ({ body, rows: all("tr:not(.group)", body) }));
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort")] ?? "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (next) head.setAttribute("aria-sort", next);
        const sign = next === "descending" ? -1 : 1;
        for (const { body, rows } of bodies) {
          const order = !next ? rows : rows.map((row) => ({ row, key: value(row, column) })).sort((a, b) =>
            // Rows without a value come last in either order.
            a.key === null || b.key === null ? (a.key === null) - (b.key === null) : sign * compare(a.key, b.key)
          ).map((item) => item.row);
          body.append(...order);
        }
      });
    });
  }

  // --- a link into something hidden (a closed config, a filtered row) opens it ---
  function open() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.tagName === "DETAILS") target.open = true;
    if (target.closest("[hidden]")) {
      text.value = verdict.value = "";
      filter();
    }
    target.scrollIntoView();
  }
  addEventListener("hashchange", open);
  if (location.hash) open();

  // --- figures open large; a click on the large one shows its own pixels ---
  const large = document.getElementById("large");
  const image = large.querySelector("img");
  for (const button of all(".enlarge")) {
    button.addEventListener("click", () => {
      const small = button.querySelector("img");
      image.src = small.src;
      image.alt = small.alt;
      image.className = "";
      large.querySelector("p").textContent = `Click the figure for its own size. ${button.parentElement.querySelector("figcaption").textContent}`;
      large.showModal();
    });
  }
  image.addEventListener("click", () => image.classList.toggle("full"));
  large.querySelector("button").addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
})();

// The site works without this script; it adds sorting, filters, the search, larger pictures and the theme.
"use strict";
(() => {
  const THEME = "fade-site-theme";
  const root = document.documentElement;

  function stored() {
    try { return localStorage.getItem(THEME) || ""; } catch { return ""; } // a browser may refuse it to files
  }

  function setTheme(name) {
    if (name === "light" || name === "dark") root.dataset.theme = name; else delete root.dataset.theme;
  }

  setTheme(stored()); // before the page is painted

  function themeSwitch() {
    const select = document.getElementById("theme");
    select.closest("label").hidden = false;
    select.value = root.dataset.theme || "";
    select.addEventListener("change", () => {
      setTheme(select.value);
      try { localStorage.setItem(THEME, select.value); } catch { /* only for this page then */ }
    });
  }

  // Numbers before texts; dates are texts that sort by themselves.
  function valueOf(cell) {
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const time = cell.querySelector("time");
    const text = (time ? time.dateTime : cell.textContent).trim();
    return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (a === "" || b === "") return (a === "") - (b === ""); // what is empty comes last
    return String(a).localeCompare(String(b), "en", { numeric: true, sensitivity: "base" });
  }

  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    if (body.rows.length < 2) return;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [valueOf(row.cells[column]), row]);
        rows.sort((a, b) => (descending ? -1 : 1) * compare(a[0], b[0]));
        body.append(...rows.map((pair) => pair[1]));
      });
    });
  }

  function words(text) {
    return text.normalize("NFKC").toLowerCase().split(/\s+/).filter(Boolean);
  }

  function filter(input) {
    const rows = [...document.getElementById(input.dataset.filters).tBodies[0].rows];
    const hidden = (row) => [row, ...row.querySelectorAll("[data-text]")].map((one) => one.dataset.text || "");
    const texts = rows.map((row) =>
      [...[...row.cells].map((cell) => cell.textContent), ...hidden(row)].join(" ").normalize("NFKC").toLowerCase());
    const count = document.getElementById(input.id.replace("filter-", "count-"));
    const apply = () => {
      const found = words(input.value);
      const phrase = found.join(" ");
      const whole = found.length > 1 && texts.some((text) => text.includes(phrase));
      let shown = 0; // rows that hold the whole phrase; where there is none, those with every word
      rows.forEach((row, i) => {
        row.hidden = whole ? !texts[i].includes(phrase) : !found.every((word) => texts[i].includes(word));
        shown += row.hidden ? 0 : 1;
      });
      count.textContent = `${shown} of ${rows.length}`;
    };
    input.closest(".filter").hidden = false;
    input.addEventListener("input", apply);
    const query = new URLSearchParams(location.search).get("q");
    if (query !== null && input.dataset.filters === "table-search") {
      input.value = query;
      document.getElementById("find").value = query;
    }
    apply();
  }

  function pictures() {
    const links = document.querySelectorAll("a.zoom");
    if (!links.length) return;
    const dialog = document.createElement("dialog");
    const row = document.createElement("div");
    const title = document.createElement("span");
    const close = document.createElement("button");
    const image = document.createElement("img");
    const large = document.createElement("div");
    large.className = "large";
    large.tabIndex = 0; // scrolled by keyboard where the picture is wider than the screen
    large.append(image);
    row.className = "row";
    title.id = "picture-title";
    close.type = "button";
    close.textContent = "Close";
    dialog.setAttribute("aria-labelledby", title.id);
    row.append(title, close);
    dialog.append(row, large);
    document.body.append(dialog);
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    links.forEach((link) => link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      image.src = link.href;
      image.alt = title.textContent = link.querySelector("img").alt;
      dialog.showModal(); // Escape closes it, and the focus goes back to the link
    }));
  }

  document.addEventListener("DOMContentLoaded", () => {
    themeSwitch();
    document.querySelectorAll("table.sortable").forEach(sortable);
    document.querySelectorAll("[data-filters]").forEach(filter);
    pictures();
  });
})();

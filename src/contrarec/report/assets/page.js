"use strict";
// Draws the charts, sorts the tables, hands out what a reader takes along. Runs without a network.
(() => {
  // Contrast to the paper: at least 4.5 for words, 3 for marks. Told apart by colour-blind readers:
  // neighbours in a palette differ in lightness, too.
  const THEMES = {
    light: {
      paper: "#ffffff", ink: "#1b1f24", muted: "#565d66", line: "#d5d9de",
      category: ["#0072b2", "#c8500a", "#00795c", "#a0468f", "#8a6a00", "#3c3f8f", "#b3123f", "#5f6670"],
    },
    dark: {
      paper: "#16181c", ink: "#e8eaed", muted: "#a9b0ba", line: "#3a3f47",
      category: ["#56b4e9", "#f28c3a", "#3fc79a", "#dd93cf", "#e6c84a", "#9aa2ff", "#ff7f97", "#c3c8cf"],
    },
  };
  const FONT = getComputedStyle(document.body).fontFamily;
  const ERRORS = 1; // Vega's name for what is no mere warning
  const TABLE_ROWS = 500; // of a chart's data, shown below it

  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const theme = () =>
    document.documentElement.dataset.theme || (preferred.matches ? "dark" : "light");

  // ---- charts

  function config(name, width) {
    const { paper, ink, muted, line, category } = THEMES[name];
    const narrow = width < 520;
    return {
      background: name === "light" ? paper : "transparent",
      font: FONT,
      padding: 2,
      tooltipFormat: { numberFormat: ",.6~r" },
      mark: { color: category[0], tooltip: true },
      line: { strokeWidth: 2 },
      point: { filled: true, size: 55, opacity: 1 },
      circle: { size: 55, opacity: 1 },
      rule: { color: muted },
      text: { color: ink, fontSize: 12 },
      errorbar: { rule: { strokeWidth: 1.5 } },
      range: {
        category,
        ordinal: { scheme: "viridis" },
        ramp: { scheme: "viridis" },
        heatmap: { scheme: "viridis" },
        diverging: { scheme: "blueorange" },
      },
      view: { stroke: null, continuousHeight: narrow ? 240 : 300, discreteHeight: { step: 24 } },
      axis: {
        labelColor: muted, titleColor: ink, gridColor: line, domainColor: muted, tickColor: muted,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: 600, titlePadding: 8,
        labelLimit: narrow ? 120 : 260, titleLimit: narrow ? 230 : 290,
      },
      axisX: { titleLimit: width - 100, labelSeparation: 8, labelOverlap: true },
      axisQuantitative: { tickCount: narrow ? 4 : 7 },
      header: { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12 },
      legend: {
        orient: "top", columns: Math.max(1, Math.floor(width / 170)), labelLimit: 150,
        labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12,
        titleOrient: "top", gradientLength: 160, symbolStrokeWidth: 2,
        symbolBaseFillColor: muted, symbolBaseStrokeColor: muted,
      },
      title: { color: ink, subtitleColor: muted, fontSize: 15, subtitleFontSize: 12, anchor: "start" },
    };
  }

  // Views side by side get a width each; a single one fills the box.
  function sized(spec, width) {
    if ("hconcat" in spec || "vconcat" in spec || "concat" in spec || "repeat" in spec || "spec" in spec) {
      return spec;
    }
    const { facet, column, row } = spec.encoding ?? {};
    if (facet) {
      const panels = new Set(spec.data.values.map((row) => row[facet.field])).size;
      const columns = Math.max(1, Math.min(panels, Math.floor(width / 280)));
      const each = Math.floor(width / columns) - 64;
      return { ...spec, width: each, height: 180, encoding: { ...spec.encoding, facet: { columns, ...facet } } };
    }
    if (column || row) return { width: column ? 200 : Math.max(200, width - 120), ...spec };
    return { ...spec, width, autosize: { type: "fit-x", contains: "padding", resize: true } };
  }

  function options(name, width) {
    return {
      actions: false, ast: true, defaultStyle: false, renderer: "svg", logLevel: ERRORS,
      config: config(name, width),
      tooltip: { disableDefaultStyle: true },
    };
  }

  function chartOf(figure) {
    const { spec, rows, title, note } = JSON.parse(figure.querySelector("script").textContent);
    const plot = figure.querySelector(".plot");
    const full = { ...spec, data: { values: rows }, description: `${title}. ${note}`.trim() };
    let drawn = null;

    async function draw() {
      const width = plot.clientWidth;
      drawn?.finalize();
      try {
        drawn = await vegaEmbed(plot, sized(full, width), options(theme(), width));
      } catch (error) {
        plot.textContent = `This chart could not be drawn: ${error.message}`;
        console.error(error);
      }
      plot.classList.toggle("wide", plot.scrollWidth > plot.clientWidth + 1);
    }

    // What is taken along is light, says by itself what it shows, and shows what was chosen.
    async function svg() {
      const params = full.params?.map(({ bind, ...param }) =>
        bind?.input ? { ...param, value: drawn.view.signal(param.name) } : { bind, ...param });
      const named = { ...sized(full, 800), params, title: { text: title, subtitle: lines(note, 110) } };
      const view = await vegaEmbed(document.createElement("div"), named, options("light", 800));
      const text = await view.view.toSVG();
      view.finalize();
      return text.replace(/<svg[^>]*>/, (open) => `${open}<title>${escape(title)}</title><desc>${escape(note)}</desc>`);
    }

    const name = fileName(title);
    onClick(figure, "svg", async () => save(`${name}.svg`, "image/svg+xml", await svg()));
    onClick(figure, "csv", () => save(`${name}.csv`, "text/csv", csv(asCells(rows))));
    const details = figure.querySelector("details");
    details.addEventListener("toggle", () => {
      if (details.open && !details.querySelector("table")) showData(details, rows, title);
    });
    return { draw, width: () => plot.clientWidth };
  }

  function showData(details, rows, title) {
    const [header, ...body] = asCells(rows.slice(0, TABLE_ROWS));
    const box = add(details, "div", "");
    Object.assign(box, { className: "box", tabIndex: 0 });
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", title);
    const table = add(box, "table", "");
    const top = add(add(table, "thead", ""), "tr", "");
    for (const name of header) add(top, "th", name).scope = "col";
    const lines = add(table, "tbody", "");
    for (const cells of body) {
      const line = add(lines, "tr", "");
      for (const cell of cells) {
        add(line, "td", cell ?? "–").className = typeof cell === "number" ? "number" : "";
      }
    }
    if (rows.length > TABLE_ROWS) {
      add(details, "p", `The first ${TABLE_ROWS} of ${rows.length} rows; the CSV has them all.`);
    }
  }

  function asCells(rows) {
    const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    return [names, ...rows.map((row) => names.map((name) => row[name]))];
  }

  // ---- tables

  function makeSortable(block) {
    const table = block.querySelector("table");
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const numeric = head.classList.contains("number");
        const before = head.getAttribute("aria-sort");
        const first = numeric ? "descending" : "ascending"; // the largest number is what one looks for
        const second = numeric ? "ascending" : "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        const order = before === first ? second : first;
        head.setAttribute("aria-sort", order);
        sort(table.tBodies[0], column, numeric, order === "ascending" ? 1 : -1);
      });
    });
    const name = fileName(block.querySelector("h3").textContent);
    onClick(block, "csv", () => save(`${name}.csv`, "text/csv", csv(tableCells(table))));
  }

  function sort(body, column, numeric, sign) {
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    const keyed = [...body.rows].map((row) => [cellValue(row.cells[column]), row]);
    keyed.sort(([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // nothing comes last, either way
      return sign * (numeric ? Number(a) - Number(b) : compare(a, b));
    });
    body.append(...keyed.map(([, row]) => row));
  }

  const cellValue = (cell) => cell.dataset.value ?? cell.textContent;
  const tableCells = (table) => [...table.rows].map((row) => [...row.cells].map(cellValue));

  // ---- what both need

  function csv(rows) {
    const quote = (cell) => {
      const text = cell === null || cell === undefined ? "" : String(cell);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return rows.map((cells) => cells.map(quote).join(",") + "\r\n").join("");
  }

  function save(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  function onClick(block, kind, action) {
    block.querySelector(`button[data-save="${kind}"]`).addEventListener("click", action);
  }

  function add(parent, tag, text) {
    const made = document.createElement(tag);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  function lines(text, length) {
    return text.match(new RegExp(`.{1,${length}}(?:\\s|$)|\\S+`, "g"))?.map((line) => line.trim()) ?? [];
  }

  const fileName = (title) => title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || "data";
  const escape = (text) => text.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);

  // ---- start

  const charts = [...document.querySelectorAll("figure.block")].map(chartOf);
  let turn = 0;
  async function drawAll() {
    const mine = ++turn;
    for (const chart of charts) {
      if (mine === turn) await chart.draw();
    }
    if (mine === turn) document.documentElement.dataset.drawn = theme();
  }

  document.querySelectorAll("section.block").forEach(makeSortable);

  const button = document.getElementById("theme");
  const nameButton = () => { button.textContent = theme() === "dark" ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = theme() === "dark" ? "light" : "dark";
    nameButton();
    drawAll();
  });
  preferred.addEventListener("change", () => { nameButton(); drawAll(); });
  if (matchMedia("(max-width: 60rem)").matches) document.querySelector("nav details").open = false;

  let width = charts[0]?.width();
  addEventListener("resize", () => {
    const now = charts[0]?.width();
    if (now !== width) { width = now; drawAll(); }
  });
  nameButton();
  drawAll();
})();

"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const rows = data.trials.map((row) => Object.fromEntries(data.fields.map((name, i) => [name, row[i]])));
  const baselines = data.baselines.map((row) => Object.fromEntries(data.fields.map((name, i) => [name, row[i]])));
  const byId = new Map([...baselines, ...rows].map((row) => [row.trial, row]));
  const columns = new Map(data.columns.map((column) => [column.field, column]));
  const networks = [...new Set([...baselines, ...rows].map((row) => row.network))].sort();
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const heatColours = bytes(data.heat.colours), accuracyColours = bytes(data.accuracy_colours);
  const INK = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777"];

  function make(parent, name, attributes = {}, text = null, space = null) {
    const node = space ? document.createElementNS(space, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== null) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }
  const draw = (parent, name, attributes, text = null) => make(parent, name, attributes, text, SVG);

  function told(value, digits) {
    if (value === null || value === undefined) return "–";
    if (typeof value === "boolean") return value ? "yes" : "";
    if (typeof value !== "number") return String(value);
    if (digits === null || digits === undefined) return String(value);
    return digits < 0 ? Number(value.toPrecision(-digits)).toString() : value.toFixed(digits);
  }

  // Theme: as the system has it, until the reader says otherwise.
  const root = document.documentElement;
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // Any table: a heading sorts; numbers by data-value, cells without one by their text, "-" last.
  function sortable(table) {
    table.querySelectorAll("thead th").forEach((heading, place) => {
      const button = heading.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        table.dispatchEvent(new CustomEvent("sort", { detail: { place, up } }));
      });
    });
  }
  function compare(a, b, up) {
    const missing = (value) => value === null || value === undefined || value === "";
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
    return up ? order : -order;
  }
  document.querySelectorAll("table.sortable").forEach((table) => {
    sortable(table);
    const body = table.tBodies[0];
    const value = (row, place) => {
      const { dataset, textContent } = row.cells[place];
      if (dataset.value !== undefined) return Number(dataset.value);
      return textContent.trim() === "-" ? null : textContent;
    };
    table.addEventListener("sort", ({ detail: { place, up } }) => {
      const ordered = [...body.rows].sort((a, b) => compare(value(a, place), value(b, place), up));
      body.append(...ordered);
    });
  });

  // All trials: a hundred rows are made, and more as they are asked for.
  const STEP = 100;
  const table = document.getElementById("trials-table");
  const view = { order: rows, filter: "", shown: STEP };
  const head = make(make(table, "thead"), "tr");
  for (const column of data.columns) {
    const isNumber = column.digits !== null;
    const heading = make(head, "th", { scope: "col", title: column.title, class: isNumber ? "number" : "" });
    make(heading, "button", { type: "button" }, column.heading);
  }
  const body = make(table, "tbody");
  sortable(table);
  function fill() {
    const wanted = view.order.filter((row) =>
      data.columns.some((column) => String(row[column.field] ?? "").toLowerCase().includes(view.filter)));
    body.replaceChildren();
    for (const row of wanted.slice(0, view.shown)) {
      const line = make(body, "tr");
      for (const column of data.columns) {
        const cell = make(line, "td", { class: column.digits !== null ? "number" : "" });
        if (column.field !== "trial") cell.textContent = told(row[column.field], column.digits);
        else make(cell, "button", { type: "button" }, row.trial).addEventListener("click", () => choose(row.trial, true));
      }
    }
    const more = document.getElementById("more");
    more.hidden = wanted.length <= view.shown;
    document.getElementById("count").textContent =
      `${Math.min(view.shown, wanted.length)} of ${wanted.length} shown` + (view.filter ? `, ${rows.length} in all` : "");
  }
  table.addEventListener("sort", ({ detail: { place, up } }) => {
    const field = data.columns[place].field;
    view.order = [...rows].sort((a, b) => compare(a[field], b[field], up));
    fill();
  });
  document.getElementById("filter").addEventListener("input", (event) => {
    view.filter = event.target.value.trim().toLowerCase();
    view.shown = STEP;
    fill();
  });
  document.getElementById("more").addEventListener("click", () => { view.shown += 5 * STEP; fill(); });
  fill();

  // The figure.
  const LEFT = 62, RIGHT = 16, TOP = 12, BOTTOM = 52;
  // One unit is one pixel: letters are as large on a phone.
  let WIDTH = 760, HEIGHT = 500;
  const box = document.getElementById("scatter");
  const canvas = draw(box, "svg", { role: "group", "aria-label": "trials; arrow keys move, Enter opens" });
  const tip = make(box, "div", { id: "tip", role: "status", hidden: "" });
  const axes = ["x", "y", "colour"].map((name) => document.getElementById(`axis-${name}`));
  const numeric = data.columns.filter((column) => column.digits !== null);
  const usual = ["validation.gini", "validation.corrected_consistency", "test.accuracy_points"];
  axes.forEach((select, place) => {
    for (const column of numeric) {
      const option = make(select, "option", { value: column.field }, column.title);
      option.selected = column.field === usual[place];
    }
    select.addEventListener("change", plot);
  });

  function ticks(low, high) {
    const rough = (high - low) / (WIDTH < 500 ? 4 : 6), power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push([k * step, (k * step).toFixed(digits)]);
    return found;
  }
  function logTicks(low, high) {
    const found = [];
    for (let k = Math.ceil(Math.log10(low) - 1e-9); 10 ** k <= high * (1 + 1e-9); k += 1) found.push([10 ** k, `1e${k}`]);
    return found.length > 1 ? found : ticks(low, high).filter(([value]) => value > 0);
  }
  function scaleOf(field, points, from, to) {
    const values = points.map((point) => point[field]);
    let low = Math.min(...values), high = Math.max(...values);
    // Six decades of alpha on a linear axis are one heap.
    const log = low > 0 && high > 20 * low && ["alpha", "beta"].includes(field.replace("sampled.", ""));
    const margin = log ? (high / low) ** 0.06 : 0.06 * (high - low) || 0.01;
    [low, high] = log ? [low / margin, high * margin] : [low - margin, high + margin];
    const place = log ? Math.log10 : (value) => value;
    const scale = (value) => from + (to - from) * (place(value) - place(low)) / (place(high) - place(low));
    return Object.assign(scale, { ticks: log ? logTicks(low, high) : ticks(low, high), log });
  }
  function shape(place, size) {
    const paths = [
      `M${-size},0a${size},${size} 0 1,0 ${2 * size},0a${size},${size} 0 1,0 ${-2 * size},0Z`,
      `M${-size},${-size}H${size}V${size}H${-size}Z`,
      `M0,${-1.2 * size}L${1.15 * size},${0.9 * size}H${-1.15 * size}Z`,
      `M0,${-1.3 * size}L${1.3 * size},0L0,${1.3 * size}L${-1.3 * size},0Z`,
      `M0,${1.2 * size}L${1.15 * size},${-0.9 * size}H${-1.15 * size}Z`,
    ];
    return paths[place % paths.length];
  }
  function star(size) {
    const corner = (k) => { const r = k % 2 ? 0.45 * size : size, a = Math.PI * (k / 5 - 0.5); return `${r * Math.cos(a)},${r * Math.sin(a)}`; };
    return `M${[...Array(10).keys()].map(corner).join("L")}Z`;
  }
  function colourAt(table, share) {
    const k = 3 * Math.round(255 * Math.min(1, Math.max(0, share)));
    return `rgb(${table[k]},${table[k + 1]},${table[k + 2]})`;
  }

  let marks = [], chosen = null;
  function plot() {
    const [x, y, colour] = axes.map((select) => select.value);
    const isKnown = (row) => typeof row[x] === "number" && typeof row[y] === "number" && (!isLog(x) || row[x] > 0) && (!isLog(y) || row[y] > 0);
    const trials = rows.filter((row) => isKnown(row) && ["finished", "collapsed"].includes(row.status));
    const stars = baselines.filter(isKnown);
    WIDTH = Math.min(760, Math.max(320, box.clientWidth));
    HEIGHT = Math.min(500, WIDTH);
    canvas.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    canvas.replaceChildren();
    tip.hidden = true;
    marks = [];
    // Collapsed trials would squeeze all others into a corner: the axes are the finished ones'.
    const framed = [...trials.filter((row) => row.status === "finished"), ...stars];
    const empty = framed.length === 0;
    document.getElementById("outside").textContent = empty ? "no trial has both measures" : "";
    if (empty) return;
    const across = scaleOf(x, framed, LEFT, WIDTH - RIGHT), up = scaleOf(y, framed, HEIGHT - BOTTOM, TOP);
    drawAxes(across, up, x, y);
    const coloured = framed.map((row) => row[colour]).filter((value) => typeof value === "number");
    const low = Math.min(...coloured), high = Math.max(...coloured);
    document.getElementById("bar-low").textContent = coloured.length ? told(low, columns.get(colour).digits) : "";
    document.getElementById("bar-high").textContent = coloured.length ? told(high, columns.get(colour).digits) : "";
    const isInside = (row) => across(row[x]) >= LEFT && across(row[x]) <= WIDTH - RIGHT && up(row[y]) >= TOP && up(row[y]) <= HEIGHT - BOTTOM;
    const inside = trials.filter(isInside);
    if (inside.length < trials.length)
      document.getElementById("outside").textContent = `${trials.length - inside.length} collapsed outside the axes`;
    if (x === usual[0] && y === usual[1]) drawEdge(across, up);
    const rank = (row) => (row.on_frontier ? 2 : row.feasible ? 1 : 0);
    const ordered = [...inside.sort((a, b) => rank(a) - rank(b)), ...stars];
    for (const row of ordered) {
      const value = row[colour], share = high > low ? (value - low) / (high - low) : 0.5;
      addMark(row, across(row[x]), up(row[y]), typeof value === "number" ? colourAt(accuracyColours, share) : "none");
    }
    marks.sort((a, b) => a.x - b.x || a.y - b.y);
    if (marks.length) marks[0].node.setAttribute("tabindex", "0");
  }
  const isLog = (field) => ["alpha", "beta"].includes(field.replace("sampled.", ""));

  function drawAxes(across, up, x, y) {
    for (const [value, text] of across.ticks) {
      draw(canvas, "line", { class: "gridline", x1: across(value), x2: across(value), y1: TOP, y2: HEIGHT - BOTTOM });
      draw(canvas, "text", { x: across(value), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" }, text);
    }
    for (const [value, text] of up.ticks) {
      draw(canvas, "line", { class: "gridline", x1: LEFT, x2: WIDTH - RIGHT, y1: up(value), y2: up(value) });
      draw(canvas, "text", { x: LEFT - 8, y: up(value) + 4, "text-anchor": "end" }, text);
    }
    draw(canvas, "path", { class: "axis", fill: "none", d: `M${LEFT},${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` });
    const title = (field) => columns.get(field).title + { up: " (higher is better)", down: " (lower is better)", none: "" }[columns.get(field).better];
    draw(canvas, "text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 12, "text-anchor": "middle" }, title(x) + (across.log ? ", log" : ""));
    draw(canvas, "text", { transform: `translate(15 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, title(y) + (up.log ? ", log" : ""));
  }
  function drawEdge(across, up) {
    const members = data.edge.map((name) => byId.get(name)).filter(Boolean);
    const places = members.map((row) => [across(row[usual[0]]), up(row[usual[1]])]);
    if (places.length > 1) draw(canvas, "path", { class: "edge", d: `M${places[0]}` + places.slice(1).map(([px, py]) => `V${py}H${px}`).join("") });
  }
  function addMark(row, x, y, fill) {
    const isBaseline = baselines.includes(row);
    const place = networks.indexOf(row.network), ink = INK[place % INK.length];
    const node = draw(canvas, "g", {
      class: row.trial === chosen ? "mark chosen" : "mark", transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, tabindex: "-1", role: "button",
      "data-trial": row.trial, "aria-label": `${isBaseline ? "baseline" : row.status} ${row.trial}`,
    });
    draw(node, "circle", { class: "target", r: 11 });
    if (row.on_frontier) draw(node, "circle", { r: 9.5, fill: "none", stroke: "var(--ink)", "stroke-width": 1.3 });
    if (isBaseline) draw(node, "path", { d: star(10), fill, stroke: ink, "stroke-width": 1.6 });
    else if (row.status === "collapsed") draw(node, "path", { d: "M-4,-4L4,4M-4,4L4,-4", stroke: "#8c8c8c", "stroke-width": 1.5, fill: "none" });
    else if (row.feasible) draw(node, "path", { d: shape(place, 5), fill, stroke: ink, "stroke-width": 1.4 });
    else draw(node, "path", { d: shape(place, 3), fill: "#8c8c8c", stroke: "none" });
    const mark = { node, row, x, y };
    node.addEventListener("pointerenter", () => showTip(mark));
    node.addEventListener("pointerleave", () => { tip.hidden = true; });
    node.addEventListener("focus", () => showTip(mark));
    node.addEventListener("blur", () => { tip.hidden = true; });
    node.addEventListener("click", () => choose(row.trial, false));
    node.addEventListener("keydown", (event) => onKey(event, mark));
    marks.push(mark);
  }
  function onKey(event, mark) {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    if (event.key === "Enter" || event.key === " ") choose(mark.row.trial, false);
    else if (event.key === "Escape") tip.hidden = true;
    else if (event.key in steps) {
      const next = marks[(marks.indexOf(mark) + steps[event.key] + marks.length) % marks.length];
      mark.node.setAttribute("tabindex", "-1");
      next.node.setAttribute("tabindex", "0");
      next.node.focus();
    } else return;
    event.preventDefault();
  }
  // What is measured, and on which split.
  const shortTitle = (title) => title.match(/^[^,]*(?:, (?:validation|test)(?= split))?/)[0];
  function showTip({ row, x, y }) {
    tip.replaceChildren();
    make(tip, "strong", {}, row.trial);
    const list = make(tip, "table");
    const asked = ["network", "status", "alpha", "beta", "p", "distance", ...axes.map((select) => select.value), "test.consistency", "test.iauc", "tradeoff_points"];
    for (const field of new Set(asked)) {
      const column = columns.get(field);
      if (!column || row[field] === null || row[field] === undefined) continue;
      const line = make(list, "tr");
      make(line, "td", {}, shortTitle(column.title));
      make(line, "td", {}, told(row[field], column.digits));
    }
    tip.hidden = false;
    const wide = box.clientWidth, factor = wide / WIDTH;
    const left = Math.min(x * factor + 14, wide - tip.offsetWidth - 4);
    tip.style.left = `${Math.max(0, left)}px`;
    const below = y * factor + 14;
    tip.style.top = `${below + tip.offsetHeight > box.clientHeight && y * factor > tip.offsetHeight + 14 ? y * factor - tip.offsetHeight - 14 : below}px`;
  }

  // One trial: what it was trained with, how it compares, its heatmaps.
  const panel = document.getElementById("chosen");
  function choose(name, scroll) {
    const row = byId.get(name), baseline = byId.get(row.baseline);
    chosen = name;
    panel.replaceChildren();
    panel.hidden = false;
    make(panel, "h3", { id: "chosen-name", tabindex: "-1" }, `${row.trial}${row.on_frontier ? ", on the frontier" : ""}`);
    if (row.reason) make(panel, "p", { class: "warn" }, `${row.status}: ${row.reason}`);
    for (const [what, text] of [["directory", row.directory], ["trained again by", row.command]]) {
      if (!text) continue;
      const line = make(panel, "p", {}, `${what}: `);
      make(line, "code", {}, text);
      const button = make(line, "button", { type: "button" }, "copy");
      line.insertBefore(document.createTextNode(" "), button);
      button.addEventListener("click", () => copy(text, button));
    }
    addMeasures(row, baseline);
    addMaps(row, baseline);
    document.querySelectorAll("#scatter .mark").forEach((node) => node.classList.toggle("chosen", node.dataset.trial === name));
    if (scroll) panel.scrollIntoView({ block: "start" });
    document.getElementById("chosen-name").focus({ preventScroll: true });
  }
  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      // A page opened from disk may not be let near the clipboard: select the text instead.
      const range = document.createRange();
      range.selectNodeContents(button.parentElement.querySelector("code"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "selected";
    }
  }
  function addMeasures(row, baseline) {
    const list = make(make(panel, "div", { class: "scroll" }), "table");
    const top = make(make(list, "thead"), "tr");
    for (const text of ["", "trial", ...(baseline ? ["baseline"] : [])]) make(top, "th", { scope: "col", class: text ? "number" : "" }, text);
    const lines = make(list, "tbody");
    for (const column of data.columns) {
      if (["trial", "status", "on_frontier", "network"].includes(column.field) || row[column.field] === null) continue;
      const line = make(lines, "tr");
      make(line, "th", { scope: "row" }, column.title);
      make(line, "td", { class: "number" }, told(row[column.field], column.digits));
      if (baseline) make(line, "td", { class: "number" }, told(baseline[column.field], column.digits));
    }
  }
  function addMaps(row, baseline) {
    const album = data.albums[data.album_of[row.trial]];
    make(panel, "h3", {}, "Heatmaps of test images");
    if (!album) {
      make(panel, "p", { class: "soft" }, "none in this page: none were kept, or this trial is beyond those that the page has room for; gcc-search explain draws them");
      return;
    }
    const kept = [["baseline", baseline && album.maps[baseline.trial]], ["this trial", album.maps[row.trial]]].filter(([, maps]) => maps);
    const list = make(make(panel, "div", { class: "scroll" }), "table", { class: "maps" });
    const top = make(make(list, "thead"), "tr");
    make(top, "th", { scope: "col" }, "image x");
    for (const [who] of kept) make(top, "th", { scope: "col" }, `${who}: CAM(x)`);
    for (const [who] of kept) { make(top, "th", { scope: "col" }, `${who}: t(CAM(x))`); make(top, "th", { scope: "col" }, `${who}: CAM(t(x))`); }
    const lines = make(list, "tbody");
    album.images.forEach((image, place) => addImage(make(lines, "tr"), album, image, place, kept));
  }
  function addImage(line, album, image, place, kept) {
    const className = (label) => album.classes[label] ?? `class ${label}`;
    const cells = [["plain", null, 0, className(image.label)]];
    for (const [, maps] of kept) {
      const right = maps.predicted[place] === image.label ? "" : " ✗";
      cells.push(["lit", maps, 0, `${className(maps.predicted[place])}${right} ${(100 * maps.confidence[place]).toFixed(0)} %`]);
    }
    for (const [, maps] of kept) {
      cells.push(["moved", maps, 0, ""]);
      cells.push(["second", maps, 1, `SSIM ${told(maps.consistency[place], 3)}`]);
    }
    const canvases = cells.map(([, , , caption]) => {
      const cell = make(line, "td");
      const canvas = make(cell, "canvas", { role: "img", "aria-label": `${image.name} ${caption}` });
      make(cell, "span", { class: "caption" }, caption);
      return canvas;
    });
    const picture = new Image();
    picture.addEventListener("load", () => {
      const pixels = pixelsOf(picture);
      cells.forEach(([kind, maps, second], k) => paint(canvases[k], pixels, kind, maps, place, second, image));
    });
    picture.src = `data:image/jpeg;base64,${image.picture}`;
  }
  function pixelsOf(picture) {
    const size = picture.naturalWidth, sheet = new OffscreenCanvas(size, size).getContext("2d");
    sheet.drawImage(picture, 0, 0);
    return { size, values: sheet.getImageData(0, 0, size, size).data };
  }
  function paint(canvas, pixels, kind, maps, place, second, image) {
    const { size, values } = pixels;
    canvas.width = canvas.height = size;
    const whole = maps ? upsampled(maps, 2 * place + second, size) : null;
    const heat = whole && stretched(kind === "moved" ? movedMap(whole, size, image) : whole);
    const out = new ImageData(size, size), [top, left, height, width] = image.crop;
    for (let row = 0; row < size; row += 1) for (let column = 0; column < size; column += 1) {
      const at = row * size + column;
      let from = at;
      if (kind === "moved" || kind === "second") {
        const side = image.flipped ? size - 1 - column : column;
        from = index(top + height * (row + 0.5) / size, size) * size + index(left + width * (side + 0.5) / size, size);
      }
      mix(out.data, 4 * at, values, 4 * from, heat ? heat[at] : null);
    }
    canvas.getContext("2d").putImageData(out, 0, 0);
  }
  const index = (share, size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
  function mix(target, to, source, from, level) {
    const grey = 0.299 * source[from] + 0.587 * source[from + 1] + 0.114 * source[from + 2];
    for (let channel = 0; channel < 3; channel += 1) {
      const colour = level === null ? 0 : heatColours[3 * Math.round(255 * level) + channel];
      target[to + channel] = level === null ? source[from + channel] : (1 - data.heat.opacity) * grey + data.heat.opacity * colour;
    }
    target[to + 3] = 255;
  }
  // Both heatmaps are those that are measured: moved before they are stretched to their own range.
  function upsampled(maps, which, size) {
    const side = maps.side, cells = (maps.bytes ??= bytes(maps.cells)).subarray(which * side * side, (which + 1) * side * side);
    const places = Array.from({ length: size }, (_, k) => (k + 0.5) * side / size - 0.5);
    return bilinear(cells, side, places, places);
  }
  // t as saliency/geometry.py has it: no sample lies beyond the centres of the crop's outermost pixels.
  function movedMap(full, size, { crop: [top, left, height, width], flipped }) {
    const places = (start, extent) => {
      const reach = Math.max(0, 0.5 - 0.5 / (extent * size));
      return Array.from({ length: size }, (_, k) => (start + extent * (0.5 + Math.min(reach, Math.max(-reach, (k + 0.5) / size - 0.5)))) * size - 0.5);
    };
    const columns = places(left, width);
    return bilinear(full, size, places(top, height), flipped ? columns.reverse() : columns);
  }
  // Values of a square of `side` x `side` between its cells; align_corners false.
  function bilinear(values, side, rows, columns) {
    const between = (place) => {
      const inside = Math.min(side - 1, Math.max(0, place)), first = Math.floor(inside);
      return [first, Math.min(side - 1, first + 1), inside - first];
    };
    const across = columns.map(between), out = new Float32Array(rows.length * columns.length);
    rows.map(between).forEach(([r, below, down], row) => across.forEach(([c, beside, over], column) => {
      out[row * columns.length + column] = (1 - down) * ((1 - over) * values[r * side + c] + over * values[r * side + beside])
        + down * ((1 - over) * values[below * side + c] + over * values[below * side + beside]);
    }));
    return out;
  }
  function stretched(values) {
    let low = Infinity, high = -Infinity;
    for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
    return values.map((value) => (high > low ? (value - low) / (high - low) : 0));
  }

  const bar = document.getElementById("bar");
  bar.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((share) => colourAt(accuracyColours, share)).join(",")})`;
  const key = document.getElementById("networks");
  networks.forEach((name, place) => {
    const item = make(key, "span");
    const icon = draw(item, "svg", { width: 14, height: 14, viewBox: "-8 -8 16 16", "aria-hidden": "true" });
    draw(icon, "path", { d: shape(place, 5), fill: "none", stroke: INK[place % INK.length], "stroke-width": 2 });
    item.append(` ${name}`);
  });
  plot();
  // A phone's address bar comes and goes; what counts is the width.
  let settled;
  const isOtherWidth = () => Math.min(760, Math.max(320, box.clientWidth)) !== WIDTH;
  addEventListener("resize", () => { clearTimeout(settled); settled = setTimeout(() => isOtherWidth() && plot(), 150); });
  root.dataset.ready = "yes";
})();

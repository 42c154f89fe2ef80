// A map of cells that one looks at and chooses from: on a node, and on the page of `python -m lclip explore`.
//
// showMap(root, data, options) fills an element. data: what ExploredMap.as_json tells, and picture, the address of a
// sheet with all cells, row by row. options.choice: [column, row]; options.onChoose(column, row, cell) is called when a
// click, Enter or Space chooses; options.onHold(place), if given, gets a button that takes the chosen cell's place.
// data.words, if given, has what is said here in another language, by the English words.
// Returns {choose(column, row), show(data, choice)}.

const HEAT = [[23, 15, 84], [33, 66, 135], [33, 120, 140], [82, 173, 105], [252, 232, 46]];
const STYLE = `
.lclip-map { --map-ink: var(--input-text, currentColor); --map-line: var(--border-color, #8888);
  --map-mark: #ff8c3a; display: flex; flex-direction: column; gap: 6px; width: 100%; height: 100%; min-height: 0;
  box-sizing: border-box; color: var(--map-ink); font: 12px/1.35 system-ui, sans-serif; }
.lclip-map * { box-sizing: border-box; }
.lclip-map .bar { display: flex; flex-wrap: wrap; gap: 4px 10px; align-items: center; }
.lclip-map .bar label { display: inline-flex; gap: 4px; align-items: center; }
.lclip-map select, .lclip-map button.hold { font: inherit; color: inherit; max-width: 150px; padding: 1px 4px;
  background: var(--comfy-input-bg, transparent); border: 1px solid var(--map-line); border-radius: 4px; }
.lclip-map option { color: #000; background: #fff; }
.lclip-map .room { flex: 1 1 auto; min-height: 0; display: flex; align-items: center; justify-content: flex-start;
  container-type: size; }
.lclip-map .field { position: relative; aspect-ratio: var(--shape); width: min(100cqw, 100cqh * var(--ratio)); }
.lclip-map .grid { display: grid; width: 100%; height: 100%; grid-template-columns: repeat(var(--columns), 1fr);
  grid-template-rows: repeat(var(--rows), 1fr); }
.lclip-map .row { display: contents; }
.lclip-map .cell { position: relative; min-width: 0; min-height: 0; cursor: pointer; background-color: #8884;
  background-image: var(--sheet); background-repeat: no-repeat;
  background-size: calc(100% * var(--columns)) calc(100% * var(--rows)); }
.lclip-map .cell.hole { background: repeating-linear-gradient(45deg, #8886 0 4px, #8882 4px 8px); }
.lclip-map .cell .heat { position: absolute; inset: 0; opacity: .62; }
.lclip-map .cell .score { position: absolute; left: 0; right: 0; bottom: 0; text-align: center; font-size: 10px;
  line-height: 1.25; color: #fff; background: #0009; }
.lclip-map .cell:hover { outline: 2px solid #fff; outline-offset: -2px; z-index: 1; }
.lclip-map .cell:focus-visible { outline: 3px dashed #fff; outline-offset: -3px; box-shadow: 0 0 0 2px #000; z-index: 3; }
.lclip-map .cell[aria-selected=true]::after { content: ""; position: absolute; inset: 0; z-index: 2;
  border: 3px solid var(--map-mark); box-shadow: inset 0 0 0 1px #000, 0 0 0 1px #000; }
.lclip-map svg { position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; z-index: 2; }
.lclip-map svg polyline { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
.lclip-map .under { stroke: #000; stroke-width: 4; } .lclip-map .contour { stroke: #fff; stroke-width: 2; }
.lclip-map .path { stroke: var(--map-mark); stroke-width: 2.5; }
.lclip-map .legend { display: flex; flex-wrap: wrap; gap: 0 8px; align-items: center; min-height: 1.35em; }
.lclip-map .scale { width: 70px; height: 8px; border: 1px solid var(--map-line); background: linear-gradient(to right,
  ${HEAT.map((colour) => `rgb(${colour})`).join(", ")}); }
.lclip-map .caution { margin: 0; padding-left: 6px; border-left: 4px solid #d55e00; flex: none; }
.lclip-map .told { margin: 0; min-height: 2.7em; overflow: auto; max-height: 5.4em; flex: none; }
`;

export function showMap(root, data, options = {}) {
  addStyle(root.ownerDocument);
  const map = new ShownMap(root, options);
  map.show(data, options.choice ?? [0, 0]);
  return { choose: (column, row) => map.mark(column, row), show: (next, choice) => map.show(next, choice) };
}

class ShownMap {
  constructor(root, options) {
    this.root = root;
    this.options = options;
    this.view = { text: -1, contour: true, path: true };
    root.classList.add("lclip-map");
  }

  show(data, choice) {
    this.data = data;
    const cautions = (data.cautions ?? []).map((text) => this.say("Caution: {text}", { text }))
      .map((text) => make("p", { class: "caution" }, text));
    this.root.replaceChildren(this.bar(), this.field(), this.legend(), this.told(), ...cautions);
    this.mark(choice[0], choice[1]);
  }

  // English words in the reader's own, where data.words has them, with the values at the places of their {names}.
  say(english, values = {}) {
    return (this.data.words?.[english] ?? english).replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
  }

  number(score) {
    return score === null ? this.say("no number") : score.toFixed(4);
  }

  // The text whose heat is shown; -1 is none, as long as the map has not so many.
  get text() {
    return this.view.text < this.data.texts.length ? this.view.text : -1;
  }

  // What is shown over the pictures.
  bar() {
    const choices = [["-1", this.say("the pictures")], ...this.data.texts.map((text, number) => [`${number}`, text])];
    const select = make("select", { "aria-label": this.say("which text's score is shown as heat") });
    select.append(...choices.map(([value, text]) => make("option", { value }, text)));
    select.value = `${this.text}`;
    select.addEventListener("change", () => { this.view.text = Number(select.value); this.paint(); });
    const parts = [make("label", {}, `${this.say("show")} `, select), this.box("contour", this.say("contour")),
      this.box("path", this.say("way up"))];
    if (this.options.onHold) {
      const hold = make("button", { type: "button", class: "hold",
        title: this.say("Keep this cell's place for the axes that are not shown, then choose two others") },
        this.say("hold this place"));
      hold.addEventListener("click", () => this.options.onHold(this.data.places[this.chosen]));
      parts.push(hold);
    }
    return make("div", { class: "bar" }, ...parts);
  }

  box(name, label) {
    const box = make("input", { type: "checkbox" });
    box.checked = this.view[name];
    box.addEventListener("change", () => { this.view[name] = box.checked; this.paint(); });
    return make("label", {}, box, label);
  }

  field() {
    const { columns, rows, x, y, picture, scores } = this.data;
    const [wide, high] = this.data.tile ?? [1, 1];
    const about = y ? this.say("map of {columns} by {rows} cells; {x} to the right, {y} down", { columns, rows, x, y })
      : this.say("map of {columns} cells; {x} to the right", { columns, x });
    const grid = make("div", { class: "grid", role: "grid", "aria-label": about });
    this.cells = [];
    for (let row = 0; row < rows; row++) {
      const line = make("div", { class: "row", role: "row" });
      for (let column = 0; column < columns; column++) {
        const number = row * columns + column;
        const cell = make("div", { class: "cell", role: "gridcell", tabindex: "-1", title: this.words(number),
          "aria-label": this.words(number), "aria-selected": "false" },
          make("span", { class: "heat" }), make("span", { class: "score" }));
        cell.classList.toggle("hole", scores.length > 0 && scores[0][number] === null);
        cell.style.backgroundPosition = `${share(column, columns)} ${share(row, rows)}`;
        cell.addEventListener("click", () => this.choose(number));
        cell.addEventListener("focus", () => this.tell(number));
        line.append(cell);
        this.cells.push(cell);
      }
      grid.append(line);
    }
    grid.addEventListener("keydown", (event) => this.press(event));
    // On a canvas a press would drag the node, and a wheel would zoom.
    grid.addEventListener("pointerdown", (event) => event.stopPropagation());
    const lines = this.root.ownerDocument.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of Object.entries({ viewBox: `-0.5 -0.5 ${columns} ${rows}`, preserveAspectRatio: "none",
      "aria-hidden": "true" })) lines.setAttribute(name, value);
    this.lines = lines;
    const field = make("div", { class: "field" }, grid, lines);
    const set = (name, value) => field.style.setProperty(name, value);
    set("--columns", columns); set("--rows", rows);
    set("--shape", `${columns * wide} / ${rows * high}`); set("--ratio", (columns * wide) / (rows * high));
    set("--sheet", picture ? `url("${picture}")` : "none");
    return make("div", { class: "room" }, field);
  }

  legend() {
    this.scale = make("div", { class: "legend" });
    return this.scale;
  }

  told() {
    this.status = make("p", { class: "told", role: "status", "aria-live": "polite" });
    return this.status;
  }

  // A cell in words.
  words(number) {
    const { columns, texts, scores, places } = this.data;
    const [column, row] = [number % columns, Math.floor(number / columns)];
    const where = this.say("column {column}, row {row}", { column, row });
    const found = texts.map((text, index) => `${text}: ${this.number(scores[index][number])}`);
    return `${where} (${places[number]}). ${found.join("; ")}`;
  }

  tell(number) {
    this.status.textContent = this.words(number) + (number === this.chosen ? ` ${this.say("Chosen.")}` : "");
  }

  choose(number) {
    const column = number % this.data.columns, row = Math.floor(number / this.data.columns);
    this.mark(column, row);
    this.cells[number].focus({ preventScroll: true });
    this.options.onChoose?.(column, row, number);
  }

  // Show which cell is chosen; one beyond the map is the last.
  mark(column, row) {
    const { columns, rows } = this.data;
    const within = (value, count) => Math.max(0, Math.min(Number(value) || 0, count - 1));
    this.chosen = within(row, rows) * columns + within(column, columns);
    this.cells.forEach((cell, number) => {
      cell.setAttribute("aria-selected", `${number === this.chosen}`);
      cell.tabIndex = number === this.chosen ? 0 : -1;
    });
    this.tell(this.chosen);
    this.paint();
  }

  // Heat, contours and the way up, of the text that is shown.
  paint() {
    const text = this.text, scores = text < 0 ? null : this.data.scores[text];
    const known = (scores ?? []).filter((score) => score !== null);
    const low = Math.min(...known), high = Math.max(...known);
    this.cells.forEach((cell, number) => {
      const [heat, score] = cell.children, value = scores?.[number] ?? null;
      heat.style.background = value === null ? "none" : heatOf((value - low) / (high - low || 1));
      score.textContent = value === null || this.data.columns > 8 ? "" : value.toFixed(3);
    });
    this.lines.replaceChildren();
    const { x, y } = this.data;
    this.scale.replaceChildren(make("span", { class: "axes" }, `\u2192 ${x}${y ? ` \u2193 ${y}` : ""}`));
    if (!known.length) return;
    const level = this.number(this.data.levels[text]), found = this.data.contours[text].length > 0;
    const crossed = found ? this.say("white line: {level}", { level }) : this.say("nowhere {level}", { level });
    const words = [low.toFixed(3), make("span", { class: "scale", "aria-hidden": "true" }), high.toFixed(3)];
    if (this.view.contour) words.push(crossed);
    this.scale.append(...words.map((word) => (word instanceof Element ? word : make("span", {}, word))));
    if (this.view.contour) this.data.contours[text].forEach((line) => this.line(line, "contour"));
    if (this.view.path) this.line(this.wayUp(text), "path");
  }

  wayUp(text) {
    const way = [this.chosen], next = this.data.uphill[text];
    while (next[way.at(-1)] !== way.at(-1)) way.push(next[way.at(-1)]);
    return way.map((cell) => [cell % this.data.columns, Math.floor(cell / this.data.columns)]);
  }

  line(points, kind) {
    for (const name of ["under", kind]) {
      const line = this.root.ownerDocument.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("points", points.map((point) => point.join(",")).join(" "));
      line.setAttribute("class", name);
      this.lines.append(line);
    }
  }

  press(event) {
    const { columns, rows } = this.data, here = this.cells.indexOf(event.target);
    if (here < 0 || event.altKey || event.metaKey) return;
    const column = here % columns, row = Math.floor(here / columns);
    const to = { ArrowLeft: [column - 1, row], ArrowRight: [column + 1, row], ArrowUp: [column, row - 1],
      ArrowDown: [column, row + 1], Home: [0, event.ctrlKey ? 0 : row],
      End: [columns - 1, event.ctrlKey ? rows - 1 : row] }[event.key];
    if (event.key === "Enter" || event.key === " ") this.choose(here);
    else if (to && to[0] >= 0 && to[0] < columns && to[1] >= 0 && to[1] < rows)
      this.cells[to[1] * columns + to[0]].focus({ preventScroll: true });
    else if (!to) return;
    event.preventDefault();
    event.stopPropagation(); // the editor around has keys of its own
  }
}

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

function share(place, count) {
  return count > 1 ? `${(100 * place) / (count - 1)}%` : "0%";
}

function heatOf(share) {
  const place = Math.max(0, Math.min(1, share)) * (HEAT.length - 1), low = Math.min(Math.floor(place), HEAT.length - 2);
  const mixed = HEAT[low].map((from, index) => Math.round(from + (HEAT[low + 1][index] - from) * (place - low)));
  return `rgb(${mixed})`;
}

function addStyle(page) {
  if (page.getElementById("lclip-map-style")) return;
  const style = page.createElement("style");
  style.id = "lclip-map-style";
  style.textContent = STYLE;
  page.head.append(style);
}

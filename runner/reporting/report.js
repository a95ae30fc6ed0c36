// What the page does beyond its HTML: charts, sorting, and numbers and times in the reader's own format.
// Data is text here: it becomes textContent or a value of Vega, never HTML and never code.

const languages = [...navigator.languages];
const formats = new Map();

function numberFormat(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(languages, options));
  return formats.get(key);
}

function timeFormat(options) {
  const key = `time ${JSON.stringify(options)}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(languages, { ...options, timeZone: "UTC" }));
  return formats.get(key);
}

const TIMES = {
  date: { dateStyle: "medium" },
  hour: { dateStyle: "medium", timeStyle: "short" },
  time: { dateStyle: "medium", timeStyle: "medium" },
};
const BYTES = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte", "petabyte"];
const DURATION = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

const unit = (name, digits = 0) =>
  numberFormat({ style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: digits });

// A length of time by its two largest units.
function duration(seconds) {
  const sign = seconds < 0 ? "−" : "";
  let rest = Math.abs(seconds);
  if (rest < 60) return sign + unit("second", 1).format(rest);
  rest = Math.round(rest);
  const first = DURATION.findIndex(([, length]) => rest >= length);
  const parts = DURATION.slice(first, first + 2).map(([name, length]) => {
    const count = Math.floor(rest / length);
    rest -= count * length;
    return [name, count];
  });
  return sign + parts.filter(([, count]) => count).map(([name, count]) => unit(name).format(count)).join(" ");
}

function bytes(value) {
  let place = 0;
  while (Math.abs(value) >= 999.95 && place < BYTES.length - 1) {
    value /= 1000;
    place += 1;
  }
  return unit(BYTES[place], 1).format(value);
}

// An axis over hours names the day where one begins.
function tick(value) {
  const time = new Date(value);
  if (time.getTime() % 86400000) return timeFormat({ hour: "numeric", minute: "2-digit" }).format(time);
  const isYear = time.getUTCMonth() === 0 && time.getUTCDate() === 1;
  return timeFormat({ day: "numeric", month: "short", ...(isYear ? { year: "numeric" } : {}) }).format(time);
}

// The text of a value; `digits` after the point, by default those that it has.
function shown(value, kind, digits) {
  if (value === null || value === undefined || value === "") return "";
  if (kind in TIMES) return timeFormat(TIMES[kind]).format(new Date(value));
  if (kind === "tick") return tick(value);
  if (kind === "text" || kind === "link") return String(value);
  if (kind === "percent") {
    return numberFormat({ style: "percent", minimumFractionDigits: digits ?? 0, maximumFractionDigits: digits ?? 1 }).format(value);
  }
  if (kind === "duration") return duration(Number(value));
  if (kind === "bytes") return bytes(Number(value));
  if (kind === "compact" && Math.abs(value) >= 10000) {
    return numberFormat({ notation: "compact", maximumFractionDigits: 1 }).format(value);
  }
  // A number too small for the digits is told from nothing.
  if (Number(value) && Math.abs(value) < 0.5 * 10 ** -(digits ?? 4)) {
    return numberFormat({ maximumSignificantDigits: 2 }).format(value);
  }
  const fraction = { minimumFractionDigits: digits ?? 0, maximumFractionDigits: digits ?? 4 };
  return numberFormat(fraction).format(/^-?\d{16,}$/.test(value) ? BigInt(value) : value);
}

// Texts of the HTML, which reads well in English already.
function localize() {
  for (const element of document.querySelectorAll("data[value]")) element.textContent = shown(element.value, "number");
  for (const element of document.querySelectorAll("time[data-kind]")) {
    element.textContent = shown(element.dateTime, element.dataset.kind);
  }
  for (const element of document.querySelectorAll("dd[data-v], .legend [data-v]")) {
    element.textContent = shown(element.dataset.v, element.dataset.kind, Number(element.dataset.digits));
  }
  for (const table of document.querySelectorAll("table")) {
    const columns = [...table.tHead.rows[0].cells].map((head) => [head.dataset.kind, Number(head.dataset.digits)]);
    for (const row of table.tBodies[0].rows) {
      for (const cell of row.cells) {
        if (cell.dataset.v !== undefined) cell.textContent = shown(cell.dataset.v, ...columns[cell.cellIndex]);
      }
    }
  }
}

const collator = new Intl.Collator(languages, { numeric: true });

function compare(a, b, kind) {
  const [left, right] = [a, b].map((cell) => cell.dataset.v ?? cell.textContent);
  if (!left || !right) return 0;
  return kind === "text" || kind === "link" ? collator.compare(left, right) : isNaN(left) ? (left < right ? -1 : left > right ? 1 : 0) : left - right;
}

function sortBy(table, head) {
  const descends = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descends ? "descending" : "ascending");
  const place = head.cellIndex;
  const isEmpty = (row) => row.cells[place].textContent === "";
  const rows = [...table.tBodies[0].rows];
  // Empty values stand last, whichever way.
  rows.sort((a, b) => isEmpty(a) - isEmpty(b) || (descends ? -1 : 1) * compare(a.cells[place], b.cells[place], head.dataset.kind));
  table.tBodies[0].append(...rows);
}

function makeSortable(table) {
  if (table.tBodies[0].rows.length < 2) return;
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, head));
    head.append(button);
  }
}

const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;

function tipLine(name, value, colour, isHere) {
  const line = document.createElement("div");
  const [title, text] = [document.createElement("i"), document.createElement("span")];
  title.textContent = name;
  title.dir = "auto";
  if (colour !== null) title.className = `c${Math.min(colour, 9)}`;
  text.textContent = value;
  line.append(title, text);
  line.classList.toggle("here", isHere);
  return line;
}

// All series at the place under the pointer, the largest first.
function showTip(card, event, datum) {
  const rows = card.rows.filter((row) => row.x === datum.x && row.y !== null);
  rows.sort((a, b) => b.y - a.y);
  const title = document.createElement("strong");
  title.dir = "auto";
  const ofName = card.scale === "names" ? card.names[datum.x] : datum.x;
  const isText = card.scale === "names" && isNaN(ofName);
  title.textContent = shown(ofName, isText ? "text" : card.xFormat);
  const lines = rows.slice(0, 12).map((row) => {
    const name = card.series.length > 1 ? card.series[row.s] : card.yTitle;
    const colour = card.chart === "pie" ? row.x : card.series.length > 1 ? row.s : null;
    return tipLine(name, shown(row.y, card.yFormat), colour, rows.length > 1 && row.s === datum.s);
  });
  tip.replaceChildren(title, ...lines);
  if (rows.length > 12) tip.append(`… ${shown(rows.length - 12, "number")}`);
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = event.clientX + 16 + width > innerWidth ? event.clientX - width - 16 : event.clientX + 16;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${Math.max(Math.min(event.clientY + 16, innerHeight - height - 4), 4)}px`;
}

function specOf(card, width) {
  const spec = structuredClone(card.spec);
  spec.data.values = card.rows;
  spec.params.find((param) => param.name === "narrow").value = width < 480;
  if (spec.vconcat) {
    // The two views are as wide as what the axes, of a fixed width, leave.
    for (const view of spec.vconcat) view.width = width - card.axisWidth - 16;
  } else {
    spec.width = width;
    spec.autosize = { type: "fit-x", contains: "padding" };
  }
  return spec;
}

async function draw(card) {
  const width = Math.floor(card.element.clientWidth);
  if (width < 40 || width === card.width) return;
  card.width = width;
  card.view?.finalize();
  const hidden = card.view?.view.signal("hidden") ?? [];
  card.view = await window.vegaEmbed(card.canvas, specOf(card, width), {
    mode: "vega-lite",
    ast: true, // expressions are read and not run as code, which the page's policy forbids
    actions: false,
    defaultStyle: false,
    renderer: "svg",
    expressionFunctions: { shown },
    tooltip: (handler, event, item, value) => {
      if (value === null || value === undefined || !item) tip.hidden = true;
      else showTip(card, event, item.datum.datum ?? item.datum);
    },
  });
  card.element.view = card.view.view;
  if (hidden.length) await card.view.view.signal("hidden", hidden).runAsync();
}

function makeLegend(card, legend) {
  const buttons = [...legend.querySelectorAll("button")];
  legend.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    button.ariaPressed = String(button.ariaPressed !== "true");
    // Without any there would be nothing to look at: then all come back.
    if (buttons.every((other) => other.ariaPressed !== "true")) buttons.forEach((other) => (other.ariaPressed = "true"));
    const hidden = buttons.flatMap((other, place) => (other.ariaPressed === "true" ? [] : [place]));
    card.view?.view.signal("hidden", hidden).runAsync();
  });
}

async function makeChart(article) {
  const card = JSON.parse(article.querySelector("script").textContent);
  const { x, y, s } = card.points;
  card.rows = x.map((value, place) => ({ x: value, y: y[place], s: s[place] }));
  card.element = article.querySelector(".chart");
  // The element is an image with a name of ours; what Vega says of its parts would be heard beside it.
  card.canvas = document.createElement("div");
  card.canvas.ariaHidden = "true";
  card.element.append(card.canvas);
  const legend = article.querySelector(".legend");
  if (legend) makeLegend(card, legend);
  card.element.addEventListener("pointerleave", () => (tip.hidden = true));
  await draw(card);
  let waiting;
  new ResizeObserver(() => {
    clearTimeout(waiting);
    waiting = setTimeout(() => draw(card), 120);
  }).observe(card.element);
}

// Where a table can't stand beside its chart it waits to be asked for.
for (const details of document.querySelectorAll(".both > details")) {
  if (details.parentElement.clientWidth < 832) details.open = false;
}
localize();
document.querySelectorAll("table").forEach(makeSortable);
document.body.append(tip);
addEventListener("keydown", (event) => event.key === "Escape" && (tip.hidden = true));
await Promise.all([...document.querySelectorAll("article:has(> script)")].map(makeChart));
document.documentElement.dataset.ready = "";

// Sorting of the tables, and the browser of answers. `$` is jQuery with DataTables, put before this.
// What models wrote is untrusted: it reaches the page through textContent only, and DataTables gets
// it neither for its search nor for its guess of types, which would parse it as HTML.

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const followScheme = () => document.documentElement.classList.toggle("dark", dark.matches);
dark.addEventListener("change", followScheme);
followScheme();

for (const table of document.querySelectorAll("table.sortable")) {
  $(table).DataTable({ paging: false, searching: false, info: false, order: [], autoWidth: false });
}

const element = (id) => document.getElementById(id);
/** Texts longer than this are shown in full on request only, so that none can freeze the page. */
const AT_ONCE = 20000;

async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** The rows of the table of pairs: one per prompt of each entry of `data.pairs`. */
function rowsOf(data) {
  return data.pairs.flatMap((pair) => {
    const side = (method) => ({
      texts: data.answers[pair.setting][method][pair.seed],
      lengths: data.lengths[pair.setting][method][pair.seed],
    });
    const [ours, theirs] = [side(pair.method), side(pair.baseline)];
    const comparison = `${pair.setting}, ${pair.annotator}: ${pair.method} over ${pair.baseline}`;
    return pair.preferences.map(([method, baseline], i) => {
      const [a, b] = [percent(method), percent(baseline)];
      return {
        pair, comparison, i, ours, theirs, method: a, baseline: b, seed: pair.seed,
        prompts: data.prompts[pair.setting], references: data.references[pair.setting],
        outcome: a === b ? "tie" : `${pair.label} ${Number(a) > Number(b) ? "wins" : "loses"}`,
      };
    });
  });
}

function percent(share) {
  return String(Math.round(100 * share));
}

function browse(data) {
  const rows = rowsOf(data);
  const text = $.fn.dataTable.render.text();
  const column = (of, type, render = text) => ({
    data: of, type, render, searchable: false, className: type === "num" ? "number" : "",
  });
  const table = $("#pairs").DataTable({
    data: rows, deferRender: true, autoWidth: false, pageLength: 25, order: [],
    layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: "paging" },
    columns: [
      column((row) => row.prompts[row.i], "string", promptButton),
      column("outcome", "string", outcomeMark),
      column("method", "num"),
      column("baseline", "num"),
      column((row) => row.ours.lengths[row.i], "num"),
      column((row) => row.theirs.lengths[row.i], "num"),
      column("comparison", "string"),
      column("seed", "num"),
    ],
  });
  const filters = ["outcome", "comparison", "seed"];
  for (const name of filters) {
    const values = new Set(rows.map((row) => row[name]));
    for (const value of [...values].sort()) element(name).add(new Option(value, value));
    element(name).addEventListener("change", () => table.draw());
  }
  let hits = null;
  table.search.fixed("filters", (_, row) =>
    filters.every((name) => !element(name).value || element(name).value === row[name])
    && (!hits || [row.prompts, row.ours.texts, row.theirs.texts].some((texts) => hits.get(texts)[row.i])));
  let waiting;
  element("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      hits = search(rows, element("query").value);
      table.draw();
    }, 150);
  });
  element("filters").addEventListener("submit", (event) => event.preventDefault());
  const count = () => {
    const shown = table.rows({ search: "applied" }).data().toArray();
    const of = (word) => shown.filter((row) => row.outcome.endsWith(word)).length;
    element("counts").textContent = `${shown.length} of ${rows.length} pairs: `
      + `${of("wins")} wins, ${of("loses")} losses, ${of("tie")} ties.`;
  };
  table.on("draw", count);
  table.draw();
  detail(table);
}

/** Which texts hold the query, whatever its case: a map from a list of texts to a list of booleans. */
function search(rows, query) {
  if (!query) return null;
  const pattern = new RegExp(query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "iu");
  const hits = new Map();
  for (const row of rows) {
    for (const texts of [row.prompts, row.ours.texts, row.theirs.texts]) {
      if (!hits.has(texts)) hits.set(texts, texts.map((text) => pattern.test(text)));
    }
  }
  return hits;
}

function promptButton(prompt, type) {
  if (type !== "display") return prompt;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = prompt.length > 120 ? `${prompt.slice(0, 120)} …` : prompt;
  return button;
}

function outcomeMark(outcome, type) {
  if (type !== "display") return outcome;
  const mark = document.createElement("span");
  const word = outcome.split(" ").at(-1);
  mark.className = { wins: "win", loses: "loss", tie: "" }[word];
  mark.textContent = `${{ wins: "▲", loses: "▼", tie: "=" }[word]} ${outcome}`;
  return mark;
}

/** The pair that was chosen, side by side; `Previous` and `Next` follow the order of the table. */
function detail(table) {
  let current;
  const show = (index) => {
    current = index;
    const row = table.row(index).data();
    element("pair-title").textContent = `${row.outcome}: ${row.comparison}, seed ${row.seed}`;
    put("prompt", row.prompts[row.i]);
    put("reference", row.references[row.i]);
    for (const [id, side] of [["method", row.ours], ["baseline", row.theirs]]) {
      element(`${id}-title`).textContent = row.pair[id];
      element(`${id}-facts`).textContent =
        `preferred to the reference at ${row[id]} %; ${side.lengths[row.i]} characters`;
      put(`${id}-text`, side.texts[row.i]);
    }
    element("pair").hidden = false;
  };
  const step = (by) => {
    const shown = table.rows({ search: "applied", order: "applied" }).indexes().toArray();
    const next = shown[shown.indexOf(current) + by];
    if (next !== undefined) show(next);
  };
  $("#pairs tbody").on("click", "button", (event) => {
    show(table.row(event.currentTarget.closest("tr")).index());
    element("pair").focus();
  });
  element("previous").addEventListener("click", () => step(-1));
  element("next").addEventListener("click", () => step(1));
}

function put(id, text) {
  const place = element(id);
  place.textContent = text.slice(0, AT_ONCE);
  if (text.length <= AT_ONCE) return;
  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  more.textContent = `Show all ${text.length} characters`;
  more.addEventListener("click", () => { place.textContent = text; });
  place.append(" … ", more);
}

if (element("data")) {
  browse(JSON.parse(await inflate(element("data").textContent)));
}

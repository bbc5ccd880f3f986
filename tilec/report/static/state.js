// What is shown: report, loop, plan, and the ops in focus. Everything else is drawn from it.
const reports = JSON.parse(document.getElementById("data").textContent);
const state = { report: 0, loop: 0, plan: 0, view: "whole", axis: "smem", text: 0, pinned: null };
const report = () => reports.items[state.report];
const loop = () => report().loops[state.loop];
const plan = () => loop() && loop().plans[state.plan];
const colour = (i) => `c${((i % 6) + 6) % 6}`;
const cycles = d3.format(",");
const sections = [];
const LEFT = 92, WIDE = 900; // units of a chart: where its lanes begin, and how wide it is

function section(id, title, draw) {
  sections.push(() => {
    const box = d3.select(`#${id}`);
    box.selectAll("*").remove();
    const made = loop() || id === "log" ? draw(box) : false;
    box.attr("hidden", made === false ? "" : null);
    if (made !== false && title) box.insert("h2", ":first-child").text(title);
  });
}

function redraw() {
  sections.forEach((draw) => draw());
  focus(state.pinned || []);
}

// Ops in focus: marked wherever they are drawn or written.
function focus(ops) {
  const wanted = new Set(ops);
  d3.selectAll("[data-op]").classed("on", function () { return wanted.has(this.dataset.op); });
  markLines(wanted);
}

function pin(ops) {
  const same = state.pinned && state.pinned.join() === ops.join();
  state.pinned = same ? null : ops;
  focus(state.pinned || []);
  if (!same) scrollToMarks();
}

function live(selection, op) {
  return selection.attr("data-op", op)
    .on("mouseenter", (e, d) => focus([op(d)]))
    .on("mouseleave", () => focus(state.pinned || []))
    .on("focus", (e, d) => focus([op(d)]))
    .on("blur", () => focus(state.pinned || []))
    .on("click", (e, d) => pin([op(d)]))
    .on("keydown", (e, d) => {
      if (e.key === "Enter" || e.key === " ") { e.preventDefault(); pin([op(d)]); }
    });
}

// A chart; on a narrow screen it keeps a readable size and scrolls sideways.
function canvas(box, height, name) {
  return box.append("div").attr("class", "wide").attr("tabindex", 0).attr("role", "region").attr("aria-label", `${name}, scrolls sideways`)
    .append("svg").attr("viewBox", `0 0 ${WIDE} ${height}`);
}

function table(box, caption, heads, rows, numeric = []) {
  const t = box.append("div").attr("class", "wide").attr("tabindex", 0).attr("role", "region")
    .attr("aria-label", caption).append("table");
  t.append("caption").text(caption);
  t.append("thead").append("tr").selectAll("th").data(heads).join("th").attr("scope", "col")
    .attr("class", (d, i) => (numeric.includes(i) ? "num" : null)).text((d) => d);
  const lines = t.append("tbody").selectAll("tr").data(rows).join("tr");
  lines.selectAll("td").data((d) => d).join("td")
    .attr("class", (d, i) => (numeric.includes(i) ? "num" : null)).text((d) => d);
  return lines;
}

function fold(box, summary) {
  const d = box.append("details");
  d.append("summary").text(summary);
  return d;
}

document.addEventListener("keydown", (e) => {
  if (e.key === "Escape") { state.pinned = null; focus([]); }
});

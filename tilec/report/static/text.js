// The kernel's source and every form of it, linked to the ops of the loop by place.
let rows = [];

function lineOf(place) {
  return place.slice(0, place.lastIndexOf(":"));
}

function texts() {
  const r = report();
  const files = r.files.map((f) => ({ name: f.name, file: f }));
  return files.concat(r.texts.map((t) => ({ name: t.name.toUpperCase(), text: t })));
}

// For every line of the shown text the ops that it belongs to.
function opsOfLine(shown) {
  const ops = loop() ? Object.entries(loop().ops) : [];
  const places = report().places;
  if (shown.file) {
    const byLine = new Map();
    for (const [op, at] of ops) {
      for (const p of at) {
        const key = lineOf(places[p]);
        byLine.set(key, (byLine.get(key) || new Set()).add(op));
      }
    }
    return shown.file.lines.map((_, i) => [...(byLine.get(`${shown.file.name}:${shown.file.first + i}`) || [])]);
  }
  const t = shown.text;
  if (Object.keys(t.ops).length) return t.lines.map((_, i) => (t.ops[i] && loop() && t.ops[i] in loop().ops ? [t.ops[i]] : []));
  const byPlace = new Map();
  for (const [op, at] of ops) for (const p of at) byPlace.set(p, (byPlace.get(p) || []).concat(op));
  return t.lines.map((_, i) => (byPlace.get(t.places[i]) || []).filter((op) => sameGroup(op, t.groups[i])));
}

// Code of a group belongs to an op only if that group runs it.
function sameGroup(op, group) {
  if (group < 0 || !plan()) return true;
  const used = [...new Set(Object.values(loop().plans[0].answer.schedule.groups))].sort((a, b) => a - b);
  return used.indexOf(loop().plans[0].answer.schedule.groups[op]) === group;
}

function drawTexts() {
  const all = texts();
  d3.select(".columns").classed("alone", !all.length);
  if (!all.length) return;
  const box = d3.select("#texts");
  box.selectAll("*").remove();
  const tabs = box.append("div").attr("class", "tabs").attr("role", "tablist").attr("aria-label", "Forms of the kernel");
  tabs.selectAll("button").data(all).join("button").attr("role", "tab").attr("aria-controls", "lines")
    .attr("aria-selected", (d, i) => i === state.text).text((d) => d.name)
    .on("click", (e, d) => { state.text = all.indexOf(d); drawTexts(); focus(state.pinned || []); scrollToMarks(); });
  const shown = all[state.text];
  const lines = shown.file ? shown.file.lines : shown.text.lines;
  const first = shown.file ? shown.file.first : 1;
  const ops = opsOfLine(shown);
  const pre = box.append("pre").attr("id", "lines").attr("role", "tabpanel").attr("tabindex", 0)
    .attr("aria-label", shown.name);
  const made = pre.selectAll("span").data(lines).join("span").attr("class", (d, i) => `row${ops[i].length ? " hot" : ""}`);
  made.append("span").attr("class", "n").attr("aria-hidden", "true").text((d, i) => first + i);
  made.append("span").text((d) => d || " ");
  rows = made.nodes().map((node, i) => ({ node, ops: ops[i] }));
  made.on("mouseenter", (e) => { const o = opsAt(e.currentTarget); if (o.length) focus(o); })
    .on("mouseleave", () => focus(state.pinned || []))
    .on("click", (e) => { const o = opsAt(e.currentTarget); if (o.length) pin(o); });
}

function opsAt(node) {
  return rows.find((r) => r.node === node).ops;
}

function markLines(wanted) {
  for (const r of rows) r.node.classList.toggle("on", r.ops.some((op) => wanted.has(op)));
}

function scrollToMarks() {
  const pre = document.getElementById("lines");
  const first = rows.find((r) => r.node.classList.contains("on"));
  if (pre && first) pre.scrollTop = first.node.offsetTop - pre.offsetTop - pre.clientHeight / 3;
}

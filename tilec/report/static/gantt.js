// Bars over cycles: of the whole loop from prologue to epilogue, or of the steady state.
// Instances of the bars of some iterations.
function instances(p, count) {
  return d3.range(count).flatMap((i) => p.bars.map(([lane, op, start, length, kind]) =>
    ({ lane, op, start: start + i * p.ii, end: start + i * p.ii + length, kind, iteration: i })));
}

// Rows of a lane such that its bars do not overlap: code above, flights as thin lines below.
function stack(items) {
  for (const kind of ["code", "unit", "flight"]) {
    const ends = [];
    for (const b of items.filter((x) => x.kind === kind).sort((a, c) => a.start - c.start || a.end - c.end)) {
      let row = ends.findIndex((end) => end <= b.start);
      if (row < 0) row = ends.length;
      ends[row] = b.end;
      b.row = row;
    }
    items[kind] = ends.length;
  }
  const solid = Math.max(items.code, items.unit);
  items.forEach((b) => {
    b.y = b.kind === "flight" ? solid * 19 + b.row * 8 : b.row * 19;
    b.h = b.kind === "flight" ? 6 : 17;
  });
  items.height = solid * 19 + items.flight * 8 + 4;
  return items;
}

function layout(p, items) {
  let y = 26;
  return p.lanes.map(([id, label]) => {
    const own = stack(items.filter((b) => b.lane === id));
    const lane = { id, label, y, items: own, height: Math.max(own.height, 20) };
    y += lane.height + 6;
    return lane;
  });
}

function spoken(b, p) {
  const what = { code: "runs", flight: "under way", unit: `holds ${b.lane}` }[b.kind];
  return `${b.op}, iteration ${b.iteration}, ${what}, cycles ${b.start} to ${b.end}`;
}

function drawBars(g, items, x, p) {
  const bar = g.selectAll("g.bar").data(items).join("g")
    .attr("class", (b) => `bar ${b.kind} ${colour(b.iteration)}`)
    .attr("role", "button").attr("aria-label", (b) => spoken(b, p)).attr("tabindex", -1);
  live(bar, (b) => b.op);
  bar.append("title").text((b) => spoken(b, p));
  bar.append("rect").attr("height", (b) => b.h).attr("rx", 2);
  bar.filter((b) => b.h > 10).append("text").attr("aria-hidden", "true").attr("y", 12.5).attr("dx", 3);
  placeBars(bar, x);
  return bar;
}

function placeBars(bar, x) {
  bar.attr("transform", (b) => `translate(${x(b.start)},${b.y})`);
  bar.select("rect").attr("width", (b) => Math.max(1, x(b.end) - x(b.start)));
  bar.select("text").text((b) => {
    const room = (x(b.end) - x(b.start) - 5) / 6.2;
    return room >= 3 ? (b.op.length <= room ? b.op : b.op.slice(0, Math.max(2, room - 1)) + "…") : "";
  });
}

function walkable(svg) {
  const all = svg.selectAll("g.bar").nodes();
  if (all.length) all[0].setAttribute("tabindex", 0);
  svg.on("keydown.walk", (e) => {
    const at = all.indexOf(document.activeElement);
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key];
    if (at < 0 || !step) return;
    e.preventDefault();
    const next = all[Math.min(all.length - 1, Math.max(0, at + step))];
    all[at].setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}

section("gantt", "The schedule over time", (box) => {
  const p = plan();
  if (!p) return false;
  const count = p.stages + 3, whole = state.view === "whole";
  const start = whole ? 0 : (p.stages - 1) * p.ii;
  const end = whole ? (count - 1) * p.ii + p.length : start + 2 * p.ii;
  const tools = box.append("div").attr("class", "choices");
  for (const [id, name] of [["whole", `A loop of ${count} iterations`], ["steady", "Steady state"]]) {
    tools.append("button").attr("aria-pressed", state.view === id).text(name).on("click", () => { state.view = id; redraw(); });
  }
  const items = instances(p, whole ? count : 2 * p.stages + 4)
    .map((b) => (whole ? b : shiftBack(b, p))).filter((b) => b.end > start && b.start < end);
  const lanes = layout(p, items), height = d3.max(lanes, (l) => l.y + l.height) + 14;
  const x0 = d3.scaleLinear([start, end], [LEFT, WIDE - 8]);
  let x = x0;
  const svg = canvas(box, height, "Gantt chart").attr("role", "group").attr("id", "chart-gantt")
    .attr("aria-label", "Gantt chart: a lane for each warp group and unit");
  svg.append("clipPath").attr("id", "clip").append("rect").attr("x", LEFT).attr("width", WIDE - LEFT).attr("height", height);
  const axis = svg.append("g").attr("class", "axis").attr("transform", "translate(0,20)");
  const unit = loop().plans[0] === p && p.proof.unit;
  svg.selectAll("rect.lane").data(lanes).join("rect").attr("class", (l) => `lane${l.id === unit ? " binding" : ""}`)
    .attr("x", LEFT).attr("y", (l) => l.y - 2).attr("width", WIDE - LEFT - 6).attr("height", (l) => l.height);
  svg.selectAll("text.name").data(lanes).join("text").attr("class", "name").attr("x", 0).attr("y", (l) => l.y + 13).text((l) => l.label);
  const inner = svg.append("g").attr("clip-path", "url(#clip)");
  items.forEach((b) => { b.y += lanes.find((l) => l.id === b.lane).y; });
  const marks = inner.append("g"), bar = drawBars(inner.append("g"), items, x, p), path = inner.append("g");
  const put = () => {
    axis.call(d3.axisTop(x).ticks(8).tickFormat(cycles));
    placeBars(bar, x);
    drawPhases(marks, p, count, whole, x, height);
    drawPath(path, p, items, x);
  };
  put();
  walkable(svg);
  const zoom = d3.zoom().scaleExtent([1, 24]).translateExtent([[LEFT, 0], [WIDE, height]]).extent([[LEFT, 0], [WIDE, height]])
    .filter((e) => (e.type === "wheel" ? e.ctrlKey || e.metaKey : !e.button))
    .on("zoom", (e) => { x = e.transform.rescaleX(x0); put(); });
  svg.call(zoom).on("dblclick.zoom", null);
  for (const [name, label, factor] of [["+", "Zoom in", 1.6], ["−", "Zoom out", 1 / 1.6]]) {
    tools.append("button").attr("aria-label", label).text(name).on("click", () => svg.call(zoom.scaleBy, factor));
  }
  for (const [name, label, step] of [["←", "Earlier", 120], ["→", "Later", -120]]) {
    tools.append("button").attr("aria-label", label).text(name).on("click", () => svg.call(zoom.translateBy, step, 0));
  }
  tools.append("button").text("All").on("click", () => svg.call(zoom.transform, d3.zoomIdentity));
  box.append("p").attr("class", "soft").text("Colours are iterations. In a group's lane a bar is the cycles that the group spends; "
    + "the thin line below it is an asynchronous operation from its issue until its result is there. "
    + "Drag to pan, Ctrl and the wheel to zoom.");
  const order = fold(box, "Each group's program, in words");
  table(order, "Order of one interval", ["group", "busy", "of the interval", "operations"],
    p.programs.map((g) => [g.name, `${g.busy}`, d3.format(".0%")(g.share), g.order.join(", ")]), [1, 2]);
});

// In the steady state iterations count from the one that starts with the picture.
function shiftBack(b, p) {
  return { ...b, start: b.start - p.stages * p.ii + (p.stages - 1) * p.ii, end: b.end - p.stages * p.ii + (p.stages - 1) * p.ii, iteration: b.iteration - p.stages };
}

function drawPhases(g, p, count, whole, x, height) {
  g.selectAll("*").remove();
  if (!whole) return;
  const steady = (p.stages - 1) * p.ii, done = count * p.ii;
  for (const [from, to, name] of [[0, steady, "prologue"], [steady, done, "steady state"], [done, Infinity, "epilogue"]]) {
    if (from === to) continue;
    g.append("line").attr("class", "phase").attr("x1", x(from)).attr("x2", x(from)).attr("y1", 22).attr("y2", height - 3);
    g.append("text").attr("class", "note").attr("x", x(from) + 3).attr("y", height - 5).text(name);
  }
}

// The dependences that rule out a smaller interval, from issue to issue.
function drawPath(g, p, items, x) {
  g.selectAll("*").remove();
  if (!p.proof) return;
  const at = (op, i) => items.find((b) => b.op === op && b.kind === "code" && b.iteration === i);
  const middle = Math.floor(d3.mean(items, (b) => b.iteration));
  for (const s of p.proof.path) {
    const a = at(s.src, middle), b = at(s.dst, middle + s.delta);
    if (!a || !b) continue;
    const x1 = x(a.start), y1 = a.y + 8, x2 = x(b.start), y2 = b.y + 8, bend = (x1 + x2) / 2;
    g.append("path").attr("class", "path").attr("d", `M${x1},${y1}C${bend},${y1} ${bend},${y2} ${x2},${y2}`);
    g.append("circle").attr("class", "tip").attr("cx", x2).attr("cy", y2).attr("r", 3);
    g.append("text").attr("class", "tip").attr("x", bend).attr("y", (y1 + y2) / 2 - 3).text(`${s.cycles}`);
  }
}

// One interval: who holds which unit when (the modulo reservation table), and how full units and groups are.

// Reservations folded into one interval; what crosses its end is cut in two.
function folded(p) {
  return p.bars.filter((b) => b[4] === "unit").flatMap(([lane, op, start, length]) => {
    const at = start % p.ii, stage = Math.floor(start / p.ii), parts = [];
    for (let from = at, left = length; left > 0; from = 0) {
      const n = Math.min(left, p.ii - from);
      parts.push({ lane, op, start: from, end: from + n, kind: "unit", iteration: stage, whole: [at, length] });
      left -= n;
    }
    return parts;
  });
}

function drawWheel(box, p, width, id) {
  const lanes = layout({ lanes: p.lanes.filter((l) => !/^g\d+$/.test(l[0])) }, folded(p));
  const items = lanes.flatMap((l) => l.items.map((b) => Object.assign(b, { y: b.y + l.y })));
  const height = d3.max(lanes, (l) => l.y + l.height) + 4 || 30;
  const x = d3.scaleLinear([0, width], [LEFT, WIDE - 8]);
  const svg = canvas(box, height, `Reservations ${id}`).attr("role", "group").attr("id", id)
    .attr("aria-label", "Modulo reservation table: a lane for each unit, over one interval");
  svg.append("g").attr("class", "axis").attr("transform", "translate(0,20)").call(d3.axisTop(x).ticks(8).tickFormat(cycles));
  svg.selectAll("rect.lane").data(lanes).join("rect").attr("class", "lane").attr("x", LEFT).attr("y", (l) => l.y - 2)
    .attr("width", x(p.ii) - LEFT).attr("height", (l) => l.height);
  svg.selectAll("text.name").data(lanes).join("text").attr("class", "name").attr("x", 0).attr("y", (l) => l.y + 13).text((l) => l.label);
  drawBars(svg.append("g"), items, x, p);
  walkable(svg);
}

section("wheel", "One interval: units and groups", (box) => {
  const p = plan();
  if (!p) return false;
  drawWheel(box, p, p.ii, "chart-wheel");
  box.append("p").attr("class", "soft").text("The modulo reservation table: every iteration asks for the same, so what is free here is free for ever. "
    + "Colours tell how many intervals after its iteration's start an operation runs.");
  const load = box.append("table");
  load.append("caption").text("How full");
  const rows = p.units.map((u) => [u.unit, u.share, `${u.cycles} of ${u.count * p.ii} cycles`])
    .concat(p.programs.map((g) => [g.name, g.share, `${g.busy} of ${p.ii} cycles of its own`]));
  const tr = load.append("tbody").selectAll("tr").data(rows).join("tr");
  tr.append("th").attr("scope", "row").text((d) => d[0]);
  const meter = tr.append("td").attr("class", "meterbox").append("div").attr("class", "meter");
  meter.append("div").classed("full", (d) => d[1] > 0.995).style("width", (d) => `${Math.min(1, d[1]) * 100}%`);
  tr.append("td").attr("class", "num").text((d) => d3.format(".0%")(d[1]));
  tr.append("td").text((d) => d[2]);
  const words = fold(box, "The reservation table as a table");
  const seen = p.bars.filter((b) => b[4] === "unit").sort((a, b) => d3.ascending(a[0], b[0]) || (a[2] % p.ii) - (b[2] % p.ii));
  const lines = table(words, "Reservations", ["unit", "operation", "from", "cycles", "intervals later"],
    seen.map((b) => [b[0], b[1], b[2] % p.ii, b[3], Math.floor(b[2] / p.ii)]), [2, 3, 4]);
  live(lines, (d) => d[1]);
});

// Buffers: slots over time with their phase, memory against capacity, registers over the interval.

function lives(p, count) {
  return p.rings.flatMap((r) => d3.range(count).flatMap((i) => {
    const at = i * p.ii, lane = `${r.id} ${i % r.depth}`, phase = Math.floor(i / r.depth) % 2;
    const part = (kind, a, b, op, what) => ({ lane, kind, op, start: a + at, end: b + at, iteration: i, label: `${what} ${i}`, ring: r.id, phase });
    return [part("fill", r.fill, r.there, r.writer, "fills"), part("there", r.there, r.read, r.writer, "ready"),
      part("read", r.read, r.end, r.readers[0] || r.writer, "reads")].filter((b) => b.end > b.start);
  }));
}

function drawRings(box, p) {
  const deepest = d3.max(p.rings, (r) => r.depth), count = Math.min(10, 2 * deepest + 1);
  const slots = p.rings.flatMap((r) => d3.range(r.depth).map((s) => `${r.id} ${s}`));
  const items = lives(p, count), end = d3.max(items, (b) => b.end);
  const x = d3.scaleLinear([0, end], [LEFT, WIDE - 8]), height = 26 + slots.length * 22;
  const svg = canvas(box, height, "Rings").attr("role", "group").attr("id", "chart-rings")
    .attr("aria-label", "Rings: a lane for each slot, from the fill to the end of the last read");
  svg.append("g").attr("class", "axis").attr("transform", "translate(0,20)").call(d3.axisTop(x).ticks(8).tickFormat(cycles));
  svg.selectAll("text.name").data(slots).join("text").attr("x", 0).attr("y", (s, i) => 38 + i * 22).text((s) => s.replace(/ (\d+)$/, ", slot $1"));
  items.forEach((b) => { b.y = 26 + slots.indexOf(b.lane) * 22; b.h = 17; });
  const bar = svg.append("g").selectAll("g.bar").data(items).join("g").attr("class", (b) => `bar ${b.kind} ${colour(b.iteration)}`)
    .attr("role", "button").attr("tabindex", -1)
    .attr("aria-label", (b) => `${b.ring}, ${b.label}, phase ${b.phase}, cycles ${b.start} to ${b.end}`);
  live(bar, (b) => b.op);
  bar.append("title").text((b) => `${b.ring}, ${b.label}, phase ${b.phase}, cycles ${b.start} to ${b.end}`);
  bar.attr("transform", (b) => `translate(${x(b.start)},${b.y})`);
  bar.append("rect").attr("height", (b) => b.h).attr("width", (b) => Math.max(1, x(b.end) - x(b.start)));
  bar.filter((b) => b.kind === "read" && x(b.end) - x(b.start) > 46).append("text").attr("aria-hidden", "true").attr("x", 3).attr("y", 12.5)
    .text((b) => `${b.iteration}, phase ${b.phase}`);
  walkable(svg);
}

function drawHeld(box, p, group) {
  const own = p.held.filter((h) => h[0] === group.number);
  if (!own.length) return;
  const top = Math.max(group.limit, group.budget), height = 120;
  const x = d3.scaleLinear([0, p.ii], [LEFT, WIDE - 8]), y = d3.scaleLinear([0, top], [height - 18, 14]);
  const svg = canvas(box, height, `Registers of ${group.name}`).attr("role", "img")
    .attr("aria-label", `${group.name}: at most ${group.registers} registers per thread, at ${group.peak}, budget ${group.budget}`);
  const points = own.map((h) => [h[1], h[3]]).concat([[p.ii, own[0][3]]]);
  if (points[0][0] > 0) points.unshift([0, own[own.length - 1][3]]);
  svg.append("path").attr("class", "curve").attr("d", d3.line().curve(d3.curveStepAfter).x((d) => x(d[0])).y((d) => y(d[1]))(points));
  for (const [value, name, below] of [[group.budget, `budget ${group.budget}`, 11], [group.limit, `limit ${group.limit}`, -3]]) {
    svg.append("line").attr("class", "limit").attr("x1", LEFT).attr("x2", WIDE - 8).attr("y1", y(value)).attr("y2", y(value));
    svg.append("text").attr("class", "note").attr("x", WIDE - 10).attr("y", y(value) + below).attr("text-anchor", "end").text(name);
  }
  svg.append("g").attr("class", "axis").attr("transform", `translate(${LEFT},0)`).call(d3.axisLeft(y).ticks(4));
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - 18})`).call(d3.axisBottom(x).ticks(8).tickFormat(cycles));
  svg.append("text").attr("x", 0).attr("y", 12).text(group.name);
}

section("memory", "Buffers, memory and registers", (box) => {
  const p = plan();
  if (!p || (!p.rings.length && !p.held.length)) return false;
  if (p.rings.length) drawRings(box, p);
  box.append("p").attr("class", "soft").text("A ring's slot: pale while it is filled, half while it waits, full while it is read; then its iteration and the phase bit of its barriers.");
  const names = { smem: ["shared memory", "bytes"], tmem: ["tensor memory", "columns"] };
  for (const [mem, used, size] of p.memory) {
    const line = box.append("p");
    line.append("span").text(`${names[mem][0]}: ${cycles(used)} of ${cycles(size)} ${names[mem][1]}`);
    line.append("div").attr("class", "meter").append("div").style("width", `${Math.min(100, (100 * used) / Math.max(size, 1))}%`);
  }
  const lines = table(box, "Buffers", ["buffer", "memory", "slots", "size of a slot", "filled by", "read by", "in use for"],
    p.rings.map((r) => [r.id, names[r.mem][0], r.offset === null ? r.depth : `at ${r.offset}`, cycles(r.size), r.writer, r.readers.join(", "), cycles(r.life)]), [2, 3, 6]);
  live(lines, (d) => d[4]);
  const groups = p.programs.filter((g) => g.peak);
  if (groups.length) box.append("h3").text("Registers per thread over the interval");
  groups.forEach((g) => drawHeld(box, p, g));
});

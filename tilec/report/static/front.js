// Other plans: the front of each resource, simple and published ways; and what moving a limit or a cost gives.
const AXES = { smem: "bytes of shared memory", registers: "registers per thread", groups: "groups" };

function choose(index) {
  state.plan = index;
  redraw();
  drawChoices();
}

section("front", "Other plans", (box) => {
  const plans = loop().plans;
  if (!plans.length) return false;
  const tools = box.append("div").attr("class", "choices");
  tools.append("label").attr("for", "axis").text("Interval against");
  tools.append("select").attr("id", "axis").on("change", (e) => { state.axis = e.target.value; redraw(); })
    .selectAll("option").data(Object.entries(AXES)).join("option").attr("value", (d) => d[0])
    .attr("selected", (d) => (d[0] === state.axis ? "" : null)).text((d) => d[1]);
  const height = 230, value = (p) => p[state.axis], spread = (f) => {
    const [a, b] = d3.extent(plans, f), room = Math.max((b - a) * 0.12, b * 0.05, 1);
    return [Math.max(0, a - room), b + room];
  };
  const x = d3.scaleLinear(spread(value), [LEFT - 20, WIDE - 30]), y = d3.scaleLinear(spread((p) => p.ii), [height - 30, 12]);
  const svg = canvas(box, height, "Plans").attr("role", "group").attr("id", "chart-front")
    .attr("aria-label", `Plans by ${AXES[state.axis]} and interval; choose one to load it`);
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - 30})`).call(d3.axisBottom(x).ticks(6));
  svg.append("g").attr("class", "axis").attr("transform", `translate(${LEFT - 20},0)`).call(d3.axisLeft(y).ticks(6));
  svg.append("text").attr("x", WIDE - 30).attr("y", height - 2).attr("text-anchor", "end").text(AXES[state.axis]);
  svg.append("text").attr("x", 0).attr("y", 10).text("interval, cycles");
  const dots = svg.append("g").selectAll("circle").data(plans).join("circle").attr("class", (p, i) => `dot ${p.kind}${i === state.plan ? " on" : ""}`)
    .attr("r", (p) => (p.kind === "chosen" ? 8 : 6)).attr("cx", (p) => x(value(p))).attr("cy", (p) => y(p.ii))
    .attr("role", "button").attr("tabindex", 0).attr("aria-label", (p) => `${p.name}: ${p.headline}`)
    .on("click", (e, p) => choose(plans.indexOf(p)))
    .on("keydown", (e, p) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); choose(plans.indexOf(p)); } });
  dots.append("title").text((p) => `${p.name}: ${p.headline}`);
  dots.filter((p) => p.kind === "chosen").raise();
  box.append("p").attr("class", "soft").text("Blue: the plan of this report. Green: the fastest found for one limit; the table says which are proven. Grey: simple ways. Red: published plans. "
    + "Limits are lowered one at a time, so a better plan for two limits at once may exist. Click a point, or a button below, to load its plan.");
  const lines = table(box, "Plans", ["plan", "interval", "bytes", "registers", "groups", "slack", "status", "what"],
    plans.map((p) => ["", cycles(p.ii), cycles(p.smem), p.registers, p.groups, p.slack, proven(p), p.about]), [1, 2, 3, 4, 5]);
  lines.classed("on", (d, i) => i === state.plan).select("td").append("button")
    .attr("aria-pressed", (d, i) => null).text((d, i) => plans[lines.data().indexOf(d)].name)
    .on("click", (e, d) => choose(lines.data().indexOf(d)));
});

function proven(p) {
  if (p.name === "list scheduler") return "heuristic";
  return p.answer.bound.value === p.ii ? "proven least" : `not proven, no less than ${cycles(p.answer.bound.value)}`;
}

section("whatif", "What if", (box) => {
  const l = loop();
  if (!l.what_if.length && !l.sensitivity.length) return false;
  if (l.what_if.length) table(box, "A limit moved, solved again", ["what", "to", "interval"], l.what_if.map((w) => [w.what, w.what.startsWith("compiled for") ? "" : cycles(w.value), w.text]), [1]);
  if (l.thresholds.length) table(box, "How much of each resource matters", ["resource", "needs"], l.thresholds.map((t) => [t.what, t.text]));
  if (l.most_slack) box.append("p").text(`Slack: some plan of this interval lets every wait take ${l.most_slack[1] ? "" : "at least "}${l.most_slack[0]} cycles more.`);
  const costs = d3.group(l.sensitivity, (m) => m.cost), cell = (m) => {
    const kept = m.fixed === null ? "breaks" : cycles(m.fixed);
    if (m.solved === null || m.solved === m.fixed) return kept;
    return `${kept} (best ${m.proven ? "" : "at most "}${cycles(m.solved)})`;
  };
  if (costs.size) table(box, "A cost 20 % smaller or larger: least interval of this plan's structure", ["cost", "x 0.8", "x 1.2"],
    [...costs].map(([name, rows]) => [name, ...rows.map(cell)]), [1, 2]);
});

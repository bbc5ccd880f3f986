// The verdict, the choices at the top, the log; then everything is drawn.
section("why", "Why not faster", (box) => {
  const p = plan();
  if (!p) {
    box.append("p").attr("class", "head").text(`No plan: ${loop().headline}.`);
    box.append("ul").attr("class", "why").selectAll("li").data(loop().why).join("li").text((d) => d);
    return true;
  }
  box.append("p").attr("class", "head").text(p.headline[0].toUpperCase() + p.headline.slice(1) + ".");
  const [lead, ...rest] = p.why;
  if (lead) box.append("p").text(lead);
  box.append("ul").attr("class", "why").selectAll("li").data(rest).join("li").text((d) => d);
  if (p.proof) drawProof(box.append("div").attr("class", "proof"), p);
  return true;
});

function drawProof(box, p) {
  const proven = p.answer.bound.value === p.ii;
  const line = box.append("p");
  line.append("strong").attr("class", proven ? "good" : "bad").text(proven ? "Proven. " : "Not proven. ");
  line.append("span").text(proven ? `No legal plan of the model has an interval below ${cycles(p.ii)}: ${p.proof.how}.`
    : `The budget ended before the intervals from ${cycles(p.answer.bound.value)} to ${cycles(p.ii - 1)} were ruled out. `);
  box.append("p").text(`${p.proof.solver}, ${cycles(p.proof.work)} resource units. A checker without a solver accepted the plan.`);
  const list = box.append("p");
  list.append("span").text("Problem ");
  list.append("code").text(p.proof.problem);
  list.append("span").text(", certificate ");
  list.append("code").text(p.proof.certificate);
  box.append("p").attr("class", "soft").text("tilec schedule ... --certificate cert.json writes it, tilec verify cert.json checks it.");
}

function select(box, label, id, names, value, change) {
  if (names.length < 2) return;
  box.append("label").attr("for", id).text(label);
  box.append("select").attr("id", id).on("change", (e) => change(+e.target.value)).selectAll("option").data(names).join("option")
    .attr("value", (d, i) => i).attr("selected", (d, i) => (i === value ? "" : null)).text((d) => d);
}

function drawChoices() {
  const box = d3.select("#choices");
  box.selectAll("*").remove();
  select(box, "Compilation", "pick-report", reports.names, state.report, (i) => { Object.assign(state, { report: i, loop: 0, plan: 0, text: 0, pinned: null }); all(); });
  select(box, "Loop", "pick-loop", report().loops.map((l) => l.name), state.loop, (i) => { Object.assign(state, { loop: i, plan: 0, pinned: null }); all(); });
  if (loop()) select(box, "Plan", "pick-plan", loop().plans.map((p) => p.name), state.plan, choose);
  const dark = document.documentElement.dataset.theme === "dark";
  box.append("button").attr("id", "theme").attr("aria-pressed", dark).text("Dark").on("click", () => setTheme(!dark));
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  drawChoices();
}

section("log", "What the compiler says", (box) => {
  const lines = report().log.concat(report().notes);
  if (!lines.length && loop()) return false;
  if (!loop()) box.append("p").attr("class", "head").text("No loop of this kernel fills a ring, so there is nothing to schedule.");
  box.append("ul").attr("class", "why mono").selectAll("li").data(lines).join("li").text((d) => d);
});

section("compare", "Two compilations", (box) => {
  if (!reports.rows.length && reports.items.length < 2) return false;
  table(box, "What differs", ["what", ...reports.names], reports.rows);
  const pairs = reports.items.map((r) => r.loops[0] && r.loops[0].plans[0]);
  if (!pairs[0] || !pairs[1]) return true;
  const width = Math.max(pairs[0].ii, pairs[1].ii);
  pairs.forEach((p, i) => {
    box.append("h3").text(`${reports.names[i]}: one interval of ${cycles(p.ii)} cycles`);
    drawWheel(box, p, width, `chart-compare-${i}`);
  });
  return true;
});

function all() {
  drawChoices();
  drawTexts();
  redraw();
}

setTheme(window.matchMedia && matchMedia("(prefers-color-scheme: dark)").matches);
all();
document.body.dataset.ready = "yes";

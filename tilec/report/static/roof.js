// The roofline of the loop, and the predicted time of a launch.
section("roof", "Roofline", (box) => {
  const r = loop().roof;
  if (!r) return false;
  const height = 240, intensity = r.flops / r.bytes;
  const x = d3.scaleLog([Math.min(8, intensity / 2), Math.max(2048, intensity * 2)], [LEFT - 10, WIDE - 20]);
  const y = d3.scaleLog([r.peak / 64, r.peak * 1.6], [height - 30, 10]);
  const svg = canvas(box, height, "Roofline").attr("role", "img").attr("id", "chart-roof")
    .attr("aria-label", `Roofline: ${d3.format(".0f")(intensity)} operations per byte; the chosen plan reaches ${d3.format(".0f")(r.flops / loop().plans[0].ii)} of ${r.peak} per cycle`);
  svg.append("g").attr("class", "axis").attr("transform", `translate(0,${height - 30})`).call(d3.axisBottom(x).ticks(6, "~s"));
  svg.append("g").attr("class", "axis").attr("transform", `translate(${LEFT - 10},0)`).call(d3.axisLeft(y).ticks(4, "~s"));
  svg.append("text").attr("x", WIDE - 20).attr("y", height - 2).attr("text-anchor", "end").text("operations per byte that the rings take in");
  svg.append("text").attr("x", 0).attr("y", 8).text("operations per cycle and SM");
  for (const [rate, name] of [[r.tma, `${r.tma} bytes per cycle: TMA from L2`], [r.dram, `${r.dram}: DRAM, all SMs alike`]]) {
    const low = Math.max(x.domain()[0], y.domain()[0] / rate), knee = r.peak / rate;
    svg.append("path").attr("class", "curve").attr("d", d3.line()([[x(low), y(low * rate)], [x(knee), y(r.peak)], [WIDE - 20, y(r.peak)]]));
    svg.append("text").attr("class", "note").attr("x", x(low) + 6).attr("y", y(low * rate) - 6).text(name);
  }
  svg.append("text").attr("class", "note").attr("x", WIDE - 20).attr("y", y(r.peak) - 5).attr("text-anchor", "end").text(`tensor cores, ${r.peak}`);
  svg.selectAll("circle").data(loop().plans).join("circle").attr("class", (p, i) => `dot ${p.kind}${i === state.plan ? " on" : ""}`)
    .attr("r", (p) => (p.kind === "chosen" ? 7 : 5)).attr("cx", x(intensity)).attr("cy", (p) => y(r.flops / p.ii))
    .append("title").text((p) => `${p.name}: ${d3.format(".0f")(r.flops / p.ii)} operations per cycle`);
  const now = r.flops / plan().ii, rate = (clock) => d3.format(".3r")((now * r.sms * clock) / 1000);
  box.append("p").text(`One iteration: ${cycles(r.flops)} operations, ${cycles(r.bytes)} bytes into its rings. `
    + `This plan: ${d3.format(".0f")(now)} of ${r.peak} operations per cycle and SM (${d3.format(".0%")(now / r.peak)}) in the steady state. `
    + `That is a bound of the model: ${rate(r.clock)} TFLOP/s at ${r.clock} GHz on ${r.sms} SMs. `
    + (r.fitted.length ? `Published kernels reach what the model gives at ${r.fitted[0]} GHz (attention) to ${r.fitted[1]} GHz (GEMM): `
      + `${rate(r.fitted[0])} to ${rate(r.fitted[1])} TFLOP/s.` : ""));
  box.append("p").attr("class", "soft").text("What several programs read together comes from DRAM once, so the DRAM line is a bound only for tiles that nobody shares.");
  if (r.launch) drawLaunch(box, r);
});

function drawLaunch(box, r) {
  const t = r.launch;
  box.append("p").text(`${cycles(t.programs)} programs of ${cycles(t.trips)} iterations, in ${cycles(t.waves)} waves of ${r.sms}: no less than ${t.bound} µs at ${r.clock} GHz`
    + (t.low ? `, and ${t.low} to ${t.high} µs if it comes as near to the bound as published kernels do. ` : ". ")
    + "What stands before and after the loop is not counted. " + (t.measured ? `Measured: ${d3.format(".3r")(t.measured * 1e6)} µs.` : "Not measured."));
}

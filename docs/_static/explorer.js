// Explorer: shows one setting of the table beside it (validation/explorer.py).  Nothing is computed but scale: at one mix
// of classes, what is to spare of the region is inversely proportional to the load.
(() => {
  "use strict";
  const table = JSON.parse(document.getElementById("explorer-table").textContent);
  const root = document.getElementById("explorer");
  const part = (name) => root.querySelector(`#explorer-${name}`);
  const control = Object.fromEntries(["machine", "tile", "budget", "kv", "share", "load"].map((n) => [n, part(n)]));
  const [first, second] = table.classes.map((c) => c.name);
  let before = null;
  let place = 0.5; // where the load was put, so that moving the mix there and back moves nothing

  // --- numbers and axes ---------------------------------------------------------------------------------------------

  const show = (x, digits = 4) => Number(x.toPrecision(digits)).toLocaleString("en", { maximumSignificantDigits: digits });
  const percent = (x) => `${show(100 * x, 3)} %`;
  /** The least of 1, 2 and 5 times a power of ten that is at least x. */
  const nice = (x) => {
    const unit = 10 ** Math.floor(Math.log10(x));
    return unit * [1, 2, 5, 10].find((m) => m * unit >= x * (1 - 1e-9));
  };
  const ticks = (top, count) => {
    const step = nice(top / count);
    return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
  };

  const LEFT = 44, RIGHT = 348, TOP = 22, BOTTOM = 230;
  const along = (top) => (x) => LEFT + (x / top) * (RIGHT - LEFT);
  const up = (top) => (y) => BOTTOM - (y / top) * (BOTTOM - TOP);
  const frame = (xs, x, ys, y, below, beside) =>
    ys.map((v) => `<line class="grid" x1="${LEFT}" x2="${RIGHT}" y1="${y(v)}" y2="${y(v)}"/>` +
      `<text class="tick-y" text-anchor="end" x="${LEFT - 5}" y="${y(v) + 4}">${v}</text>`).join("") +
    xs.map((v) => `<text class="tick-x" text-anchor="middle" x="${x(v)}" y="${BOTTOM + 16}">${v}</text>`).join("") +
    `<path class="axis" d="M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}"/>` +
    `<text text-anchor="end" x="${RIGHT}" y="${BOTTOM + 34}">${below}</text><text x="${LEFT - 5}" y="10">${beside}</text>`;

  // --- what is chosen -----------------------------------------------------------------------------------------------

  const sizes = table.machines.map((m) => m.tiles.length * table.budgets.length * table.kv_tokens.length);
  const settingsOf = (machine) => {
    const start = sizes.slice(0, machine).reduce((a, b) => a + b, 0);
    return table.settings.slice(start, start + sizes[machine]);
  };
  const chosen = () => {
    const at = Object.fromEntries(Object.entries(control).map(([name, input]) => [name, Number(input.value)]));
    const all = settingsOf(at.machine);
    const row = (at.tile * table.budgets.length + at.budget) * table.kv_tokens.length + at.kv;
    const found = all[row], edge = found.edge[at.share];
    return { at, all, found, edge, share: table.shares[at.share], load: at.load, theta: edge / at.load };
  };

  /** A little more than any edge of this machine at this mix (requests/s). */
  const top = () =>
    1.1 * Math.max(...settingsOf(Number(control.machine.value)).map((s) => s.edge[Number(control.share.value)]));

  /** Bring the sliders' ranges in line with machine and mix; the load keeps its place between 0 and the largest edge. */
  const adapt = () => {
    const machine = Number(control.machine.value);
    const tiles = table.machines[machine].tiles;
    control.tile.max = tiles.length - 1;
    control.tile.disabled = tiles.length < 2;
    const step = nice(top() / 100);
    control.load.min = control.load.step = step;
    control.load.max = step * Math.floor(top() / step);
    control.load.value = step * Math.max(1, Math.round((place * top()) / step));
  };

  // --- drawing ------------------------------------------------------------------------------------------------------

  const drawRegion = ({ all, found, share, load, theta }) => {
    const tops = [0, 1].map((k) => 1.05 * Math.max(...all.flatMap((s) => s.corners.map((c) => c[k]))));
    const x = along(tops[0]), y = up(tops[1]);
    const points = (corners) => [[0, 0], ...corners].map((c) => `${x(c[0])},${y(c[1])}`).join(" ");
    const [px, py] = [x(load * (1 - share)), y(load * share)];
    const mark = theta >= 1 ? `<circle class="inside" cx="${px}" cy="${py}" r="6"/>`
      : `<path class="outside" d="M${px - 6} ${py - 6}l12 12m0 -12l-12 12"/>`;
    part("region").innerHTML = frame(ticks(tops[0], 5), x, ticks(tops[1], 5), y, `${first}, requests/s`, `${second}, requests/s`) +
      (before ? `<polygon class="before" points="${points(before)}"/>` : "") +
      `<polygon class="region" points="${points(found.corners)}"/>` +
      `<line class="mix" x1="${x(0)}" y1="${y(0)}" x2="${px}" y2="${py}"/>${mark}`;
  };

  const drawCurve = ({ at, all, found, edge, load }) => {
    const most = Number(control.load.max);
    const seconds = all.flatMap((s) => [...s.ttft.flat(), ...s.e2e.flat()]);
    const [low, high] = [Math.floor(Math.log10(Math.min(...seconds))), Math.ceil(Math.log10(Math.max(...seconds)))];
    const x = along(most), y = (s) => BOTTOM - ((Math.log10(s) - low) / (high - low)) * (BOTTOM - TOP);
    const decades = Array.from({ length: high - low + 1 }, (_, i) => Number((10 ** (low + i)).toPrecision(1)));
    const line = (name) => {
      const points = table.loads.map((l, i) => [x(l * edge), y(found[name][at.share][i])]);
      return `<polyline class="line ${name}" points="${points.join(" ")}"/>` +
        points.map(([cx, cy]) => `<circle class="dot ${name}" cx="${cx}" cy="${cy}" r="3.5"/>`).join("");
    };
    const upright = (kind, rate) => `<line class="${kind}" x1="${x(rate)}" x2="${x(rate)}" y1="${TOP}" y2="${BOTTOM}"/>`;
    part("curve").innerHTML = frame(ticks(most, 5), x, decades, y, "load, requests/s", "seconds, mean") +
      upright("edge", edge) + upright("load", load) + line("e2e") + line("ttft");
  };

  const inWords = ([often, , prompt, ...decodes]) =>
    `${show(often)}/s: ` + [
      ...(prompt > 0 ? [`${show(prompt)} prompt tokens`] : []),
      ...decodes.flatMap((n, k) => (n > 0 ? [`${show(n)} decodes of ${table.classes[k].name}`] : [])),
    ].join(" + ");

  const drawBatches = ({ at, found }) => {
    const budget = table.budgets[at.budget];
    part("batches").innerHTML = found.batches[at.share].map((batch) => {
      const bars = ["prompt", "first", "second"].map((kind, i) => {
        const tokens = batch[2 + i];
        return tokens > 0 ? `<span class="${kind}" style="width:${(100 * tokens) / budget}%"></span>` : "";
      });
      return `<li>${inWords(batch)}<div class="bar" aria-hidden="true">${bars.join("")}</div></li>`;
    }).join("");
  };

  const writeNumbers = ({ at, found, edge }) => {
    part("numbers").innerHTML = table.loads.map((l, i) =>
      `<tr>${[percent(l), show(l * edge), show(found.ttft[at.share][i]), show(found.e2e[at.share][i])]
        .map((cell) => `<td>${cell}</td>`).join("")}</tr>`).join("");
  };

  const say = ({ at, found, edge, load, share, theta }) => {
    const verdict = theta >= 1 ? `is carried with ${percent(theta - 1)} to spare`
      : `is ${percent(1 / theta - 1)} more than any schedule carries`;
    const around = table.loads.map((l, i) => [l * edge, i]);
    const near = [around.filter(([r]) => r <= load).pop(), around.find(([r]) => r > load)].filter(Boolean);
    const times = near.map(([rate, i]) => `at ${show(rate)} requests/s ${show(found.ttft[at.share][i])} s to the first token, ` +
      `${show(found.e2e[at.share][i])} s in the system`);
    const status = part("status");
    status.classList.toggle("full", theta < 1);
    status.innerHTML = [
      `A load of ${show(load)} requests/s, ${percent(share)} of them ${second}, ${verdict}: the edge is at ${show(edge)} requests/s.`,
      `Best batches there: ${found.batches[at.share].map(inWords).join("; ")}. ` +
        `What binds: ${found.binds[at.share].map((i) => table.sentences[i]).join("; ")}.`,
      `Means in simulation, nearest loads: ${times.join("; ")}.`,
    ].map((sentence) => `<p>${sentence}</p>`).join("");
  };

  const label = ({ at, share, load }) => {
    const tile = table.machines[at.machine].tiles[at.tile];
    const said = {
      tile: tile === null ? "none" : `${tile} tokens`,
      budget: `${show(table.budgets[at.budget])} tokens`,
      kv: `${show(table.kv_tokens[at.kv], 6)} tokens`,
      share: percent(share),
      load: `${show(load)} requests/s`,
    };
    for (const [name, text] of Object.entries(said)) {
      control[name].setAttribute("aria-valuetext", text);
      part(`${name}-value`).textContent = text;
    }
  };

  const draw = () => {
    const now = chosen();
    label(now);
    drawRegion(now);
    drawBatches(now);
    drawCurve(now);
    writeNumbers(now);
    say(now);
    return now;
  };

  // --- start --------------------------------------------------------------------------------------------------------

  control.machine.innerHTML = table.machines.map((m, i) => `<option value="${i}">${m.name}</option>`).join("");
  control.budget.max = table.budgets.length - 1;
  control.kv.max = table.kv_tokens.length - 1;
  control.share.max = table.shares.length - 1;
  control.tile.max = table.machines[0].tiles.length - 1;
  for (const name of ["tile", "budget", "kv", "share"]) control[name].value = Math.floor(control[name].max / 2);
  adapt();
  let now = draw();
  for (const [name, input] of Object.entries(control)) {
    input.addEventListener("input", () => {
      before = name === "load" ? before : name === "machine" ? null : now.found.corners;
      if (name === "load") place = Number(input.value) / top();
      if (name === "machine" || name === "share") adapt();
      now = draw();
    });
  }
  root.hidden = false;
})();

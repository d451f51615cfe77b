// report_style.cpp: the look of a report's page, light and dark, and the script that shows the numbers
// under the pointer. The script only adds: without it the page is whole. Easy to break: no address of
// anything outside the page. Test: ctest -R report.
#include "models/curves/report_page.h"

namespace minibert {

const char* report_style() {
  return R"css(
:root { --page: #f5f6f8; --card: #ffffff; --text: #1b1f27; --soft: #5b6472; --line: #e3e6eb; --grid: #eceef2;
  --axis: #9aa3b0; --mark: #b3470f; --note: #fff6e5; --differs: #fff3d6; --bad: #d11a2a;
  --s0: #2563eb; --s1: #e8710a; --s2: #0f8a5f; --s3: #b4369c; --s4: #7450e8; --s5: #c5221f; --s6: #0b7f8a; --s7: #8a6d00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #11141a; --card: #191e26; --text: #e8ebf0; --soft: #9aa5b4; --line: #2b323d; --grid: #252b35;
    --axis: #697383; --mark: #ffb86b; --note: #322a17; --differs: #3a311a; --bad: #ff6b75;
    --s0: #79a8ff; --s1: #ffa65c; --s2: #4fd1a0; --s3: #f08ad8; --s4: #b7a3ff; --s5: #ff8a85; --s6: #58d0dc; --s7: #dfc257; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 14px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main, footer { max-width: 1400px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; display: flex; flex-wrap: wrap; gap: 6px 22px; align-items: baseline; }
h1 { font-size: 22px; font-weight: 650; margin: 0; letter-spacing: -0.01em; }
h3 { font-size: 14px; font-weight: 650; margin: 0; }
.runs { margin: 0; display: flex; flex-wrap: wrap; gap: 4px 18px; }
.name { font-weight: 550; white-space: nowrap; }
.name i, .legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; background: currentColor; margin-right: 7px; vertical-align: middle; }
.name.s0 i, .s0 { color: var(--s0); } .name.s1 i, .s1 { color: var(--s1); } .name.s2 i, .s2 { color: var(--s2); } .name.s3 i, .s3 { color: var(--s3); }
.name.s4 i, .s4 { color: var(--s4); } .name.s5 i, .s5 { color: var(--s5); } .name.s6 i, .s6 { color: var(--s6); } .name.s7 i, .s7 { color: var(--s7); }
.grey { color: var(--soft); }
span.name { color: var(--text) !important; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); gap: 12px; margin: 18px 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 12px 16px; }
.tile b { display: block; font-size: 17px; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.35; }
.tile span { color: var(--soft); font-size: 12px; }
.card { padding: 14px 16px; margin: 0; }
.wide, .notes { margin: 16px 0; }
.notes { background: var(--note); }
.notes ul { margin: 6px 0 0; padding-left: 20px; overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(560px, 100%), 1fr)); gap: 16px; margin: 16px 0; }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 18px; justify-content: space-between; align-items: baseline; margin-bottom: 6px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0 14px; margin: 0; padding: 0; font-size: 12px; }
.legend li::before { content: none; }
.legend i.round { width: 8px; height: 8px; border-radius: 50%; }
.legend i.broken { background: repeating-linear-gradient(90deg, currentColor 0 4px, transparent 4px 7px); }
.caption { color: var(--soft); font-size: 12px; margin: 4px 0 0; min-height: 1em; }
.plot { display: flex; flex-direction: column; position: relative; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { fill: var(--soft); font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); stroke-width: 1; fill: none; }
.axis { stroke: var(--axis); stroke-width: 1; fill: none; }
.line, .faint, .dashed, .thin, .ticks { fill: none; stroke: currentColor; stroke-linejoin: round; stroke-linecap: round; }
.line { stroke-width: 1.8; } .faint { stroke-width: 1; opacity: 0.33; } .dashed { stroke-width: 1.4; stroke-dasharray: 4 4; }
.thin { stroke-width: 1; opacity: 0.7; } .ticks { stroke-width: 1.4; stroke-linecap: butt; }
.dot { fill: currentColor; stroke: var(--card); stroke-width: 1.2; }
.bad { fill: var(--bad); }
.mark { stroke: var(--mark); stroke-width: 1; stroke-dasharray: 3 3; fill: none; } .mark.pale { opacity: 0.45; stroke-dasharray: 1 4; }
.cross { stroke: var(--axis); stroke-width: 1; } .hit { fill: none; stroke: currentColor; stroke-width: 2; }
.readout { position: absolute; pointer-events: none; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  box-shadow: 0 4px 18px rgb(0 0 0 / 0.18); padding: 7px 10px; font-size: 12px; font-variant-numeric: tabular-nums; white-space: nowrap; z-index: 2; }
.readout b { display: block; margin-bottom: 2px; } .readout i { display: inline-block; width: 9px; height: 9px; border-radius: 50%; background: currentColor; margin-right: 6px; }
.readout span { color: var(--text); }
.shades { display: inline-flex; align-items: center; font-size: 12px; color: var(--soft); gap: 0; white-space: pre; }
.shades i { display: inline-block; width: 13px; height: 11px; } .shades i:first-of-type { margin-left: 7px; } .shades i:last-of-type { margin-right: 7px; }
.h0 { fill: #30123b } .h1 { fill: #3d3790 } .h2 { fill: #455bcd } .h3 { fill: #467df4 } .h4 { fill: #3e9bfe } .h5 { fill: #28bbec } .h6 { fill: #18d6cb } .h7 { fill: #31f199 }
.h8 { fill: #6bfe64 } .h9 { fill: #a2fc3c } .h10 { fill: #cded34 } .h11 { fill: #edd03a } .h12 { fill: #fdac34 } .h13 { fill: #fa7d20 } .h14 { fill: #e3440a } .h15 { fill: #a91601 }
.b0 { background: #30123b } .b1 { background: #3d3790 } .b2 { background: #455bcd } .b3 { background: #467df4 } .b4 { background: #3e9bfe } .b5 { background: #28bbec } .b6 { background: #18d6cb } .b7 { background: #31f199 }
.b8 { background: #6bfe64 } .b9 { background: #a2fc3c } .b10 { background: #cded34 } .b11 { background: #edd03a } .b12 { background: #fdac34 } .b13 { background: #fa7d20 } .b14 { background: #e3440a } .b15 { background: #a91601 }
.r0 { color: #4a2f6b } .r1 { color: #4b47b8 } .r2 { color: #455bcd } .r3 { color: #467df4 } .r4 { color: #3e9bfe } .r5 { color: #28bbec } .r6 { color: #18d6cb } .r7 { color: #31f199 }
.r8 { color: #6bfe64 } .r9 { color: #a2fc3c } .r10 { color: #cded34 } .r11 { color: #edd03a } .r12 { color: #fdac34 } .r13 { color: #fa7d20 } .r14 { color: #e3440a } .r15 { color: #a91601 }
path[class^="h"] { shape-rendering: crispEdges; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin-top: 6px; min-width: 50%; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--grid); vertical-align: top; max-width: 460px; overflow-wrap: anywhere; }
tbody th, tr > th:first-child { font-weight: 450; color: var(--soft); white-space: nowrap; }
.default, .absent { color: var(--soft); } .absent { font-style: italic; } .number { text-align: right; }
.differs td { background: var(--differs); color: var(--text); padding-left: 8px; }
summary { cursor: pointer; color: var(--soft); margin-top: 8px; }
footer { color: var(--soft); font-size: 12px; padding: 10px 24px 30px; }
)css";
}

const char* report_script() {
  return R"js(
"use strict";
for (const figure of document.querySelectorAll("figure.plot")) {
  const data = JSON.parse(figure.querySelector("script").textContent);
  const svg = figure.querySelector("svg"), [left, top, right, bottom] = data.box;
  const share = (v, [low, high], log) => log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low);
  const make = (name, attributes) => {
    const node = document.createElementNS(svg.namespaceURI, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    return node;
  };
  const layer = svg.appendChild(make("g", {}));
  const box = figure.appendChild(Object.assign(document.createElement("div"), {className: "readout", hidden: true}));
  const hide = () => { layer.replaceChildren(); box.hidden = true; };
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (low < high) { const middle = (low + high) >> 1; if (points[middle][0] < x) low = middle + 1; else high = middle; }
    return low > 0 && x - points[low - 1][0] < points[low][0] - x ? points[low - 1] : points[low];
  };
  svg.addEventListener("pointermove", event => {
    const area = svg.getBoundingClientRect(), unit = area.width / svg.viewBox.baseVal.width;
    const at = (event.clientX - area.left) / unit;
    if (at < left - 4 || at > right + 4) return hide();
    const x = data.x[0] + (at - left) / (right - left) * (data.x[1] - data.x[0]);
    const hits = data.lines.filter(line => line.points.length).map(line => [line, nearest(line.points, x)]);
    if (!hits.length) return hide();
    const step = hits.reduce((a, b) => Math.abs(b[1][0] - x) < Math.abs(a[1][0] - x) ? b : a)[1][0];
    const cross = left + (right - left) * share(step, data.x, false);
    layer.replaceChildren(make("path", {class: "cross", d: `M${cross} ${top}V${bottom}`}));
    box.replaceChildren(Object.assign(document.createElement("b"), {textContent: "step " + step}));
    for (const [line, [px, y]] of hits) {
      const row = box.appendChild(Object.assign(document.createElement("div"), {className: line.colour}));
      row.append(document.createElement("i"));
      const shown = typeof y === "number" ? Number(y.toPrecision(6)) : y;
      row.append(Object.assign(document.createElement("span"),
                               {textContent: (line.label ? line.label + " " : "") + shown + (px === step ? "" : ` (step ${px})`)}));
      if (typeof y !== "number" || (data.log && y <= 0)) continue;
      layer.append(make("circle", {class: "hit " + line.colour, r: 4, cx: left + (right - left) * share(px, data.x, false),
                                   cy: bottom - (bottom - top) * share(y, data.y, data.log)}));
    }
    box.hidden = false;
    const place = figure.getBoundingClientRect(), wide = box.offsetWidth, here = event.clientX - place.left;
    box.style.left = (here + wide + 24 > place.width ? here - wide - 14 : here + 14) + "px";
    box.style.top = (event.clientY - place.top + 14) + "px";
  });
  svg.addEventListener("pointerleave", hide);
}
)js";
}

}  // namespace minibert

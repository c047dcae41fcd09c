"""The look of the pages: colours as CSS variables, set once for light and once for dark."""

from __future__ import annotations

from typing import Final

# Contrast of text against its background is at least 4.5:1 in both themes (WCAG AA).
STYLE: Final = """
:root, .body--light {
  --page: #f5f6f8; --card: #ffffff; --line: #d9dee6; --ink: #1c2430; --dim: #5a6577; --brand: #0b6e62;
  --good: #14804a; --fair: #a15c00; --bad: #c0262d; --quiet: #7a8596; --edge-quiet: #aab3c0; color-scheme: light;
}
.body--dark {
  --page: #12161c; --card: #1b212a; --line: #313a47; --ink: #e8ecf2; --dim: #9aa6b8; --brand: #4fd1b8;
  --good: #4cc38a; --fair: #f0b14a; --bad: #ff7b80; --quiet: #8592a5; --edge-quiet: #566274; color-scheme: dark;
}
body { background: var(--page) !important; color: var(--ink); font-family: system-ui, sans-serif; }
.nicegui-content { padding: 0; gap: 0; align-items: stretch; }
.bar { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1rem; padding: .7rem 1.2rem;
  background: var(--card); border-bottom: 1px solid var(--line); }
.bar h1 { font-size: 1.1rem; line-height: 1.4; font-weight: 700; margin: 0; color: var(--brand); }
.bar .grow { flex: 1; }
.main { padding: 1.2rem; max-width: 1400px; width: 100%; margin: 0 auto; display: flex; flex-direction: column;
  gap: 1.2rem; box-sizing: border-box; }
.panel { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem 1.1rem;
  overflow: hidden; }
.panel h2 { font-size: 1rem; line-height: 1.4; font-weight: 650; margin: 0 0 .7rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: .8rem 1rem; }
.tile .number { font-size: 1.5rem; line-height: 1.3; font-weight: 700; font-variant-numeric: tabular-nums; }
.tile .label { color: var(--dim); font-size: .8rem; }
.scroll { overflow-x: auto; }
.trouble { background: color-mix(in srgb, var(--fair) 14%, var(--card)); border: 1px solid var(--fair);
  border-radius: 12px; padding: .7rem 1rem; }
.empty { color: var(--dim); padding: 1.2rem 0; }
.topology { display: block; font-family: inherit; max-width: none; }
.topology .card { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
.topology .accent { fill: var(--quiet); }
.topology .good .accent { fill: var(--good); } .topology .fair .accent { fill: var(--fair); }
.topology .bad .accent { fill: var(--bad); } .topology .bad .card { stroke: var(--bad); }
.topology .unmeshed .card { stroke-dasharray: 5 4; }
.topology text { fill: var(--ink); font-size: 12px; }
.topology .name { font-size: 14px; font-weight: 650; }
.topology .where, .topology .latency { fill: var(--dim); font-size: 11px; }
.topology .latency { white-space: pre; font-variant-numeric: tabular-nums; }
.topology .value { font-weight: 700; }
.topology .edge { fill: none; stroke: var(--edge-quiet); stroke-width: 1.8; }
.topology .edge.good { stroke: var(--good); } .topology .edge.fair { stroke: var(--fair); }
.topology .edge.bad { stroke: var(--bad); }
.topology marker path { fill: var(--edge-quiet); } .topology marker path.good { fill: var(--good); }
.topology marker path.fair { fill: var(--fair); } .topology marker path.bad { fill: var(--bad); }
.topology .lock circle { fill: var(--card); stroke: var(--line); }
.topology .lock rect { stroke-width: 0; } .topology .lock path { fill: none; stroke-width: 1.8; }
.topology .lock.closed rect { fill: var(--good); } .topology .lock.closed path { stroke: var(--good); }
.topology .lock.open rect { fill: var(--fair); } .topology .lock.open path { stroke: var(--fair); }
table.metrics { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
table.metrics th { text-align: right; color: var(--dim); font-weight: 600; padding: .35rem .6rem; white-space: nowrap; }
table.metrics td { text-align: right; padding: .4rem .6rem; border-top: 1px solid var(--line); white-space: nowrap; }
table.metrics th:first-child, table.metrics td:first-child { text-align: left; }
table.metrics .where { color: var(--dim); font-size: .78rem; }
table.metrics .good { color: var(--good); } table.metrics .fair { color: var(--fair); }
table.metrics .bad { color: var(--bad); font-weight: 700; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; color: var(--dim); font-size: .8rem; margin-top: .7rem; }
@media (max-width: 600px) { .main { padding: .7rem; gap: .8rem; } .bar { padding: .6rem .8rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); } }
"""

"""What a run leaves behind for people: HTML pages, figures, an index page, and the table printed at the end."""

from __future__ import annotations

import base64
import html
import logging
from collections.abc import Sequence
from pathlib import Path
from string import Template

import nbformat

from dlrm_lib.files import write_text
from runner.execute import Result


def write_page(result: Result, output: Path) -> list[Path]:
    """Writes ``<name>.html`` and the figures the notebook drew, ``figures/<name>_<n>.png``; returns the figures."""
    from nbconvert import HTMLExporter  # takes a second, while the next notebook starts

    nb = nbformat.read(result.executed, as_version=4)
    exporter = HTMLExporter(embed_images=True)
    exporter.log.setLevel(logging.ERROR)  # It warns of every picture that has no alternative text.
    page, _ = exporter.from_notebook_node(nb, resources={"metadata": {"name": result.notebook.title}})
    write_text(output / f"{result.notebook.name}.html", page)

    (output / "figures").mkdir(exist_ok=True)
    figures = []
    for picture in _pictures(nb):
        figures.append(output / "figures" / f"{result.notebook.name}_{len(figures) + 1}.png")
        figures[-1].write_bytes(base64.b64decode(picture))
    return figures


def table(results: Sequence[Result]) -> str:
    """The run in a few lines: notebook, seconds, memory, result; then each failure, each cell that wrote to stderr."""
    width = max(len("notebook"), *(len(r.notebook.name) for r in results))
    lines = [f"{'notebook':<{width}}  {'seconds':>8}  {'peak GiB':>8}  result"]
    for r in results:
        outcome = "FAILED" if r.failure else "ok"
        if r.stderr:
            outcome += f", stderr in {len(r.stderr)} {'cell' if len(r.stderr) == 1 else 'cells'}"
        lines.append(f"{r.notebook.name:<{width}}  {r.seconds:>8.1f}  {r.peak_gib:>8.2f}  {outcome}")
    failed = sum(r.failure is not None for r in results)
    total = f"{failed} of {len(results)} FAILED" if failed else f"{len(results)} ok"
    peak = max(r.peak_gib for r in results)
    lines.append(f"{'together':<{width}}  {sum(r.seconds for r in results):>8.1f}  {peak:>8.2f}  {total}")
    lines += [f"FAILED {r.notebook.name}, {r.failure}" for r in results if r.failure]
    lines += [f"stderr {r.notebook.name}, cell {cell}: {text}" for r in results for cell, text in r.stderr]
    return "\n".join(lines)


def write_index(results: Sequence[Result], figures: Sequence[Path], output: Path, *, about: dict[str, str]) -> None:
    """Writes ``index.html``, the last thing a run writes: while it is missing, the run is not finished.

    Args:
        results: One per notebook, in order.
        figures: The pictures drawn, below ``output``.
        output: The folder of the run.
        about: What the run was (preset, date, …), shown as it is.
    """
    rows = "\n".join(
        f"<tr class='{'failed' if r.failure else 'ok'}'>"
        f"<td><a href='{r.notebook.name}.html'>{html.escape(r.notebook.title)}</a>"
        f"{f'<pre>{html.escape(str(r.failure))}</pre>' if r.failure else ''}</td>"
        f"<td class='result'>{'failed' if r.failure else 'ok'}</td>"
        f"<td class='number'>{r.seconds:.0f}</td><td class='number'>{r.peak_gib:.1f}</td>"
        f"<td><a href='notebooks/{r.executed.name}'>{r.executed.name}</a></td></tr>"
        for r in results
    )
    pictures = "\n".join(
        f"<a href='figures/{f.name}'><img loading='lazy' src='figures/{f.name}' alt='{f.stem}'></a>" for f in figures
    )
    facts = " · ".join(f"{html.escape(name)} <b>{html.escape(value)}</b>" for name, value in about.items())
    write_text(output / "index.html", _INDEX.substitute(facts=facts, rows=rows, pictures=pictures))


def _pictures(nb: nbformat.NotebookNode) -> list[str]:
    data = [o.get("data", {}) for cell in nb.cells for o in cell.get("outputs", [])]
    return [d["image/png"] for d in data if "image/png" in d]


_INDEX = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The DLRM Workbook: a run</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8884; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.failed .result { color: #d33; font-weight: bold; }
pre { white-space: pre-wrap; font-size: .85rem; margin: .3rem 0 0; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem; }
.figures img { width: 100%; background: white; }
</style>
<h1>The DLRM Workbook: a run</h1>
<p>$facts</p>
<table>
<tr><th>chapter</th><th>result</th><th class="number">seconds</th><th class="number">peak GiB</th>
<th>executed notebook</th></tr>
$rows
</table>
<h2>Figures</h2>
<div class="figures">
$pictures
</div>
</html>
""")

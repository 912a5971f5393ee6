"""How the lab's widgets look: in the colours of JupyterLab's theme, whichever that is."""

FORM = """
.dlrm-form { width: 100%; min-width: 0; overflow: hidden; color: var(--jp-ui-font-color1); }
.dlrm-form > * { margin: 0; }
.dlrm-form .widget-vbox, .dlrm-form .widget-box { overflow: visible; }
.dlrm-field, .dlrm-head {
  --dlrm-names: 9.8em;
  display: grid !important; grid-template-columns: var(--dlrm-names) minmax(0, 1fr); column-gap: 8px;
  align-items: center; width: 100%; margin: 0; padding: 2px 0; box-sizing: border-box;
}
.dlrm-slides { grid-template-columns: var(--dlrm-names) minmax(0, 1fr) 5.6em; }
.dlrm-head { grid-template-columns: var(--dlrm-names) minmax(0, 1fr) 32px 32px; }
.dlrm-field > *, .dlrm-head > * { width: auto !important; min-width: 0; margin: 0 !important; }
.dlrm-field > :last-child { grid-column: 1 / -1; height: auto; min-height: 0; }
.dlrm-field > :last-child > .widget-html-content { line-height: 1.35; }
.dlrm-head .jupyter-button { padding: 0; text-align: center; text-overflow: clip; }
.dlrm-head .jupyter-button i { margin: 0; }
.dlrm-form .widget-dropdown > select {
  background-image: linear-gradient(45deg, transparent 50%, currentColor 50%),
    linear-gradient(135deg, currentColor 50%, transparent 50%);
  background-size: 5px 5px; background-position: right 12px center, right 7px center; background-repeat: no-repeat;
}
.dlrm-form .widget-accordion { margin-top: 8px; }
.dlrm-form .jupyter-widget-Collapse-header, .dlrm-form .jupyter-widget-Collapse-contents { padding: 6px 8px; }
.dlrm-form .jupyter-widget-Collapse-header { font-size: var(--jp-ui-font-size1); }
.dlrm-form .jupyter-widget-Collapse-contents .dlrm-field { --dlrm-names: 12.2em; }
.dlrm-form .jupyter-widget-Collapse-contents > * { margin: 0; }
.dlrm-name { font-size: var(--jp-ui-font-size1); color: var(--jp-ui-font-color1); white-space: nowrap; }
.dlrm-changed { color: var(--jp-brand-color1); }
.dlrm-changed::after { content: " \\25CF"; font-size: 0.7em; vertical-align: 0.2em; }
.dlrm-heading {
  font-size: var(--jp-ui-font-size1); font-weight: 600; color: var(--jp-ui-font-color2);
  border-bottom: 1px solid var(--jp-border-color2); margin: 8px 0 4px;
}
.dlrm-error { color: var(--jp-error-color1); padding: 2px 0 6px; overflow-wrap: anywhere; }
.dlrm-help { display: none; color: var(--jp-ui-font-color2); padding: 0 0 6px; }
.dlrm-explained .dlrm-help { display: block; }
"""

TILES = """
.dlrm-tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9em, 1fr)); gap: 6px; }
.dlrm-tile {
  border: 1px solid var(--jp-border-color2); border-radius: 4px; padding: 4px 8px;
  background: var(--jp-layout-color1); color: var(--jp-ui-font-color2); font-size: var(--jp-ui-font-size0);
  line-height: 1.4;
}
.dlrm-tile b { font-size: var(--jp-ui-font-size2); font-weight: 600; color: var(--jp-ui-font-color1); }
.dlrm-warning, .dlrm-advice {
  margin-top: 6px; padding: 3px 8px; border-left: 3px solid var(--jp-warn-color1); line-height: 1.4;
  font-size: var(--jp-ui-font-size1); color: var(--jp-ui-font-color1);
}
.dlrm-advice { border-left-color: var(--jp-info-color1); }
"""

LAB = """
.dlrm-lab { color: var(--jp-ui-font-color1); max-width: 1500px; }
.dlrm-bench {
  display: grid !important; grid-template-columns: minmax(310px, 400px) minmax(0, 1fr); column-gap: 20px;
  align-items: start; overflow: visible;
}
.dlrm-bench > * { min-width: 0; margin: 0; overflow: visible; }
.dlrm-lab .widget-html-content { line-height: 1.45; }
.dlrm-stale { opacity: 0.4; }
.dlrm-buttons { align-items: center; gap: 6px; flex-wrap: wrap; }
.dlrm-buttons > * { margin: 2px 0; }
.dlrm-buttons .jupyter-button { width: auto; min-width: 84px; }
.dlrm-buttons .widget-hprogress { flex: 1 1 120px; min-width: 100px; width: auto; }
.dlrm-buttons .widget-hprogress .progress { background: var(--jp-layout-color2); }
.dlrm-quiet { color: var(--jp-ui-font-color2); }
.dlrm-failure, .dlrm-repeat pre {
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0; padding: 6px 10px; line-height: 1.4;
  font-size: var(--jp-code-font-size); background: var(--jp-layout-color2); color: var(--jp-ui-font-color1);
}
.dlrm-failure { border-left: 3px solid var(--jp-error-color1); }
.dlrm-repeat { margin-top: 8px; }
.dlrm-repeat summary { display: block; color: var(--jp-ui-font-color2); margin-top: 6px; }
.dlrm-search { gap: 20px; flex-wrap: wrap; }
.dlrm-search > :last-child { flex: 1 1 380px; min-width: 0; }
.dlrm-search .widget-inline-hbox { width: 300px; margin: 2px 0; }
.dlrm-search .widget-inline-hbox.widget-select select { width: 100%; }
.dlrm-search-trials .widget-label { width: 40px; }
.dlrm-found { border-collapse: collapse; margin: 6px 0; }
.dlrm-found th, .dlrm-found td { padding: 2px 14px 2px 0; text-align: left; white-space: nowrap; }
.dlrm-found tr { border-bottom: 1px solid var(--jp-border-color2); }
.dlrm-share { display: grid; grid-template-columns: 11em minmax(0, 1fr) 3em; align-items: center; gap: 8px; }
.dlrm-share i { height: 8px; background: var(--jp-brand-color1); border-radius: 2px; }
.dlrm-runs .itables, .dlrm-runs [class^="dt-"], .dlrm-runs table.dataTable { background: transparent !important; }
.dlrm-runs .dt-container { width: 100%; }
.dlrm-runs td:first-child { white-space: nowrap; }
.dlrm-runs table.dataTable { color: var(--jp-ui-font-color1); font-size: var(--jp-ui-font-size1); }
"""

CURVES = """
.dlrm-curves { width: 100%; overflow: hidden; color: var(--jp-ui-font-color1); }
.dlrm-curves svg { display: block; }
.dlrm-curves text { fill: var(--jp-ui-font-color1); font-size: 11px; }
.dlrm-curves .grid { stroke: var(--jp-border-color2); stroke-width: 1; opacity: 0.7; }
.dlrm-curves .axis { stroke: var(--jp-border-color1); }
.dlrm-curves .cursor { stroke: var(--jp-ui-font-color2); stroke-dasharray: 3 3; }
.dlrm-curves .curve { fill: none; stroke-linejoin: round; }
.dlrm-curves .thin { stroke-width: 1.2; opacity: 0.65; }
.dlrm-curves .thick { stroke-width: 2.2; }
[data-jp-theme-light="false"] .dlrm-curves :is(.curve, circle) { filter: brightness(1.45); }
[data-jp-theme-light="false"] .dlrm-curves .legend b::before { filter: brightness(1.45); }
.dlrm-curves .legend { display: flex; flex-wrap: wrap; column-gap: 18px; padding: 4px 0 0 64px; min-height: 20px; }
.dlrm-curves .legend.reading { flex-direction: column; font-size: 11px; }
.dlrm-curves .legend b { font-weight: 600; }
.dlrm-curves .legend b::before {
  content: ""; display: inline-block; width: 18px; margin-right: 6px; vertical-align: middle;
  border-top: 3px solid var(--color);
}
"""

"""Charts: one description of a chart (`chart`), drawn by plotly for pages and by matplotlib for files.

One Vega-Lite specification for both, drawn by vl-convert 1.9 (Vega-Lite 6.4), was tried on ten charts and not taken.
In its favour: a page of 0.9 MB, not 4.8, under the same content security policy with Vega's interpreter of expressions,
and one back end of some 300 lines.
Against it, to the eye: small multiples keep their width, so that three columns (1,030 pixels) run off a narrow window,
and hairlines run between the cells of a density. Dragging to zoom and hiding a curve by its legend entry would have to
be written as selections, and the report's page, which redraws a token's curve through plotly.js, written anew.
Twenty-five models at 154 steps take 4.6 seconds as .png and 2.9 seconds to open as a page (here 0.8 to 1.5, and 1.0),
and a .pdf differs between two runs.
The wheel of vl-convert is 34 MB, those of matplotlib and plotly together 20 MB.
"""

from trajstore.lazy_imports import on_demand

on_demand(__name__)

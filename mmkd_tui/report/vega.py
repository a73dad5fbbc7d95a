"""Vega, by the package vl-convert-python (extra `report`): its scripts for a page without a network, and charts as pictures."""

from __future__ import annotations

import json
from typing import Any

from engine.errors import UserError
from mmkd_tui.report.charts import Chart

SCALE = 2.0  # pixels of a picture for each of the chart's
WIDTH = 760  # of a chart in a picture
TEXT = "#222222"
VERSION = "6.1"  # of Vega-Lite


def script() -> str:
    """JavaScript that puts `mmkdEmbed(element, specification)` into the page: Vega, Vega-Lite and Vega-Embed in one."""
    code = "window.mmkdEmbed = (element, spec) => vegaEmbed(element, spec, {renderer: 'svg', actions: false});"
    found: str = _package().javascript_bundle(code, vl_version=VERSION)
    return found.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def picture(chart: Chart) -> bytes:
    """PNG, dark on white."""
    spec = chart.spec | {"background": "white", "title": chart.title}
    text = json.dumps(spec).replace('"currentColor"', f'"{TEXT}"').replace('"width": "container"', f'"width": {WIDTH}')
    found: bytes = _package().vegalite_to_png(text, vl_version=VERSION, scale=SCALE)
    return found


def _package() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise UserError("reports with charts need the package vl-convert-python: pip install 'mmkd-tui[report]'") from error
    return vl_convert

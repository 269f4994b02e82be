"""The picture of the README: the report's chart of quality and speed, of one run in results/.

python benchmarks/trade_off_picture.py benchmarks/results/main_job-throughput-0.json
"""

import json
import re
import sys
from pathlib import Path

from miaotui.measure.result import OptimizationResult
from miaotui.report.charts import trade_off_chart

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "images" / "trade-off.svg"
STYLES = ROOT / "src" / "miaotui" / "report" / "page.css"
FONT = "svg { font-family: system-ui, 'Segoe UI', Roboto, 'Noto Sans', sans-serif; }"


def picture(result: OptimizationResult) -> str:
    """A drawing that stands alone, light or dark as the reader's screen is."""
    chart = trade_off_chart(result)
    if chart is None:
        raise SystemExit("this run recorded no configurations")
    css = STYLES.read_text(encoding="utf-8")
    colours = css[: css.index("* { box-sizing")]
    rules = "\n".join(re.findall(r"^(?:svg|\.mark)[^{]*\{[^}]*\}", css, re.MULTILINE))
    style = f"<style>{colours}{rules}\n{FONT}\n.ground {{ fill: var(--panel); }}</style>"
    opening, rest = str(chart).split(">", 1)
    ground = '<rect class="ground" width="100%" height="100%"/>'
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{ground}{rest}'


def main() -> None:
    document = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["document"]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(picture(OptimizationResult.model_validate(document)), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The verbs. No logic; heavy imports only inside a verb."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from pydantic import ValidationError

from miaotui.budget import (
    Budget,
    Objective,
    parse_bytes,
    parse_confidence,
    parse_duration,
    parse_limit,
    parse_share,
)
from miaotui.errors import BudgetError, MiaotuiError, first_fault
from miaotui.quiet import silence_telemetry

if TYPE_CHECKING:
    from miaotui.data.columns import Columns
    from miaotui.pipeline import OptimizeOptions
    from miaotui.predictor import Predictor
    from miaotui.tasks.rows_read import RowsRead

app = typer.Typer(
    help="Makes a fine-tuned transformer as fast as this machine allows, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
P = ParamSpec("P")

Json = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Data = Annotated[Path, typer.Option("--data", help="rows: CSV, TSV, JSONL, Excel, Parquet, ...")]
Out = Annotated[Path, typer.Option("--out", help="folder to write")]
TextColumn = Annotated[str | None, typer.Option("--text-column")]
PairColumn = Annotated[str | None, typer.Option("--pair-column")]
LabelColumn = Annotated[str | None, typer.Option("--label-column")]
BundleFolder = Annotated[Path, typer.Argument(help="a bundle's folder")]
TaskName = Annotated[
    str | None, typer.Option("--task", help="as text-classification or ner; usually inferred")
]
Revision = Annotated[str | None, typer.Option("--revision", help="commit of a hub id")]


def main() -> None:
    """Runs the command line; an error of ours is one line on stderr and status 2."""
    silence_telemetry()
    app()


def verb(function: Callable[P, None]) -> Callable[P, None]:
    """Prints errors of ours in one line; Ctrl-C ends with status 130, nothing lost."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except MiaotuiError as error:
            _say(f"error: {error}")
            raise typer.Exit(2) from None
        except ValidationError as error:
            _say(f"error: {first_fault(error)}")
            raise typer.Exit(2) from None
        except OSError as error:
            _say(f"error: {error.filename or 'a file'}: {error.strerror or error}")
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _say("interrupted; run the same command again to go on")
            raise typer.Exit(130) from None

    return run


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _print(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False, indent=1, allow_nan=False)
    sys.stdout.write(text + "\n")


def _say_read(read: "RowsRead") -> None:
    from miaotui.report.rows_read import read_line

    for line in (read_line(read), *read.notes):
        _say(line)


def _columns(text: str | None, pair: str | None, label: str | None) -> "Columns":
    from miaotui.data.columns import Columns

    return Columns(text, pair, label)


@app.command()
@verb
def probe(as_json: Json = False) -> None:
    """What this machine can do, and what would use its GPUs, NPUs, TPUs and FPGAs."""
    from miaotui.survey import survey

    found = survey()
    facts = found.facts()
    if as_json:
        _print(facts)
        return
    from miaotui.report.devices import device_facts
    from miaotui.report.terminal import show_facts

    show_facts(facts | {"devices": device_facts([(d.device, d.uses) for d in found.devices])})


@app.command()
@verb
def finetune(  # noqa: PLR0913  (the settings of a verb)
    model: Annotated[str, typer.Argument(help="a model folder or a hub id")],
    data: Data,
    out: Out,
    epochs: float = 3.0,
    learning_rate: float = 5e-5,
    batch: int = 32,
    seed: int = 0,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    revision: Revision = None,
    task: TaskName = None,
    as_json: Json = False,
) -> None:
    """Fine-tune an encoder on labelled rows; its held-out rows are remembered in splits.json."""
    from miaotui.pipeline.finetune import finetune as run
    from miaotui.report.terminal import steps_bar
    from miaotui.training.settings import FineTuning

    settings = FineTuning(epochs=epochs, learning_rate=learning_rate, batch=batch, seed=seed)
    columns = _columns(text_column, pair_column, label_column)
    with steps_bar("fine-tuning") as progress:
        done = run(model, data, out, settings, columns, revision, task, progress, _say_read)
    if as_json:
        _print(asdict(done) | {"folder": str(done.folder)})
    else:
        _say(f"{done.folder}: {done.metric} {done.validation:.4f} on the validation rows")


@app.command()
@verb
def optimize(  # noqa: PLR0913  (the contract of the main job)
    model: Annotated[str, typer.Argument(help="a fine-tuned model's folder or a hub id")],
    data: Data,
    out: Out,
    selection: Annotated[Path | None, typer.Option("--eval", help="rows to select on")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="rows to test on")] = None,
    unlabelled: Annotated[Path | None, typer.Option(help="texts to distil on")] = None,
    max_drop: Annotated[
        str | None, typer.Option(help="as 1% (the default) or 0.01, in the metric's units")
    ] = None,
    max_change: Annotated[
        str | None, typer.Option(help="as 1%: of the original's answers; needs no labels")
    ] = None,
    task: TaskName = None,
    metric: str | None = None,
    objective: Objective = Objective.THROUGHPUT,
    target_p99: Annotated[str | None, typer.Option(help="as 5ms")] = None,
    max_memory: Annotated[str | None, typer.Option(help="of a serving process, as 500MB")] = None,
    time_budget: Annotated[str, typer.Option(help="as 10m")] = "10m",
    cores: Annotated[int | None, typer.Option(min=1)] = None,
    engines: Annotated[str | None, typer.Option(help="comma-separated")] = None,
    keep_shapes: Annotated[bool, typer.Option("--keep-shapes")] = False,
    recipe: Annotated[Path | None, typer.Option(help="exactly this, no search")] = None,
    max_class_drop: Annotated[
        str | None, typer.Option(help="as 5%: of every single class too")
    ] = None,
    confidence: Annotated[
        str | None, typer.Option(help="with which the limits hold, as 80% (the default)")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="--confidence 95%")] = False,
    seed: int = 0,
    resume: Annotated[bool, typer.Option("--resume/--fresh")] = True,
    golden: Annotated[bool, typer.Option("--golden/--no-golden")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would be tried, write nothing")
    ] = False,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    revision: Revision = None,
    as_json: Json = False,
) -> None:
    """Find the fastest measured configuration that keeps the limit; write it as a bundle."""
    began = time.monotonic()
    budget = Budget(
        max_drop=parse_limit(max_drop, max_change),
        objective=objective,
        time_budget_s=parse_duration(time_budget),
        target_p99_ms=parse_duration(target_p99, "ms") * 1e3 if target_p99 else None,
        max_memory_bytes=parse_bytes(max_memory) if max_memory else None,
        confidence=parse_confidence(confidence, strict),
        max_class_drop=None
        if max_class_drop is None
        else parse_share(max_class_drop, "max-class-drop", "5% or 0.05"),
    )
    from miaotui.pipeline import OptimizeOptions, RowsOptions
    from miaotui.pipeline import optimize as run
    from miaotui.report.table import headline, rivals_table
    from miaotui.report.terminal import search_bar, show

    columns = _columns(text_column, pair_column, label_column)
    options = OptimizeOptions(
        model=model,
        rows=RowsOptions(data, selection, test, unlabelled, columns, seed),
        out=out,
        budget=budget,
        task=task,
        metric=metric,
        by_agreement=max_change is not None,
        engines=tuple(name.strip() for name in engines.split(",")) if engines else None,
        cores=cores,
        keep_shapes=keep_shapes,
        recipe=recipe,
        revision=revision,
        fresh=not resume,
        golden=golden,
        command=shlex.join(["miaotui", *sys.argv[1:]]),
        began=began,
    )
    if dry_run:
        _show_plan(options, as_json)
        return
    with search_bar(budget.time_budget_s) as watch:
        result = run(options, watch, _say_read)
    if as_json:
        _print(result.model_dump(mode="json"))
    else:
        show(headline(result), rivals_table(result))


def _show_plan(options: "OptimizeOptions", as_json: bool) -> None:
    from miaotui.pipeline.dry_run import dry_run
    from miaotui.report.plan import plan_parts
    from miaotui.report.terminal import show

    plan = dry_run(options, _say_read)
    if as_json:
        _print(asdict(plan))
    else:
        show(*plan_parts(plan))


@app.command()
@verb
def bench(  # noqa: PLR0913  (the settings of a verb)
    bundle: BundleFolder,
    data: Annotated[Path | None, typer.Option(help="labelled rows, to judge quality too")] = None,
    retune: Annotated[
        bool, typer.Option("--retune", help="first choose again how it runs, for this machine")
    ] = False,
    cores: Annotated[int | None, typer.Option(min=1, help="to retune for")] = None,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    as_json: Json = False,
) -> None:
    """Measure a bundle again, here and now, against its own card."""
    from miaotui.pipeline.verify import verify
    from miaotui.report.terminal import share_bar, show, show_facts

    if cores is not None and not retune:
        raise BudgetError("--cores is what to retune for; give it with --retune")
    retuned = None
    if retune:
        from miaotui.pipeline.retune import retune as choose
        from miaotui.report.retuned import retuned_sentence, retuned_table

        with share_bar() as progress:
            retuned = choose(bundle, cores, progress)
        if not as_json:
            show(retuned_table(retuned), retuned_sentence(retuned))
    verified = verify(bundle, data, _columns(text_column, pair_column, label_column))
    if verified.read is not None:
        _say_read(verified.read)
    if as_json:
        _print(asdict(verified) | ({"retuned": asdict(retuned)} if retuned else {}))
        return
    show_facts({name: fact for name, fact in asdict(verified).items() if name != "read"})


@app.command()
@verb
def compare(  # noqa: PLR0913  (the settings of a verb)
    a: Annotated[str, typer.Argument(metavar="A", help="a bundle, a model's folder or a hub id")],
    b: Annotated[str, typer.Argument(metavar="B", help="another, of the same task")],
    data: Data,
    metric: str | None = None,
    cores: Annotated[int | None, typer.Option(min=1)] = None,
    time_budget: Annotated[str, typer.Option(help="of the timing, as 2m")] = "2m",
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: LabelColumn = None,
    as_json: Json = False,
) -> None:
    """Two models side by side, here and now: quality on the same rows, speed in turns."""
    from miaotui.pipeline.compare import CompareOptions
    from miaotui.pipeline.compare import compare as run
    from miaotui.report.pair import pair_document, pair_table, pair_verdict
    from miaotui.report.terminal import share_bar, show

    columns = _columns(text_column, pair_column, label_column)
    seconds = parse_duration(time_budget)
    with share_bar() as progress:
        found = run(CompareOptions(a, b, data, columns, metric, cores, seconds), progress)
    for side in (found.a, found.b):
        for warning in side.warnings:
            _say(f"warning: {side.name}: {warning}")
    for note in found.notes:
        _say(note)
    if as_json:
        _print(pair_document(found))
    else:
        show(pair_table(found), pair_verdict(found))


@app.command()
@verb
def predict(  # noqa: PLR0913  (the settings of a verb)
    bundle: BundleFolder,
    texts: Annotated[list[str] | None, typer.Argument(help="texts to answer")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="rows to answer")] = None,
    cores: Annotated[int | None, typer.Option(min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes that share the cores")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="of a tagger: every word too")] = False,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    _as_json: Annotated[bool, typer.Option("--json", help="as it is always")] = True,
) -> None:
    """Answer texts, one JSON line each as they are ready."""
    from miaotui.bundle import load, read_bundle
    from miaotui.tasks.rows_read import rows_read
    from miaotui.tasks.saved import open_task
    from miaotui.workers import Workers

    wanted = list[Any](texts or [])
    if file is not None:
        task = open_task(read_bundle(bundle).folder)
        rows = task.read_rows(file, _columns(text_column, pair_column, None), labelled=False)
        _say_read(rows_read(task, rows))
        wanted += rows.texts
    if not wanted:
        raise BudgetError("nothing to predict; give texts, or rows with --file")
    if workers:
        predictor: Workers | Predictor = Workers(bundle, workers, cores, detailed=tokens)
    else:
        predictor = load(bundle, cores, detailed=tokens)
    for warning in predictor.warnings:
        _say(f"warning: {warning}")
    cut = 0
    with predictor:
        for text, answer in zip(wanted, predictor.stream(wanted), strict=True):
            cut += answer.truncated
            shown = list(text) if isinstance(text, tuple) else str(text)
            line = {"text": shown} | answer.as_json()
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        shift = predictor.drift()
    if shift is not None and shift.shifted:
        _say(
            f"warning: the first stage answered {shift.observed:.0%} of the last {shift.rows} "
            f"texts, {shift.expected:.0%} where it was measured: these texts are of another kind; "
            "judge them with miaotui bench --data"
        )
    if cut:
        _say(f"{cut} of {len(wanted)} texts were longer than the model's maximum and truncated")


@app.command()
@verb
def show(bundle: BundleFolder, as_json: Json = False) -> None:
    """The card of a bundle."""
    from miaotui.bundle import read_bundle

    checked = read_bundle(bundle)
    if as_json:
        _print(json.loads((checked.folder / "result.json").read_text(encoding="utf-8")))
    else:
        sys.stdout.write((checked.folder / "card.md").read_text(encoding="utf-8"))


@app.command()
@verb
def report(
    bundle: BundleFolder,
    out: Annotated[Path | None, typer.Option(help="where to write the page")] = None,
) -> None:
    """Write the report of a bundle as one HTML page, and name it."""
    from miaotui.bundle import read_bundle
    from miaotui.measure.result import OptimizationResult
    from miaotui.report.page import write_report

    checked = read_bundle(bundle)
    text = (checked.folder / "result.json").read_text(encoding="utf-8")
    target = checked.outside(out or Path(f"{checked.folder.resolve().name}-report.html"))
    sys.stdout.write(f"{write_report(OptimizationResult.model_validate_json(text), target)}\n")


@app.command()
@verb
def export(
    bundle: BundleFolder,
    out: Out,
    to: Annotated[str, typer.Option("--to", help="onnx")] = "onnx",
) -> None:
    """A plain padded ONNX model that needs no miaotui."""
    from miaotui.pipeline.export import export as run

    _say(run(bundle, to, out))


if __name__ == "__main__":
    main()

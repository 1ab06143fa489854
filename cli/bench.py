"""``razor bench``: every method on the reference targets, measured against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import say
from cli.examples import epilog
from cli.progress import Bar

commands = typer.Typer(no_args_is_help=True, help="Compare methods, and weigh the service.")


def _rows(earlier: Path | None) -> Path | None:
    """The file, once it is known to hold rows."""
    from razor.bench import landed

    if earlier is not None:
        try:
            landed.read(earlier)
        except ValueError as error:
            raise typer.BadParameter(
                "the file holds no rows of a comparison; give a JSON file that bench wrote"
            ) from error
    return earlier


Earlier = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        callback=_rows,
        help="Raw rows of an earlier document (the JSON beside it): gold and tuning are not run "
        "again.",
    ),
]


@commands.command("clip", epilog=epilog("bench clip"))
def clip(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Four targets with default settings: minutes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where the document goes; default: inside --work.")
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Gold models and finished runs; a stopped benchmark goes on.")
    ] = Path("runs/bench"),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder with pictures of people (index.csv): train and measure there."),
    ] = None,
    earlier: Earlier = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs at once, one thread each.")] = 2,
) -> None:
    """Run RAZOR and its rivals, and write table, plots and raw figures."""
    from razor.bench import clip as bench
    from razor.bench import document

    with Bar("runs", steps=20) as bar:

        def tick(done: int, total: int, what: str) -> None:
            bar.show(done / total, f"{done} of {total}  {what}")

        made = bench.Bench(work, processes, tick, data, earlier)
        rows = made.quick() if quick else made.full()
    folder = out or work / ("quick" if quick else "full")
    command = "razor bench clip" + (" --quick" if quick else "")
    if data is not None and not quick:
        command += " --data FACES"
    if earlier is not None and not quick:
        command += " --earlier CLIP.JSON"
    document.write(rows, folder, command)
    say(document.summary(rows))
    say(f"wrote {folder / 'clip.md'}")


@commands.command("diffusion", epilog=epilog("bench diffusion"))
def diffusion(
    *,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Rivals with one setting each, no gold, the U-Net alone."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where the document goes; default: inside --work.")
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Gold pipeline and finished runs; a stopped benchmark goes on.")
    ] = Path("runs/bench"),
    processes: Annotated[int, typer.Option(min=1, help="Runs at once, one thread each.")] = 2,
    finished: Annotated[
        bool, typer.Option("--finished", help="Run nothing: a document of the runs in --work.")
    ] = False,
) -> None:
    """Run RAZOR and its rivals on the picture generators; hours on two cores."""
    from razor.bench import diffusion as bench
    from razor.bench import painters_document as document

    with Bar("runs", steps=20) as bar:

        def tick(done: int, total: int, what: str) -> None:
            bar.show(done / total, f"{done} of {total}  {what}")

        made = bench.Bench(work, processes, tick, finished)
        if finished and not (quick or made.ended()):
            raise typer.BadParameter(
                "the grids in --work have not all been run; leave --finished out to go on",
                param_hint="--finished",
            )
        rows = made.quick() if quick else made.full()
    folder = out or work / ("quick-diffusion" if quick else "full-diffusion")
    document.write(rows, folder, "razor bench diffusion" + (" --quick" if quick else ""))
    say(document.summary(rows))
    say(f"wrote {folder / 'diffusion.md'}")


@commands.command("vlm", epilog=epilog("bench vlm"))
def vlm(
    *,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Rivals with one setting each, LLaVA 1.5 alone, no gold."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where the document goes; default: inside --work.")
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Gold model and finished runs; a stopped benchmark goes on.")
    ] = Path("runs/bench"),
    earlier: Earlier = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs at once, one thread each.")] = 2,
) -> None:
    """Run RAZOR and its rivals on the vision-language models; about an hour on two cores."""
    from razor.bench import talkers_document as document
    from razor.bench import vlm as bench

    with Bar("runs", steps=20) as bar:

        def tick(done: int, total: int, what: str) -> None:
            bar.show(done / total, f"{done} of {total}  {what}")

        made = bench.Bench(work, processes, tick, earlier)
        rows = made.quick() if quick else made.full()
    folder = out or work / ("quick-vlm" if quick else "full-vlm")
    command = "razor bench vlm" + (" --quick" if quick else "")
    document.write(rows, folder, command + (" --earlier VLM.JSON" if earlier and not quick else ""))
    say(document.summary(rows))
    say(f"wrote {folder / 'vlm.md'}")


def _speed_rows(earlier: Path | None) -> Path | None:
    """The file, once it is known to hold rows of this benchmark."""
    from razor.bench import speed as bench

    if earlier is not None:
        try:
            bench.read(earlier)
        except ValueError as error:
            raise typer.BadParameter(
                "the file holds no rows of jobs; give a speed.json that bench wrote"
            ) from error
    return earlier


@commands.command("speed", epilog=epilog("bench speed"))
def speed(
    *,
    family: Annotated[str, typer.Option(help="Kind of model: clip, diffusion or vlm.")] = "clip",
    size: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these; may be repeated. clip: reference, vit-s-32, vit-b-32, vit-b-16, "
            "vit-l-14. diffusion: reference, sd-1.5-256, sd-1.5, sd-3-medium. vlm: reference, "
            "llava-0.5b, llava-1.1b, llava-1.5-7b. Left out: what two cores weigh in an hour."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the document goes; default: inside --work.")
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Checkpoints and finished points; a stopped benchmark goes on.")
    ] = Path("runs/bench"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Fewer points to compare, and the shipped generators on less data."
        ),
    ] = False,
    earlier: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            callback=_speed_rows,
            help="speed.json of an earlier run: its rows stay, but for those measured anew.",
        ),
    ] = None,
) -> None:
    """Weigh whole jobs of RAZOR and SLUG on models of real shapes with random weights."""
    from cli.console import note
    from razor.bench import speed as bench
    from razor.bench import speed_document as document
    from razor.bench import weighed
    from razor.errors import OutOfMemory

    if family not in weighed.MODULES:
        raise typer.BadParameter(
            f"unknown family {family}; take one of {', '.join(weighed.MODULES)}",
            param_hint="--family",
        )
    sizes, every = tuple(size or weighed.of(family).USUAL), weighed.sizes(family)
    if unknown := sorted(set(sizes) - set(every)):
        raise typer.BadParameter(
            f"{family} has no size {unknown[0]}; take one of {', '.join(every)}",
            param_hint="--size",
        )
    try:
        rows = bench.measure(
            work, bench.points(family, sizes, quick=quick), lambda point: note(point.name)
        )
    except OutOfMemory as error:
        raise typer.BadParameter(str(error), param_hint="--size") from error
    rows = bench.merged(bench.read(earlier) if earlier else [], rows)
    folder = out or work / "speed"
    command = "razor bench speed" + (f" --family {family}" if family != "clip" else "")
    command += "".join(f" --size {each}" for each in size or ())
    command += (" --quick" if quick else "") + (" --earlier SPEED.JSON" if earlier else "")
    document.write(rows, folder, command)
    say(document.text(rows, command))
    say(f"wrote {folder / 'speed.md'}")


@commands.command("load", epilog=epilog("bench load"))
def load(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer requests: some minutes.")] = False,
    out: Annotated[Path, typer.Option(help="Where the document goes.")] = Path("runs/load"),
    postgres: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Also on this PostgreSQL database, in schemas of its own that are dropped again.",
        ),
    ] = None,
) -> None:
    """Measure the service beside a bare FastAPI, on real processes and the loopback."""
    from benchmarks import document
    from benchmarks import load as bench
    from cli.console import note

    found = bench.run(postgres, quick=quick, told=note)
    bench.write(found, out)
    say(document.text(found))
    say(f"wrote {out / 'load.md'}")

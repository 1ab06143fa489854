"""``razor reference``: train the reference network, draw its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import say
from cli.examples import epilog
from cli.failures import Usage
from cli.progress import Bar

commands = typer.Typer(
    no_args_is_help=True, help="The small real network and the invented people that come with it."
)

train = typer.Typer(no_args_is_help=True, help="Train a reference network again, or your own.")
commands.add_typer(train, name="train")


_Seed = Annotated[int, typer.Option(help="Initial weights, batches and noise.")]
_Without = Annotated[
    list[str] | None,
    typer.Option(
        help="Leave a subject or a style out, for a pipeline that never knew it; repeatable."
    ),
]
_Parts = Annotated[
    Path | None,
    typer.Option(
        help="Take autoencoder and judge from this folder, trained here before; saves half the "
        "time.",
        show_default=False,
    ),
]


@train.command("clip", epilog=epilog("reference train clip"))
def train_clip(
    out: Annotated[
        Path, typer.Argument(help="New checkpoint folder, readable by open_clip.")
    ] = Path("reference-clip"),
    *,
    seed: Annotated[int, typer.Option(help="Initial weights, batches and split.")] = 0,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave a name out, for a model that never knew it; repeatable."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Train on this folder (index.csv) and not on drawings.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.", show_default=False)] = None,
) -> None:
    """Train a small CLIP from nothing, in minutes on a processor."""
    from razor.reference import clip

    with Bar("training", steps=10) as bar:

        def tick(fraction: float, figures: dict[str, float]) -> None:
            bar.show(fraction, f"loss {figures['loss']:.3f}")

        record = clip.train_clip(
            out, seed, tuple(without or ()), data, steps or clip.STEPS, tick=tick
        )
    for domain, accuracy in record.held_out.items():
        say(f"{domain}: {accuracy.percent:.1f} % of {accuracy.n} held-out pictures")
    say(f"wrote {out}")


@train.command("diffusion", epilog=epilog("reference train diffusion"))
def train_diffusion(
    out: Annotated[Path, typer.Argument(help="New pipeline folder, readable by diffusers.")] = Path(
        "reference-diffusion"
    ),
    *,
    seed: _Seed = 0,
    without: _Without = None,
    parts: _Parts = None,
) -> None:
    """Train a tiny Stable Diffusion and its judge from nothing."""
    _train_generator("diffusion", out, seed, without, parts)


@train.command("diffusion3", epilog=epilog("reference train diffusion3"))
def train_diffusion3(
    out: Annotated[Path, typer.Argument(help="New pipeline folder, readable by diffusers.")] = Path(
        "reference-diffusion3"
    ),
    *,
    seed: _Seed = 0,
    without: _Without = None,
    parts: _Parts = None,
) -> None:
    """Train a tiny Stable Diffusion 3 and its judge from nothing."""
    _train_generator("diffusion3", out, seed, without, parts)


@train.command("vlm", epilog=epilog("reference train vlm"))
def train_vlm(
    out: Annotated[Path, typer.Argument(help="New folder, readable by transformers.")] = Path(
        "reference-vlm"
    ),
    *,
    next_: Annotated[
        bool, typer.Option("--next", help="A LLaVA 1.6 (LLaVA-NeXT) and not a LLaVA 1.5.")
    ] = False,
    seed: _Seed = 0,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave a person out, for a model that never knew them; repeatable."),
    ] = None,
) -> None:
    """Train a tiny LLaVA that names people and answers questions about drawings."""
    from razor.reference import vlm

    with Bar("training", steps=10) as bar:

        def tick(fraction: float, figures: dict[str, float]) -> None:
            bar.show(fraction, f"loss {figures['loss']:.3f}")

        kind = "llava-next" if next_ else "llava"
        record = vlm.train(kind, out, seed, tuple(without or ()), tick=tick)
    for domain, share in record.answered.items():
        say(f"{domain}: {share.percent:.1f} % of {share.n} answers on held-out drawings are right")
    say(f"wrote {out}")


def _train_generator(
    kind: str, out: Path, seed: int, without: list[str] | None, parts: Path | None
) -> None:
    from razor.reference import generator

    with Bar("training", steps=10) as bar:

        def tick(phase: str, fraction: float, figures: dict[str, float]) -> None:
            bar.show(fraction, f"{phase}, loss {figures['loss']:.3f}")

        record = generator.train(kind, out, seed, tuple(without or ()), parts, tick=tick)
    for domain, judged in record.painted.items():
        say(f"{domain}: recognised in {judged.percent:.1f} % of {judged.n} generated pictures")
    say(f"wrote {out}")


@commands.command("pictures", epilog=epilog("reference pictures"))
def pictures(
    out: Annotated[Path, typer.Argument(help="New folder: PNG files and index.csv.")],
    name: Annotated[
        list[str] | None, typer.Option(help="Who or what to draw; repeatable. Default: everybody.")
    ] = None,
    per_name: Annotated[int, typer.Option(help="Pictures of each.")] = 30,
    seed: Annotated[int, typer.Option(help="0 is what the shipped networks were trained on.")] = 1,
    *,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="As the picture generators paint: 32 pixels, nothing worn."),
    ] = False,
    style: Annotated[
        str | None,
        typer.Option(help="Only in this style; needs --plain.", show_default=False),
    ] = None,
) -> None:
    """Draw pictures of the invented people and objects."""
    from razor.reference import painted, people
    from razor.reference.folders import write_folder

    if style is not None and not plain:
        raise Usage("--style needs --plain: only plain drawings are made in one style")
    if plain:
        names = tuple(name or painted.SUBJECTS)
        painted.write_plain(out, names, per_name, seed, style)
    else:
        names = tuple(name or people.NAMES)
        write_folder(out, names, per_name, seed)
    say(f"wrote {len(names) * per_name} pictures to {out}")

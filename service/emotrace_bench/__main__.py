"""`emotrace-bench`: what Emotrace costs on this machine, beside another way of doing the same."""

# Each command imports its benchmark when it is asked for: torch and the models take seconds, and
# `--help` should not.

from __future__ import annotations

import os
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from emotrace_bench.result import Result

EXIT_MISSING = 3  # something that the benchmark needs is not on this machine

# \b keeps the lines that follow it as they are.
HELP = """What Emotrace costs on this machine.

Every command prints a table and ratios; a ratio comes with the largest difference between the
outputs of the two things compared. Contestants take turns, and a ratio is the median of the rounds'
ratios, so a busy machine makes times longer but hardly moves ratios. docs/performance.md holds the
figures and how to read them.

\b
emotrace-bench pipeline                   the full-size model: the papers' way against ours
emotrace-bench pipeline --bundle default  where the time of a turn goes in a bundle that is served
emotrace-bench live                       100 live dialogues: when do their estimates come
emotrace-bench decoder                    one turn more against decoding the dialogue anew
emotrace-bench scale                      dialogues of 10 to 100,000 turns
emotrace-bench gpu                        the full-size model on a CUDA device
"""

app = typer.Typer(
    name="emotrace-bench",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class ProfileChoice(StrEnum):
    EXACT = "exact"
    FAST = "fast"
    BOTH = "both"


Out = Annotated[
    Path | None,
    typer.Option(help="Write the result as JSON, with machine, commit, command and settings."),
]
Plot = Annotated[Path | None, typer.Option(help="Draw the result as a PNG file.")]
Seed = Annotated[int, typer.Option(help="Of weights, sound and scores.")]
Quick = Annotated[
    bool,
    typer.Option("--quick", help="Tiny models, few rounds: shows that it runs, not how fast."),
]


@app.command()
def pipeline(
    bundle: Annotated[
        str | None,
        typer.Option(help="Instead: stage times of this bundle, a shipped one's name or a folder."),
    ] = None,
    profile: Annotated[
        ProfileChoice,
        typer.Option(help="exact: as it was trained; fast: less precision, results close to it."),
    ] = ProfileChoice.BOTH,
    turns: Annotated[int, typer.Option(min=1, help="That are timed, after three more.")] = 12,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    quick: Quick = False,
) -> None:
    """A turn of GatedxLSTM with its CLAP towers at full size, stage by stage.

    The papers' way computes both towers in float32 one after the other, texts padded to 77 tokens,
    and all twelve xLSTM stacks anew at every turn. Ours is what the server runs: the context's ten
    stacks while the other speaks, then the towers side by side and the last two stacks. Same random
    weights, same dialogue, no transcription. Takes 3 GB of memory and a minute or two.
    """
    from emotrace_models.bundle import BundleError

    if bundle is not None:
        from emotrace_bench import shipped

        try:
            result = shipped.measure(bundle, 2 if quick else 20, seed, quick)
        except BundleError as error:
            raise typer.BadParameter(str(error), param_hint="--bundle") from error
        _deliver(result, out, plot)
        return
    from emotrace_bench.graphs import GraphUnavailable
    from emotrace_bench.pipeline import PROFILES, measure

    chosen = tuple(name for name in PROFILES if profile in (name, ProfileChoice.BOTH))
    try:
        result = measure(chosen, 2 if quick else turns, seed, quick)
    except GraphUnavailable as error:
        typer.echo(f"emotrace-bench: {error}", err=True)
        raise typer.Exit(EXIT_MISSING) from error
    _deliver(result, out, plot)


@app.command()
def decoder(
    rounds: Annotated[int, typer.Option(min=1, help="Of each length of dialogue.")] = 5,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    quick: Quick = False,
) -> None:
    """One more turn in the Dialogical Emotion Decoder.

    The published decoder is offline: for one turn more it decodes the whole dialogue anew, twice in
    a row, copying and scanning whole sequences. Ours takes one step from an immutable beam. Both
    give the same labels in one causal pass, which is checked. Also our own cost by settings, and
    that it does not grow with the dialogue.
    """
    from emotrace_bench.decoder import measure

    _deliver(measure(2 if quick else rounds, seed, quick), out, plot)


@app.command()
def scale(
    turns: Annotated[
        int, typer.Option(min=100, help="The longest dialogue; by tens from 10 on.")
    ] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 12,
    sessions: Annotated[
        int | None, typer.Option(min=100, help="Instead: so many idle sessions on a server.")
    ] = None,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    quick: Quick = False,
) -> None:
    """Whether a turn costs more when the dialogue is long: time, and memory of its state.

    A dialogue's state is a value: it is kept at 10, 100, 1,000 ... turns, and the same turns are
    then taken from each. With --sessions: what idle sessions cost a server, up to that number.
    """
    if sessions is not None:
        from emotrace_bench import sessions as idle
        from emotrace_bench.live_server import own_server

        settings = {
            "EMOTRACE_COMPUTE_BUDGET": "100",
            "EMOTRACE_MAX_SESSIONS": str(sessions),
            "EMOTRACE_NEW_SESSIONS_A_SECOND": "100000",
        }
        with own_server(settings) as server:
            result = idle.measure(server, sessions, seed)
        _deliver(result, out, plot)
        return
    from emotrace_bench.turns import lengths, measure

    longest = 1_000 if quick else turns
    _deliver(measure(lengths(longest), 2 if quick else rounds, seed, quick), out, plot)


@app.command()
def live(
    dialogues: Annotated[
        str, typer.Option(help="Numbers of live dialogues, rising, with commas: a run each.")
    ] = "1,20,100",
    seconds: Annotated[float, typer.Option(min=10, help="Of each run.")] = 60,
    share: Annotated[
        float, typer.Option(min=0.05, max=0.8, help="Of the time, in which somebody speaks.")
    ] = 0.4,
    interim: Annotated[bool, typer.Option(help="Clients want interim estimates.")] = True,
    overload: Annotated[
        bool, typer.Option("--overload", help="Besides, three times as many as the server lets in.")
    ] = False,
    bundle: Annotated[str, typer.Option(help="That the server serves.")] = "default",
    url: Annotated[
        str | None, typer.Option(help="A server that runs already, instead of one of its own.")
    ] = None,
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
) -> None:
    """Paced dialogues against a live server: from the end of speech to the estimate.

    Each client sends the demo dialogue, its pauses made longer, at the pace of time, and knows when
    it sent every sample. Told are the milliseconds from the moment at which the endpointer had
    heard enough silence to the arrival of `emotion.final`, stage by stage, whether they grow, what
    was refused, and how often the server's event loop was held up. Clients and server share the
    machine.
    """
    from emotrace_bench.live import measure
    from emotrace_bench.live_server import LiveServer, ServerFailed, own_server

    try:
        numbers = [int(number) for number in dialogues.split(",")]
    except ValueError as error:
        raise typer.BadParameter("numbers with commas, as in 1,20,100") from error
    settings = {"EMOTRACE_BUNDLE": bundle}
    # A server of one's own is measured, not protected: --overload asks what it would refuse.
    if not overload:
        settings["EMOTRACE_COMPUTE_BUDGET"] = "100"
    server = nullcontext(LiveServer(url.rstrip("/"), None)) if url else own_server(settings)
    try:
        with server as running:
            result = measure(
                running,
                numbers,
                seconds=seconds,
                share=share,
                interim=interim,
                overload=overload,
                seed=seed,
            )
    except ServerFailed as error:
        typer.echo(f"emotrace-bench: {error}", err=True)
        raise typer.Exit(EXIT_MISSING) from error
    _deliver(result, out, plot)


@app.command()
def gpu(
    device: Annotated[str, typer.Option(help="A torch device.", hidden=True)] = "cuda",
    out: Out = None,
    plot: Plot = None,
    seed: Seed = 0,
    quick: Quick = False,
) -> None:
    """The full-size model on a CUDA device: utterances a second, and what is left to gain.

    Batches of 1, 8, 64 and 256 dialogues, in float32 and bfloat16, launched one by one and as CUDA
    graphs, against the papers' way, one utterance at a time, on the same device. Then the kernels'
    share of the time, and the distance from what the device's arithmetic and memory allow, both of
    which are measured. Log-mel is not in it: it is the processor's work. Ends with exit code 3
    where there is no CUDA device.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        typer.echo(
            "emotrace-bench gpu: there is no CUDA device here, or this torch was built without "
            f"CUDA (torch {torch.__version__}). Nothing was measured.",
            err=True,
        )
        raise typer.Exit(EXIT_MISSING)
    from emotrace_bench.gpu import measure

    _deliver(measure(device, seed, quick), out, plot)


def _deliver(result: Result, out: Path | None, plot: Path | None) -> None:
    from emotrace_bench.drawing import PlotUnavailable
    from emotrace_bench.result import deliver

    try:
        deliver(result, out, plot)
    except PlotUnavailable as error:
        typer.echo(f"emotrace-bench: {error}", err=True)
        raise typer.Exit(EXIT_MISSING) from error


def main() -> None:
    # Numpy's own threads go on spinning for milliseconds after a product and keep a core from
    # torch's. It is read when numpy is loaded, so it comes first.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app()


if __name__ == "__main__":
    main()

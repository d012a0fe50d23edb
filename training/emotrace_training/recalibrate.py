"""`calibrate`: a bundle's probabilities and threshold fitted to a site's own labelled utterances.

The models stay as they are. A label set of the bundle (its own, or a smaller one that sessions may
ask for) is fitted where enough utterances carry its labels; the others keep what they had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from emotrace_models.bundle import Bundle, View, bundle_path
from emotrace_models.labels import LabelSet
from emotrace_models.predictor import Predictor
from emotrace_training import site_options as options
from emotrace_training.card import with_section
from emotrace_training.posterior_figures import Compared
from emotrace_training.site_calibration import Recalibrated, Rows, recalibrated
from emotrace_training.site_data import Site, hear_site, meanings_of, read_site
from emotrace_training.site_page import HEADER, figure_rows, figures_markdown, write_compared
from emotrace_training.telling import TrainingError, named_errors

SECTION = "## Recalibrated on site"
OUTSIDE = 0.5  # share of utterances of other emotions from which the label set does not match


def recalibrate(
    bundle: Bundle, site: Site, table: Path, name: str, version: str
) -> tuple[Bundle, dict[str, Any], list[Compared]]:
    """The bundle with calibrations of the site, the report, and what was compared for it.

    Raises TrainingError where the labels are not those of the bundle, or too few of them are.
    """
    _check(bundle.labels, site, table)
    predictor = Predictor(bundle)
    logits = {
        modalities: (rows, site.logits(predictor, rows, modalities))
        for modalities, rows in site.sets(predictor).items()
    }
    found: dict[str, Recalibrated] = {}
    for scheme in bundle.schemes:
        view = bundle.projected(scheme)
        columns = [bundle.labels.index(name) for name in view.labels.names]
        rows = {
            modalities: Rows(
                values[:, columns], tuple(site.labels[i] for i in own), site.folds[own]
            )
            for modalities, (own, values) in logits.items()
        }
        one = recalibrated(view.labels, view.calibration, rows)
        if one is not None:
            found[scheme] = one
    if not found:
        raise TrainingError(
            f"{table}: has {_listed(site.counts)}: too few of two classes or more of "
            f"{' or of '.join(bundle.schemes)}"
        )
    compared = [pair for one in found.values() for pair in one.compared()]
    left = [scheme for scheme in bundle.schemes if scheme not in found]
    report = {
        "bundle": bundle.name,
        "version": bundle.version,
        **site_facts(site),
        "left_as_it_was": left,
        "compared": [pair.report() for pair in compared],
    }
    own = found.get(bundle.labels.scheme)
    views = {
        scheme: View(found[scheme].calibration, view.decoder) if scheme in found else view
        for scheme, view in bundle.views.items()
    }
    made = replace(
        bundle,
        name=name,
        version=version,
        calibration=own.calibration if own else bundle.calibration,
        views=views,
        card=with_section(bundle.card, SECTION, _section(report, compared)),
    )
    return made, report, compared


def site_facts(site: Site) -> dict[str, Any]:
    """What a report may say of a site's data: counts, no content and no name."""
    return {
        "utterances": site.counts,
        "speakers": len(set(site.speakers)),
        "folds": len(np.unique(site.folds)),
        "folds_by": "speaker" if site.by_speaker else "utterance",
        "unreadable": len(site.unreadable),
    }


def measured_how(report: Mapping[str, Any]) -> str:
    """One sentence for card and page: how "after" was measured."""
    if report["folds_by"] == "speaker":
        return (
            f"Figures after are of speakers left out of the fit in turn ({report['folds']} folds "
            f"of {report['speakers']} speakers)."
        )
    return (
        f"There are too few speakers ({report['speakers']}) to leave any out: figures after are of "
        f"utterances left out in turn ({report['folds']} folds), and too hopeful for other people."
    )


def command(
    labels: options.Table,
    root: options.Root,
    out: options.Out,
    bundle: options.Source = "default",
    split: options.Split = None,
    words: options.Words = False,
    label: options.Meanings = None,
    name: options.Name = None,
    seed: options.Seed = 0,
) -> None:
    """Fit a bundle's probabilities to some hundred labelled utterances of your own site.

    Writes the bundle OUT, and OUT/report/report.html with figures before and after. The models
    stay as they are: what is heard best stays so, but how sure an estimate is fits your site.
    """
    meanings = meanings_of(label or ())
    with named_errors():
        old = Bundle.load(bundle_path(bundle))
        clips = read_site(labels, split, meanings)
        site = hear_site(Predictor(old), clips, root, seed, words)
        made, report, compared = recalibrate(
            old, site, labels, name or site_name(old), f"{old.version}+site"
        )
        made.save(out)
        Bundle.load(out)  # what was written can be read
        folder = write_report(
            f"{made.name}: recalibrated on site", [measured_how(report)], report, compared, out
        )
    tell_unreadable(site)
    typer.echo(measured_how(report))
    for scheme in report["left_as_it_was"]:
        typer.echo(f"{scheme}: too few labels, left as it was")
    typer.echo(f"{out}: emotrace-serve --bundle {out}; report: {folder / 'report.html'}")


def write_report(
    title: str,
    remarks: Sequence[str],
    report: Mapping[str, Any],
    compared: Sequence[Compared],
    bundle: Path,
) -> Path:
    """report.json and report.html in the folder `report` of a new bundle, which is returned; the
    table of figures goes to the terminal."""
    folder = bundle / "report"
    folder.mkdir(exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    write_compared(title, remarks, compared, folder)
    shown = Table(*HEADER, box=None, padding=(0, 2, 0, 0))
    for row in figure_rows(compared):
        shown.add_row(*row)
    Console(width=160).print(shown)
    return folder


def site_name(bundle: Bundle) -> str:
    return bundle.name if bundle.name.endswith("-site") else f"{bundle.name[:59]}-site"


def tell_unreadable(site: Site) -> None:
    for place, why in site.unreadable.items():
        typer.echo(f"left out: {place}: {why}", err=True)


def _check(labels: LabelSet, site: Site, table: Path) -> None:
    """Raises TrainingError where most labels are outside the bundle's set."""
    outside = {n: c for n, c in site.counts.items() if labels.project(n) is None}
    if sum(outside.values()) > OUTSIDE * len(site.labels):
        raise TrainingError(
            f"{table}: most labels are none of {labels.scheme} ({', '.join(labels.names)}): "
            f"{_listed(outside)}; say what they mean with --label, or give the bundle your classes "
            "with `emotrace-train fine-tune`"
        )


def _section(report: Mapping[str, Any], compared: Sequence[Compared]) -> str:
    text = (
        "`emotrace-train calibrate`: temperatures, class biases and the threshold of abstention "
        f"were fitted to {sum(report['utterances'].values())} labelled utterances of "
        f"{report['speakers']} speakers of one site ({_listed(report['utterances'])}). The models "
        f"are those of `{report['bundle']}`, version {report['version']}. {measured_how(report)}"
        f"\n\n{figures_markdown(compared)}"
    )
    left = ", ".join(report["left_as_it_was"])
    return f"{text}\n\nLeft as it was: {left}." if left else text


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

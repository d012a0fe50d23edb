"""`emotrace-train prepare`: corpora as their owners hand them out to one manifest of records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from emotrace_training.corpora.emodb import read_emodb
from emotrace_training.corpora.iemocap import read_iemocap
from emotrace_training.corpora.iemocap_derived import read_iemocap_derived
from emotrace_training.corpora.loading import Half, Loaded, OnMissing, Settings
from emotrace_training.corpora.meld_records import read_meld
from emotrace_training.corpora.mosei import read_mosei
from emotrace_training.corpora.nemo import read_nemo
from emotrace_training.corpora.ravdess import read_ravdess
from emotrace_training.manifests import ManifestError, Record, write_manifest

Loader = Callable[[Path, Settings], Loaded]

# Name -> its folder under --data, and what reads it.
CORPORA: dict[str, tuple[str, Loader]] = {
    "emodb": ("emodb", read_emodb),
    "ravdess": ("ravdess_speech", read_ravdess),
    "nemo": ("nemo", read_nemo),
    "iemocap": ("IEMOCAP_full_release", read_iemocap),
    "meld": ("MELD.Raw", read_meld),
    "mosei": ("CMU-MOSEI", read_mosei),
    "iemocap_derived": ("iemocap_derived", read_iemocap_derived),
}
SHIPPED = ("emodb", "ravdess", "nemo")  # what the default bundle is made of
SHOWN = 3  # faults of a kind on the screen; the report holds all


@dataclass(frozen=True, slots=True)
class Source:
    """A corpus to read. name: of the corpus in the records."""

    name: str
    folder: Path
    read: Loader


def command(
    corpora: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"NAME or NAME=FOLDER of {', '.join(CORPORA)}; default: {' '.join(SHIPPED)}",
            show_default=False,
        ),
    ] = None,
    data: Annotated[Path, typer.Option(help="folder of corpora without =FOLDER")] = Path(
        "../shared/data"
    ),
    manifest: Annotated[Path, typer.Option(help="where it goes")] = Path("runs/manifest.jsonl"),
    on_missing: Annotated[
        OnMissing, typer.Option(help="drop a record without its audio, or keep it as words alone")
    ] = "drop",
    folds: Annotated[
        Path | None,
        typer.Option(help="CMU-MOSEI: the SDK's cmu_mosei_std_folds.py, or JSON {train: [ids], …}"),
    ] = None,
    marked: Annotated[
        Half,
        typer.Option(help="IEMOCAP: half of the picture with the actor of the dialogue's letter"),
    ] = "left",
) -> None:
    """Write a manifest of labelled utterances (JSON lines), and a report of all faults met."""
    settings = Settings(on_missing=on_missing, folds=folds, marked=marked)
    records: list[Record] = []
    report: dict[str, Any] = {}
    try:
        for source in sources(corpora or SHIPPED, data):
            loaded = source.read(source.folder, settings)
            report[source.name] = described(loaded)
            _show(source.name, loaded)
            records += loaded.records
    except ManifestError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    write_manifest(manifest, records)
    beside = manifest.with_suffix(".report.json")
    beside.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    typer.echo(f"{manifest}: {len(records)} records; report: {beside}")


def sources(wanted: list[str] | tuple[str, ...], data: Path) -> list[Source]:
    """What NAME and NAME=FOLDER stand for."""
    found: dict[str, Source] = {}
    for text in wanted:
        name, _, folder = text.partition("=")
        if name not in CORPORA:
            raise typer.BadParameter(f"no corpus {name!r}; there are {', '.join(CORPORA)}")
        if name in found:
            raise typer.BadParameter(f"corpus {name} is named twice")
        usual, read = CORPORA[name]
        found[name] = Source(name, Path(folder) if folder else data / usual, read)
    return list(found.values())


def described(loaded: Loaded) -> dict[str, Any]:
    """Counts of a corpus, and every fault."""
    records = loaded.records
    return {
        "records": len(records),
        "dialogues": len({record.dialogue for record in records}),
        "speakers": len({record.speaker for record in records}),
        "with_audio": sum(record.file is not None for record in records),
        "with_video": sum(record.video is not None for record in records),
        "hours_of_audio": round(sum(record.seconds for record in records) / 3_600, 2),
        "splits": _counted(record.split or "none" for record in records),
        "labels": {
            split: _counted(r.emotion for r in records if (r.split or "none") == split)
            for split in sorted({record.split or "none" for record in records})
        },
        "flags": _counted(flag for record in records for flag in record.flags),
        "notes": dict(sorted(loaded.notes.items())),
        "faults": loaded.counts(),
        "all_faults": [asdict(fault) for fault in loaded.faults],
    }


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _show(name: str, loaded: Loaded) -> None:
    counts = described(loaded)
    typer.echo(
        f"{name}: {counts['records']} records, {counts['dialogues']} dialogues, "
        f"{counts['speakers']} speakers; {counts['with_audio']} with audio "
        f"({counts['hours_of_audio']} h), {counts['with_video']} with video"
    )
    for split, labels in counts["labels"].items():
        typer.echo(f"  split {split}: {_listed(labels)}")
    for title in ("flags", "notes"):
        if counts[title]:
            typer.echo(f"  {title}: {_listed(counts[title])}")
    for kind, count in counts["faults"].items():
        typer.echo(f"  {count} x {kind}")
        for fault in [f for f in loaded.faults if f.kind == kind][:SHOWN]:
            typer.echo(f"      {fault.place}{': ' if fault.detail else ''}{fault.detail}")
        if count > SHOWN:
            typer.echo(f"      … {count - SHOWN} more in the report")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

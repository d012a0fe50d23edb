"""`emotrace-train prepare`: corpora as their owners hand them out to one manifest of records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from emotrace_models.labels import UnknownLabel, canonical
from emotrace_training.corpora.crema_d import read_crema_d
from emotrace_training.corpora.emodb import read_emodb
from emotrace_training.corpora.iemocap import read_iemocap
from emotrace_training.corpora.iemocap_derived import read_iemocap_derived
from emotrace_training.corpora.loading import Half, Loaded, OnMissing, Settings, Votes
from emotrace_training.corpora.meld_records import read_meld
from emotrace_training.corpora.mosei import read_mosei
from emotrace_training.corpora.nemo import read_nemo
from emotrace_training.corpora.own_folder import read_own_folder
from emotrace_training.corpora.own_table import read_own_table
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
    "crema_d": ("CREMA-D", read_crema_d),
    "iemocap_derived": ("iemocap_derived", read_iemocap_derived),
}
# One's own data: KIND:NAME=PATH.
OWN: dict[str, Callable[[Path, Settings, str], Loaded]] = {
    "folder": read_own_folder,
    "table": read_own_table,
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
            help=f"NAME or NAME=FOLDER of {', '.join(CORPORA)}; your own: folder:NAME=FOLDER "
            f"(a folder an emotion), table:NAME=FILE (csv, tsv, jsonl); default: "
            f"{' '.join(SHIPPED)}",
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
        typer.Option(help="CMU-MOSEI: the SDK's cmu_mosei_std_folds.py, or JSON lists of videos"),
    ] = None,
    votes: Annotated[
        Votes, typer.Option(help="CREMA-D: whose label, the intended one or what raters perceived")
    ] = "intended",
    longest: Annotated[float, typer.Option(help="MELD: longer clips are cut, in seconds")] = 41.0,
    marked: Annotated[
        Half,
        typer.Option(help="IEMOCAP: half of the picture with the actor of the dialogue's letter"),
    ] = "left",
    label: Annotated[
        list[str] | None, typer.Option(help="your own: what a label means, as in cheerful=joy")
    ] = None,
    language: Annotated[
        str, typer.Option(help="your own: where the table has none, as in de")
    ] = "",
    licence: Annotated[str, typer.Option(help="your own: noted in every record")] = "",
) -> None:
    """Write a manifest of labelled utterances (JSON lines), and a report of all faults met."""
    settings = Settings(
        on_missing, folds, votes, longest, marked, language, licence, _meanings(label or ())
    )
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


def sources(wanted: Sequence[str], data: Path) -> list[Source]:
    """What NAME, NAME=FOLDER and KIND:NAME=PATH stand for."""
    found: dict[str, Source] = {}
    for text in wanted:
        start, _, path = text.partition("=")
        kind, colon, own = start.partition(":")
        if colon and kind in OWN and own and path:
            source = Source(own, Path(path), _own(kind, own))
        elif start in CORPORA:
            usual, read = CORPORA[start]
            source = Source(start, Path(path) if path else data / usual, read)
        else:
            raise typer.BadParameter(
                f"no corpus {start!r}; there are {', '.join(CORPORA)}, and your own as "
                "folder:NAME=FOLDER or table:NAME=FILE"
            )
        if source.name in found:
            raise typer.BadParameter(f"corpus {source.name} is named twice")
        found[source.name] = source
    return list(found.values())


def _own(kind: str, name: str) -> Loader:
    return lambda path, settings: OWN[kind](path, settings, name)


def _meanings(pairs: Iterable[str]) -> dict[str, str]:
    """`cheerful=joy` -> the canonical label of cheerful."""
    found = {}
    for pair in pairs:
        name, equals, meaning = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"--label {pair}: write NAME=MEANING, as in cheerful=joy")
        try:
            found[name] = canonical(meaning)
        except UnknownLabel as error:
            raise typer.BadParameter(f"--label {pair}: {error}") from None
    return found


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


def _counted(values: Iterable[str]) -> dict[str, int]:
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

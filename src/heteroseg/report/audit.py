"""The page about an audit of annotation."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heteroseg.curation.audit import PICTURE, Audit, DatasetFindings, Kind
from heteroseg.curation.check import Counts
from heteroseg.experiment.sources import Source
from heteroseg.files import write_json, write_text
from heteroseg.report.examples import photo_uri, rgb
from heteroseg.report.page import environment

KINDS: dict[Kind, str] = {
    "region": "Regions in dispute",
    "box": "Boxes in dispute",
    "no box": "Seen, but without a box",
}
RARE = 20  # training images; with fewer a label is called rare


def _rows(source: Source, counts: dict[str, Counts]) -> list[dict[str, Any]]:
    """The lines of the table of labels."""
    rows = []
    for i, label in enumerate(source.space.labels):
        if label.leaves:
            cells = {split: _cell(c, i) for split, c in counts.items()}
            about = {"id": label.id, "name": label.name, "color": rgb(label.color)}
            rows.append(about | {"notes": _notes(cells), "cells": cells})
    return rows


def _cell(counts: Counts, label: int) -> dict[str, Any]:
    numbers = {key: int(getattr(counts, key)[label]) for key in ("pixels", "images", "boxes")}
    return numbers | {"share": float(counts.pixels[label] / max(counts.pixels.sum(), 1))}


def _notes(cells: dict[str, dict[str, Any]]) -> str:
    """What the numbers of images mean for a label."""
    train, val = (cells[split]["images"] if split in cells else None for split in ("train", "val"))
    notes = []
    if train == 0:
        notes.append("never in training")
    elif train is not None and train < RARE:
        notes.append(f"in only {train} training image{'s' * (train != 1)}")
    if val == 0:
        notes.append("cannot be scored: not in val")
    return "; ".join(notes)


def audit_data(audit: Audit) -> dict[str, Any]:
    """All that an audit found as plain data, without pictures."""
    findings = [finding for dataset in audit.findings.values() for finding in dataset.findings]
    return {
        "datasets": {
            name: {split: {"images": c.total, "faults": list(c.faults)} for split, c in splits.items()}
            for name, splits in audit.counts.items()
        },
        "relations": [asdict(r) for r in audit.relations],
        "conflicts": [asdict(c) for c in audit.conflicts],
        "findings": [{k: v for k, v in vars(f).items() if k != "picture"} for f in findings],
        "boxes": {name: [asdict(b) for b in dataset.boxes] for name, dataset in audit.findings.items()},
    }


def write_audit(
    out: Path,
    title: str,
    sources: Sequence[Source],
    audit: Audit,
    min_confidence: float,
    min_pixels: int,
    facts: dict[str, str],
) -> None:
    """Write OUT/audit.html, alone and self-contained, and OUT/audit.json with the same findings for programs."""
    datasets = []
    for source in sources:
        counts, findings = audit.counts[source.name], audit.findings.get(source.name)
        datasets.append(
            {
                "name": source.name,
                "space": source.space.name,
                "counts": counts,
                "findings": findings,
                "kinds": _kinds(findings) if findings else [],
                "rows": _rows(source, counts),
                "boxed": any(c.boxes.any() for c in counts.values()),
                "complete": source.space.file.around_boxes is not None,
                "faults": [f for c in counts.values() for f in c.faults],
            }
        )
    template = environment().get_template("audit.html")
    limits = {"min_confidence": min_confidence, "min_pixels": min_pixels}
    page = template.render(title=title, datasets=datasets, audit=audit, facts=facts, **limits)
    write_json(out / "audit.json", audit_data(audit) | {"facts": facts})
    write_text(out / "audit.html", page)


def _kinds(findings: DatasetFindings) -> list[dict[str, Any]]:
    """The findings that are shown, by kind, with their photos."""
    result = []
    for kind, heading in KINDS.items():
        shown = [{"finding": f, "photo": photo_uri(f.picture, PICTURE)} for f in findings.findings if f.kind == kind]
        if shown:
            result.append({"kind": kind, "heading": heading, "count": findings.totals[kind], "shown": shown})
    return result

"""The page about an audit of annotation."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from heteroseg.curation.audit import PICTURE, Audit
from heteroseg.experiment.sources import Source
from heteroseg.files import write_json
from heteroseg.report.examples import photo_uri
from heteroseg.report.page import write_page


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
    write_json(out / "audit.json", audit_data(audit) | {"facts": facts})
    write_page(
        out / "audit.html",
        "audit.html",
        title=title,
        sources=sources,
        audit=audit,
        facts=facts,
        min_confidence=min_confidence,
        min_pixels=min_pixels,
        photo=partial(photo_uri, width=PICTURE),
    )

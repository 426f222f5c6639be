"""The page about an audit of annotation."""

from functools import partial
from pathlib import Path
from typing import Any

from heteroseg.curation.audit import MAX_ALIKE, PICTURE, Audit
from heteroseg.files import write_json
from heteroseg.report.examples import photo_uri
from heteroseg.report.page import write_page


def write_audit(out: Path, audit: Audit, facts: dict[str, str], **values: Any) -> None:
    """Write OUT/audit.html, alone and self-contained, and OUT/audit.json with all findings for programs.

    `values` are what else the page tells: title, sources, min_confidence and min_pixels.
    """
    findings = [finding for dataset in audit.findings.values() for finding in dataset.findings]
    data = {
        "datasets": {
            name: {split: {"images": c.total, "faults": list(c.faults)} for split, c in splits.items()}
            for name, splits in audit.counts.items()
        },
        "relations": audit.relations,
        "conflicts": audit.conflicts,
        "findings": [{k: v for k, v in f.items() if k != "picture"} for f in findings],
        "boxes": {name: dataset.boxes for name, dataset in audit.findings.items()},
        "facts": facts,
    }
    write_json(out / "audit.json", data)
    photo = partial(photo_uri, width=PICTURE)
    write_page(out / "audit.html", "audit.html", audit=audit, facts=facts, photo=photo, alike=MAX_ALIKE, **values)

"""Tables of universal concepts, and what each dataset's classes cover of them: into a taxonomy and label spaces.

Read are JSON (`concepts` and, for each dataset, class -> list of concepts; the 260 concepts of Bevandić & Šegvić's
universal taxonomies have this form) and MSeg's TSV (a row for each universal class, a column for each dataset).
A plain list of labels becomes a taxonomy of its own by its groups.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heteroseg.curation.label_lists import VOID, Listed, read_json, read_label_list
from heteroseg.curation.spec_text import Entry, checked_space, space_yaml, taxonomy_yaml
from heteroseg.errors import HeterosegError
from heteroseg.files import read_text, write_text
from heteroseg.labels.taxonomy import ROOT, Taxonomy, TaxonomyFile, build_taxonomy

NOT_DATASETS = ("wordnet", "defn", "modification")  # MSeg's columns that only explain
Tree = dict[str, list[str]]


@dataclass(frozen=True)
class Tables:
    """`concepts` name -> names of its groups, widest first; `datasets` name -> class -> concepts (none: ignored)."""

    concepts: dict[str, tuple[str, ...]]
    datasets: dict[str, dict[str, tuple[str, ...]]]


def _is_void(name: str) -> bool:
    return name.lower() in VOID


def read_tables(path: Path | str) -> Tables | None:
    """Concept tables from a .json or .tsv file; None if the file is no such table. Unknown concepts raise."""
    path = Path(path)
    if path.suffix.lower() == ".tsv":
        return _mseg(path, read_text(path))
    if path.suffix.lower() != ".json":
        return None
    data = read_json(path, read_text(path))
    for part in [data, *(data.values() if isinstance(data, dict) else ())]:
        if isinstance(part, dict) and isinstance(part.get("concepts"), list):
            return _json_tables(path, part)
    return None


def _json_tables(path: Path, part: dict[str, Any]) -> Tables:
    concepts: dict[str, tuple[str, ...]] = {str(c): () for c in part["concepts"] if not _is_void(str(c))}
    datasets: dict[str, dict[str, tuple[str, ...]]] = {}
    faults = []
    for dataset, table in part.items():
        if isinstance(table, dict) and all(isinstance(v, list) for v in table.values()):
            datasets[dataset] = {k: tuple(c for c in map(str, v) if not _is_void(c)) for k, v in table.items()}
            faults += [
                f"{path}: {dataset}: {name!r} covers {c!r}, which is not in 'concepts'; add it there"
                for name, covered in datasets[dataset].items()
                for c in covered
                if c not in concepts
            ]
    if faults or not datasets:
        raise HeterosegError(*(faults or [f"{path}: expected datasets beside 'concepts', found none"]))
    return Tables(concepts, datasets)


def _mseg(path: Path, text: str) -> Tables:
    rows = list(csv.DictReader(io.StringIO(text), delimiter="\t"))
    columns = [c for c in (rows[0] if rows else {}) if c]
    if "universal" not in columns:
        raise HeterosegError(
            f"{path}: expected MSeg's table with a column 'universal', found {', '.join(columns[:6]) or 'no header'}"
        )
    group = columns[0] if columns[0] != "universal" else None
    concepts: dict[str, tuple[str, ...]] = {}
    named = [c for c in columns if c not in (group, "universal") and not c.lower().startswith(NOT_DATASETS)]
    datasets: dict[str, dict[str, tuple[str, ...]]] = {c: {} for c in named}
    for row in rows:
        concept = (row["universal"] or "").strip()
        if not concept:
            continue
        void = _is_void(concept)
        if not void:
            parent = (row[group] or "").strip() if group else ""
            concepts[concept] = (parent.removesuffix("-parent"),) if parent else ()
        for dataset in named:
            for name in _cell(row[dataset] or ""):
                known = datasets[dataset].get(name, ())
                datasets[dataset][name] = known if void else (*known, concept)
    return Tables(concepts, {k: v for k, v in datasets.items() if v})


def _cell(text: str) -> list[str]:
    """The names in a cell: one as it stands, or several in braces."""
    text = text.strip()
    inner = text[1:-1].split(",") if text.startswith("{") and text.endswith("}") else [text]
    return [name.strip() for name in inner if name.strip()]


def _free(name: str, used: set[str]) -> str:
    """`name`, or `name (group)`, `name (group 2)`... where that is taken; it is taken from now on."""
    tries = (name, f"{name} (group)", *(f"{name} (group {i})" for i in range(2, len(used) + 3)))
    found = next(t for t in tries if t not in used)
    used.add(found)
    return found


def grouped_tree(paths: dict[str, tuple[str, ...]]) -> Tree:
    """A tree of names by their groups. A group of one child is left out; a group whose name a class has too is called
    `NAME (group)`.
    """
    nested: dict[tuple[str, ...], list[str]] = {}
    for name, path in paths.items():
        nested.setdefault(path, []).append(name)
    parents = {p[:i] for p in nested for i in range(len(p))} | set(nested)
    used = set(paths) | {ROOT}
    tree: Tree = {}

    def build(path: tuple[str, ...]) -> list[str]:
        kids = list(nested.get(path, []))
        for sub in sorted(p for p in parents if len(p) == len(path) + 1 and p[: len(path)] == path):
            below = build(sub)
            if len(below) < 2:
                kids += below
                continue
            kids.append(_free(sub[-1], used))
            tree[kids[-1]] = below
        return kids

    return {ROOT: build(()), **tree}


def derived_tree(tables: Tables) -> Tree:
    """A tree in which as many classes as can be are nodes: sets of concepts that nest or are disjoint with all taken
    before, those of most datasets first. What does not fit stays a union.
    """
    votes: Counter[frozenset[str]] = Counter()
    names: dict[frozenset[str], list[str]] = {}
    for table in tables.datasets.values():
        for name, covered in table.items():
            votes[frozenset(covered)] += 1
            names.setdefault(frozenset(covered), []).append(name.split(",")[0].split("--")[-1].strip())
    chosen: list[frozenset[str]] = []
    for group in sorted(votes, key=lambda g: (-votes[g], len(g), sorted(g))):
        if 1 < len(group) < len(tables.concepts) and all(not group & c or group <= c or c <= group for c in chosen):
            chosen.append(group)
    ordered = sorted(chosen, key=len, reverse=True)
    called: dict[frozenset[str], str] = {}
    used = set(tables.concepts) | {ROOT}
    for group in ordered:
        name = min(Counter(names[group]).most_common(), key=lambda pair: (-pair[1], len(pair[0])))[0]
        called[group] = _free(name, used)
    paths = {c: tuple(called[g] for g in ordered if c in g) for c in tables.concepts}
    return grouped_tree(paths)


def _nodes(taxonomy: Taxonomy, concepts: Sequence[str]) -> tuple[str, ...]:
    """The fewest nodes that cover just these leaves."""
    leaves = frozenset(leaf for c in concepts for leaf in taxonomy.leaves_of(taxonomy.index(c)))
    return tuple(taxonomy.names[n] for n in taxonomy.cover(leaves))


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-") or "labels"


def import_tables(tables: Tables, source: Path, out: Path, name: str, flat: bool) -> list[Path]:
    """Write OUT/NAME.yaml, the taxonomy, and OUT/DATASET.yaml for each dataset of the tables."""
    grouped = any(tables.concepts.values())
    if flat:
        tree = {ROOT: list(tables.concepts)}
    else:
        tree = grouped_tree(tables.concepts) if grouped else derived_tree(tables)
    taxonomy = build_taxonomy(TaxonomyFile(name=name, tree=tree))
    how = "flat" if flat else "grouped as in the table" if grouped else "inner nodes are classes of the datasets"
    drafts = {name: taxonomy_yaml(name, tree, {}, [f"{len(tables.concepts)} concepts of {source.name}; {how}."])}
    for dataset, table in tables.datasets.items():
        entries, seen = [], set()
        for place, (label, concepts) in enumerate(table.items()):
            again = frozenset(concepts) in seen and bool(concepts)
            seen.add(frozenset(concepts))
            note = ("another label covers the same; it is trained and not scored",) if again else ()
            entries.append(Entry(place, label, _nodes(taxonomy, concepts), None, not again, note))
        title = dataset if dataset != name else f"{dataset}-labels"
        head = [
            f"{dataset} in the concepts of {source.name}.",
            "The table has no ids: they are the places in it. Write the ids of your files.",
        ]
        drafts[title] = space_yaml(title, f"{_slug(name)}.yaml", entries, head)
    return _write(out, drafts, taxonomy, name)


def import_labels(labels: Sequence[Listed], source: Path, out: Path, name: str, flat: bool) -> list[Path]:
    """Write OUT/NAME-tree.yaml, a taxonomy of the labels by their groups, and OUT/NAME.yaml, the label space."""
    mapped = [label for label in labels if not label.ignore]
    node = {label.id: "root (label)" if label.name == ROOT else label.name for label in mapped}
    paths = {node[label.id]: () if flat else label.groups for label in mapped}
    colors = {node[label.id]: label.color for label in mapped if label.color}
    tree = grouped_tree(paths)
    if len(mapped) < 2:
        raise HeterosegError(f"{source}: expected two or more labels that mean something, found {len(mapped)}")
    taxonomy = build_taxonomy(TaxonomyFile(name=f"{name}-tree", tree=tree))
    entries = [Entry(b.id, b.name, () if b.ignore else (node[b.id],), b.color, b.evaluate or b.ignore) for b in labels]
    drafts = {
        f"{name}-tree": taxonomy_yaml(f"{name}-tree", tree, colors, [f"The {len(mapped)} labels of {source.name}."]),
        name: space_yaml(name, f"{_slug(name)}-tree.yaml", entries, [f"Labels as in {source.name}."]),
    }
    return _write(out, drafts, taxonomy, f"{name}-tree")


def _write(out: Path, drafts: dict[str, str], taxonomy: Taxonomy, tree: str) -> list[Path]:
    """Check all drafts, then write them; none replaces a file."""
    paths = {title: out / f"{_slug(title)}.yaml" for title in drafts}
    there = [path for path in paths.values() if path.exists()]
    if there:
        raise HeterosegError(f"{there[0]}: stands there already; choose another --out or --name, or take it away")
    for title, text in drafts.items():
        if title != tree:
            checked_space(text, paths[title], taxonomy)
    for title, text in drafts.items():
        write_text(paths[title], text)
    return list(paths.values())


def import_file(
    path: Path | str,
    out: Path | str,
    name: str | None = None,
    id_field: str = "id",
    table: str | None = None,
    flat: bool = False,
) -> list[Path]:
    """Turn a table of concepts or a list of labels into YAML files in `out`; returns the paths, the taxonomy first."""
    path, out = Path(path), Path(out)
    tables = None if table else read_tables(path)
    if tables is not None:
        return import_tables(tables, path, out, name or "concepts", flat)
    labels = read_label_list(path, id_field, table)
    return import_labels(labels, path, out, name or _slug(table or path.stem), flat)

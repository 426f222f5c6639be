"""Models on a hub: names, downloads and uploads, by huggingface_hub. Weights are safetensors, never pickles."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heteroseg.errors import HeterosegError, text_of

PREFIX = "hf://"
FILES = ("config.json", "model.safetensors", "taxonomy.yaml", "label_spaces/*.yaml", "README.md")
_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w][\w./-]*))?", re.ASCII)


def parse_name(name: str) -> tuple[str, str | None]:
    """'hf://owner/name' or 'hf://owner/name@revision' (the prefix may be left out) to repository and revision."""
    match = _NAME.fullmatch(text_of(name, "the name of a model").removeprefix(PREFIX))
    if match is None:
        told = "expected the name of a model on a hub, as hf://owner/name or hf://owner/name@revision"
        raise HeterosegError(f"{name}: {told}; a folder is named without hf://")
    return match["repo"], match["revision"]


@contextmanager
def _told(repo: str, revision: str | None, done: str) -> Iterator[None]:
    """Tell a failed request in one sentence; `done` is what could not be done."""
    from huggingface_hub import errors

    # the base of huggingface_hub's own error is that of all errors of its http library
    bases = (base for base in errors.HfHubHTTPError.__bases__ if issubclass(base, Exception))
    failures: tuple[type[Exception], ...] = (*bases, OSError, ValueError)
    unknown = "there is no such model on the hub, or it is private; check the name, or `hf auth login`"
    alone = "the hub cannot be reached and the model is not in the cache; fetch it once with a network"
    reasons = {
        errors.GatedRepoError: "access must be asked for on the hub, then `hf auth login`",
        errors.RepositoryNotFoundError: unknown,
        errors.RevisionNotFoundError: f"the model has no revision {revision!r}; name a branch, tag or commit",
        errors.LocalEntryNotFoundError: alone,
        errors.LocalTokenNotFoundError: "uploading needs an account; `hf auth login`, or give a token",
    }  # the first that fits counts: a gated repository is one that was not found, too
    try:
        yield
    except failures as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(" .")  # ids and hints stand behind
        fitting = (reason for kind, reason in reasons.items() if isinstance(error, kind))
        raise HeterosegError(f"{PREFIX}{repo}: {next(fitting, f'could not be {done}, {first}')}") from None


def require_inside(file: Path) -> None:
    """Raise HeterosegError where a file of a MODEL is a link to elsewhere, which would be handed on.

    huggingface_hub's cache has links, from a folder for each version to one for all.
    """
    folder = file.parent.resolve()
    if not any(file.resolve().is_relative_to(place) for place in (folder, folder.parent.parent / "blobs")):
        told = "is a link to a file outside of the MODEL, which would be handed on"
        raise HeterosegError(f"{file}: {told}; put the file itself there, or remove the link")


def download(name: str, revision: str | None = None, **options: Any) -> Path:
    """The folder in huggingface_hub's cache with a model's files, fetched where they are not there yet.

    `options` are those of `huggingface_hub.snapshot_download` (token, cache_dir, local_files_only).
    """
    from huggingface_hub import snapshot_download

    repo, at = parse_name(name)
    revision = revision or at
    with _told(repo, revision, "fetched"):
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(FILES), **options))


def upload(
    folder: Path,
    name: str,
    private: bool | None = None,
    token: str | None = None,
    message: str = "Upload model",
    create_pr: bool = False,
) -> str:
    """Put a MODEL folder on the hub, in a new repository or as a commit to one that is there; returns its address."""
    from huggingface_hub import HfApi

    repo, revision = parse_name(name)
    api = HfApi(token=token)
    with _told(repo, revision, "uploaded"):
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=list(FILES),
            revision=revision,
            commit_message=message,
            create_pr=create_pr,
        )
    return str(done.pr_url or f"{api.endpoint}/{repo}")

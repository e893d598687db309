"""Typed errors. Each names its culprit (file, sample token, field) and carries the exit code of the command line."""

from __future__ import annotations

from pathlib import Path


class BevkdError(Exception):
    """Base of every error that a user can cause; `exit_code` is what the command line returns."""

    exit_code = 1


class ConfigError(BevkdError):
    """Bad usage or configuration: unknown key, wrong type, unknown name, checkpoint of another architecture."""

    exit_code = 2


class DataError(BevkdError):
    """Bad data on disk.

    Args:
        message: what is wrong, in one sentence.
        file: the file at fault.
        token: the sample (or record) token at fault.
        field: the field of the record at fault.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        file: str | Path | None = None,
        token: str | None = None,
        field: str | None = None,
    ) -> None:
        self.file, self.token, self.field = file, token, field
        where = [f"{k}={v}" for k, v in (("file", file), ("token", token), ("field", field)) if v is not None]
        super().__init__(f"{message} ({', '.join(where)})" if where else message)


class FeatureError(ConfigError):
    """A feature or dense map that a network does not have, or has not computed as far as it was run."""


class CheckpointError(ConfigError):
    """A checkpoint that does not fit: another architecture, another config, or not a checkpoint at all."""


class OtherRunError(CheckpointError):
    """A checkpoint or model that another configuration, or the student of another teacher, has left."""


class Interrupted(BevkdError):
    """Training stopped on request after writing a resumable checkpoint."""

    exit_code = 4


def nearest(name: str, known: object, n: int = 1) -> str:
    """' (did you mean "x"?)' for the closest known name, or '' when none is close."""
    import difflib

    hits = difflib.get_close_matches(str(name), [str(k) for k in known], n=n)  # type: ignore[attr-defined]
    return f" (did you mean {hits[0]!r}?)" if hits else ""

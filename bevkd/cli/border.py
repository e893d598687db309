"""The border of the command line: whatever goes wrong leaves it as one line and an exit code.

Errors of ours say what is wrong themselves. Those of libraries are looked up in a table: what they mean here, and with
which code the command ends. What no library says is a way around a protection: such advice stays inside.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from bevkd.errors import BevkdError, ConfigError, DataError, Interrupted
from bevkd.io import reason

MOST = 2_000  # characters of a line


class Meaning(NamedTuple):
    """What an error of a library means.

    Attributes:
        words: in a few words.
        code: exit code of the command.
    """

    words: str
    code: int


UNKNOWN = Meaning("unexpected, and perhaps a fault of bevkd (`--traceback` shows where)", BevkdError.exit_code)
# By the full name of its class, so that no library is imported for it; of several that fit, the nearest base counts.
TABLE: dict[str, Meaning] = {
    "builtins.MemoryError": Meaning("there is not enough memory", DataError.exit_code),
    "builtins.RecursionError": Meaning("something is nested too deeply", DataError.exit_code),
    "builtins.UnicodeError": Meaning("text that is no valid Unicode", DataError.exit_code),
    "builtins.EOFError": Meaning("a file ends too early", DataError.exit_code),
    "builtins.ImportError": Meaning("a package is missing or broken", ConfigError.exit_code),
    "torch.OutOfMemoryError": Meaning("there is not enough memory on the GPU", DataError.exit_code),
    "torch.AcceleratorError": Meaning("the GPU has failed", DataError.exit_code),
    "torch.distributed.DistError": Meaning("processes that train together lost each other", DataError.exit_code),
    "yaml.error.YAMLError": Meaning("no valid YAML", ConfigError.exit_code),
    "pydantic_core._pydantic_core.ValidationError": Meaning("a setting has a wrong value", ConfigError.exit_code),
    "json.decoder.JSONDecodeError": Meaning("no valid JSON", DataError.exit_code),
    "pyarrow.lib.ArrowException": Meaning("an Arrow or Parquet file cannot be read or written", DataError.exit_code),
    "PIL.Image.DecompressionBombError": Meaning("an image has more pixels than are read", DataError.exit_code),
    "zipfile.BadZipFile": Meaning("an archive is damaged", DataError.exit_code),
    "zlib.error": Meaning("compressed data are damaged", DataError.exit_code),
    "_pickle.PickleError": Meaning("a file is no archive of tensors", DataError.exit_code),
    "safetensors._safetensors_rust.SafetensorError": Meaning("a file of weights is damaged", DataError.exit_code),
    "numpy.linalg.LinAlgError": Meaning("a matrix cannot be inverted", DataError.exit_code),
    "concurrent.futures.process.BrokenProcessPool": Meaning(
        "a process that helped was ended from outside, perhaps for want of memory", DataError.exit_code
    ),
    "subprocess.SubprocessError": Meaning("another program has failed", DataError.exit_code),
    "urllib.error.URLError": Meaning("a download has failed", DataError.exit_code),
    "httpx.HTTPError": Meaning("a download has failed", DataError.exit_code),
    "requests.exceptions.RequestException": Meaning("a download has failed", DataError.exit_code),
    "huggingface_hub.errors.HfHubHTTPError": Meaning("weights cannot be downloaded", DataError.exit_code),
}
# Some libraries have one class of errors for everything, and tell by the text.
TEXTS: tuple[tuple[re.Pattern[str], Meaning], ...] = (
    (re.compile(r"out of memory|allocate memory|bad_alloc|Unable to allocate", re.I), TABLE["builtins.MemoryError"]),
    (re.compile(r"DataLoader worker .*(killed|exited)", re.I), TABLE["concurrent.futures.process.BrokenProcessPool"]),
    (re.compile(r"CUDA error|cuDNN error|NCCL error", re.I), TABLE["torch.AcceleratorError"]),
    (re.compile(r"PytorchStreamReader|unexpected EOF|central directory", re.I), TABLE["zipfile.BadZipFile"]),
    (re.compile(r"can't start new thread|Resource temporarily unavailable", re.I), Meaning(
        "the system starts no more threads or processes", DataError.exit_code)),
)  # fmt: skip
# Sentences of libraries that name a way around a protection.
_ADVICE = re.compile(
    r"weights_only|allow_pickle|trust_remote_code|int_max_str_digits|MAX_IMAGE_PIXELS|LOAD_TRUNCATED_IMAGES"
    r"|add_safe_globals|safe_globals|arbitrary code|trusted source|verify=False|SSL_VERIFY|unsafe_load|full_load"
    r"|local_files_only|TORCH_FORCE_NO|HF_HUB_",
    re.I,
)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")


def one_line(text: str) -> str:
    """A text as a line: without line breaks, control characters and advice against protections."""
    if _ADVICE.search(text):
        text = " ".join(part for part in _SENTENCE.split(text) if not _ADVICE.search(part))
    line = "".join(one if one.isprintable() else repr(one)[1:-1] for one in " ".join(text.split()))
    return line if len(line) <= MOST else f"{line[:MOST]}..."


def meaning(error: BaseException) -> Meaning:
    """What an error of a library means, by its text or its class."""
    text = str(error)
    for pattern, found in TEXTS:
        if pattern.search(text):
            return found
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__)
    return next((TABLE[name] for name in names if name in TABLE), UNKNOWN)


def told(error: BaseException) -> tuple[str, int]:
    """The line that a user is told of an error, and the exit code."""
    if isinstance(error, BevkdError):
        return one_line(f"{type(error).__name__}: {error}"), error.exit_code
    if isinstance(error, OSError):
        # A file that no reader or writer of ours was about.
        place = f" (file={error.filename})" if error.filename is not None else ""
        return one_line(f"{DataError.__name__}: {reason(error)}{place}"), DataError.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", Interrupted.exit_code
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # of the parser of command lines
        context = getattr(error, "ctx", None)
        more = f" (`{context.command_path} --help` says more)" if context is not None else ""
        return one_line(f"{ConfigError.__name__}: {error.format_message()}{more}"), ConfigError.exit_code
    found = meaning(error)
    said = (str(error).strip().splitlines() or [""])[0]
    name = {ConfigError.exit_code: ConfigError, DataError.exit_code: DataError}.get(found.code, BevkdError).__name__
    return one_line(f"{name}: {found.words}: {type(error).__name__}: {said}".rstrip(": ")), found.code

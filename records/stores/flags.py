"""The flags of the local cache: the same for every command that reads sets."""

import argparse
import os
from typing import Any

from records.stores.cache import BYTES_VARIABLE, FOLDER_VARIABLE


class _Remember(argparse.Action):
    """Sets a variable of the environment, so that processes which are started have it, too."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None
    ) -> None:
        os.environ[str(self.const)] = str(values)


def add_cache_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--local-cache` and `--local-cache-bytes`; they name where shards of stores are kept."""
    group = parser.add_argument_group("data in an object store (--data-dir s3://, gs://, az://)")
    add = group.add_argument
    add(
        "--local-cache",
        metavar="DIR",
        action=_Remember,
        dest=argparse.SUPPRESS,
        const=FOLDER_VARIABLE,
        type=os.path.abspath,
        help=f"where its shards are kept (default: ${FOLDER_VARIABLE}, or in ~/.cache)",
    )
    add(
        "--local-cache-bytes",
        metavar="N",
        action=_Remember,
        dest=argparse.SUPPRESS,
        const=BYTES_VARIABLE,
        type=_number,
        help="at most so many bytes of them, such as 50e9 (default: half of the free disk)",
    )


def _number(text: str) -> int:
    found = int(float(text))
    if found < 0:
        raise ValueError(text)
    return found

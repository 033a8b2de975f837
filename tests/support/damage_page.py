"""Writes tests/faults/damage_messages.md from what the tests saw: `make damage-page`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.support.faults import PAGE, write_page

if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    write_page([json.loads(line) for line in lines])
    print(f"{PAGE.name}: {len(lines)} messages")

"""Sizes without a chance are refused before anything is allocated."""

from __future__ import annotations

import pytest

from train.assembly.room import check_batch_room, check_weight_room


def test_what_is_too_large_says_what_was_asked_and_what_there_is() -> None:
    expected = r"--hidden 100000 100000 expected weights that fit the .* GiB .* of 149\.0 GiB"
    with pytest.raises(ValueError, match=expected):
        check_weight_room((100_000, 100_000), None, None, 0)
    expected = r"--global-batch-size 1000000000 expected rows that fit .* of 137\.8 GiB"
    with pytest.raises(ValueError, match=expected):
        check_batch_room(10**9, 84)


def test_usual_sizes_fit() -> None:
    check_weight_room((1024, 1024), None, None, 0)
    check_weight_room(None, 128, 128, 20_000)
    check_batch_room(256, 84)

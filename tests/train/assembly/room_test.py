"""Sizes without a chance are refused before anything is allocated."""

from __future__ import annotations

import pytest

from tests.support.settings import make_settings
from train.assembly.room import check_batch_room, check_weight_room


def test_what_is_too_large_says_what_was_asked_and_what_there_is() -> None:
    expected = r"--hidden 100000 100000 expected weights that fit the .* GiB .* of 149\.0 GiB"
    settings = make_settings(hidden=(100_000, 100_000))
    with pytest.raises(ValueError, match=expected):
        check_weight_room(settings)
    expected = r"--global-batch-size 1000000000 expected rows that fit .* of 137\.8 GiB"
    with pytest.raises(ValueError, match=expected):
        check_batch_room(make_settings(global_batch_size=10**9), 84)


def test_usual_sizes_fit() -> None:
    check_weight_room(make_settings(hidden=(1024, 1024)))
    check_weight_room(make_settings("text", model="lstm", units=128, embedding_dim=128))
    check_batch_room(make_settings(), 84)

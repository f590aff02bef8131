"""The collector of cycles rests while libraries are imported, and is as it was afterwards."""

from __future__ import annotations

import gc

from fade.importing import importing


def test_it_rests_inside_and_leaves_alone_what_came_meanwhile() -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        kept = [[i] for i in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(kept)


def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()

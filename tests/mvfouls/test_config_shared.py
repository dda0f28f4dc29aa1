"""Settings that both command lines share: what a flag is called."""

import mv_class_weights
import mv_flags
import pytest

from mvfouls.cli import class_weights, modular

LDAM = {
    "modular": "--loss_types offence ldam --class_weighting_strategy sqrt",
    "class_weights": "--loss-types offence ldam --enable-class-weights",
}
LINES = {"modular": mv_flags, "class_weights": mv_class_weights}


def errors(frontend: str, words: str) -> list[str]:
    return [text for level, text in LINES[frontend].findings(words) if level == "error"]


@pytest.mark.parametrize("frontend", LINES)
def test_margins_beside_class_weights_are_refused_unless_stacking_is_allowed(frontend):
    (text,) = errors(frontend, LDAM[frontend])
    assert "--loss-types offence ldam" in text
    assert "add --allow-stacking (--allow-overcorrection)" in text
    for spelling in ("--allow-stacking", "--allow_stacking", "--allow-overcorrection"):
        assert errors(frontend, f"{LDAM[frontend]} {spelling}") == []
        assert LINES[frontend].parsed(spelling).config.balance.allow_overcorrection


@pytest.mark.parametrize("main", [modular.main, class_weights.main])
def test_help_shows_both_spellings(main, capsys):
    assert main(["--help"]) == 0
    assert "--allow-overcorrection, --no-allow-overcorrection, --allow-stacking\n" in capsys.readouterr().out

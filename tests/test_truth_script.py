"""scripts/truth: a small copy measures what it says, and goes on where it was left."""

import json
import runpy
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "truth"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return Namespace(**runpy.run_path(str(SCRIPT), run_name="script"))


@pytest.mark.slow
def test_a_small_copy(script, tmp_path, capsys):
    small = replace(script.SMALL, data=replace(script.SMALL.data, features=12, datum_size=8, active=2.0, num_data=400))
    script.main.__globals__["SMALL"] = replace(small, epochs=3, updates=(25, 9))
    main = ["--small", "--output", str(tmp_path), "--rows"]
    main += ["true", "true, Poisson", "TopK SAE", "sparse coding", "Poisson, fixed rates"]
    script.main(main)
    content = json.loads((tmp_path / "truth.json").read_text())
    done = content["seeds"]["0"]
    assert set(done) == {*main[main.index("--rows") + 1 :]}
    for split in ("train", "validation", "test"):
        for row in ("true", "true, Poisson"):
            assert done[row][split]["mcc"] > 0.9
            assert done[row][split]["mcc_atoms"] == pytest.approx(1)
        assert done["sparse coding"][split]["mcc"] > done["TopK SAE"][split]["mcc"]
        assert done["TopK SAE"][split]["active"] <= 2
    assert "| sparse coding | 1 |" in (tmp_path / "truth.md").read_text()
    assert (tmp_path / "truth.png").stat().st_size > 5000
    capsys.readouterr()
    script.main(main)  # everything is done
    assert capsys.readouterr().out == ""
    script.main.__globals__["SMALL"] = small
    with pytest.raises(SystemExit):
        script.main(main)
    assert "truth.json is of other settings; give another --output" in capsys.readouterr().err

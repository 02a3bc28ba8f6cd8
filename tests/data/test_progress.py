"""A bar for what takes long, on terminals alone, and no change to what is counted."""

from itervae.data import progress
from itervae.data.progress import watched


def test_items_pass_and_nothing_is_said_where_it_is_quick_or_no_terminal(capsys, monkeypatch):
    assert list(watched(range(5), 5, "counting")) == [0, 1, 2, 3, 4]
    monkeypatch.setattr(progress, "PATIENCE", 0)
    assert list(watched(range(5), 5, "counting")) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_a_bar_is_shown_on_a_terminal_once_it_takes_long(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # taken for a terminal
    monkeypatch.setenv("TERM", "xterm")
    assert list(watched(range(5), 5, "counting")) == [0, 1, 2, 3, 4]
    assert "counting" not in capsys.readouterr().err
    monkeypatch.setattr(progress, "PATIENCE", 0)
    items = watched(range(5), 5, "counting")
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    items.close()
    assert "2/5" in capsys.readouterr().err  # and it is stopped with the items: another one can be shown
    assert list(watched(range(5), 5, "again")) == [0, 1, 2, 3, 4]
    assert "5/5" in capsys.readouterr().err

from ssd.utils.text_table import text_table


def test_columns_line_up_and_nothing_but_text_comes_out():
    lines = text_table(["", "AP"], [["[red]dog[/red]", "0.5"], ["a\nb", "12.25"], ["日本", ""]])
    assert lines == ["                   AP", "[red]dog[/red]    0.5", "a\\nb            12.25", "日本"]


def test_rows_are_never_wrapped():
    name = "x" * 500
    assert text_table(["name", "n"], [[name, 1]])[1] == f"{name}  1"

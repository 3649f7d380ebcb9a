from ssd.data.coverage import HIDDEN, Coverage


def test_coverages_add_up() -> None:
    one = Coverage(("a.jpg",), ("x.txt",), ("labels/a.txt",), {HIDDEN: (".a.jpg",)})
    two = Coverage(("b.jpg",), (), ("labels/b.txt",), {HIDDEN: (".b.jpg",), "other": ("c",)})
    both = one + two
    assert both.unlabeled == ("a.jpg", "b.jpg")
    assert both.orphans == ("x.txt",)
    assert both.searched == ("labels/a.txt",)
    assert both.skipped == {HIDDEN: (".a.jpg", ".b.jpg"), "other": ("c",)}


def test_nothing_adds_nothing() -> None:
    one = Coverage(("a.jpg",), skipped={HIDDEN: (".a.jpg",)})
    assert sum([one], Coverage()) == one

import re
from pathlib import Path

from ssd.data.inspection import problems
from ssd.data.inspection.problems import ERROR, WARNING, Problem
from ssd.diagnostics.findings import KINDS, Finding, Findings


def test_all_are_counted_and_some_are_kept():
    findings = Findings(limit=3)
    for number in range(10):
        findings.add(Finding("small", WARNING, "train", f"{number}.jpg", 1, "tiny"))
    findings.add_problem(Problem("class", "a.xml", 2, "cow"), "val")
    assert [finding.file for finding in findings.of("small")] == ["0.jpg", "1.jpg", "2.jpg"]
    assert findings.kinds() == [("class", ERROR, 1), ("small", WARNING, 10)]
    assert (findings.count(ERROR), findings.count(WARNING)) == (1, 10)
    assert [finding.kind for finding in findings] == ["class", "small", "small", "small"]


def test_a_image_in_two_splits_is_told_once():
    findings = Findings(limit=10)
    for split in ("val", "test"):
        findings.add(Finding("small", WARNING, split, "a.jpg", 1, "tiny"))
    findings.add(Finding("small", WARNING, "val", "a.jpg", 2, "tiny"))
    assert [(finding.split, finding.object) for finding in findings] == [("val", 1), ("val", 2)]


def test_every_kind_has_a_title_and_an_advice():
    assert all(title and advice for title, advice in KINDS.values())


def test_every_kind_of_problem_has_a_title():
    package = Path(problems.__file__).parent
    found = {kind for file in package.glob("*.py") for kind in re.findall(r"\bProblem\(\"(\w+)\"", file.read_text())}
    assert {"name", "unreadable_image", "double"} <= found <= KINDS.keys()

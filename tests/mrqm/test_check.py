import pytest

from mrqm.check import Check, check


@pytest.mark.parametrize(
    ("message", "finding", "remedy"),
    [
        ("runs: not writable; give another", "runs: not writable", "give another"),
        ("has 1 node; 2 nodes; bring up more", "has 1 node; 2 nodes", "bring up more"),
        ("run a differs:\n  lr: 1\nchoose another name", "run a differs:\n  lr: 1", "choose another name"),
        ("a.yaml is not usable:\n  lr: wrong; got 3", "a.yaml is not usable:\n  lr: wrong; got 3", ""),
        ("gone", "gone", ""),
    ],
)
def test_a_message_is_a_finding_and_a_remedy(message: str, finding: str, remedy: str) -> None:
    assert Check.refused("x", ValueError(message)) == Check("x", "error", finding, remedy)


def test_what_is_raised_is_what_was_found() -> None:
    def refuse() -> str:
        raise OSError("disk is gone; plug it in")

    assert check("disk", refuse) == Check("disk", "error", "disk is gone", "plug it in")
    assert check("disk", lambda: "9 GB") == Check("disk", "ok", "9 GB")


def test_errors_of_the_program_are_not_findings() -> None:
    with pytest.raises(ZeroDivisionError):
        check("x", lambda: str(1 // 0))

"""The documents of clusters: their commands, configurations and links are those that exist."""

from __future__ import annotations

import re
import shlex

import pytest
import typer
import yaml

from mrqm.__main__ import app
from mrqm.config import load_config

from ...pages import CLUSTER_PAGES, ROOT, read_commands


def sent_to_clusters() -> list[list[str]]:
    """The submitted commands: the words after `mrqm submit … --` of the pages, and the KubeRay job's entry point."""
    submitted = [words for page in CLUSTER_PAGES for words in read_commands(page) if words[:2] == ["mrqm", "submit"]]
    job = yaml.safe_load((ROOT / "cluster" / "kuberay" / "rayjob.yaml").read_text())
    entrypoint = shlex.split(job["spec"]["entrypoint"].replace("/opt/mrqm/", ""))
    assert entrypoint[:3] == ["python", "-m", "mrqm"]
    return [*(words[words.index("--") + 1 :] for words in submitted), entrypoint[3:]]


def parse(sent: list[list[str]]) -> None:
    """Let the real command line read commands, without running them."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, *words in sent:
        known[name].make_context(name, list(words))


def test_what_is_sent_to_clusters_are_commands_of_mrqm() -> None:
    sent = sent_to_clusters()
    assert len(sent) > 5
    parse(sent)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trains"], "trains"),
        (["train", "--confg", "a.yaml"], "No such option: --confg"),
        (["train"], "(?i)missing.*config"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(words: list[str], message: str) -> None:
    with pytest.raises(Exception, match=message):
        parse([words])


def test_trainings_have_configurations_that_load() -> None:
    trainings = [words[1:] for words in sent_to_clusters() if words[0] == "train"]
    assert trainings
    for flag, path, *overrides in trainings:
        assert flag == "-c"
        assert load_config(ROOT / path, overrides)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rays_commands_and_their_options_exist() -> None:
    from ray.scripts.scripts import cli  # seconds, and warnings of its own

    used = [words[1:] for page in CLUSTER_PAGES for words in read_commands(page) if words[0] == "ray"]
    assert {name for name, *_ in used} == {"get-auth-token", "up", "dashboard", "down"}
    for name, *options in used:
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        assert {word.partition("=")[0] for word in options if word.startswith("--")} <= known


def test_a_token_that_ray_writes_is_made_private() -> None:
    made = [
        text for page in CLUSTER_PAGES for text in page.read_text().splitlines() if "get-auth-token --generate" in text
    ]
    assert made
    assert all(text.endswith("&& chmod 600 ~/.ray/auth_token") for text in made)


def test_files_and_links_exist() -> None:
    for page in CLUSTER_PAGES:
        named = {word for words in read_commands(page) for word in words if word.startswith("cluster/")}
        files = [name for name in named if not name.startswith(("cluster/secrets", "cluster/state"))]
        assert all((ROOT / name).exists() for name in files), page
        links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
        assert all((page.parent / link).exists() for link in links if "://" not in link), page

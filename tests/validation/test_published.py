"""The registry of published figures: each is tested by an experiment, or says why not."""

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator

import pytest

from validation import experiments
from validation.published import Figure, figures, keys_of, published

# Experiments that hold theory or simulation against figures of their own: nobody published them.
WITHOUT = {
    "cpu-engine": "its times are measured on this processor when it runs",
    "cluster-day": "a day on a thousand replicas, routers beside their laws, was not published",
    "edge": "the edges are computed by a program of ours",
}


def flaws(registry: Iterable[Figure], names: Collection[str]) -> Iterator[str]:
    """What is wrong with a registry, given the experiments that there are."""
    tested: set[str] = set()
    for figure in registry:
        subject, _, name = figure.key.partition(": ")
        if not (name and figure.claim and figure.source):
            yield f"{figure.key}: a key is SUBJECT: NAME, with a claim and a source"
        if figure.experiment is not None:
            tested.add(figure.experiment)
            if figure.experiment not in names:
                yield f"{figure.key}: there is no experiment {figure.experiment}"
            if figure.experiment != subject:
                yield f"{figure.key}: its key begins with {subject}, its experiment is {figure.experiment}"
        text = f"{figure.claim} {figure.source} {figure.reason}"
        if re.search(r"\.md\b|\.csv\b|(^|\s)/\w", text):
            yield f"{figure.key}: names a file"
    yield from (f"{name}: has no published figure" for name in sorted(set(names) - tested - set(WITHOUT)))
    yield from (
        f"{name}: has figures, or is no experiment" for name in WITHOUT if name in tested or name not in names
    )


def test_every_figure_names_an_experiment_that_exists_or_a_reason():
    """And every experiment a figure, but for those that nobody's figure is for."""
    assert list(flaws(figures().values(), experiments.MODULES)) == []


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"experiment": "slay"}, "there is no experiment slay"),
        ({"experiment": "sarathi"}, "its key begins with slai, its experiment is sarathi"),
        ({"key": "capacity gain"}, "a key is SUBJECT: NAME"),
        ({"claim": ""}, "with a claim and a source"),
        ({"source": "notes.md"}, "names a file"),
        ({"source": "from /home/somebody"}, "names a file"),
        ({"experiment": "edge", "key": "edge: capacity"}, "edge: has figures"),
    ],
)
def test_a_flawed_registry_is_told(changed, found):
    """Controls: one figure altered in one place."""
    altered = dataclasses.replace(published("slai: capacity gain"), **changed)
    others = [figure for figure in figures().values() if figure.key != "slai: capacity gain"]
    assert any(found in flaw for flaw in flaws([altered, *others], experiments.MODULES))


def test_an_experiment_without_figures_is_told():
    """Control: a registry that has lost the figures of one experiment, and an experiment more than is known."""
    others = [figure for figure in figures().values() if figure.experiment != "slai"]
    assert list(flaws(others, experiments.MODULES)) == ["slai: has no published figure"]
    assert list(flaws(figures().values(), [*experiments.MODULES, "new"])) == ["new: has no published figure"]


def test_a_figure_has_either_an_experiment_or_a_reason():
    figure = published("slai: capacity gain")
    assert figure.key in keys_of("slai")
    with pytest.raises(ValueError, match="one of them"):
        dataclasses.replace(figure, experiment=None)
    with pytest.raises(ValueError, match="one of them"):
        dataclasses.replace(figure, reason="too hard")
    with pytest.raises(ValueError, match="certainty is one of"):
        dataclasses.replace(figure, certainty="rumour")


def test_the_registry_is_read_whole():
    assert all(isinstance(figure, Figure) and key == figure.key for key, figure in figures().items())
    with pytest.raises(ValueError, match="enter it into"):
        published("nobody said this")

"""The registry of published figures: each is tested by an experiment, or says why not."""

import dataclasses

import pytest

from validation import experiments
from validation.published import Figure, figures, keys_of, published


def test_every_figure_names_an_experiment_that_exists_or_a_reason():
    for figure in figures().values():
        assert (figure.experiment in experiments.MODULES) != (figure.reason is not None), figure.key
        assert figure.claim, figure.key
        assert figure.source, figure.key


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

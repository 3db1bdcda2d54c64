"""A real weight-shared network: subnets compute what standalone networks do, share storage, and switch in place."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn", reason="the digits come with scikit-learn, of the extra `serverless`")

from torch import Tensor  # noqa: E402

from gpu.supernet import Architecture, Subnet, Supernet  # noqa: E402
from gpu.supernet_training import Study, accuracy, digits, study, switching  # noqa: E402

SMALL = Architecture(channels=(16, 32), blocks=(2, 2))


@pytest.fixture(scope="module")
def trained() -> Study:
    return study(SMALL, epochs=2, repeats=3)


def test_training_teaches_all_subnets_and_the_largest_most(trained: Study) -> None:
    """Accuracy on 349 digits, each twice: chance is 0.1, a standard error at most 0.027."""
    worth = dict(zip(trained.subnets, trained.tested, strict=True))
    assert min(worth.values()) > 0.3
    assert worth[SMALL.largest] - worth[trained.subnets[0]] > 0.05


def test_without_statistics_of_its_own_a_subnet_knows_little(trained: Study) -> None:
    """SubnetNorm: with those of the largest subnet all others lose accuracy, the smallest nearly all of it."""
    own, borrowed = trained.tested, trained.borrowed
    assert borrowed[-1] == own[-1]
    assert all(a < b for a, b in zip(borrowed[:-1], own[:-1], strict=True))
    assert borrowed[0] < 0.1 + (own[0] - 0.1) / 3


def test_a_subnet_computes_what_it_computes_alone(trained: Study) -> None:
    net, images = trained.net, trained.data.test_images[:64]
    with torch.no_grad():
        for subnet in (trained.subnets[0], trained.subnets[2], SMALL.largest):
            net.actuate(subnet)
            alone = net.extract(subnet)
            assert torch.allclose(net(images), alone(images), atol=1e-6)
            wrong = net.extract(subnet)
            wrong.blocks[0][0].second.add_(0.01)  # negative control
            assert not torch.allclose(net(images), wrong(images), atol=1e-6)


def test_all_subnets_live_in_one_set_of_weights(trained: Study) -> None:
    """All of them take at most 1.1 times one, and no byte of a weight moves or is copied by a switch."""
    assert trained.shared <= 1.1 * trained.one
    assert trained.separate > 1.5 * trained.shared  # negative control: not so for networks of their own
    net = trained.net
    where = {name: weight.data_ptr() for name, weight in net.named_parameters()}
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    for subnet in net.subnets:
        net.actuate(subnet)
        net(trained.data.test_images[:2])
    assert {name: weight.data_ptr() for name, weight in net.named_parameters()} == where
    assert all(torch.equal(weight, before[name]) for name, weight in net.named_parameters())
    sliced = net.blocks[0][0].second[:, :4]
    assert sliced.untyped_storage().data_ptr() == net.blocks[0][0].second.untyped_storage().data_ptr()
    assert net.extract(SMALL.largest).blocks[0][0].second.data_ptr() not in where.values()  # control


def test_what_switching_costs_is_measured(trained: Study) -> None:
    """Figures, and the limit on them, are those of the experiment `supernet`; here only that they are ones."""
    taken = switching(trained.net, times=200, loads=3)
    assert 0 < taken.actuate <= taken.actuate_p99
    assert taken.load > 0
    assert trained.net.subnet == trained.subnets[199 % len(trained.subnets)]


def test_the_profile_is_one_that_policies_take(trained: Study) -> None:
    assert len(trained.profile.latency) == len(trained.subnets) == 8
    for row in trained.profile.latency:
        assert len(row) == 16
        assert all(0 < a <= b for a, b in pairwise(row))
    deep, shallow = trained.profile.latency[-1][-1], trained.profile.latency[0][-1]
    assert deep > shallow
    assert 0 < trained.execute(0, 4) < 1.0


def test_a_run_is_a_function_of_its_seed() -> None:
    def weights(seed: int) -> list[Tensor]:
        found = study(Architecture((4,), (1,)), epochs=1, repeats=1, seed=seed)
        return [weight.detach() for weight in found.net.parameters()]

    assert all(torch.equal(a, b) for a, b in zip(weights(1), weights(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(1), weights(2), strict=True))


def test_no_digit_is_in_two_parts() -> None:
    data = digits(noise=0.0, canvas=8, copies=1)
    parts = [
        {image.numpy().tobytes() for image in images}
        for images in (data.images, data.validation_images, data.test_images)
    ]
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    other = digits(noise=0.0, canvas=8, copies=1, seed=1).test_images  # control: another split shares digits
    assert parts[0] & {image.numpy().tobytes() for image in other}
    assert sum(map(len, parts)) == 1797
    assert accuracy(Supernet(SMALL), data.test_images[:200], data.test_labels[:200]) < 0.4  # untrained


def test_accuracy_is_of_all_images(trained: Study) -> None:
    """It counts part by part what one pass over all would; a single wrong label is noticed."""
    net, images, labels = trained.net, trained.data.test_images[:300], trained.data.test_labels[:300]
    net.actuate(SMALL.largest)
    with torch.no_grad():
        said = net(images).argmax(1)
    assert accuracy(net, images, labels) == pytest.approx(float((said == labels).double().mean()))
    assert accuracy(net, images, said) == 1.0
    said[-1] = (said[-1] + 1) % 10
    assert accuracy(net, images, said) == pytest.approx(1 - 1 / 300)


def test_each_split_has_its_own_accuracy(trained: Study) -> None:
    """What subnets are chosen by is of the validation digits, what is reported of the test digits."""
    net, data = trained.net, trained.data
    for k in (0, len(trained.subnets) - 1):
        net.actuate(trained.subnets[k])
        assert accuracy(net, data.validation_images, data.validation_labels) == trained.profile.accuracy[k]
        assert accuracy(net, data.test_images, data.test_labels) == trained.tested[k]
    assert trained.tested != trained.profile.accuracy


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Subnet((), 1.0), "the depths"),
        (lambda: Subnet((1, 0), 1.0), "the depths"),
        (lambda: Subnet((1,), 0.0), "a width of 0.0"),
        (lambda: Architecture((16, 32), (2,)), "is no network"),
        (lambda: Architecture((0,), (1,)), "is no network"),
        (lambda: Supernet(SMALL, [Subnet((3, 1), 1.0)]), "does not fit stages of"),
        (lambda: Supernet(SMALL, [Subnet((1,), 1.0)]), "does not fit stages of"),
        (lambda: Supernet(SMALL, []), "0 subnets"),
        (lambda: Supernet(SMALL).actuate(Subnet((1, 2), 0.7)), "was not announced"),
        (lambda: digits(canvas=7), "at least 8 pixels"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()

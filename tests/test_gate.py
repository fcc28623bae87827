"""When a file is refused: a limit that lies beyond the interval of what was measured, of few images and of many."""

import numpy as np
import pytest

from tfcompact.export import gate


def answers(images: int, lost: int, won: int = 0, right: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which images a network and its file have right: `lost` only the network, `won` only the file, `right` both."""
    before, after = np.zeros(images, bool), np.zeros(images, bool)
    before[: right + lost] = True
    after[:right] = True
    after[right + lost : right + lost + won] = True
    return before, after


@pytest.mark.parametrize(
    ("images", "differing", "refused"),
    [(7, 1, False), (7, 2, True), (20, 2, False), (20, 4, True), (500, 25, False), (500, 36, True)],
)
def test_agreement_of_few_images_is_chance(images, differing, refused) -> None:
    share = 1 - differing / images
    assert (100 * gate.most_agreement(share, images) < gate.Config().least_agreement) == refused


@pytest.mark.parametrize(
    ("images", "lost", "won", "refused"),
    [(1, 1, 0, False), (7, 1, 0, False), (7, 2, 0, False), (7, 4, 0, True), (41, 3, 1, False), (500, 6, 0, False),
     (500, 13, 0, True), (500, 40, 35, False), (500, 40, 10, True), (5000, 60, 0, False), (5000, 75, 0, True)],
)  # fmt: skip
def test_a_loss_of_few_images_is_chance(images, lost, won, refused) -> None:
    for right in (0, images - lost - won):
        found = gate.least_loss(*answers(images, lost, won, right))
        assert (100 * found > gate.Config().largest_loss) == refused


@pytest.mark.parametrize("images", [7, 40, 400])
def test_a_file_at_the_limit_is_refused_in_one_of_twenty_cases(images) -> None:
    """The interval holds what it says: of files whose answers differ at the limit, 5 % are refused, by chance."""
    rng = np.random.default_rng(images)
    limit = gate.Config().least_agreement / 100
    differing = rng.binomial(images, 1 - limit, 20_000)
    refused = [gate.most_agreement(1 - k / images, images) < limit for k in differing]
    assert np.mean(refused) < 0.09


def test_no_limit_refuses_nothing() -> None:
    assert gate.most_agreement(0.0, 500) > 0
    assert 100 * gate.least_loss(*answers(500, 500)) < 100

"""Ways of searching: rewards, the controllers on toys whose best is known, and fronts."""

import itertools
import math

import numpy as np
import pytest

from tfcompact.errors import UserError
from tfcompact.search import rewards
from tfcompact.search.controller import Told
from tfcompact.search.controllers import CONTROLLERS, controller
from tfcompact.search.factorised_policy import FactorisedPolicy
from tfcompact.search.fronts import front, hypervolume
from tfcompact.search.policy_gradient import Adam, advantages, clipped_weights
from tfcompact.search.recurrent_policy import RecurrentPolicy

LEARNING = [name for name in CONTROLLERS if name != "random"]
COUNTS = (3,) * 7


def test_the_exponent_of_mnasnet_s_own_numbers() -> None:
    """5 % of accuracy for twice the latency: a network of 78 ms and one of 156 are worth the same."""
    w = rewards.soft_exponent()
    assert w == pytest.approx(-0.070389, abs=1e-6)
    assert 1.05 * 2**w == pytest.approx(1, abs=1e-15)
    soft = rewards.reward("soft", 78, w)
    assert soft(0.70, 78) == pytest.approx(soft(0.70 * 1.05, 156), rel=1e-12)


def test_what_each_reward_thinks_of_costs() -> None:
    soft, hard, v3, absolute = (rewards.reward(kind, 80) for kind in rewards.KINDS)
    assert soft(0.7, 40) > soft(0.7, 80) == 0.7 > soft(0.7, 160)
    assert hard(0.7, 40) == hard(0.7, 80) == 0.7
    assert hard(0.7, 160) == pytest.approx(0.35)
    assert v3(0.7, 160) == pytest.approx(0.7 * 2**-0.15)
    assert absolute(0.7, 80) == 0.7
    assert absolute(0.7, 40) == absolute(0.7, 120) == pytest.approx(0.65)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: rewards.reward("soft", 0), "target must be a positive number"),
        (lambda: rewards.reward("soft", 80, 0.1), "weight must be negative"),
        (lambda: rewards.reward("sofd", 80), "sofd"),
        (lambda: rewards.reward("soft", 80)(0.5, math.nan), "cost must be a positive number"),
        (lambda: rewards.reward("hard", 80)(0.5, 0), "cost must be a positive number"),
    ],
)
def test_a_reward_of_nonsense_is_an_error_and_not_a_number(call, said) -> None:
    with pytest.raises(UserError, match=said):
        call()


def separable(seed: int):
    """Worths of options that add up, of which one choice is the best."""
    worth = np.random.default_rng((7, seed)).uniform(0, 1, (7, 3))
    return lambda choices: float(sum(worth[i, option] for i, option in enumerate(choices))) / 7


def searched(name: str, seed: int, budget: int):
    """What a controller proposes within a budget, and what it was worth; cost is what a choice's places add up to."""
    value = separable(seed)
    search = controller(name, COUNTS, seed)
    found = []
    for number in range(budget):
        choices = search.ask(number)
        told = Told(choices, value(choices), value(choices), 1.0 + sum(choices))
        search.tell(told)
        found.append(told)
    return found


@pytest.mark.parametrize("name", ["evolution", "factorised", "rnn"])
def test_the_best_of_a_separable_table_is_found(name) -> None:
    """Of 2,187 networks the best one, in at least 19 of 20 tries of 600."""
    hits = 0
    for seed in range(20):
        value = separable(seed)
        best = max(value(choices) for choices in itertools.product(range(3), repeat=7))
        hits += max(told.reward for told in searched(name, seed, 600)) >= best - 1e-9
    assert hits >= 19


@pytest.mark.parametrize("name", CONTROLLERS)
def test_proposals_are_of_their_seed_and_of_what_was_told(name) -> None:
    """A search that goes on, its controller told again, proposes what it would have."""
    first = searched(name, 3, 40)
    assert first == searched(name, 3, 40)
    assert [t.choices for t in first] != [t.choices for t in searched(name, 4, 40)]
    again = controller(name, COUNTS, 3)
    for number, told in enumerate(first[:25]):
        assert again.ask(number) == told.choices
        again.tell(told)
    assert again.ask(25) == first[25].choices
    assert all(len(t.choices) == 7 and all(0 <= option < 3 for option in t.choices) for t in first)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_decisions_with_one_option_and_others_results_are_taken(name) -> None:
    search = controller(name, (1, 2, 1, 4), 0)
    for number in range(30):
        choices = search.ask(number)
        assert choices[0] == choices[2] == 0
        search.tell(Told(choices, 0.5, 0.5, 1.0))
        search.tell(Told((0, 1, 0, number % 4), 0.4, 0.4, 2.0))  # another worker's


def test_a_name_that_is_none_suggests_one() -> None:
    with pytest.raises(UserError, match="did you mean evolution"):
        controller("evolutoin", COUNTS, 0)


@pytest.mark.parametrize("make", [FactorisedPolicy, lambda *a: RecurrentPolicy(*a, hidden=8, entropy=0)])
def test_the_gradient_is_that_of_the_log_probability(make) -> None:
    """By differences; and at a ratio of 1 PPO's is the policy gradient."""
    policy = make((3, 2, 4), 0)
    rng = np.random.default_rng(0)
    for array in getattr(policy, "parameters", None) or policy.logits:
        array += rng.normal(0, 0.5, array.shape)
    choices = np.array([[0, 1, 3], [2, 0, 1], [1, 1, 0], [0, 0, 2]])
    advantage = advantages(np.array([0.1, 0.5, 0.2, 0.9]))
    now = policy.log_probability(choices)
    weights = clipped_weights(now, now, advantage, 0.2)
    assert weights == pytest.approx(advantage / 4)
    gradients = policy.gradient(choices, weights)
    for array, gradient in zip(getattr(policy, "parameters", None) or policy.logits, gradients, strict=True):
        for _ in range(5):
            place = tuple(int(rng.integers(size)) for size in array.shape)
            sides = []
            for step in (1e-5, -1e-5):
                array[place] += step
                sides.append(float((weights * policy.log_probability(choices)).sum()))
                array[place] -= step
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-7)


def test_the_gradient_of_the_entropy() -> None:
    policy = RecurrentPolicy((3, 2), 0, hidden=6, batch=2, entropy=2.0)  # 1 for each of two samples
    for head in policy.heads:
        head += np.random.default_rng(1).normal(0, 1, head.shape)
    choices = np.array([[0, 1], [2, 0]])

    def entropy() -> float:
        memories, _ = policy._run(choices)
        return float(sum(-(m.p * np.log(m.p)).sum() for m in memories))

    gradients = policy.gradient(choices, np.zeros(2))
    for array, gradient in zip(policy.parameters, gradients, strict=True):
        place = tuple(size // 2 for size in array.shape)
        sides = []
        for step in (1e-5, -1e-5):
            array[place] += step
            sides.append(entropy())
            array[place] -= step
        assert gradient[place] == pytest.approx((sides[0] - sides[1]) / 2e-5, abs=1e-7)


def test_a_sample_that_has_gone_far_enough_counts_nothing() -> None:
    before = np.zeros(4)
    now = np.log(np.array([1.3, 1.3, 0.7, 0.7]))
    weights = clipped_weights(now, before, np.array([1.0, -1.0, 1.0, -1.0]), 0.2)
    assert weights == pytest.approx([0, -1.3 / 4, 0.7 / 4, 0])


def test_adam_is_keras_s() -> None:
    from tfcompact.frameworks import keras, tf

    ours, theirs = np.array([1.0, -2.0]), tf.Variable([1.0, -2.0], dtype=tf.float64)
    adam, optimizer = Adam([ours], 0.01), keras.optimizers.Adam(0.01, epsilon=1e-8)
    for step in range(5):
        gradient = np.array([0.3, -0.1]) * (step + 1)
        adam.step([gradient])
        optimizer.apply_gradients([(tf.constant(-gradient), theirs)])  # it descends
    assert ours == pytest.approx(theirs.numpy(), abs=1e-6)


def test_rewards_that_are_all_alike_teach_nothing() -> None:
    assert not advantages(np.full(5, 0.7)).any()


def test_the_front_is_brute_force_s() -> None:
    rng = np.random.default_rng(0)
    points = [(float(a), float(c)) for a, c in rng.integers(0, 12, (80, 2)) + rng.choice([0, 0.5], (80, 2))]
    beaten = {i for i, (a, c) in enumerate(points) if any(x >= a and y <= c and (x, y) != (a, c) for x, y in points)}
    found = front(points)
    assert {points[i] for i in found} == {points[i] for i in range(80) if i not in beaten}
    assert [points[i][1] for i in found] == sorted(points[i][1] for i in found)
    assert front([]) == []


def test_the_area_is_counted_square_by_square() -> None:
    points = [(3.0, 2.0), (5.0, 4.0), (4.0, 4.0), (2.0, 1.0), (9.0, 20.0)]
    squares = sum(any(a >= x + 1 and c <= y for a, c in points) for x in range(10) for y in range(10))
    assert hypervolume(points, (0.0, 10.0)) == squares
    assert hypervolume([], (0, 1)) == 0


def test_nsga2_s_front_is_the_exhaustive_one() -> None:
    """Of 81 networks, all of which a long search has seen, the front is that of the table."""
    counts = (3, 3, 3, 3)
    table = {
        choices: (float(sum((i + 1) * o for i, o in enumerate(choices))) % 7, float(sum(o * o for o in choices)))
        for choices in itertools.product(range(3), repeat=4)
    }
    best = {list(table.values())[i] for i in front(list(table.values()))}
    search = controller("nsga2", counts, 0)
    seen = []
    for number in range(400):
        choices = search.ask(number)
        search.tell(Told(choices, 0.0, *table[choices]))
        seen.append(table[choices])
    assert {seen[i] for i in front(seen)} == best

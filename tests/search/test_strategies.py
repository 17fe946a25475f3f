"""All strategies of the baseline search: common properties, and whether they beat random search."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from search.landscape import Ground, Landscape
from triscale.errors import SearchError
from triscale.families.mobilenet import V2
from triscale.network.spec import MBConv, Network, Stage, Stem
from triscale.search.baseline.objective import Observation, SearchObjective
from triscale.search.baseline.options import Choices, Options
from triscale.search.baseline.space import Sample, Space, around, make_space, mnasnet
from triscale.search.baseline.strategies import STRATEGIES, make_strategy
from triscale.search.baseline.strategies.controller import Controller, ControllerWeights
from triscale.search.baseline.strategies.evolution import Evolution
from triscale.search.baseline.strategies.ppo import PPO, Adam, PpoSettings
from triscale.search.baseline.strategies.samplers import nsga2
from triscale.search.baseline.strategies.strategy import Strategy

OBJECTIVE = SearchObjective(target=300e6)
ONE = Options(
    operations=("mbconv",),
    kernels=(3,),
    expansions=(3,),
    se_ratios=(0.0,),
    skips=("identity",),
    widths=(1,),
    layers=(0,),
)
SKELETON = Network(
    name="two",
    stem=Stem(width=8),
    stages=(Stage(block=MBConv(), width=8, repeats=1), Stage(block=MBConv(), width=16, repeats=2, stride=2)),
    resolution=32,
)
SIXTEEN = around(SKELETON, "tiny")
"""Kernel and expansion of two blocks."""
SINGLE = make_space("single", SKELETON, Choices(options=(ONE, ONE.model_copy(update={"kernels": (3, 5)}))))
NOTHING = make_space("nothing", SKELETON, Choices(options=(ONE,)))

Answer = Callable[[Sample], Observation]


def answer(sample: Sample) -> Observation:
    """Larger indices are better; the first index increases the cost."""
    accuracy = 0.5 + 0.4 * sum(sample) / (1 + 2 * len(sample))
    return make_observation(sample, accuracy, 3e8 * (1 + 3 * sum(sample[:1])))


def make_observation(
    sample: Sample, accuracy: float | None, cost: float = 3e8, objective: SearchObjective = OBJECTIVE
) -> Observation:
    return Observation(sample, objective.reward(accuracy or 0.0, cost), accuracy, cost)


def drive(strategy: Strategy, batches: list[int], answer: Answer = answer) -> list[list[Sample]]:
    """Run ask and tell; return the proposed samples."""
    proposed = []
    for count in batches:
        proposed.append(strategy.ask(count))
        strategy.tell([answer(sample) for sample in proposed[-1]])
    return proposed


@pytest.fixture(scope="module")
def space() -> Space:
    return around(SKELETON, "mnasnet", resolutions=(32, 40, 48, 64))


@pytest.fixture(params=STRATEGIES)
def name(request) -> str:
    return request.param


def test_test_space_has_choices_of_several_lengths(space):
    assert {len(choice.options) for choice in space.free_choices} == {2, 3, 4}
    assert (SIXTEEN.size, SINGLE.size, NOTHING.size) == (16, 2, 1)


def test_ask_returns_requested_number_of_valid_samples(name, space):
    batches = [1, 7, 10, 3, 30, 1]
    for proposed, count in zip(drive(make_strategy(name, space, 0, OBJECTIVE), batches), batches, strict=True):
        assert len(proposed) == count
        for sample in proposed:
            space.check(sample)
            assert all(type(index) is int for index in sample)


def test_asking_for_zero_samples_has_no_effect(name, space):
    often, never = (make_strategy(name, space, 5, OBJECTIVE) for _ in range(2))
    assert drive(often, [10, 0, 10, 0, 10])[::2] == drive(never, [10, 10, 10])


def test_search_depends_only_on_seed(name, space):
    runs = [drive(make_strategy(name, space, seed, OBJECTIVE), [10] * 5) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_search_does_not_use_global_random_state(name, space):
    first = drive(make_strategy(name, space, 0, OBJECTIVE), [10] * 4)
    random.seed(1)
    np.random.seed(1)
    strategy, second = (make_strategy(name, space, seed, OBJECTIVE) for seed in (0, 1))
    found = []
    for _ in range(4):
        np.random.rand()
        found += drive(strategy, [10])
        drive(second, [10])
    assert found == first


def test_observations_affect_all_strategies_but_random(name, space):
    up, down = (make_strategy(name, space, 0, OBJECTIVE) for _ in range(2))
    rewarded = drive(up, [10] * 6)
    penalized = drive(down, [10] * 6, lambda sample: make_observation(sample, 1 - answer(sample).accuracy))
    assert (rewarded == penalized) == (name == "random")


@settings(max_examples=8, deadline=None)
@given(batches=st.lists(st.integers(1, 15), min_size=2, max_size=6), stop=st.integers(0, 5))
@pytest.mark.parametrize("name", STRATEGIES)
def test_replayed_search_continues_identically(name, batches, stop):
    whole = drive(make_strategy(name, SIXTEEN, 7, OBJECTIVE), batches)
    again = make_strategy(name, SIXTEEN, 7, OBJECTIVE)
    for proposed, count in list(zip(whole, batches, strict=True))[:stop]:
        assert again.ask(count) == proposed
        again.tell([answer(sample) for sample in proposed])
    assert drive(again, batches[stop:]) == whole[stop:]


@pytest.mark.parametrize(
    "outcome",
    [
        lambda sample: make_observation(sample, 0.5),
        lambda sample: make_observation(sample, 0.0),
        lambda sample: Observation(sample, -1.0 - sum(sample), None, 1e9 + sum(sample)),
        lambda sample: Observation(sample, -1e6 if sample[0] else 0.5, None if sample[0] else 0.5, 3e8),
        lambda sample: make_observation(sample, None if sum(sample) % 2 else 0.5, 9e8 if sum(sample) % 2 else 3e8),
    ],
    ids=["all equal", "all zero", "none trained", "one huge", "half trained"],
)
def test_unusual_outcomes_are_handled(name, space, outcome):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proposed = drive(make_strategy(name, space, 0, OBJECTIVE), [10] * 6, outcome)
    for batch in proposed:
        for sample in batch:
            space.check(sample)
    assert len({sample for batch in proposed for sample in batch}) > 25


def test_exhausted_space_repeats_samples(name):
    proposed = drive(make_strategy(name, SIXTEEN, 0, OBJECTIVE), [10] * 12)
    found = {sample for batch in proposed for sample in batch}
    assert max(found, key=lambda sample: answer(sample).reward) == (0, 1, 1, 1)
    if name in ("random", "evolution"):
        assert len({*proposed[0], *proposed[1]}) == SIXTEEN.size


@pytest.mark.parametrize("space", [SINGLE, NOTHING], ids=["a choice of two", "no choice"])
def test_smallest_spaces_are_supported(name, space):
    proposed = drive(make_strategy(name, space, 0, OBJECTIVE), [1, 4, 10, 10, 10])
    found = {sample for batch in proposed for sample in batch}
    assert found == ({(0,), (1,)} if space is SINGLE else {()})


@pytest.mark.parametrize("name", ["bayesian", "random", "evolution"])
def test_samples_repeat_only_when_space_is_exhausted(name, space):
    proposed = [sample for batch in drive(make_strategy(name, space, 0, OBJECTIVE), [10] * 30) for sample in batch]
    assert len(set(proposed)) == 300


def test_unknown_name_error_lists_known_names():
    with pytest.raises(
        SearchError, match=r'no strategy "evolutoin".*bayesian, random, evolution, nsga2, tpe, ppo.*mean evolution'
    ):
        make_strategy("evolutoin", SIXTEEN, 0, OBJECTIVE)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range_is_rejected(seed):
    with pytest.raises(SearchError, match=f"from 0 to 4294967295, given {seed}"):
        make_strategy("random", SIXTEEN, seed, OBJECTIVE)


def test_maximum_seed_is_accepted(name):
    assert drive(make_strategy(name, SIXTEEN, 2**32 - 1, OBJECTIVE), [25, 5])


@pytest.fixture(scope="module")
def landscapes() -> list[Landscape]:
    ground = Ground(around(V2, "small"))
    return [Landscape(ground, number) for number in range(100, 116)]


def found_on(landscape: Landscape, name: str) -> float:
    """The reward without noise of the sample that seemed best of 200."""
    strategy = make_strategy(name, landscape.ground.space, landscape.number, OBJECTIVE)
    result = []

    def observe(sample: Sample) -> Observation:
        result.append(landscape.observe(sample, OBJECTIVE))
        return result[-1]

    drive(strategy, [10] * 20, observe)
    return landscape.reward(max(result, key=lambda observation: observation.reward).sample, OBJECTIVE)


# More landscapes for smaller gains, so that the gain is several standard errors.
@pytest.mark.parametrize(
    ("name", "number"), [("bayesian", 4), ("evolution", 16), ("nsga2", 16), ("tpe", 6), ("ppo", 8)]
)
@pytest.mark.stress
def test_strategies_beat_random_search(name, number, landscapes):
    found, by_chance = (
        np.array([found_on(landscape, one) for landscape in landscapes[:number]]) for one in (name, "random")
    )
    gains = found - by_chance
    assert gains.mean() > 0.005
    assert gains.mean() > 2 * gains.std(ddof=1) / number**0.5


def test_landscape_accuracy_depends_only_on_network(landscapes, space):
    ground, rng = Ground(space), random.Random(0)
    drawn = [space.sample(rng) for _ in range(50)]
    # An expansion is one of mbconv blocks only.
    other = [space.find(space.network(sample)) for sample in drawn]
    assert drawn != other
    assert [ground.canonical(sample) for sample in drawn] == [ground.canonical(sample) for sample in other]
    landscape = Landscape(ground, 0)
    assert [landscape.observed(sample) for sample in drawn] == [landscape.observed(sample) for sample in other]


def test_children_differ_in_one_choice_from_a_living_parent():
    space = mnasnet()
    strategy, alive, distances = Evolution(space, 0, population=8, tournament=2), [], []
    for count in (4, 4, 3, 1, 8, 5, 8, 2, 20):
        proposed, parents = strategy.ask(count), alive[-8:]
        if len(parents) == 8:
            distances += [min(distance(child, parent) for parent in parents) for child in proposed]
        strategy.tell([answer(sample) for sample in proposed])
        alive += proposed
    # Children who had been proposed before were changed once more.
    assert distances.count(1) + distances.count(2) == len(distances) == 47
    assert distances.count(1) > 40


def test_oldest_member_is_removed_regardless_of_reward(space):
    strategy = Evolution(space, 0, population=5, tournament=20)
    best = strategy.ask(5)[0]
    strategy.tell([make_observation(best, 0.9), *(make_observation((0,) * len(best), 0.1) for _ in range(4))])
    assert distance(strategy.ask(1)[0], best) == 1
    strategy.tell([make_observation((1,) * len(best), 0.2)])
    child = strategy.ask(1)[0]
    assert distance(child, best) > 1
    assert distance(child, (1,) * len(best)) == 1


def distance(one: Sample, other: Sample) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_nsga2_moves_toward_feasible_region(space):
    # Samples with a first index above 0 are infeasible, and half of the others because of their last index.
    objective = SearchObjective(target=3e8, form="constraint")

    def refuse(sample: Sample) -> Observation:
        cost = 3e8 * (1 + sum(sample) / len(sample))
        return make_observation(sample, None, cost, objective)

    proposed = drive(nsga2(space, 0, objective), [20] * 20, refuse)
    first, last = (np.mean([sum(sample) for sample in batch]) for batch in (proposed[0], proposed[-1]))
    assert last < first / 2


COUNTS = (3, 2, 2, 5, 2, 3, 3, 1, 4)


@pytest.mark.parametrize(("counts", "scale"), [(COUNTS, 1.0), (COUNTS * 4, 8.0), ((2,), 8.0)])
def test_controller_matches_torch(counts, scale):
    rng = np.random.default_rng(0)
    controller = Controller(counts, hidden=7, embedding=5)
    weights = ControllerWeights(*(scale * array for array in controller.make_weights(rng)))
    tokens = controller.draw(weights, 6, rng)
    forward = controller.forward(weights, tokens)
    to_log_probs, to_entropies = rng.normal(size=(2, *tokens.shape))
    gradients = controller.backward(weights, forward, to_log_probs, to_entropies)

    theirs = ControllerWeights(*(torch.tensor(array, requires_grad=True) for array in weights))
    log_probs, entropies = by_torch(theirs, counts, torch.tensor(tokens))
    scalar = (log_probs * torch.tensor(to_log_probs) + entropies * torch.tensor(to_entropies)).sum()
    expected = torch.autograd.grad(scalar, tuple(theirs))
    np.testing.assert_allclose(forward.log_probs, log_probs.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(forward.entropies, entropies.detach().numpy(), rtol=0, atol=1e-12)
    for field, gradient, wanted in zip(ControllerWeights._fields, gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted.numpy(), rtol=1e-10, atol=1e-12, err_msg=field)
    assert np.abs(gradients.heads).max() > 1e-3


def by_torch(
    weights: ControllerWeights, counts: tuple[int, ...], tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    cell = torch.nn.LSTMCell(weights.input.shape[1], weights.state.shape[1], dtype=torch.float64)
    named = {
        "weight_ih": weights.input,
        "weight_hh": weights.state,
        "bias_ih": weights.bias,
        "bias_hh": torch.zeros_like(weights.bias),
    }
    state = memory = torch.zeros(len(tokens), weights.state.shape[1], dtype=torch.float64)
    token = torch.zeros(len(tokens), dtype=torch.int64)
    log_probs, entropies = [], []
    for place, count in enumerate(counts):
        state, memory = functional_call(cell, named, (weights.tokens[place, token], (state, memory)))
        logits = state @ weights.heads[place, :count].T + weights.head_bias[place, :count]
        drawn_from = torch.distributions.Categorical(logits=logits)
        token = tokens[:, place]
        log_probs.append(drawn_from.log_prob(token))
        entropies.append(drawn_from.entropy())
    return torch.stack(log_probs, 1), torch.stack(entropies, 1)


def test_probabilities_sum_to_one_and_match_sampling():
    counts, rng = (3, 2, 1, 4), np.random.default_rng(1)
    controller = Controller(counts, hidden=6, embedding=4)
    weights = ControllerWeights(*(10 * array for array in controller.make_weights(rng)))
    everything = np.stack(np.unravel_index(np.arange(24), counts), axis=1)
    forward = controller.forward(weights, everything)
    probabilities = np.exp(forward.log_probs.sum(axis=1))
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    # The entropy of a whole is the expected sum of the entropies of its parts.
    whole = -(probabilities * np.log(probabilities)).sum()
    assert probabilities @ forward.entropies.sum(axis=1) == pytest.approx(whole, abs=1e-12)
    drawn = controller.draw(weights, 20000, rng)
    result = np.bincount(np.ravel_multi_index(drawn.T, counts), minlength=24)
    expected = 20000 * probabilities
    # A chi-squared variable with at most 23 degrees of freedom is above 60 once in 40000 times.
    assert ((result - expected) ** 2 / expected).sum() < 60


def test_adam_matches_torch():
    rng = np.random.default_rng(0)
    weights = Controller((3, 2), hidden=3, embedding=2).make_weights(rng)
    adam = Adam(weights, 0.01)
    theirs = [torch.tensor(array) for array in weights]
    optimizer = torch.optim.Adam(theirs, lr=0.01)
    for _ in range(5):
        gradients = ControllerWeights(*(rng.normal(size=array.shape) for array in weights))
        weights = adam.step(weights, gradients)
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = torch.tensor(gradient)
        optimizer.step()
    for ours, tensor in zip(weights, theirs, strict=True):
        np.testing.assert_allclose(ours, tensor.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1, 10, 40])
def test_ppo_learns_better_token(space, size):
    place, option = 5, 1

    def answer(sample: Sample) -> Observation:
        return make_observation(sample, 0.7 if sample[place] == option else 0.6)

    proposed = drive(make_strategy("ppo", space, 0, OBJECTIVE), [size] * (200 // size), answer)
    flat = [sample[place] == option for batch in proposed for sample in batch]
    assert np.mean(flat[:20]) < 0.8
    assert np.mean(flat[-40:]) > 0.9


def test_ppo_learns_conditional_token():
    """A policy without memory cannot learn this: each option alone is equally good."""

    def answer(sample: Sample) -> Observation:
        return make_observation(sample, 0.7 if sample[0] == sample[3] else 0.6)

    proposed = drive(PPO(SIXTEEN, 0, PpoSettings(entropy=0.3)), [10] * 40, answer)
    last = [sample for batch in proposed[-5:] for sample in batch]
    assert np.mean([sample[0] == sample[3] for sample in last]) > 0.9

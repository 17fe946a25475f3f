"""The loop of a baseline search, with a closed-form surface in place of training."""

import pytest

from triscale.errors import SearchError
from triscale.families import get
from triscale.network.cost import count_network
from triscale.search.baseline.explore import (
    BaselineSearchResult,
    SearchPlan,
    best_of,
    compared,
    explore,
    front_of,
    limits_of,
)
from triscale.search.baseline.objective import SearchObjective
from triscale.search.baseline.options import Choices, Options
from triscale.search.baseline.space import around, make_space
from triscale.search.baseline.strategies.random_search import RandomSearch
from triscale.search.coefficients.methods import Halving
from triscale.search.study.trial import Proxy, Score

SPACE = around(get("mobilenet_v2@32"), "small")
OBJECTIVE = SearchObjective(target=20e6)
PROXY = Proxy(epochs=9, images=100, seeds=(0,))


class Recorded:
    """Evaluates jobs by a formula and records them."""

    def __init__(self):
        self.jobs = []

    def __call__(self, jobs):
        self.jobs += jobs
        return [Score(self.accuracy(job), 0.01) for job in jobs]

    @staticmethod
    def accuracy(job):
        macs = count_network(job.network).macs
        return (1 - (1e6 / macs) ** 0.3) * (1 - 0.5 / job.stop) + int(job.network.structure[:4], 16) % 100 / 1e4


def macs(network):
    return count_network(network).macs


def look(plan, evaluate=None, objective=OBJECTIVE, space=SPACE, seed=0, **more):
    evaluate = evaluate or Recorded()
    return explore(space, objective, RandomSearch(space, seed), plan, PROXY, evaluate, macs, **more), evaluate


def test_planned_number_of_distinct_networks_is_trained():
    evaluated, evaluate = look(SearchPlan(trials=20, batch=6))
    assert len(evaluated) == 20
    assert len({one.structure for one in evaluated}) == 20
    assert len(evaluate.jobs) == 20
    assert [one.batch for one in evaluated] == [0] * 6 + [1] * 6 + [2] * 6 + [3] * 2
    for one in evaluated:
        assert one.reward == pytest.approx(OBJECTIVE.reward(one.accuracy, one.macs))
        assert one.training_macs == 3 * one.macs * 100 * 9


def test_restarted_search_gives_same_result():
    first, _ = look(SearchPlan(trials=20, batch=6))
    second, _ = look(SearchPlan(trials=20, batch=6))
    assert first == second


def test_front_and_best_match_evaluated_networks():
    evaluated, _ = look(SearchPlan(trials=30, batch=10))
    best = best_of(evaluated)[0]
    assert evaluated[best].reward == max(one.reward for one in evaluated)
    on = front_of(evaluated)
    for index, one in enumerate(evaluated):
        beaten = any(other.accuracy > one.accuracy and other.cost <= one.cost for other in evaluated)
        assert (index in on) == (not beaten)


def test_halving_trains_best_third_longer():
    evaluated, evaluate = look(SearchPlan(trials=18, batch=9, halving=Halving(factor=3, first=1)))
    rewards = {
        (job.network.structure, job.stop): OBJECTIVE.reward(evaluate.accuracy(job), macs(job.network))
        for job in evaluate.jobs
    }
    trained = {stop: [name for name, end in rewards if end == stop] for stop in (1, 3, 9)}
    batches = {one.structure: one.batch for one in evaluated}
    assert len(trained[1]) == 18
    for stop, longer in ((1, 3), (3, 9)):
        for batch in (0, 1):
            so_far = [rewards[name, stop] for name in trained[stop] if batches[name] <= batch]
            least = sorted(so_far, reverse=True)[-(-len(so_far) // 3) - 1]  # the last of the best third, rounded up
            best = {name for name in trained[stop] if batches[name] == batch and rewards[name, stop] >= least}
            assert {name for name in trained[longer] if batches[name] == batch} == best
    assert {(job.start, job.stop) for job in evaluate.jobs} == {(0, 1), (1, 3), (3, 9)}
    assert {evaluated[index].epochs for index in compared(evaluated)} == {9}
    assert any(
        "stopped early" in sentence
        for sentence in limits_of(evaluated, SPACE, SearchPlan(trials=18), PROXY, None, in_full=False)
    )


def test_infeasible_candidates_are_reported_but_not_trained():
    objective = SearchObjective(target=80e6, form="constraint")
    evaluated, evaluate = look(SearchPlan(trials=20, batch=5), objective=objective)
    refused = [one for one in evaluated if one.accuracy is None]
    assert refused
    assert all(one.cost > 80e6 and one.reward < 0 and one.training_macs == 0 for one in refused)
    assert len(evaluate.jobs) == 20 - len(refused)
    assert all(evaluated[index].cost <= 80e6 for index in (*front_of(evaluated), *best_of(evaluated, 5)))


def test_unsatisfied_constraint_is_an_error():
    with pytest.raises(SearchError, match="none of the 4 proposed networks costs at most 10 macs; the nearest"):
        look(SearchPlan(trials=4, batch=2), objective=SearchObjective(target=10, form="constraint"))


def test_exhausted_space_ends_search():
    options = Options(
        operations=("mbconv",), kernels=(3,), expansions=(3, 6), se_ratios=(0.0,), skips=("identity",), widths=(1.0,),
        layers=(0,),
    )  # fmt: skip
    skeleton = get("mobilenet_v2@32")
    space = make_space("two", skeleton.replace(stages=skeleton.stages[:3]), Choices(options=(options,)))
    evaluated, _ = look(SearchPlan(trials=50, batch=4), space=space)
    assert len(evaluated) == 8
    sentences = limits_of(evaluated, space, SearchPlan(trials=50), PROXY, None, in_full=True)
    assert any("proposed nothing new after 8 of 50" in sentence for sentence in sentences)


def test_several_seeds_are_averaged():
    proxy = Proxy(epochs=2, images=10, seeds=(0, 1))

    def evaluate(jobs):
        return [Score(0.4 + 0.2 * job.seed, 0.03) for job in jobs]

    evaluated = explore(SPACE, OBJECTIVE, RandomSearch(SPACE, 0), SearchPlan(trials=2, batch=2), proxy, evaluate, macs)
    assert [one.accuracy for one in evaluated] == [pytest.approx(0.5)] * 2
    assert evaluated[0].error == pytest.approx(0.03 / 2**0.5)


def test_on_batch_is_called_per_batch():
    result = []
    look(SearchPlan(trials=10, batch=4), on_batch=lambda evaluated: result.append(len(evaluated)))
    assert result == [4, 8, 10]


def test_result_round_trips():
    evaluated, _ = look(SearchPlan(trials=6, batch=3))
    found = BaselineSearchResult(
        space=SPACE,
        objective=OBJECTIVE,
        strategy="random",
        evaluator="training",
        plan=SearchPlan(trials=6, batch=3),
        proxy=PROXY,
        evaluated=evaluated,
        front=front_of(evaluated),
        best=best_of(evaluated)[0],
        network=SPACE.network(evaluated[best_of(evaluated)[0]].sample),
        training_macs=1,
    )
    assert BaselineSearchResult.from_json(found.to_json()) == found

"""Rewards against the paper's statements, and the Pareto front against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.search.baseline.objective import SearchObjective, front


def test_doubling_cost_needs_five_percent_more_accuracy():
    objective = SearchObjective(target=75)
    dearer = objective.reward(0.5 * 1.05, 150)
    assert dearer == pytest.approx(objective.reward(0.5, 75), rel=2e-3)


def test_reward_at_target_is_accuracy():
    for form in ("soft", "hard", "constraint"):
        assert SearchObjective(target=400e6, form=form).reward(0.7, 400e6) == pytest.approx(0.7)


def test_hard_form_penalizes_only_above_target():
    objective = SearchObjective(target=100, form="hard")
    assert objective.reward(0.7, 50) == 0.7
    assert objective.reward(0.7, 200) == pytest.approx(0.35)


def test_constraint_ranks_infeasible_candidates_last():
    objective = SearchObjective(target=100, form="constraint")
    assert objective.admits(100)
    assert not objective.admits(101)
    assert objective.reward(1.0, 150) < objective.reward(1.0, 101) < objective.reward(0.0, 100)


points = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from([1.0, 2.0, 3.0])), min_size=1, max_size=12
)


@given(points)
def test_front_is_nondominated(pairs):
    accuracies, costs = zip(*pairs, strict=True)
    on = front(accuracies, costs)
    for index in range(len(pairs)):
        beaten = any(
            accuracies[other] >= accuracies[index] and costs[other] <= costs[index] and pairs[other] != pairs[index]
            for other in range(len(pairs))
        )
        if not beaten:
            assert pairs[index] in [pairs[at] for at in on]
        else:
            assert index not in on
    assert [costs[at] for at in on] == sorted({costs[at] for at in on})
    assert [accuracies[at] for at in on] == sorted({accuracies[at] for at in on})

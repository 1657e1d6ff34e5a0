"""Costs on another device, predicted from a few measured graphs and the costs of all graphs here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.search.retarget.transfer_model import GraphFeatures, TransferModel, spearman

FAMILIES, DEPLOYMENTS = ("vit", "efficientvit", "mobilevit"), ("fp32", "int8")
ANY_SEED = st.integers(0, 2**32 - 1)
SEEDS = st.sampled_from(range(40))
"""Of assertions that hold for nearly every seed: those that were tried."""


def graphs_of(seed: int, count: int = 30) -> list[GraphFeatures]:
    """Graphs of some families, each of which has a size of its own."""
    rng = np.random.default_rng(seed)
    size = dict(zip(FAMILIES, rng.normal(0.0, 1.5, 3), strict=True))
    graphs = []
    for _ in range(count):
        family, deployment = rng.choice(FAMILIES), rng.choice(DEPLOYMENTS)
        here = size[family] + rng.normal(0.0, 0.4)
        graphs.append(GraphFeatures(str(family), str(deployment), (here, here + rng.normal(0.0, 0.2))))
    return graphs


def costs_of(graphs: list[GraphFeatures], seed: int, noise: float = 0.02) -> np.ndarray:
    """A device with a level, a slope, and terms of families and deployments of its own."""
    rng = np.random.default_rng(seed)
    terms = {name: rng.normal(0.0, 0.2) for name in (*FAMILIES, *DEPLOYMENTS)}
    level, slope = rng.uniform(-3.0, 3.0), rng.normal(1.0, 0.1)
    exact = [level + slope * graph.logs[0] + terms[graph.family] + terms[graph.deployment] for graph in graphs]
    return np.array(exact) + rng.normal(0.0, noise, len(graphs))


def after(model: TransferModel, costs: np.ndarray, count: int):
    """The graphs that are measured first, and what is predicted from them."""
    measured: list[int] = []
    for _ in range(count):
        left = [index for index in range(len(costs)) if index not in measured]
        measured.append(model.most_informative(measured, left, np.ones(len(costs))))
    return measured, model.predict(measured, costs[measured], np.full(count, 0.005))


@given(SEEDS)
def test_ten_graphs_predict_the_others(seed):
    graphs = graphs_of(seed)
    costs = costs_of(graphs, seed)
    measured, predicted = after(TransferModel(graphs), costs, 10)
    rest = [index for index in range(len(graphs)) if index not in measured]
    assert np.median(np.abs(np.expm1(predicted.means[rest] - costs[rest]))) < 0.1


def test_the_intervals_hold_the_costs():
    inside = []
    for seed in range(40):
        graphs = graphs_of(seed)
        costs = costs_of(graphs, seed)
        measured, predicted = after(TransferModel(graphs), costs, 10)
        rest = [index for index in range(len(graphs)) if index not in measured]
        inside.append(np.abs(predicted.means[rest] - costs[rest]) <= 1.96 * predicted.deviations[rest])
    assert np.mean(inside) >= 0.95


@given(SEEDS, st.floats(-4.0, 4.0))
def test_costs_in_proportion_are_known_after_a_few_graphs(seed, level):
    graphs = graphs_of(seed)
    costs = np.array([graph.logs[0] + level for graph in graphs])
    predicted = TransferModel(graphs).predict([0, 1, 2], costs[:3], np.zeros(3))
    assert np.abs(predicted.means - costs).max() < 0.05


@given(SEEDS)
def test_a_measured_graph_is_predicted_to_cost_what_it_costs(seed):
    graphs = graphs_of(seed)
    costs = costs_of(graphs, seed)
    _, predicted = after(TransferModel(graphs), costs, 10)
    measured, _ = after(TransferModel(graphs), costs, 10)
    assert np.abs(predicted.means[measured] - costs[measured]).max() < 0.2


@given(ANY_SEED)
def test_the_order_of_the_graphs_does_not_matter(seed):
    graphs = graphs_of(seed)
    costs = costs_of(graphs, seed)
    shuffled = np.random.default_rng(seed).permutation(len(graphs))
    measured = list(range(8))
    predicted = TransferModel(graphs).predict(measured, costs[measured], np.zeros(8))
    other = TransferModel([graphs[index] for index in shuffled]).predict(
        [int(np.flatnonzero(shuffled == index)[0]) for index in measured], costs[measured], np.zeros(8)
    )
    assert other.means == pytest.approx(predicted.means[shuffled])
    assert other.deviations == pytest.approx(predicted.deviations[shuffled])


@given(SEEDS)
def test_a_wide_measurement_says_less(seed):
    graphs = graphs_of(seed)
    costs = costs_of(graphs, seed)
    model, measured = TransferModel(graphs), [0, 1, 2, 3]
    narrow, wide = (model.predict(measured, costs[measured], np.full(4, deviation)) for deviation in (0.001, 1.0))
    assert wide.deviations.mean() > narrow.deviations.mean()


def test_each_graph_is_left_out_of_its_own_prediction():
    graphs = graphs_of(0)
    costs = costs_of(graphs, 0)
    measured = list(range(10))
    costs[4] += 3.0
    predicted = TransferModel(graphs).leave_one_out(measured, costs[measured], np.zeros(10))
    alone = [0, 1, 2, 3, 5, 6, 7, 8, 9]
    expected = TransferModel(graphs).predict(alone, costs[alone], np.zeros(9))
    assert predicted.means[4] == pytest.approx(expected.means[4])
    assert predicted.deviations[4] == pytest.approx(expected.deviations[4])


@given(ANY_SEED)
def test_what_is_measured_first_has_every_family_and_nothing_twice(seed):
    graphs = graphs_of(seed)
    measured, _ = after(TransferModel(graphs), costs_of(graphs, seed), 10)
    assert len(set(measured)) == 10
    assert {graphs[index].family for index in measured} == {graph.family for graph in graphs}


def test_a_graph_is_measured_where_the_weights_are():
    graphs = [GraphFeatures(family, "fp32", (0.0, 0.0)) for family in ("vit", "swin") for _ in range(4)]
    weights = np.array([0.0] * 4 + [1.0] * 4)
    assert TransferModel(graphs).most_informative([], range(8), weights) >= 4


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=20, unique=True))
def test_the_rank_correlation_sees_the_order_alone(values):
    series = np.array(values, dtype=float)
    assert spearman(series, np.exp(series / 100)) == pytest.approx(1.0)
    assert spearman(series, -series) == pytest.approx(-1.0)


def test_equal_values_have_no_rank_correlation_and_ties_share_a_rank():
    assert spearman(np.ones(3), np.arange(3.0)) is None
    assert spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.866, abs=1e-3)

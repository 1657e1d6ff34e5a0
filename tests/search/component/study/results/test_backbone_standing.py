"""The backbones of a finished study beside each other."""

from vitsearch.cli.results.explain import backbones_table
from vitsearch.study.front import read_models
from vitsearch.study.results.backbone_standing import BackboneStanding, BestFigure, standings
from vitsearch.study.results.explanation import Explanation, read_explanation


def test_the_best_figures_are_those_of_models_within_the_limits(finished):
    with finished.opened() as (study, ledger):
        front = read_models(study, ledger)
    (fake,) = standings(front)
    feasible = [point for point in (*front.points, *front.others) if point.feasible]
    assert (fake.backbone, fake.within_limits) == ("fake_vit", len(feasible))
    assert fake.on_front == tuple(sorted(point.trial for point in front.points))
    accuracy, cost = fake.best_in("accuracy"), fake.best_in("cpu_ms_p50")
    assert accuracy.value == max(point.metrics.value("accuracy") for point in feasible)
    assert cost.value == min(point.metrics.value("cpu_ms_p50") for point in feasible)
    assert accuracy.low <= accuracy.value <= accuracy.high


def test_an_explanation_has_the_backbones(finished):
    with finished.opened() as (study, ledger):
        assert [row.backbone for row in read_explanation(study, ledger).backbones] == ["fake_vit"]


def test_a_backbone_without_a_model_in_the_limits_has_no_figures():
    rows = (
        BackboneStanding("resnet18", 3, 1, 1, (4,), (BestFigure("accuracy", 4, 0.91, 0.9, 0.92),)),
        BackboneStanding("convnext_atto", 2, 0, 0, (), ()),
    )
    table = backbones_table(Explanation("s", False, (), (), backbones=rows))
    assert table.rows[1][:4] == ["convnext_atto", "2", "0", "0"]
    assert table.rows[0][:4] == ["resnet18", "3", "1 (+1 not judged)", "1"]

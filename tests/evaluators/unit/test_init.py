import vitsearch_evaluators


def test_exports_exist_and_are_sorted():
    names = vitsearch_evaluators.__all__
    assert [name for name in names if not hasattr(vitsearch_evaluators, name)] == []
    assert names == sorted(names)

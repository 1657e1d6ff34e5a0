import vitsearch_agent


def test_exports_exist_and_are_sorted():
    names = vitsearch_agent.__all__
    assert [name for name in names if not hasattr(vitsearch_agent, name)] == []
    assert names == sorted(names)

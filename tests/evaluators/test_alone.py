from vitsearch_evaluators import alone


def test_who_waits_is_told_why(capsys):
    alone.say("cooling", until_c=45.0, at_most_s=300)
    assert capsys.readouterr().err == "vitsearch-agent: cooling (until_c 45.0, at_most_s 300)\n"

import os

from hypothesis import given
from hypothesis import strategies as st

from vitsearch_agent.cli.parser import parser
from vitsearch_agent.cli.service.options import DEFAULT, ServiceOptions

TEXT = st.none() | st.text("abc/ -%$\"'", min_size=1, max_size=8)
OPTIONS = st.builds(
    ServiceOptions, st.sampled_from(["127.0.0.1", "::"]), st.integers(1, 65535), TEXT, TEXT, st.booleans(), TEXT, TEXT
)


@given(OPTIONS)
def test_options_survive_json(options):
    assert ServiceOptions.from_json(options.to_json()) == options


def test_default_options_are_not_stored():
    assert DEFAULT.to_json() == {}


def test_the_arguments_are_accepted_by_serve():
    options = ServiceOptions("0.0.0.0", 9000, None, "/t", False, "/c", "/k", False, "1")
    arguments = parser().parse_args(options.serve_arguments("/st"))
    values = {"host": "0.0.0.0", "port": 9000, "token_file": "/t", "tls_cert": "/c", "tls_key": "/k", "cpus": "1"}
    assert {name: getattr(arguments, name) for name in values} == values
    assert (arguments.state, arguments.port_file) == ("/st", "/st/listening.json")
    for flag in ("tls", "insecure_plaintext"):
        assert getattr(parser().parse_args(ServiceOptions(**{flag: True}).serve_arguments("/st")), flag) is True


def test_encryption_and_plaintext_cancel_each_other():
    plain = ServiceOptions(host="0.0.0.0", insecure_plaintext=True)
    encrypted = plain.with_options({"tls_cert": "/c", "tls_key": "/k"})
    assert encrypted == ServiceOptions(host="0.0.0.0", tls_cert="/c", tls_key="/k")
    assert encrypted.with_options({"insecure_plaintext": True}) == plain
    assert encrypted.with_options({"port": 9000}) == encrypted._replace(port=9000)


def test_paths_become_absolute():
    options = DEFAULT.with_options({"state": "st", "tls_cert": "/c"})
    assert (options.state, options.tls_cert) == (os.path.abspath("st"), "/c")

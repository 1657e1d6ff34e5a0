from vitsearch_evaluators.measure.child import peak_memory


def test_the_high_water_mark_is_read_in_decimal_megabytes(tmp_path):
    (tmp_path / "status").write_text("Name:\tpython\nVmHWM:\t   1000 kB\nVmRSS:\t 500 kB\n")
    assert peak_memory.peak_rss_mb(str(tmp_path)) == (1.024, None)
    assert peak_memory.current_rss_mb(str(tmp_path)) == (0.512, None)


def test_missing_values_have_a_reason(tmp_path):
    reading = peak_memory.peak_rss_mb(str(tmp_path))
    assert reading.value_mb is None
    assert "cannot be read" in reading.reason
    (tmp_path / "status").write_text("Name:\tpython\n")
    assert "has no VmHWM" in peak_memory.peak_rss_mb(str(tmp_path)).reason
    assert "cannot be written" in peak_memory.reset_peak(str(tmp_path / "none"))


def test_a_reset_writes_5_to_clear_refs(tmp_path):
    (tmp_path / "clear_refs").write_text("")
    assert peak_memory.reset_peak(str(tmp_path)) is None
    assert (tmp_path / "clear_refs").read_text() == "5"

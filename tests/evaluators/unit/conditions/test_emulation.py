from vitsearch_agent.base.system import Output, System
from vitsearch_agent.conditions.emulation import DeviceTree, describe, emulated_system
from vitsearch_agent.conditions.processor import cpu_model
from vitsearch_agent.config import EmulationConfig


def test_an_emulated_system_reads_its_tree(tmp_path):
    tree = DeviceTree(str(tmp_path / "tree"))
    tree.zone(0, "cpu-thermal", 48300)
    system = emulated_system(EmulationConfig(8.0, tree.root), str(tmp_path))
    assert system.number("/sys/class/thermal/thermal_zone0/temp") == 48300


def test_an_emulated_system_without_a_tree_reads_nothing_of_this_machine(tmp_path):
    system = emulated_system(EmulationConfig(8.0), str(tmp_path))
    assert system.read("/proc/cpuinfo").text is None
    assert system.glob("/proc/*") == []


def test_commands_are_answered_from_the_tree(tmp_path):
    tree = DeviceTree(str(tmp_path / "emulated"))
    tree.command(["vcgencmd", "get_throttled"], "throttled=0x0")
    system = emulated_system(EmulationConfig(), str(tmp_path))
    assert system.run(["vcgencmd", "get_throttled"]) == Output("throttled=0x0\n", None)
    assert "the emulated device does not have it" in system.run(["true"]).reason


def test_the_description_has_the_method_the_slowdown_and_the_host_processor():
    description = describe(EmulationConfig(8.0))
    assert description == {"method": "declared slowdown", "slowdown": 8.0, "host_cpu": cpu_model(System())}

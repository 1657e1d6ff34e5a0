import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree, emulated_system
from vitsearch_agent.conditions.power_mode import PowerMode, parse_nvpmodel, parse_nvpmodel_status, settings

VERBOSE = """NVPM VERB: Config file: /etc/nvpmodel.conf
NVPM VERB: parsing done for /etc/nvpmodel.conf
NV Fan Mode:quiet
NVPM VERB: Current mode: NV Power Mode: MODE_15W_6CORE
2
NVPM VERB: PARAM CPU_ONLINE: ARG CORE_0: PATH /sys/devices/system/cpu/cpu0/online: REAL_VAL: 1 CONF_VAL: 1
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NV Power Mode: MAXN\n0\n", PowerMode("MAXN (0)", None)),
        ("NVPM WARN: fan mode is not set!\nNV Power Mode: 5W\n1\n", PowerMode("5W (1)", None)),
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_15W_6CORE\n2\n", PowerMode("MODE_15W_6CORE (2)", "quiet")),
        ("NV Power Mode: MAXN_SUPER\n2\n", PowerMode("MAXN_SUPER (2)", None)),
        (VERBOSE, PowerMode("MODE_15W_6CORE (2)", "quiet")),
        ("NV Power Mode: 15W\n", PowerMode("15W", None)),
        ("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13\n", PowerMode(None, None)),
        ("", PowerMode(None, None)),
    ],
)
def test_nvpmodel_output_is_parsed(text, expected):
    assert parse_nvpmodel(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pmode:0002", PowerMode("(2)", None)),
        ("pmode:0000 fmode:quiet", PowerMode("(0)", "quiet")),
        ("pmode:\n", PowerMode(None, None)),
        ("", PowerMode(None, None)),
    ],
)
def test_the_status_file_of_nvpmodel_is_parsed(text, expected):
    assert parse_nvpmodel_status(text) == expected


def policy(tree, number, cpus, low, high, governor="schedutil"):
    folder = f"/sys/devices/system/cpu/cpufreq/policy{number}"
    tree.write(f"{folder}/related_cpus", cpus)
    tree.write(f"{folder}/scaling_governor", governor)
    tree.write(f"{folder}/scaling_min_freq", low)
    tree.write(f"{folder}/scaling_max_freq", high)


def gpu(tree, low, high, name="17000000.gpu"):
    folder = f"/sys/class/devfreq/{name}"
    tree.write(f"{folder}/governor", "nvhost_podgov")
    tree.write(f"{folder}/min_freq", low)
    tree.write(f"{folder}/max_freq", high)


@pytest.fixture
def tree(tmp_path):
    return DeviceTree(str(tmp_path / "emulated"))


@pytest.fixture
def jetson(tree, tmp_path):
    """An Orin Nano at 15 W, as a system whose commands are answered from the tree."""
    from vitsearch_agent.config import EmulationConfig

    tree.write("/etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >")
    tree.command(["nvpmodel", "-q"], "NV Power Mode: 15W\n0")
    tree.write("/etc/nvfancontrol.conf", "FAN_DEFAULT_GOVERNOR pid\n\tFAN_DEFAULT_PROFILE quiet")
    tree.write("/sys/class/hwmon/hwmon2/pwm1_enable", 2)
    tree.write("/sys/devices/system/cpu/online", "0-5")
    policy(tree, 0, "0 1 2 3", 729600, 1497600)
    policy(tree, 4, "4 5", 729600, 1497600)
    gpu(tree, 306000000, 612000000)
    return emulated_system(EmulationConfig(), str(tmp_path))


def test_the_settings_of_a_jetson(jetson):
    values = settings(jetson)
    assert values["power_mode"] == "15W (0)"
    assert values["jetson_clocks"] is False
    assert values["online"] == "0-5"
    assert values["clusters"] == [
        {
            "cpus": ["0", "1", "2", "3", "4", "5"],
            "governor": "schedutil",
            "preference": None,
            "min_khz": 729600,
            "max_khz": 1497600,
        }
    ]
    assert values["devfreq"]["17000000.gpu"] == {
        "governor": "nvhost_podgov",
        "min_hz": 306000000,
        "max_hz": 612000000,
    }
    assert values["fan"] == {"profile": "quiet", "control": ["2"]}


def test_jetson_clocks_is_on_when_every_frequency_is_fixed(jetson, tree):
    policy(tree, 0, "0 1 2 3", 1497600, 1497600)
    policy(tree, 4, "4 5", 1497600, 1497600)
    assert settings(jetson)["jetson_clocks"] is False
    gpu(tree, 612000000, 612000000)
    assert settings(jetson)["jetson_clocks"] is True


def test_without_permission_for_nvpmodel_its_status_file_is_read(jetson, tree):
    tree.command(["nvpmodel", "-q"], "NVPM ERROR: Error opening file")
    tree.write("/var/lib/nvpmodel/status", "pmode:0001 fmode:cool")
    values = settings(jetson)
    assert (values["power_mode"], values["fan"]["profile"]) == ("(1)", "cool")


def test_the_fan_profile_in_use_takes_precedence_over_the_default(jetson, tree):
    tree.write("/var/lib/nvfancontrol/status", "FAN1:FAN_PROFILE:cool\nFAN1:FAN_GOVERNOR:cont")
    assert settings(jetson)["fan"]["profile"] == "cool"


def test_clusters_with_different_settings_are_listed_separately(tree):
    policy(tree, 0, "0 1 2 3", 408000, 1800000)
    policy(tree, 4, "4 5", 408000, 2400000, "performance")
    clusters = settings(System(tree.root))["clusters"]
    assert [(cluster["cpus"][0], cluster["max_khz"]) for cluster in clusters] == [("0", 1800000), ("4", 2400000)]


@pytest.mark.parametrize(
    ("path", "value", "boost"),
    [("cpufreq/boost", 0, False), ("cpufreq/boost", 1, True), ("intel_pstate/no_turbo", 1, False)],
)
def test_boost(tree, path, value, boost):
    tree.write("/sys/devices/system/cpu/" + path, value)
    assert settings(System(tree.root))["boost"] is boost


SWAPS = """Filename                                Type            Size            Used            Priority
/dev/zram0                              partition       1014808         {used}          5
/dev/zram1                              partition       1014808         0               5
/mnt/4GB.swap                           file            4194300         0               -2
"""


def test_swap_is_counted_by_kind_and_independent_of_its_use(tree):
    tree.write("/proc/swaps", SWAPS.format(used=0))
    swap_mb = settings(System(tree.root))["swap_mb"]
    assert swap_mb == {"file": 4288, "zram": 2048}
    tree.write("/proc/swaps", SWAPS.format(used=99999))
    assert settings(System(tree.root))["swap_mb"] == swap_mb


def test_the_limits_of_an_integrated_gpu_are_settings(tree):
    """i915 has them beside the card; the frequency at present is none of them."""
    card = "/sys/class/drm/card1"
    for name, mhz in (("min", 300), ("max", 1300), ("boost", 1300), ("cur", 450), ("RP0", 1300)):
        tree.write(f"{card}/gt_{name}_freq_mhz", mhz)
    limits = {"min_mhz": 300, "max_mhz": 1300, "boost_mhz": 1300}
    assert settings(System(tree.root))["gpus"] == [limits]
    tree.write(f"{card}/gt_cur_freq_mhz", 1300)
    assert settings(System(tree.root))["gpus"] == [limits]
    tree.write(f"{card}/gt_max_freq_mhz", 600)
    assert settings(System(tree.root))["gpus"] == [dict(limits, max_mhz=600)]


def test_the_limits_of_each_part_of_a_gpu_are_settings_whatever_its_number(tree):
    """xe has them for each GT, in the folder of the device."""
    for card, gt, low, high in ((0, 0, 300, 2050), (0, 1, 300, 1300), (1, 0, 400, 2400)):
        frequency = f"/sys/class/drm/card{card}/device/tile0/gt{gt}/freq0"
        tree.write(f"{frequency}/min_freq", low)
        tree.write(f"{frequency}/max_freq", high)
        tree.write(f"{frequency}/act_freq", 0)
    gpus = settings(System(tree.root))["gpus"]
    assert [(gpu["min_mhz"], gpu["max_mhz"], gpu["boost_mhz"]) for gpu in gpus] == [
        (300, 1300, None),
        (300, 2050, None),
        (400, 2400, None),
    ]


def test_a_machine_without_any_files_has_empty_settings(tree):
    assert settings(System(tree.root)) == {
        "online": None,
        "clusters": [],
        "boost": None,
        "devfreq": {},
        "gpus": [],
        "power_mode": None,
        "jetson_clocks": None,
        "fan": {"profile": None, "control": []},
        "swap_mb": {},
    }

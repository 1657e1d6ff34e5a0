"""Lines that tegrastats printed on Jetsons of JetPack 4 to 7, each with the public document that shows it.

No Jetson was at hand: the power that the agent reads from these lines is all that is known of it on such a board.
"""

from typing import NamedTuple


class RecordedLine(NamedTuple):
    """A line, and the power that the agent reads from it.

    Attributes:
        board: The Jetson, as its document names it.
        jetpack: The main version of JetPack.
        source: The repository and file or thread, at github.com.
        text: The line.
        total_w: The power of the board or module in watts; None where no rail is its input.
        reason: Part of the reason where there is no total.
    """

    board: str
    jetpack: int
    source: str
    text: str
    total_w: float | None
    reason: str | None = None


_DATADOG = "DataDog/datadog-agent pkg/collector/corechecks/system/gpu/nvidia/tegra_test.go"
_TEGRA_EXPORTER = "lesomnus/tegra-exporter stats/parse_test.go"

NANO = RecordedLine(
    "Nano",
    4,
    _DATADOG,
    "RAM 613/3964MB (lfb 634x4MB) SWAP 0/1982MB (cached 0MB) CPU [2%@102,1%@102,0%@102,0%@102] EMC_FREQ 0% "
    "GR3D_FREQ 0% PLL@39C CPU@40.5C PMIC@100C GPU@41C AO@46C thermal@41C POM_5V_IN 943/943 POM_5V_GPU 0/0 "
    "POM_5V_CPU 123/123",
    0.943,
)
TX1 = RecordedLine(
    "TX1",
    4,
    _DATADOG,
    "RAM 1179/3983MB (lfb 120x4MB) IRAM 0/252kB(lfb 252kB) CPU [1%@102,4%@102,0%@102,0%@102] EMC_FREQ 7%@408 "
    "GR3D_FREQ 0%@76 APE 25 AO@42.5C CPU@37.5C GPU@39C PLL@37C Tdiode@42.75C PMIC@100C Tboard@42C thermal@38.5C "
    "VDD_IN 2532/2698 VDD_CPU 76/178 VDD_GPU 19/19",
    2.532,
)
TX2 = RecordedLine(
    "TX2",
    4,
    _DATADOG,
    "RAM 1345/7829MB (lfb 1290x4MB) SWAP 0/512MB (cached 0MB) CPU [2%@345,off,off,off,off,off] EMC_FREQ 13%@40 "
    "GR3D_FREQ 0%@114 APE 150 BCPU@35C MCPU@35C GPU@41C PLL@35C AO@35.5C Tboard@35C Tdiode@36C PMIC@100C "
    "thermal@35.5C VDD_IN 2003/2658 VDD_CPU 320/518 VDD_GPU 400/735 VDD_SOC 400/415 VDD_WIFI 0/0 VDD_DDR 240/348",
    2.003,
)
TX2_SYS = RecordedLine(
    "TX2 with the labels of L4T 32",
    4,
    "henrygd/beszel/pull/1631",
    "RAM 3276/7859MB (lfb 5x4MB) SWAP 1626/12122MB (cached 181MB) CPU [44%@1421,49%@2031,67%@2034,17%@1420,25%@1419,"
    "8%@1420] EMC_FREQ 1%@1866 GR3D_FREQ 0%@114 APE 150 MTS fg 1% bg 1% PLL@42.5C MCPU@42.5C PMIC@50C Tboard@38C "
    "GPU@39.5C BCPU@42.5C thermal@41.3C Tdiode@39.25C VDD_SYS_GPU 182/182 VDD_SYS_SOC 730/730 VDD_4V0_WIFI 0/0 "
    "VDD_IN 5297/5297 VDD_SYS_CPU 1917/1917 VDD_SYS_DDR 1241/1241",
    5.297,
)
AGX_XAVIER = RecordedLine(
    "AGX Xavier",
    4,
    "martinkersner/gtop/pull/7",
    "RAM 14700/15692MB (lfb 3x2MB) SWAP 898/8192MB (cached 23MB) CPU [0%@1190,0%@1190,0%@1190,0%@1190,0%@1190,"
    "0%@1190,0%@1190,0%@1190] EMC_FREQ 0% GR3D_FREQ 0% AO@30C GPU@30.5C Tboard@31C Tdiode@32C AUX@30.5C CPU@31.5C "
    "thermal@30.8C PMIC@100C GPU 463/463 CPU 618/618 SOC 2936/2936 CV 0/0 VDDRQ 309/309 SYS5V 3306/3306",
    7.632,
)
AGX_ORIN_5 = RecordedLine(
    "AGX Orin",
    5,
    "Muxindawang/jetson_dla_tutorial README.md",
    "11-21-2025 08:49:48 RAM 13983/62780MB (lfb 424x4MB) SWAP 126/31390MB (cached 0MB) CPU [90%@2201,100%@2201,"
    "100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201,100%@2201] "
    "EMC_FREQ 1%@2133 GR3D_FREQ 14%@[407,407] VIC_FREQ 115 NVDLA0_FREQ @1600 APE 174 CV0@73.625C CPU@77.281C "
    "Tboard@62C SOC2@70C Tdiode@62.25C SOC0@69.531C CV1@72.5C GPU@69.125C tj@77.281C SOC1@68.968C CV2@67.25C "
    "VDD_GPU_SOC 3150mW/2971mW VDD_CPU_CV 14312mW/12415mW VIN_SYS_5V0 4968mW/5048mW VDDQ_VDD2_1V8AO 1091mW/1091mW",
    22.43,
)
ORIN_NANO = RecordedLine(
    "Orin Nano",
    6,
    "henrygd/beszel/issues/286, agent/gpu_test.go",
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU [15%@729,11%@729,14%@729,"
    "13%@729,11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] NVDEC off NVJPG off NVJPG1 off VIC off OFA off "
    "APE 200 cpu@53.968C soc2@52.437C soc0@50.75C gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW "
    "VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC 2817mW/2817mW",
    12.479,
)
AGX_ORIN_6 = RecordedLine(
    "AGX Orin, L4T 36.4.4",
    6,
    _TEGRA_EXPORTER,
    "05-09-2026 18:42:08 RAM 18203/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [14%@729,5%@1648,4%@1645,"
    "3%@2050,3%@1113,0%@1113,0%@1113,70%@1113,4%@1651,32%@1651,3%@1651,15%@1651] EMC_FREQ 2%@2133 GR3D_FREQ 0%@[0,0] "
    "NVENC 78%@179 NVDEC off NVJPG off NVJPG1 off VIC 37%@115 OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 "
    "cpu@52.156C soc2@48.468C soc0@49.218C tj@52.156C soc1@49.625C VDD_GPU_SOC 2412mW/2412mW VDD_CPU_CV 1607mW/1607mW "
    "VIN_SYS_5V0 4707mW/4674mW",
    8.726,
)
THOR = RecordedLine(
    "AGX Thor, shortened by its author",
    7,
    "sunggonkim/JetsonDLAGreen tests/test_tegrastats_telemetry.py",
    "08-08-2026 21:00:39 RAM 8353/125749MB (lfb 31x4MB) CPU [90%@2601,75%@2601,off,7%@2601] EMC_FREQ 34%@4266 "
    "GR3D_FREQ 87%@[1574,1574,1574] NVENC0_FREQ @1691 VIC off cpu@58.25C/61.75C tj@66.625C/66.625C "
    "gpu@56.937C/66.625C soc012@55.375C/58.781C soc345@55.812C/60.031C VDD_GPU 37939mW/8660mW/37939mW "
    "VDD_CPU_SOC_MSS 30059mW/12281mW/30059mW VIN_SYS_5V0 15486mW/7424mW/15486mW VIN 124486mW/36487mW/124486mW",
    124.486,
)
THOR_38_WITHOUT_INPUT = RecordedLine(
    "AGX Thor, L4T 38.4, without VIN",
    7,
    _TEGRA_EXPORTER,
    "05-17-2026 10:00:33 RAM 4280/125773MB (lfb 29x4MB) SWAP 0/2048MB (cached 0MB) CPU [0%@972,0%@972,0%@972,0%@972,"
    "1%@972,0%@972,1%@972,0%@972,0%@2601,17%@2601,1%@972,9%@972,0%@972,1%@972] EMC_FREQ 0%@665 GR3D_FREQ @[0,0,0] "
    "NVENC0_FREQ @0 NVENC1_FREQ @0 NVDEC0_FREQ @0 NVDEC1_FREQ @0 NVJPG0_FREQ @0 VIC off OFA_FREQ @0 PVA0_FREQ off "
    "APE 300 cpu@35.25C tj@36.031C soc012@36.062C soc345@34.5C VDD_GPU 0mW/0mW VDD_CPU_SOC_MSS 4923mW/4544mW "
    "VIN_SYS_5V0 4327mW/4227mW",
    None,
    "no known total among the rails VDD_CPU_SOC_MSS, VDD_GPU, VIN_SYS_5V0",
)
THOR_39_WITHOUT_INPUT = RecordedLine(
    "AGX Thor, L4T 39.2, without VIN",
    7,
    _TEGRA_EXPORTER,
    "07-23-2026 15:29:27 RAM 9091/125811MB (lfb 19x4MB) SWAP 0/2048MB (cached 0MB) CPU [40%@972,16%@972,18%@972,"
    "20%@972,13%@972,11%@972,15%@972,19%@972,10%@972,15%@972,28%@972,11%@972,11%@972,15%@972] EMC_FREQ 7%@3200 "
    "GR3D_FREQ @[314,314,314] NVENC0_FREQ @1556 NVENC1_FREQ @1556 NVDEC0_FREQ @1556 NVDEC1_FREQ @1556 "
    "NVJPG0_FREQ @1556 VIC 59%@423 OFA_FREQ @1556 PVA0_FREQ off APE 300 cpu@34.312C/34.843C tj@35.906C/35.906C "
    "soc012@34.093C/34.437C gpu@35.906C/35.906C soc345@34.437C/34.437C VDD_GPU 4925mW/4925mW/4925mW "
    "VDD_CPU_SOC_MSS 7953mW/8332mW/8710mW VIN_SYS_5V0 6667mW/6717mW/6767mW",
    None,
    "no known total among the rails VDD_CPU_SOC_MSS, VDD_GPU, VIN_SYS_5V0",
)
TX1_OF_L4T_28 = RecordedLine(
    "TX1, L4T 28.1, whose tool prints no rails",
    3,
    "hordiales/jetson-tx1-dev SCRIPTS.md",
    "RAM 3468/3983MB (lfb 48x4MB) SWAP 873/8192MB (cached 295MB) cpu [17%,13%,29%,5%]@408 EMC 1%@408 APE 25 GR3D 3%@76",
    None,
    "no rail has a label",
)

LINES = (
    NANO,
    TX1,
    TX2,
    TX2_SYS,
    AGX_XAVIER,
    AGX_ORIN_5,
    ORIN_NANO,
    AGX_ORIN_6,
    THOR,
    THOR_38_WITHOUT_INPUT,
    THOR_39_WITHOUT_INPUT,
    TX1_OF_L4T_28,
)

"""Recognising the machine by what it says of itself, with the strings that such machines give."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgemesh.device.recognition import GENERIC_BOARD, recognise_board
from edgemesh.protocol.presence import PowerFigures

NO_OWN_BOARDS = {"EDGEMESH_BOARDS": "/nonexistent"}

DEVICE_TREES = [
    ("Raspberry Pi Zero 2 W Rev 1.0", "pi-zero-2w"),
    ("Raspberry Pi 3 Model B Plus Rev 1.3", "pi-3b-plus"),
    ("Raspberry Pi 4 Model B Rev 1.4", "pi-4b"),
    ("Raspberry Pi Compute Module 4 Rev 1.0", "pi-4b"),
    ("Raspberry Pi 5 Model B Rev 1.0", "pi-5"),
    ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
    ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin-nano"),
    ("NVIDIA Jetson Orin Nano Developer Kit", "jetson-orin-nano"),
    ("Orange Pi 5", "orange-pi-5"),
    ("Xunlong Orange Pi 5", "orange-pi-5"),
    ("Raspberry Pi 3 Model B Rev 1.2", GENERIC_BOARD),
    ("Raspberry Pi Zero W Rev 1.1", GENERIC_BOARD),
    ("Orange Pi 5 Plus", GENERIC_BOARD),
    ("NVIDIA Orin NX Developer Kit", GENERIC_BOARD),
]

# vendor, product, chassis, processor
DMI = [
    ("LENOVO", "20XW004AGE", 10, "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", "laptop"),
    ("Framework", "Laptop 13 (AMD Ryzen AI 300 Series)", 10, "AMD Ryzen AI 5 340", "laptop"),
    ("Microsoft Corporation", "Surface Laptop 3", 9, "Intel(R) Core(TM) i5-1035G7", "laptop"),
    ("System manufacturer", "System Product Name", 3, "AMD Ryzen 5 5600X 6-Core Processor", "desktop"),
    ("LENOVO", "10M9CTO1WW", 35, "Intel(R) Core(TM) i5-7400T CPU @ 2.40GHz", "desktop"),
    ("GMKtec", "NucBox G3", 3, "Intel(R) N100", "n100"),
    ("AZW", "SER", 3, "Intel(R) N100 @ 2.90GHz", "n100"),
    ("Amazon EC2", "t3.medium", 1, "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "cloud-vm"),
    ("Google", "Google Compute Engine", 1, "Intel(R) Xeon(R) CPU @ 2.20GHz", "cloud-vm"),
    ("Microsoft Corporation", "Virtual Machine", 3, "AMD EPYC 7763 64-Core Processor", "cloud-vm"),
    ("QEMU", "Standard PC (Q35 + ICH9, 2009)", 1, "QEMU Virtual CPU version 2.5+", "cloud-vm"),
    ("Hetzner", "vServer", 1, "AMD EPYC Processor", "cloud-vm"),
    ("innotek GmbH", "VirtualBox", 1, "AMD Ryzen 5 5600X 6-Core Processor", "cloud-vm"),
    ("Supermicro", "Super Server", 17, "Intel(R) Xeon(R) E-2288G", GENERIC_BOARD),
]


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(("model", "name"), DEVICE_TREES, ids=[model for model, _ in DEVICE_TREES])
def test_a_board_is_recognised_by_its_device_tree(tmp_path: Path, model: str, name: str) -> None:
    write(tmp_path / "proc/device-tree/model", model + "\0")

    assert recognise_board(tmp_path, NO_OWN_BOARDS).name == name


@pytest.mark.parametrize(("vendor", "product", "chassis", "processor", "name"), DMI, ids=[d[1] for d in DMI])
def test_a_pc_is_recognised_by_its_firmware(
    tmp_path: Path, vendor: str, product: str, chassis: int, processor: str, name: str
) -> None:
    dmi = tmp_path / "sys/class/dmi/id"
    write(dmi / "sys_vendor", vendor + "\n")
    write(dmi / "product_name", product + "\n")
    write(dmi / "chassis_type", f"{chassis}\n")
    write(tmp_path / "proc/cpuinfo", f"processor\t: 0\nmodel name\t: {processor}\n")

    assert recognise_board(tmp_path, NO_OWN_BOARDS).name == name


def test_a_recognised_board_has_the_memory_and_cores_of_this_machine(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    write(tmp_path / "proc/meminfo", "MemTotal:        7998492 kB\nMemFree:  1 kB\n")
    write(tmp_path / "proc/cpuinfo", "".join(f"processor\t: {core}\n" for core in range(3)))

    board = recognise_board(tmp_path, NO_OWN_BOARDS)

    assert board.memory_bytes == 7998492 * 1024
    assert board.cores == 3
    assert board.idle_watts == 1.6


def test_a_machine_that_says_nothing_is_generic_and_claims_no_speed(tmp_path: Path) -> None:
    board = recognise_board(tmp_path, NO_OWN_BOARDS)

    assert board.name == GENERIC_BOARD
    assert board.cores >= 1 and board.memory_bytes > 0
    assert board.speed("tflite", "float32") is None
    assert board.link is None
    assert board.power is None


def test_an_own_board_file_recognises_a_machine(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 3 Model B Rev 1.2\0")
    file = Path(__file__).parents[2] / "firmware_profiles/pi-3b-plus.toml"
    own = file.read_text().replace("pi-3b-plus", "pi-3b").replace("Model B Plus*", "Model B Rev*")
    write(tmp_path / "boards/pi-3b.toml", own)

    assert recognise_board(tmp_path, {"EDGEMESH_BOARDS": str(tmp_path / "boards")}).name == "pi-3b"


def test_this_machine_is_some_board() -> None:
    board = recognise_board(environ=NO_OWN_BOARDS)

    assert board.cores >= 1
    assert board.memory_bytes > 64 << 20


def test_a_board_names_itself_as_the_source_of_its_watts(tmp_path: Path) -> None:
    write(tmp_path / "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")

    power = recognise_board(tmp_path, NO_OWN_BOARDS).power

    assert power == PowerFigures(2.8, 9.7, 0.5, source="board pi-5")

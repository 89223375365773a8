import subprocess
import sys
from pathlib import Path

import pytest

from vgg_jax.errors import UserError
from vgg_jax.summarize import main

ROOT = Path(__file__).parent.parent


def columns(text: str) -> dict[str, list[str]]:
    """The lines of the table by layer."""
    table = text.split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in table}


def test_table_and_the_papers_arithmetic(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--variant=D"]) == 0
    text = capsys.readouterr().out
    table = columns(text)
    assert len(table) == 13 + 5 + 3 + 1
    assert table["conv1_1"] == [
        "224",
        "x",
        "224",
        "x",
        "64",
        "1,792",
        "86,704,128",
        "12,845,056",
        "3",
        "x",
        "3",
    ]
    assert table["fc6"] == [
        "1",
        "x",
        "1",
        "x",
        "4096",
        "102,764,544",
        "102,760,448",
        "16,384",
        "404",
        "x",
        "404",
    ]
    assert table["total"][2:4] == ["138,357,544", "15,470,264,320"]
    for fact in (
        "fc6 alone has 102,764,544 parameters, 74.3% of all",
        "the fully connected layers have 89.4%",
        "15.470 GMAC; 13.557 M",
        "Two 3x3 convolutions see 5x5, like one 5x5: 18 C^2 weights against 25 C^2, 39% more",
        "Three 3x3 convolutions see 7x7, like one 7x7: 27 C^2 weights against 49 C^2, 81% more",
    ):
        assert fact in text


def test_image_size(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--variant=vgg11", "--image_size=64"])
    assert columns(capsys.readouterr().out)["fc6"][:5] == ["1", "x", "1", "x", "4096"]


def test_config_with_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    main([f"--config={ROOT}/configs/vgg16.py:cifar10,bn", "--config.model.width=0.5"])
    table = columns(capsys.readouterr().out)
    assert table["bn1_1"][:6] == ["32", "x", "32", "x", "32", "64"]
    assert table["fc6"][:6] == ["1", "x", "1", "x", "256", "65,792"]


def test_a_number_of_classes_that_is_left_to_the_data_is_told(capsys) -> None:
    for words, told in (("", True), (":digits", False)):
        assert main([f"--config={ROOT}/configs/vgg11.py{words}"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert (last == "As many classes as the data has; 1,000 here.") == told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant=vgg15"], "unknown model 'vgg15'"),
        (["--variant=D", "--image_size=200"], "multiple of 32, e.g. 192 or 224"),
        (["--config=configs/none.py"], "no config file"),
        ([f"--config={ROOT}/configs/vgg16.py", "--config.model.widht=2"], "Did you mean"),
        (
            [f"--config={ROOT}/configs/vgg16.py", "--config.model.pooling=avg"],
            "one of average",
        ),
        ([f"--config={ROOT}/configs/vgg16.py", "--image_size=32"], r"config\.data\.image_size"),
        (["--variant=D", "--width=2"], "unknown argument '--width=2'"),
    ],
)
def test_wrong_input(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_a_mistake_is_told_without_a_traceback() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vgg_jax.summarize", "--variant=vgg17"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown model 'vgg17'")
    assert "Traceback" not in result.stderr


def test_batch_norm_by_the_name_of_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--variant=vgg11_bn"]) == 0
    assert "132,868,840" in capsys.readouterr().out  # torchvision's vgg11_bn

"""`bench scale`: the model's arithmetic, what compiled programs send, and rows of real processes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.scaling import model
from bench.scaling.measure import LARGE, SMALL, summarize
from bench.scaling.model import Link
from bench.scaling.processes import REDUCTIONS, Job
from bench.scaling.programs import Collective, collectives, describe
from bench.timing import Timing
from bench.timing import summarize as timing_of
from mnist_jax import preset
from mnist_jax.errors import SpecError

ROOT = Path(__file__).parents[2]
SLOW = Link("slow", latency=1.0, bandwidth=10.0)


@pytest.mark.parametrize(
    ("devices", "size", "seconds"),
    [
        (1, 100, 0),
        (2, 100, 11),  # one exchange of everything; a ring takes two steps of half of it
        (8, 1, 3.3),  # three exchanges
        (8, 1000, 189),  # fourteen steps of an eighth, rather than three of everything
    ],
)
def test_an_all_reduce_takes_the_faster_of_two_ways(devices: int, size: int, seconds: float) -> None:
    assert model.all_reduce(SLOW, devices, size) == pytest.approx(seconds)


def test_the_speedup_is_that_of_one_device_s_share_and_an_all_reduce() -> None:
    steps = {16: 4.0, 32: 6.0, 64: 10.0, 128: 18.0, 100: 15.0}
    speedups = model.speedups(steps, 2, SLOW, size=10)
    assert speedups == pytest.approx({32: 6 / (4 + 2), 64: 10 / (6 + 2), 128: 18 / (10 + 2)})
    assert model.pays_from(speedups, least=1.0) == 32
    assert model.pays_from(speedups) == 64
    assert model.pays_from(speedups, least=1.3) == 128
    assert model.pays_from(speedups, least=1.6) is None
    assert model.pays_from({32: 1.1, 64: 0.9, 128: 1.2}) == 128, "from there on, not somewhere"


def test_a_link_is_found_from_two_sizes() -> None:
    times = [(size, 1.0 + size / 10.0) for size in (4, 1000)]
    link = model.measured_link("slow", *times)
    assert (link.latency, link.bandwidth) == pytest.approx((1, 10))


def test_a_link_is_read_from_the_command_line() -> None:
    link = model.parse_link("a:b:20:25")
    assert link == Link("a:b", pytest.approx(20e-6), pytest.approx(25e9))
    for text in ("mine", "mine:20", ":20:25", "mine:x:25", "mine:20:0", "mine:-1:25", "mine:nan:25"):
        with pytest.raises(SpecError, match="--link must be NAME:MICROSECONDS:GB_PER_SECOND"):
            model.parse_link(text)


def test_collectives_are_found_in_a_program() -> None:
    program = """
    %all-reduce.1 = (f32[2,3]{1,0}, f32[]) all-reduce(%a, %b), channel_id=1
    %x = bf16[8]{0} all-gather-start(%c), channel_id=2
    %y = f32[] add(%all-reduce.1, %all-reduce.1)
    """
    assert list(collectives(program)) == [Collective("all-reduce", 2, 28), Collective("all-gather", 1, 16)]


@pytest.mark.slow
def test_operations_of_a_device_fall_as_one_over_n_and_gradients_are_sent_once() -> None:
    one, two, four, eight = describe([("mlp-100", 2048, count) for count in (1, 2, 4, 8)])
    sent = {"kind": "all-reduce", "arrays": 6, "size": 4 * (preset("mlp-100").network.num_params + 2)}
    assert one["collectives"] == []
    for row in (two, four, eight):
        assert row["flops"] == pytest.approx(one["flops"] / row["devices"], rel=0.03)
        assert row["bytes_accessed"] < one["bytes_accessed"]
        assert row["collectives"] == [sent], "four gradients, the loss, and the correct answers"


def test_rows_are_what_was_measured_and_what_the_model_says() -> None:
    def seconds(value: float) -> Timing:
        return timing_of([value])

    large = REDUCTIONS * (0.1 + 4 * (LARGE - SMALL) / 1e6)
    sent = (Collective("all-reduce", 3, 1000),)
    jobs = {
        (1, Job("alone", "mlp-100", 16, 10)): (seconds(20.0), ()),
        (1, Job("alone", "mlp-100", 32, 10)): (seconds(30.0), ()),
        (2, Job("alone", "mlp-100", 16, 10)): (seconds(25.0), ()),
        (2, Job("shared", "mlp-100", 32, 10)): (seconds(60.0), sent),
        (2, Job("reduce", "", SMALL, REDUCTIONS)): (seconds(REDUCTIONS * 0.1), ()),
        (2, Job("reduce", "", LARGE, REDUCTIONS)): (seconds(large), ()),
        (2, Job("shared", "mlp-100", 64, 10)): (seconds(60.0), sent),  # whose share was not measured
    }
    timings, of_steps = ({key: value[part] for key, value in jobs.items()} for part in (0, 1))
    found = summarize(timings, of_steps)
    assert found.steps == {"mlp-100": {16: 2.0, 32: 3.0}}
    assert found.links[2].bandwidth == pytest.approx(1e6)
    assert [(row["processes"], row["batch_size"]) for row in found.rows] == [(1, 16), (1, 32), (2, 32)]
    row = found.rows[-1]
    computed = 2.5 + 3 * 0.1 + 1000 / 1e6
    assert row["step_seconds"]["median"] == 6.0
    assert row["computed_seconds"] == pytest.approx(computed, rel=1e-4)
    assert row["measured_over_computed"] == pytest.approx(6 / computed, rel=1e-4)
    assert (row["speedup"], row["weak_efficiency"]) == (3 / 6, 2 / 6)


@pytest.mark.nightly
def test_processes_are_measured_and_links_computed(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    steps = [
        {"preset": "mlp-100", "batch_size": size, "dtype": "float32", "step_microseconds": 100.0 + size}
        | {"epoch_seconds": timing_of([1.0])._asdict()}
        for size in (16, 32, 64)
    ]
    other.write_text(json.dumps({"bench": "throughput", "device": "gpu: A", "rows": steps}))
    command = [sys.executable, "-m", "bench", "scale", "--dataset", "digits", "--preset", "mlp-100"]
    command += ["--batch-size", "16", "--batch-size", "32", "--batch-size", "4096", "--devices", "2"]
    command += ["--processes", "2", "--repeats", "1", "--link", "mine:1:1000", "--steps-from", str(other)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    result = json.loads(done.stdout.splitlines()[-1])
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        rows.setdefault(row["kind"], []).append(row)
    assert [(row["batch_size"], row["devices"]) for row in rows["simulated devices"]] == [
        (size, count) for size in (16, 32, 4096) for count in (1, 2)
    ]
    measured = rows["processes of this machine, measured"]
    assert [(row["batch_size"], row["processes"]) for row in measured] == [(16, 1), (32, 1), (16, 2), (32, 2)]
    assert all(row["step_seconds"]["median"] > 0 for row in measured)
    assert measured[-1]["speedup"] > 0
    assert [link["measured"] for link in rows["links"]] == [True] + 5 * [False]
    computed = {(row["device"], row["link"]): row for row in rows["several devices, computed"]}
    assert {device for device, _ in computed} == {"this machine's CPU", "gpu: A"}
    row = computed["gpu: A", "mine"]
    reduced = 1e-6 + 4 * preset("mlp-100").network.num_params / 1e12
    assert row["speedups"] == {
        "32": pytest.approx(132e-6 / (116e-6 + reduced)),
        "64": pytest.approx(164e-6 / (132e-6 + reduced)),
    }
    assert row["pays_from"] == 32
    assert {path.name for path in tmp_path.iterdir()} == {"other.json", "scale.json", "scale.md", "scale.png"}

"""The description of the processor in results."""

from pathlib import Path

import pytest

from mnist_jax.runs import provenance


@pytest.mark.parametrize(
    ("cpuinfo", "words"),
    [
        (
            "model name\t: AMD EPYC 7B13\nflags\t\t: fpu sse4_2 avx avx2 bmi2\n\nmodel name: other\n",
            "AMD EPYC 7B13, {} cores, AVX2",
        ),
        (
            "model name\t: Intel(R) Xeon(R) Processor\nflags\t: avx2 avx512f avx512_vnni amx_bf16 amx_tile\n",
            "Intel(R) Xeon(R) Processor, {} cores, AVX2 AVX-512 VNNI AMX",
        ),
        ("CPU part : 0xd0c\nFeatures : fp asimd asimddp i8mm\n", "{machine}, {} cores, dot product I8MM"),
        ("", "{machine}, {} cores"),
    ],
)
def test_the_processor_is_described_with_its_instruction_sets(
    cpuinfo: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(provenance.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(provenance.platform, "processor", lambda: "")
    monkeypatch.setattr(provenance.platform, "machine", lambda: "aarch64")
    assert provenance.processor() == words.format(2, machine="aarch64")
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "none")
    assert provenance.processor() == "aarch64, 2 cores"

"""Tokens in text: what is taken out, and what looks like one and stays."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from bench import A, bench_at, task
from hypothesis import given
from hypothesis import strategies as st

from isobench_tui.results.redact import MASK, redact

BODY = "aB3dE6gH9jK2mN5pQ8sT1vW4"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"HF_TOKEN=hf_{BODY}", f"HF_TOKEN=hf_{MASK}"),
        (f"login with 'hf_{BODY}', then", f"login with 'hf_{MASK}', then"),
        (f"openai.api_key: sk-proj-{BODY}-x", f"openai.api_key: sk-{MASK}"),
        (f"sk-ant-api03-{BODY}", f"sk-{MASK}"),
        (f"remote: ghp_{BODY} ghs_{BODY}", f"remote: ghp_{MASK} ghs_{MASK}"),
        (f"github_pat_11AB_{BODY}", f"github_pat_{MASK}"),
        (f"glpat-{BODY}", f"glpat-{MASK}"),
        ("id AKIAIOSFODNN7EXAMPLE.", f"id AKIA{MASK}."),
        (f"nvapi-{BODY}", f"nvapi-{MASK}"),
        ("xoxb-123456789012-abcdef", f"xoxb-{MASK}"),
        (f"Authorization: Bearer {BODY}", f"Authorization: Bearer {MASK}"),
        (f"'authorization': 'bearer {BODY}'", f"'authorization': 'bearer {MASK}'"),
        (f"eyJhbGciOiJIUzI1NiJ9.eyJ{BODY}.{BODY}", f"eyJ{MASK}"),
        ("https://joe:hunter2@registry.example/v2/", f"https://joe:{MASK}@registry.example/v2/"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", f"AWS_SECRET_ACCESS_KEY={MASK}"),
        ('{"password": "correct horse"}', f'{{"password": "{MASK} horse"}}'),
        (f"a line that was cut: hf_{BODY[:5]}…", f"a line that was cut: hf_{MASK}…"),
        ("WANDB_API_KEY='0123456789abcdef'", f"WANDB_API_KEY='{MASK}'"),
    ],
)
def test_shapes(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown, "what was redacted is left alone"


@pytest.mark.parametrize(
    "text",
    [
        "Output token throughput (tok/s):         1234.56",
        "total_token_throughput: 12345.678901",
        "task-0123456789abcdef01234567 disk-0123456789abcdef01",
        "Namespace(api_key=None, hf_token=None, hf_overrides=None, hf_config_path=None)",
        "api_key: None",
        "the bearer of bad news",
        "http://127.0.0.1:8000/v1/completions",
        "git@github.com:vllm-project/vllm.git",
        "eyJ is how JSON begins in base64",
        "ghp_short hf_short sk-short AKIA",
        "GPU KV cache usage: 12.3%, Prefix cache hit rate: 0.0%",
        "enable_prefix_caching=True, tokenizer_revision=None, trust_remote_code=False",
    ],
)
def test_what_only_looks_like_one(text: str) -> None:
    assert redact(text) == text


def test_known_values() -> None:
    assert redact("a=correct horse battery!", ("correct horse", "battery")) == f"a={MASK} battery!"
    assert redact("a=correct hor…", ("correct horse",)) == f"a={MASK}…"
    assert redact("the word is: no", ("no", "")) == "the word is: no", "too short to be a secret"


@given(
    st.text(),
    st.sampled_from(["hf_", "ghp_", "nvapi-"]),
    st.text(string.ascii_letters + string.digits, min_size=20, max_size=80),
    st.text(),
)
def test_a_token_in_any_text_is_gone(before: str, prefix: str, body: str, after: str) -> None:
    assert f"{prefix}{body}" not in redact(f"{before} {prefix}{body} {after}")


@given(st.text(), st.text("xyzXYZ0123", min_size=8), st.text())
def test_a_known_value_in_any_text_is_gone(before: str, value: str, after: str) -> None:
    assert value not in redact(before + value + after, (value,))


@given(st.text(max_size=2000))
def test_any_text_gives_text(text: str) -> None:
    assert isinstance(redact(text), str)


def test_a_token_that_a_container_prints_is_shown_nowhere(tmp_path: Path) -> None:
    secret, shaped = "the value of the token", "hf_abcdefghijklmnopqrstuvwx"
    with bench_at(tmp_path) as bench:
        path = bench.write(task(A, FAKE="leak"), limits="max_attempts = 1")
        path.write_text(path.read_text() + '[model]\nsecrets = ["HF_TOKEN"]\n')
        shown = [bench.cli("run", path, code=1, env={"HF_TOKEN": secret}).stdout]
        (attempt,) = bench.rows("SELECT id FROM attempts")
        log = bench.workspace.run_dir(attempt["id"]) / "client-00.log"
        assert secret in log.read_text(), "the evidence itself stays as it was"
        commands = [["logs", "aaaa"], ["logs", "aaaa", "--json"], ["why", "aaaa"], ["why", "aaaa", "--json"]]
        commands += [["export", "--format", form] for form in ("md", "csv", "json")]
        shown += [bench.cli(*argv).stdout for argv in commands]
        assert all(MASK in text for text in shown[1:5])
        with bench.store() as connection:
            shown += connection.iterdump()
        for text in shown:
            assert secret not in text
            assert shaped not in text

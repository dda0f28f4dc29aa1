import io
import sys
import threading
import time
import types

import pytest

from common.engine import wandb as engine_wandb
from common.engine.logging import Console
from common.engine.wandb import WandbSink


class FakeRun:
    def __init__(self, fail: str, hang: str, gate: threading.Event) -> None:
        self.id = "abc123"
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.alerts: list[str] = []
        self.ended: int | None = None
        self._fail, self._hang, self._gate = fail, hang, gate

    def trouble(self, call: str) -> None:
        if call == self._fail:
            raise RuntimeError(f"{call} broke\nand more")
        if call == self._hang:
            self._gate.wait(20)

    def log(self, values, step):
        self.trouble("log")
        self.rows.append((step, values))

    def alert(self, title, text):
        self.trouble("alert")
        self.alerts.append(text)

    def finish(self, exit_code):
        self.trouble("finish")
        self.ended = exit_code


class FakeModule(types.ModuleType):
    def __init__(self, fail: str = "", hang: str = "") -> None:
        super().__init__("wandb")
        self.gate = threading.Event()
        self.run = FakeRun(fail, hang, self.gate)
        self.calls: list[dict[str, object]] = []

    def init(self, **options):
        self.calls.append(options)
        self.run.trouble("init")
        return self.run


@pytest.fixture
def output():
    return io.StringIO()


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Put a fake package in place, with a key, short waits and an empty home."""
    for name in ("INIT_SECONDS", "CALL_SECONDS", "FINISH_SECONDS"):
        monkeypatch.setattr(engine_wandb, name, 0.2)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    for name in ("WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    made: list[FakeModule] = []

    def put(**trouble: str) -> FakeModule:
        made.append(FakeModule(**trouble))
        monkeypatch.setitem(sys.modules, "wandb", made[-1])
        return made[-1]

    yield put
    for module in made:
        module.gate.set()


def test_everything_arrives_in_order(install, output, tmp_path):
    module = install()
    sink = WandbSink(
        "landing", entity="lab", name="n", tags=["t"], config={"lr": 1}, folder=tmp_path, buffer_steps=3
    )
    sink.start(Console(output))
    for step in range(7):
        sink.log({"loss": step / 2}, step)
    sink.alert("class 2 is never found")
    sink.finish(3)
    sink.finish()
    assert module.run.rows == [(step, {"loss": step / 2}) for step in range(7)]
    assert module.run.alerts == ["class 2 is never found"]
    assert module.run.ended == 3
    assert output.getvalue() == "wandb    online, run abc123\n"
    assert module.calls == [
        {
            "project": "landing",
            "entity": "lab",
            "name": "n",
            "tags": ["t"],
            "config": {"lr": 1},
            "mode": "online",
            "dir": str(tmp_path),
        }
    ]


def test_values_are_handed_over_every_few_steps(install, output):
    module = install()
    sink = WandbSink("p", buffer_steps=3).start(Console(output))
    sink.log({"x": 1.0}, 1)
    sink.log({"x": 2.0}, 2)
    time.sleep(0.05)
    assert module.run.rows == []
    sink.log({"x": 3.0}, 3)
    deadline = time.monotonic() + 5
    while len(module.run.rows) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [step for step, _ in module.run.rows] == [1, 2, 3]
    sink.finish()


def test_a_resumed_run_keeps_its_identity(install, output, tmp_path):
    module = install()
    for _ in range(2):
        WandbSink("p", folder=tmp_path).start(Console(output)).finish()
    assert "id" not in module.calls[0]
    assert (module.calls[1]["id"], module.calls[1]["resume"]) == ("abc123", "allow")


@pytest.mark.parametrize("mode", ["auto", "online"])
def test_without_a_key_it_is_offline(install, output, monkeypatch, mode):
    monkeypatch.delenv("WANDB_API_KEY")
    module = install()
    WandbSink("p", mode=mode).start(Console(output)).finish()
    assert module.calls[0]["mode"] == "offline"
    assert output.getvalue() == "wandb    offline, no key found, run abc123\n"


def test_a_key_in_the_netrc_file_counts(install, output, monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for content, mode in (
        ("machine api.wandb.ai login user password k\n", "online"),
        ("machine other login user password k\n", "offline"),
        ("what is this\n", "offline"),
    ):
        (tmp_path / "netrc").write_text(content)
        module = install()
        WandbSink("p").start(Console(output)).finish()
        assert module.calls[0]["mode"] == mode


def test_modes_are_obeyed(install, output, monkeypatch):
    module = install()
    WandbSink("p", mode="offline").start(Console(output)).finish()
    monkeypatch.setenv("WANDB_MODE", "offline")
    WandbSink("p", mode="auto").start(Console(output)).finish()
    assert [call["mode"] for call in module.calls] == ["offline", "offline"]
    off = WandbSink("p", mode="disabled").start(Console(output))
    off.log({"x": 1.0}, 1)
    off.alert("x")
    off.finish()
    assert len(module.calls) == 2
    assert output.getvalue().count("\n") == 2


def test_a_missing_package_is_said_once(install, output, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    sink = WandbSink("p", buffer_steps=1).start(Console(output))
    sink.log({"x": 1.0}, 1)
    sink.finish()
    assert output.getvalue() == "wandb    disabled, the package wandb is not installed\n"


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("init", "disabled, RuntimeError: init broke"),
        ("log", "stopped, RuntimeError: log broke"),
        ("alert", "stopped, RuntimeError: alert broke"),
        ("finish", "stopped, RuntimeError: finish broke"),
    ],
)
def test_a_call_that_raises_is_said_once_and_training_goes_on(install, output, call, line):
    module = install(fail=call)
    sink = WandbSink("p", buffer_steps=1).start(Console(output))
    for step in range(5):
        sink.log({"x": 1.0}, step)
        sink.alert("careful")
    sink.finish()
    lines = output.getvalue().splitlines()
    assert lines.count(f"wandb    {line}") == 1
    assert len(lines) == (1 if call == "init" else 2)
    assert module.run.ended == (None if call in ("init", "finish") else 0)


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ("init", "disabled, no connection within 0.2 s"),
        ("log", "stopped, no answer within 0.2 s"),
        ("finish", "did not finish within 0.2 s, left behind"),
    ],
)
def test_a_call_that_hangs_holds_nothing_up(install, output, call, line):
    install(hang=call)
    started = time.monotonic()
    sink = WandbSink("p", buffer_steps=1).start(Console(output))
    for step in range(30):
        before = time.monotonic()
        sink.log({"x": 1.0}, step)
        assert time.monotonic() - before < 0.1
        time.sleep(0.01)
    sink.finish()
    assert time.monotonic() - started < 3
    lines = output.getvalue().splitlines()
    assert lines.count(f"wandb    {line}") == 1
    assert len(lines) == (1 if call == "init" else 2)


def test_a_package_that_exits_does_not_end_the_process(install, output, monkeypatch):
    module = install()

    def leave(**options):
        raise SystemExit(1)

    monkeypatch.setattr(module, "init", leave)
    sink = WandbSink("p", buffer_steps=1).start(Console(output))
    sink.log({"x": 1.0}, 1)
    sink.finish()
    assert output.getvalue() == "wandb    disabled, SystemExit: 1\n"


def test_the_key_is_never_printed(install, output):
    install(fail="init")
    WandbSink("p").start(Console(output)).finish()
    assert "secret" not in output.getvalue()


def test_a_buffer_of_nothing_is_refused():
    with pytest.raises(ValueError, match="buffer_steps"):
        WandbSink("p", buffer_steps=0)

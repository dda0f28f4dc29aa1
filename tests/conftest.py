"""What every test may rely on."""

import importlib.util
import signal

if importlib.util.find_spec("hypothesis"):  # the live session goes without
    from hypothesis import settings

    settings.register_profile("untimed", deadline=None)  # seconds belong in benchmarks
    settings.load_profile("untimed")


def pytest_configure() -> None:
    """Let interrupts interrupt: started in the background, a test run would ignore them, its children too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
